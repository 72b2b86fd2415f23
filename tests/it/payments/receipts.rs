//! Receipts: what stands on them, one number each without gaps, and addresses that are for one
//! receipt and a quarter of an hour.

use std::collections::BTreeMap;
use std::io::Read;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::{DateTime, TimeDelta, Utc};
use flate2::read::ZlibDecoder;
use futures_util::future::join_all;
use musubi::config::Issuer;
use musubi::http::Limits;
use musubi::payments::receipts::link::Link;
use musubi::payments::receipts::{Sheet, issue, print};
use proptest::prelude::*;
use reqwest::{Response, StatusCode};
use serde_json::{Value, json};

use super::{Shop, package};
use crate::support::people::Person;
use crate::support::{Setting, TestServer};

const RECEIPT: &str = "query ($id: ID!) { creditPurchaseReceipt(purchaseId: $id) {
    number url expiresAt isReissue } }";

async fn receipt(person: &Person, purchase: &Value) -> Value {
    let data = person.gets(RECEIPT, json!({ "id": purchase })).await;
    data["creditPurchaseReceipt"].clone()
}

/// What the address says after `token=`.
fn token(receipt: &Value) -> &str {
    receipt["url"].as_str().unwrap().split_once("/receipt?token=").unwrap().1
}

/// What stands on the receipt at an address.
async fn reads(shop: &Shop, receipt: &Value) -> String {
    let (link, sheet) = issue::open(&shop.app.app, token(receipt)).await.unwrap().unwrap();
    issue::delivered(&shop.app.app, link.purchase).await.unwrap();
    text_of(&print(&sheet).unwrap())
}

/// All that is written in a PDF, as who searches or copies gets it: a line for each text.
fn text_of(pdf: &[u8]) -> String {
    let streams = streams(pdf);
    let meanings = streams.iter().find(|stream| stream.contains("beginbfchar")).unwrap();
    let meanings: BTreeMap<&str, char> = meanings
        .lines()
        .filter_map(|line| line.strip_prefix('<')?.strip_suffix('>')?.split_once("> <"))
        .filter(|(number, _)| number.len() == 4 && *number != "0000")
        .map(|(number, meaning)| (number, utf16(meaning)))
        .collect();
    let drawn = streams.iter().find(|stream| stream.contains("BT\n")).unwrap();
    let mut text = String::new();
    for line in drawn.lines().filter(|line| line.ends_with(" Tj")) {
        let hex = hex_of(line.strip_suffix(" Tj").unwrap());
        let letters = (0..hex.len() / 4).map(|at| meanings[&hex[4 * at..4 * at + 4]]);
        text.extend(letters);
        text.push('\n');
    }
    text
}

/// The streams of a PDF that hold text.
fn streams(pdf: &[u8]) -> Vec<String> {
    let find = |from: usize, word: &[u8]| {
        pdf[from..].windows(word.len()).position(|it| it == word).map(|at| from + at)
    };
    let mut streams = Vec::new();
    let mut from = 0;
    while let Some(at) = find(from, b">>\nstream\n") {
        let start = at + b">>\nstream\n".len();
        let end = find(start, b"\nendstream").unwrap();
        let mut inflated = Vec::new();
        ZlibDecoder::new(&pdf[start..end]).read_to_end(&mut inflated).unwrap();
        streams.extend(String::from_utf8(inflated));
        from = end;
    }
    streams
}

/// A string of PDF, `<…>` or `(…)`, in lower-case hex.
fn hex_of(string: &str) -> String {
    if let Some(hex) = string.strip_prefix('<') {
        return hex.trim_end_matches('>').to_uppercase();
    }
    let inner = string.strip_prefix('(').unwrap().strip_suffix(')').unwrap();
    let mut bytes = Vec::new();
    let mut rest = inner.bytes().peekable();
    while let Some(byte) = rest.next() {
        let escaped = if byte == b'\\' { rest.next() } else { None };
        bytes.push(match escaped {
            None => byte,
            Some(b'n') => b'\n',
            Some(b'r') => b'\r',
            Some(b't') => b'\t',
            Some(b'b') => 8,
            Some(b'f') => 12,
            Some(digit @ b'0'..=b'7') => {
                let next = [rest.next().unwrap(), rest.next().unwrap()];
                (digit - b'0') * 64 + (next[0] - b'0') * 8 + (next[1] - b'0')
            }
            Some(other) => other,
        });
    }
    bytes.iter().map(|byte| format!("{byte:02X}")).collect()
}

fn utf16(hex: &str) -> char {
    let units = hex.as_bytes().chunks(4);
    let units = units.map(|it| u16::from_str_radix(std::str::from_utf8(it).unwrap(), 16).unwrap());
    char::decode_utf16(units).next().unwrap().unwrap()
}

