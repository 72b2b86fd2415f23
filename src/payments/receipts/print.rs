//! Drawing a receipt: a 適格請求書 with all that its law asks for (issuer and registration number,
//! day, what, total and tax by rate, recipient), on one page.

use crate::error::Result;
use crate::payments::notice::grouped;
use crate::payments::receipts::Sheet;
use crate::payments::receipts::page::{HEIGHT, Page, Type, WIDTH};
use crate::payments::receipts::sheet::{day, percent, yen};

const LEFT: f32 = 56.0;
const RIGHT: f32 = WIDTH - LEFT;
const ACROSS: f32 = RIGHT - LEFT;
/// Where the columns on the right begin.
const ASIDE: f32 = 330.0;
const TEXT: Type = Type::plain(10.0);
const SMALL: Type = Type::faint(7.5);
const ROW: f32 = 20.0;

/// A receipt as PDF. It takes some milliseconds of work, so that it belongs off the async threads.
pub fn print(sheet: &Sheet) -> Result<Vec<u8>> {
    let mut page = Page::new()?;
    head(&mut page, sheet);
    let y = recipient(&mut page, sheet, 150.0);
    let y = total(&mut page, sheet, y + 30.0);
    let y = lines(&mut page, sheet, y + 30.0);
    let y = refunds(&mut page, sheet, y);
    details(&mut page, sheet, y + 34.0);
    issuer(&mut page, sheet, y + 34.0);
    foot(&mut page);
    page.finish(&format!("領収書 {}", sheet.number))
}

fn head(page: &mut Page, sheet: &Sheet) {
    page.write((LEFT, 84.0), "領収書", Type::bold(26.0));
    page.write((LEFT + 86.0, 84.0), "Receipt", Type::faint(11.0));
    page.write((LEFT, 102.0), "（適格請求書 Qualified invoice）", Type::faint(8.0));
    let mut facts =
        vec![("領収書番号 No.", sheet.number.clone()), ("発行日 Issued", day(sheet.issued_on))];
    if sheet.is_reissue {
        facts.push(("再発行日 Reissued", day(sheet.printed_on)));
    }
    for ((label, fact), row) in facts.into_iter().zip(0_u8..) {
        let y = 72.0 + 16.0 * f32::from(row);
        page.write((ASIDE + 30.0, y), label, Type::faint(8.5));
        page.write_to((RIGHT, y), &fact, TEXT);
    }
    if sheet.is_reissue {
        page.frame((LEFT + 150.0, 64.0), (72.0, 26.0));
        page.write((LEFT + 157.0, 76.0), "再発行", Type::bold(10.0));
        page.write((LEFT + 157.0, 86.0), "REISSUED", Type::plain(7.0));
    }
}

fn recipient(page: &mut Page, sheet: &Sheet, from: f32) -> f32 {
    let (mut with, mut step) = (Type::plain(15.0), 21.0);
    let mut lines = page.wrap(&sheet.recipient, with, 330.0);
    // A long name is written smaller, so that all has room on one page.
    if lines.len() > 2 {
        (with, step) = (Type::plain(11.0), 16.0);
        lines = page.wrap(&sheet.recipient, with, 330.0);
    }
    let mut y = from;
    let honorific = "　御中";
    match lines.last_mut() {
        Some(last) => last.push_str(honorific),
        None => lines.push(honorific.to_owned()),
    }
    for line in &lines {
        page.write((LEFT, y), line, with);
        y += step;
    }
    page.rule((LEFT, y - step + 8.0), 375.0, 0.8);
    y
}

fn total(page: &mut Page, sheet: &Sheet, y: f32) -> f32 {
    page.fill((LEFT, y - 14.0), (ACROSS, 56.0), 0.94);
    page.write((LEFT + 16.0, y + 10.0), "金額（税込）", Type::plain(12.0));
    page.write((LEFT + 16.0, y + 24.0), "Amount received, tax included", SMALL);
    page.write_to((RIGHT - 20.0, y + 24.0), &yen(sheet.purchase.amount), Type::bold(26.0));
    let credits = grouped(sheet.purchase.credits);
    let about = format!("但し、AIクレジット（{credits}クレジット）代として");
    page.write((LEFT, y + 68.0), &about, TEXT);
    page.write((LEFT, y + 84.0), "上記の金額を正に領収いたしました。", TEXT);
    y + 84.0
}

