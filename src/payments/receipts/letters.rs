//! The letters of receipts: Noto Sans CJK JP, cut down to what Japanese names and addresses need
//! (`font/subset.py`). A receipt carries only those of its own.

use std::collections::BTreeMap;
use std::io::Write;

use flate2::Compression;
use flate2::write::ZlibEncoder;
use pdf_writer::types::{CidFontType, FontFlags, SystemInfo, UnicodeCmap};
use pdf_writer::{Filter, Finish, Name, Pdf, Rect, Ref, Str};
use subsetter::GlyphRemapper;
use ttf_parser::{Face, GlyphId, RawFace, Tag};

use crate::error::{Error, Result};

const FONT: &[u8] = include_bytes!("font/receipts.otf");
/// The font's name, with the mark of one that is not whole.
const NAME: Name<'static> = Name(b"MUSUBI+NotoSansCJKjp-Regular");
/// Glyphs are meant by their own numbers.
const GLYPHS: SystemInfo<'static> =
    SystemInfo { registry: Str(b"Adobe"), ordering: Str(b"Identity"), supplement: 0 };
/// Printers put it where a letter is missing.
const MISSING: char = '〓';

/// The font, and what of it was used so far.
pub(super) struct Letters {
    face: Face<'static>,
    used: GlyphRemapper,
    /// What the used ones mean, for those who search and copy.
    meanings: BTreeMap<u16, char>,
}

/// The numbers of the font's objects in a document.
pub(super) struct Places {
    pub(super) font: Ref,
    pub(super) glyphs: Ref,
    pub(super) descriptor: Ref,
    pub(super) program: Ref,
    pub(super) meanings: Ref,
}

impl Letters {
    pub(super) fn new() -> Result<Self> {
        let face = Face::parse(FONT, 0).map_err(Error::broken)?;
        Ok(Self { face, used: GlyphRemapper::new(), meanings: BTreeMap::new() })
    }

    /// How wide a text is.
    pub(super) fn width(&self, text: &str, size: f32) -> f32 {
        let advances = text.chars().filter_map(|letter| self.glyph(letter));
        let total: u32 = advances.map(|(glyph, _)| u32::from(self.advance(glyph))).sum();
        total as f32 * size / f32::from(self.face.units_per_em())
    }

    /// The text in the document's own encoding.
    pub(super) fn encode(&mut self, text: &str) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(2 * text.len());
        for letter in text.chars() {
            let Some((glyph, meaning)) = self.glyph(letter) else { continue };
            let number = self.used.remap(glyph.0);
            self.meanings.entry(number).or_insert(meaning);
            bytes.extend_from_slice(&number.to_be_bytes());
        }
        bytes
    }

    /// Writes the used part of the font.
    pub(super) fn embed(self, pdf: &mut Pdf, at: &Places) -> Result<()> {
        let part = subsetter::subset(FONT, 0, &self.used).map_err(Error::broken)?;
        let raw = RawFace::parse(&part, 0).map_err(Error::broken)?;
        let outlines = raw.table(Tag::from_bytes(b"CFF "));
        let outlines = outlines.ok_or_else(|| Error::broken("the font has no outlines"))?;
        let program = compress(outlines)?;
        let mut stream = pdf.stream(at.program, &program);
        stream.filter(Filter::FlateDecode);
        stream.pair(Name(b"Subtype"), Name(b"CIDFontType0C"));
        stream.finish();

        let mut font = pdf.type0_font(at.font);
        font.base_font(NAME).encoding_predefined(Name(b"Identity-H"));
        font.descendant_font(at.glyphs).to_unicode(at.meanings);
        font.finish();

        let mut glyphs = pdf.cid_font(at.glyphs);
        glyphs.subtype(CidFontType::Type0).base_font(NAME).system_info(GLYPHS);
        glyphs.font_descriptor(at.descriptor).default_width(0.0);
        let scale = 1000.0 / f32::from(self.face.units_per_em());
        let widths = self.used.remapped_gids();
        let widths = widths.map(|glyph| f32::from(self.advance(GlyphId(glyph))) * scale);
        glyphs.widths().consecutive(0, widths);
        glyphs.finish();

        let bounds = self.face.global_bounding_box();
        let [left, bottom, right, top] = [bounds.x_min, bounds.y_min, bounds.x_max, bounds.y_max]
            .map(|edge| f32::from(edge) * scale);
        let mut descriptor = pdf.font_descriptor(at.descriptor);
        descriptor.name(NAME).flags(FontFlags::SYMBOLIC).italic_angle(0.0).stem_v(88.0);
        descriptor.bbox(Rect::new(left, bottom, right, top));
        descriptor.ascent(f32::from(self.face.ascender()) * scale);
        descriptor.descent(f32::from(self.face.descender()) * scale);
        let capitals = self.face.capital_height().unwrap_or(self.face.ascender());
        descriptor.cap_height(f32::from(capitals) * scale).font_file3(at.program);
        descriptor.finish();

        let mut map = UnicodeCmap::new(Name(b"Musubi-Receipt"), GLYPHS);
        for (number, meaning) in &self.meanings {
            map.pair(*number, *meaning);
        }
        let map = compress(map.finish().as_slice())?;
        pdf.cmap(at.meanings, &map).filter(Filter::FlateDecode);
        Ok(())
    }

    /// What is drawn for a letter, and what it means; none for what is never seen.
    fn glyph(&self, letter: char) -> Option<(GlyphId, char)> {
        if is_unseen(letter) {
            return None;
        }
        let own = self.face.glyph_index(letter).map(|glyph| (glyph, letter));
        own.or_else(|| Some((self.face.glyph_index(MISSING)?, MISSING)))
    }

    fn advance(&self, glyph: GlyphId) -> u16 {
        self.face.glyph_hor_advance(glyph).unwrap_or(0)
    }
}

/// Whether a character only directs others: controls, joiners, marks of direction, variants.
fn is_unseen(letter: char) -> bool {
    letter.is_control()
        || matches!(letter,
            '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
            | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{e0100}'..='\u{e01ef}')
}

/// As PDF calls `FlateDecode`.
pub(super) fn compress(bytes: &[u8]) -> Result<Vec<u8>> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).map_err(Error::broken)?;
    encoder.finish().map_err(Error::broken)
}