/// A receipt of a purchase of ¥8 800 with a discount, of which so much went back.
async fn sheet(recipient: &str, refunded: i64) -> Sheet {
    let shop = Shop::open().await;
    let done = shop.buys("to-be-printed", json!({})).await;
    let receipt = receipt(&shop.hotel.admin, &done["purchase"]["id"]).await;
    let (_, mut sheet) = issue::open(&shop.app.app, token(&receipt)).await.unwrap().unwrap();
    sheet.recipient = recipient.to_owned();
    sheet.purchase.credits = 10_000;
    (sheet.purchase.amount, sheet.purchase.tax) = (8_800, 800);
    (sheet.purchase.discount, sheet.purchase.discount_rate) = (1_200, 1_200);
    sheet.purchase.refunded = refunded;
    sheet
}

#[tokio::test]
async fn a_receipt_has_what_a_qualified_invoice_needs() {
    let shop = Shop::open().await;
    let purchase = &shop.buys("with-a-receipt", json!({})).await["purchase"]["id"];
    let receipt = receipt(&shop.hotel.admin, purchase).await;
    assert_eq!(receipt["number"], "R-00000001");
    assert_eq!(receipt["isReissue"], false);
    assert_eq!(receipt["expiresAt"], "2026-11-21T03:15:00Z");
    assert!(receipt["url"].as_str().unwrap().starts_with("http://localhost:3200/receipt?token="));

    let text = reads(&shop, &receipt).await;

    let Issuer { name, address, registration_number } = Issuer::sample();
    for line in [
        "領収書",
        "R-00000001",
        "2026年11月21日",
        "旅館　御中",
        "¥500",
        "但し、AIクレジット（500クレジット）代として",
        "10%対象 Subject to 10%",
        "うち消費税（10%） Tax included",
        "¥45",
        "クレジットカード Credit card",
        &format!("登録番号 {registration_number}"),
        &name,
        &address,
        purchase.as_str().unwrap(),
    ] {
        assert!(text.lines().any(|it| it == line), "no {line} in\n{text}");
    }
    for absent in ["再発行", "返還", "割引", "〓"] {
        assert!(!text.contains(absent), "{absent} in\n{text}");
    }
}

#[tokio::test]
async fn discounts_and_refunds_stand_on_it_with_their_tax() {
    let sheet = sheet("株式会社椿屋", 1_100).await;

    let text = text_of(&print(&sheet).unwrap());

    for line in ["¥10,000", "割引 Discount（12%）", "−¥1,200", "¥8,800", "¥800"] {
        assert!(text.lines().any(|it| it == line), "no {line} in\n{text}");
    }
    for line in ["返還（返金） Refunded", "−¥1,100", "−¥100", "¥7,700"] {
        assert!(text.lines().any(|it| it == line), "no {line} in\n{text}");
    }
}

#[tokio::test]
async fn long_names_are_wrapped_and_missing_letters_are_seen_to_be_missing() {
    let name = "髙﨑𠮷野家ホテルズ＆リゾーツ・ジャパン株式会社".repeat(4);
    let mut sheet = sheet(&name, 0).await;
    sheet.issuer.address = "東京都千代田区見本町一丁目二番三号むすびビルディング".repeat(4);

    let text = text_of(&print(&sheet).unwrap()).replace('\n', "");
    assert!(text.contains(&format!("{name}　御中")), "{text}");
    assert!(text.contains(&sheet.issuer.address), "{text}");
    assert!(!text.contains('〓'));

    sheet.recipient = "A\u{feff}B🍣C\u{200d}D ひらがな\u{3099}".to_owned();
    let text = text_of(&print(&sheet).unwrap());
    assert!(text.contains("AB〓CD ひらがな"), "{text}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn any_name_is_printed_on_a_page(name in "\\PC{1,100}", address in "\\PC{1,200}") {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let blank = BLANK.get_or_init(|| runtime.block_on(sheet("空", 0)));
        let issuer = Issuer { address, ..blank.issuer.clone() };
        let sheet = Sheet { recipient: name, issuer, ..blank.clone() };
        let pdf = print(&sheet).unwrap();
        prop_assert!(pdf.starts_with(b"%PDF-1."));
        prop_assert!(text_of(&pdf).contains(&sheet.number));
        // Only the letters of its own: a page is no font.
        prop_assert!(pdf.len() < 200_000, "{} bytes", pdf.len());
    }
}

static BLANK: std::sync::OnceLock<Sheet> = std::sync::OnceLock::new();