/// What was bought, and the total and the tax of its rate.
fn lines(page: &mut Page, sheet: &Sheet, from: f32) -> f32 {
    let (quantity, rate) = (ASIDE + 40.0, ASIDE + 100.0);
    let purchase = &sheet.purchase;
    page.fill((LEFT, from - 13.0), (ACROSS, ROW), 0.9);
    page.write((LEFT + 8.0, from), "品目 Item", Type::plain(8.5));
    page.write_to((quantity, from), "数量 Quantity", Type::plain(8.5));
    page.write_to((rate, from), "税率 Rate", Type::plain(8.5));
    page.write_to((RIGHT - 8.0, from), "金額（税込） Amount", Type::plain(8.5));
    let mut y = from + ROW + 2.0;
    page.write((LEFT + 8.0, y), "AIクレジット AI credits", TEXT);
    page.write_to((quantity, y), &grouped(purchase.credits), TEXT);
    page.write_to((rate, y), &percent(purchase.tax_rate), TEXT);
    page.write_to((RIGHT - 8.0, y), &yen(sheet.subtotal()), TEXT);
    if purchase.discount > 0 {
        y += ROW;
        let label = format!("割引 Discount（{}）", percent(purchase.discount_rate));
        page.write((LEFT + 8.0, y), &label, TEXT);
        page.write_to((rate, y), &percent(purchase.tax_rate), TEXT);
        page.write_to((RIGHT - 8.0, y), &yen(-purchase.discount), TEXT);
    }
    page.rule((LEFT, y + 8.0), ACROSS, 0.5);
    let rate = percent(purchase.tax_rate);
    let sums = [
        (format!("{rate}対象 Subject to {rate}"), purchase.amount, TEXT),
        (format!("うち消費税（{rate}） Tax included"), purchase.tax, TEXT),
        ("合計（税込） Total".to_owned(), purchase.amount, Type::bold(11.0)),
    ];
    for (label, amount, with) in sums {
        y += ROW;
        page.write((ASIDE - 50.0, y + 6.0), &label, with);
        page.write_to((RIGHT - 8.0, y + 6.0), &yen(amount), with);
    }
    page.rule((ASIDE - 50.0, y + 14.0), RIGHT - ASIDE + 50.0, 1.0);
    y + 14.0
}

/// What went back of the price.
fn refunds(page: &mut Page, sheet: &Sheet, from: f32) -> f32 {
    let purchase = &sheet.purchase;
    if purchase.refunded == 0 {
        return from;
    }
    let rate = percent(purchase.tax_rate);
    let sums = [
        ("返還（返金） Refunded".to_owned(), -purchase.refunded, TEXT),
        (format!("うち消費税（{rate}） Tax included"), -sheet.refunded_tax(), TEXT),
        (
            "差引金額（税込） Balance".to_owned(),
            purchase.amount - purchase.refunded,
            Type::bold(11.0),
        ),
    ];
    let mut y = from;
    for (label, amount, with) in sums {
        y += ROW;
        page.write((ASIDE - 50.0, y), &label, with);
        page.write_to((RIGHT - 8.0, y), &yen(amount), with);
    }
    page.rule((ASIDE - 50.0, y + 8.0), RIGHT - ASIDE + 50.0, 1.0);
    let asof = format!("返還は{}現在の合計です。", day(sheet.printed_on));
    page.write_to((RIGHT - 8.0, y + 20.0), &asof, SMALL);
    y + 20.0
}

fn details(page: &mut Page, sheet: &Sheet, from: f32) {
    let (japanese, english) = sheet.method();
    let facts = [
        ("取引年月日 Date of payment", day(sheet.paid_on)),
        ("お支払方法 Paid by", format!("{japanese} {english}")),
        ("購入番号 Purchase", sheet.purchase.id.to_string()),
    ];
    let mut y = from;
    for (label, fact) in facts {
        page.write((LEFT, y), label, SMALL);
        page.write((LEFT, y + 13.0), &fact, Type::plain(9.0));
        y += 30.0;
    }
}

fn issuer(page: &mut Page, sheet: &Sheet, from: f32) {
    let issuer = &sheet.issuer;
    page.write((ASIDE, from), "発行者 Issued by", SMALL);
    let mut y = from + 15.0;
    let (name, address) = (Type::bold(11.0), Type::plain(9.0));
    for line in page.wrap(&issuer.name, name, RIGHT - ASIDE) {
        page.write((ASIDE, y), &line, name);
        y += 15.0;
    }
    for line in page.wrap(&issuer.address, address, RIGHT - ASIDE) {
        page.write((ASIDE, y), &line, address);
        y += 13.0;
    }
    let number = format!("登録番号 {}", issuer.registration_number);
    page.write((ASIDE, y + 2.0), &number, TEXT);
}

fn foot(page: &mut Page) {
    let y = HEIGHT - 50.0;
    page.rule((LEFT, y - 12.0), ACROSS, 0.3);
    let note = "電子的に発行した領収書のため、収入印紙は貼付しておりません。";
    page.write((LEFT, y), note, SMALL);
    page.write_to((RIGHT, y), "Issued electronically; no revenue stamp is needed.", SMALL);
}
