//! A sheet of A4 to draw on, from its upper left corner, in points; then a PDF.

use pdf_writer::types::TextRenderingMode;
use pdf_writer::{Content, Filter, Finish, Name, Pdf, Rect, Ref, Str, TextStr};

use crate::error::Result;
use crate::payments::receipts::letters::{Letters, Places, compress};

pub(super) const WIDTH: f32 = 595.0;
pub(super) const HEIGHT: f32 = 842.0;

const FONT: Name<'static> = Name(b"F1");
/// Letters that begin no line.
const CLINGING: &str = "、。，．・：；？！ー々ゝゞヽヾ）」』】〉》〕］｝〟’”ぁぃぅぇぉっゃゅょゎァィゥェォッャュョヮヵヶ";

/// How letters are drawn.
#[derive(Clone, Copy)]
pub(super) struct Type {
    /// In points.
    pub(super) size: f32,
    /// 0 is black, 1 is white.
    pub(super) gray: f32,
    pub(super) weight: Weight,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Weight {
    Regular,
    Bold,
}

impl Type {
    pub(super) const fn plain(size: f32) -> Self {
        Self { size, gray: 0.0, weight: Weight::Regular }
    }

    pub(super) const fn bold(size: f32) -> Self {
        Self { size, gray: 0.0, weight: Weight::Bold }
    }

    pub(super) const fn faint(size: f32) -> Self {
        Self { size, gray: 0.4, weight: Weight::Regular }
    }
}

pub(super) struct Page {
    letters: Letters,
    content: Content,
}

impl Page {
    pub(super) fn new() -> Result<Self> {
        Ok(Self { letters: Letters::new()?, content: Content::new() })
    }

    pub(super) fn width_of(&self, text: &str, with: Type) -> f32 {
        self.letters.width(text, with.size)
    }

    /// Writes on a base line, from its left end.
    pub(super) fn write(&mut self, (x, y): (f32, f32), text: &str, with: Type) {
        let encoded = self.letters.encode(text);
        let content = &mut self.content;
        content.set_fill_gray(with.gray).set_stroke_gray(with.gray);
        content.begin_text();
        if with.weight == Weight::Bold {
            // The one weight of the font, drawn with an outline.
            content.set_line_width(with.size * 0.028);
            content.set_text_rendering_mode(TextRenderingMode::FillStroke);
        } else {
            content.set_text_rendering_mode(TextRenderingMode::Fill);
        }
        content.set_font(FONT, with.size).next_line(x, HEIGHT - y).show(Str(&encoded));
        content.end_text();
    }

    /// Writes on a base line, up to its right end.
    pub(super) fn write_to(&mut self, (x, y): (f32, f32), text: &str, with: Type) {
        let left = x - self.width_of(text, with);
        self.write((left, y), text, with);
    }

    pub(super) fn rule(&mut self, (x, y): (f32, f32), length: f32, weight: f32) {
        let y = HEIGHT - y;
        self.content.set_stroke_gray(0.2).set_line_width(weight);
        self.content.move_to(x, y).line_to(x + length, y).stroke();
    }

    /// A filled box, from its upper left corner.
    pub(super) fn fill(&mut self, (x, y): (f32, f32), (width, height): (f32, f32), gray: f32) {
        self.content.set_fill_gray(gray);
        self.content.rect(x, HEIGHT - y - height, width, height).fill_nonzero();
    }

    /// An empty box, from its upper left corner.
    pub(super) fn frame(&mut self, (x, y): (f32, f32), (width, height): (f32, f32)) {
        self.content.set_stroke_gray(0.0).set_line_width(1.0);
        self.content.rect(x, HEIGHT - y - height, width, height).stroke();
    }

    /// A text in lines that are so wide at most. Words stay whole where they fit.
    pub(super) fn wrap(&self, text: &str, with: Type, width: f32) -> Vec<String> {
        let mut lines = Vec::new();
        for paragraph in text.lines() {
            let mut line = String::new();
            for letter in paragraph.chars() {
                line.push(letter);
                let is_full = self.width_of(line.trim_end(), with) > width;
                if is_full && !CLINGING.contains(letter) {
                    let rest = break_off(&mut line);
                    lines.push(line.trim_end().to_owned());
                    line = rest;
                }
            }
            lines.push(line);
        }
        lines.retain(|line| !line.is_empty());
        lines
    }

    pub(super) fn finish(self, title: &str) -> Result<Vec<u8>> {
        let [catalog, tree, page, content, info] = [1, 2, 3, 4, 5].map(Ref::new);
        let [font, glyphs, descriptor, program, meanings] = [6, 7, 8, 9, 10].map(Ref::new);
        let mut pdf = Pdf::new();
        let mut root = pdf.catalog(catalog);
        root.pages(tree).lang(TextStr("ja-JP"));
        root.viewer_preferences().display_doc_title(true);
        root.finish();
        pdf.pages(tree).kids([page]).count(1);
        let mut leaf = pdf.page(page);
        leaf.media_box(Rect::new(0.0, 0.0, WIDTH, HEIGHT)).parent(tree).contents(content);
        leaf.resources().fonts().pair(FONT, font);
        leaf.finish();
        let drawn = compress(self.content.finish().as_slice())?;
        pdf.stream(content, &drawn).filter(Filter::FlateDecode);
        pdf.document_info(info).title(TextStr(title)).producer(TextStr("Musubi"));
        self.letters.embed(&mut pdf, &Places { font, glyphs, descriptor, program, meanings })?;
        Ok(pdf.finish())
    }
}

/// Takes off what does not fit: the last word, or the last letter where no word ends in the second
/// half of the line.
fn break_off(line: &mut String) -> String {
    let last = line.char_indices().last().map_or(0, |(at, _)| at);
    let space = line[..last].rfind(' ').map(|at| at + 1).filter(|at| *at > last / 2);
    // A letter that fills its line alone stays there.
    match space.unwrap_or(last) {
        0 => String::new(),
        at => line.split_off(at),
    }
}