#[tokio::test]
async fn what_is_asked_for_again_after_it_was_handed_out_is_a_copy() {
    let shop = Shop::open().await;
    let purchase = &shop.buys("with-a-copy", json!({})).await["purchase"]["id"];
    let admin = &shop.hotel.admin;
    let first = receipt(admin, purchase).await;
    assert_eq!(receipt(admin, purchase).await["isReissue"], false, "not handed out yet");
    assert!(!reads(&shop, &first).await.contains("再発行"));

    shop.app.clock.advance(TimeDelta::days(2));
    let copy = receipt(admin, purchase).await;

    assert_eq!((&copy["number"], &copy["isReissue"]), (&first["number"], &json!(true)));
    let text = reads(&shop, &copy).await;
    assert!(text.contains("再発行") && text.contains("2026年11月23日"), "{text}");
    assert!(text.contains("2026年11月21日"), "{text}");
}

#[tokio::test]
async fn an_address_opens_its_receipt_again_for_a_quarter_of_an_hour() {
    let shop = Shop::open().await;
    let purchase = &shop.buys("opened-again", json!({})).await["purchase"]["id"];
    let receipt = receipt(&shop.hotel.admin, purchase).await;
    assert!(!reads(&shop, &receipt).await.contains("再発行"));

    shop.app.clock.advance(TimeDelta::minutes(15) - TimeDelta::seconds(1));
    assert!(!reads(&shop, &receipt).await.contains("再発行"), "the same address, the same receipt");
    shop.app.clock.advance(TimeDelta::seconds(1));
    assert!(issue::open(&shop.app.app, token(&receipt)).await.unwrap().is_none());
}

#[tokio::test]
async fn numbers_have_no_gaps_however_many_ask_at_once_on_two_nodes() {
    let shop = Shop::open().await;
    let replica = shop.app.replica().await;
    let mut purchases = Vec::new();
    for number in 0..4 {
        let done = shop.buys(&format!("one-of-four-{number}"), json!({})).await;
        purchases.push(done["purchase"]["id"].clone());
    }
    let there = shop.hotel.admin.on(&replica);
    let asked = (0..32).map(|number| {
        let person = if number % 2 == 0 { &shop.hotel.admin } else { &there };
        receipt(person, &purchases[number % 4])
    });

    let receipts = join_all(asked).await;

    let mut numbers: Vec<&str> =
        receipts.iter().map(|receipt| receipt["number"].as_str().unwrap()).collect();
    for (at, number) in numbers.iter().enumerate() {
        assert_eq!(*number, numbers[at % 4], "one number for each purchase");
    }
    numbers.sort_unstable();
    numbers.dedup();
    assert_eq!(numbers, ["R-00000001", "R-00000002", "R-00000003", "R-00000004"]);
    shop.adds_up(2_000, 4).await;
}

#[tokio::test]
async fn there_is_a_receipt_of_what_was_paid_and_of_nothing_else() {
    let shop = Shop::open().await;
    let admin = &shop.hotel.admin;
    let refuses = async |purchase: &Value, code: &str| {
        let reply = admin.asks(RECEIPT, json!({ "id": purchase })).await;
        assert_eq!(reply["errors"][0]["extensions"]["code"], code, "{reply}");
    };
    let declined = shop.buys_with("declined", "pm_card_chargeDeclined").await;
    refuses(&declined["purchase"]["id"], "INVALID_STATE").await;
    let asked = shop.buys_with("the-bank-asks", "pm_card_authenticationRequired").await;
    refuses(&asked["purchase"]["id"], "INVALID_STATE").await;
    let other = shop.app.hotel().await;
    let theirs = super::buys(&other.admin, shop.input("of-others", json!({}))).await;
    refuses(&theirs["purchase"]["id"], "NOT_FOUND").await;
    assert_eq!(shop.number("SELECT COUNT(*) AS number FROM credit_receipts").await, 0);

    let intent = theirs["purchase"]["paymentIntentId"].as_str().unwrap();
    let event = shop.stripe.refunds_there(intent, 500);
    let refund = shop.stripe.refunds()[0]["id"].as_str().unwrap().to_owned();
    shop.stripe.change_refund(&refund, |refund| refund["status"] = json!("pending"));
    shop.hears(&event).await;
    let before = receipt(&other.admin, &theirs["purchase"]["id"]).await;
    assert!(!reads(&shop, &before).await.contains("返還（返金）"), "it is on its way");
    shop.hears(&shop.stripe.ends_refund(&refund, "succeeded", None)).await;
    let receipt = receipt(&other.admin, &theirs["purchase"]["id"]).await;
    assert!(reads(&shop, &receipt).await.contains("返還（返金）"));
}

