//! What a mask lets through: never more than its format allows, whatever the text.

use musubi::mask;
use proptest::prelude::*;
use serde_json::json;

use crate::support::TestApp;

#[test]
fn an_address_shows_two_letters_at_most_and_never_more_than_half() {
    let cases = [
        ("tanaka@tsubaki.test", "ta***@tsubaki.test"),
        ("abc@x.jp", "a***@x.jp"),
        ("ab@x.jp", "a***@x.jp"),
        ("a@b.com", "***@b.com"),
        ("a+shop@b.com", "a***@b.com"),
        ("ta.naka@b.com", "ta***@b.com"),
        ("t.anaka@b.com", "t***@b.com"),
        ("\"ta na\"@b.com", "***@b.com"),
        ("\"a@b\"@c.jp", "***"),
        ("ｔａｎａｋａ@b.com", "***@b.com"),
        ("田中太郎@b.com", "***@b.com"),
        ("tanaka@日本語.jp", "ta***@***"),
        ("tanaka@xn--wgv71a119e.jp", "ta***@xn--wgv71a119e.jp"),
        ("tanaka@", "ta***@***"),
        ("@b.com", "***@b.com"),
        ("tanaka＠b.com", "***"),
        ("tanaka", "***"),
        ("", "***"),
    ];
    for (address, masked) in cases {
        assert_eq!(mask::email(address), masked, "{address}");
    }
}

#[test]
fn a_number_shows_its_beginning_and_its_end_only_when_both_are_known() {
    let cases = [
        ("090-1234-5678", "090-***-5678"),
        ("０９０－１２３４－５６７８", "090-***-5678"),
        ("09012345678", "090-***-5678"),
        ("03-1234-5678", "031-***-5678"),
        ("(03) 1234 5678", "031-***-5678"),
        ("+81-3-1234-5678", "031-***-5678"),
        ("+819012345678", "090-***-5678"),
        ("+81 (0)90 1234 5678", "090-***-5678"),
        ("+1 415 555 2671", "***-2671"),
        ("110", "***"),
        ("1234-5678", "***"),
        ("090-1234-5678 内線12", "***"),
        ("090-1234-567890", "***"),
        ("+", "***"),
        ("", "***"),
        ("電話なし", "***"),
    ];
    for (number, masked) in cases {
        assert_eq!(mask::phone(number), masked, "{number}");
    }
}

#[test]
fn a_note_shows_only_whether_there_is_one() {
    assert_eq!(mask::note("アレルギー: えび"), "[REDACTED]");
    assert_eq!((mask::note(""), mask::note(" \n")), ("", ""));
    assert_eq!(mask::secret("https://hooks.slack.com/services/T0/B0/abcdWXYZ"), "****WXYZ");
    assert_eq!(mask::secret("short"), "****");
}

proptest! {
    #[test]
    fn no_address_shows_more_than_its_format_allows(
        address in prop_oneof![
            "\\PC{0,40}",
            "[a-zA-Z0-9+._\"田ａ]{0,12}@[a-z0-9.田@-]{0,20}",
        ],
    ) {
        let masked = mask::email(&address);
        let trimmed = address.trim();
        let (start, rest) = masked.split_once("***").unwrap();
        prop_assert!(start.chars().count() <= 2);
        prop_assert!(trimmed.starts_with(start));
        if let Some((local, domain)) = trimmed.split_once('@') {
            prop_assert!(start.chars().count() * 2 <= local.chars().count());
            let shown = rest.strip_prefix('@').unwrap_or_default();
            prop_assert!(shown.is_empty() || shown == "***" || shown == domain);
        } else {
            prop_assert_eq!(masked.as_str(), "***");
        }
    }

    #[test]
    fn no_number_shows_more_than_seven_digits_of_ten(number in "[+0-9０-９() .\\-a内]{0,24}") {
        let masked = mask::phone(&number);
        let shown = masked.chars().filter(char::is_ascii_digit).count();
        let given = number.chars().filter(|letter| letter.is_numeric()).count();
        prop_assert!(shown <= 7);
        prop_assert!(shown == 0 || given >= shown + 2, "{} of {}", shown, given);
        prop_assert!(masked.contains("***"));
    }
}

#[tokio::test]
async fn colleagues_see_masked_addresses_and_admins_whole_ones() {
    let app = TestApp::start().await;
    let hotel = app.hotel().await;
    let query = "query ($id: ID!) { node(id: $id) { ... on User { email } } }";
    let id = json!({ "id": hotel.manager.id.to_string() });

    let to_admin = hotel.admin.gets(query, id.clone()).await;
    let to_support = hotel.support.gets(query, id.clone()).await;
    let to_oneself = hotel.manager.gets(query, id).await;

    let whole = to_admin["node"]["email"].as_str().unwrap();
    assert!(whole.starts_with("manager@hotel-"), "{whole}");
    assert_eq!(to_oneself["node"]["email"], whole);
    assert_eq!(to_support["node"]["email"], whole.replace("manager", "ma***"));
}