#[tokio::test]
async fn without_an_issuer_there_are_no_receipts() {
    let app = Setting::default().no_receipts().start().await;
    let hotel = app.hotel().await;
    let package = package(&app, json!({})).await;
    let input = json!({ "packageId": package, "paymentMethod": "STRIPE",
        "stripePaymentMethodId": "pm_card_visa", "idempotencyKey": "without-an-issuer" });
    let done = super::buys(&hotel.admin, input).await;

    let reply = hotel.admin.asks(RECEIPT, json!({ "id": done["purchase"]["id"] })).await;

    assert_eq!(reply["errors"][0]["extensions"]["code"], "INVALID_STATE", "{reply}");
}

/// A server with a receipt of its hotel's, and its token.
async fn server() -> (TestServer, Value, String) {
    let server = TestServer::start_with(Setting::default(), Limits::default()).await;
    let package = package(&server.app, json!({})).await;
    let input = json!({ "packageId": package, "paymentMethod": "STRIPE",
        "stripePaymentMethodId": "pm_card_visa", "idempotencyKey": "over-http" });
    let done = super::buys(&server.hotel.admin, input).await;
    let purchase = done["purchase"]["id"].clone();
    let token = token(&receipt(&server.hotel.admin, &purchase).await).to_owned();
    (server, purchase, token)
}

async fn fetches(server: &TestServer, token: &str) -> Response {
    let url = format!("{}/receipt?token={token}", server.url());
    reqwest::Client::builder().no_proxy().build().unwrap().get(url).send().await.unwrap()
}

#[tokio::test]
async fn a_receipt_comes_as_a_file_that_nobody_keeps() {
    let (server, purchase, token) = server().await;
    let head = reqwest::Client::builder().no_proxy().build().unwrap();
    let head = head.head(format!("{}/receipt?token={token}", server.url())).send().await.unwrap();
    assert_eq!(head.status(), StatusCode::OK);
    let again = receipt(&server.hotel.admin, &purchase).await;
    assert_eq!(again["isReissue"], false, "a HEAD hands nothing out");

    let reply = fetches(&server, &token).await;

    assert_eq!(reply.status(), StatusCode::OK);
    let header = |name: &str| reply.headers()[name].to_str().unwrap().to_owned();
    assert_eq!(header("content-type"), "application/pdf");
    assert_eq!(header("content-disposition"), "attachment; filename=\"receipt-R-00000001.pdf\"");
    assert_eq!(header("cache-control"), "private, no-store");
    assert_eq!(header("x-content-type-options"), "nosniff");
    assert_eq!(header("referrer-policy"), "no-referrer");
    assert_eq!(header("content-security-policy"), "default-src 'none'; frame-ancestors 'none'");
    let text = text_of(&reply.bytes().await.unwrap());
    assert!(text.contains("旅館　御中"), "{text}");
    assert_eq!(receipt(&server.hotel.admin, &purchase).await["isReissue"], true);
}

#[tokio::test]
async fn addresses_that_are_over_forged_or_of_others_are_refused_alike() {
    let (server, purchase, token) = server().await;
    let app = &server.app.app;
    let link = Link::read(&app.crypto, &token, app.clock.db_now()).unwrap();
    let stranger = server.app.hotel().await;
    let bytes = URL_SAFE_NO_PAD.decode(&token).unwrap();
    let mut bad: Vec<String> = (0..bytes.len())
        .map(|at| {
            let mut bytes = bytes.clone();
            bytes[at] ^= 1;
            URL_SAFE_NO_PAD.encode(bytes)
        })
        .collect();
    bad.push(Link { tenant: stranger.id, ..link }.sign(&app.crypto));
    bad.push(Link { purchase: musubi::ids::PurchaseId::new(), ..link }.sign(&app.crypto));
    let over: DateTime<Utc> = app.clock.db_now();
    bad.push(Link { expires_at: over, ..link }.sign(&app.crypto));
    bad.extend([String::new(), "x".to_owned(), token[..97].to_owned(), format!("{token}A")]);
    bad.push(URL_SAFE_NO_PAD.encode([bytes.clone(), vec![0]].concat()));

    let mut answers = Vec::new();
    for token in &bad {
        let reply = fetches(&server, token).await;
        answers.push((reply.status(), without_id(reply).await));
    }
    let url = format!("{}/receipt", server.url());
    let reply = reqwest::Client::builder().no_proxy().build().unwrap().get(url).send().await;
    let reply = reply.unwrap();
    answers.push((reply.status(), without_id(reply).await));

    for answer in &answers {
        assert_eq!(answer.0, StatusCode::NOT_FOUND);
        assert_eq!(answer.1, answers[0].1);
    }
    assert_eq!(receipt(&server.hotel.admin, &purchase).await["isReissue"], false);
    assert_eq!(fetches(&server, &token).await.status(), StatusCode::OK);
}

async fn without_id(reply: Response) -> Value {
    let mut json: Value = serde_json::from_str(&reply.text().await.unwrap()).unwrap();
    json["errors"][0]["extensions"]["requestId"] = Value::Null;
    json
}
