//! What is in a price, for every price: the parts add up, and what Stripe is asked is the total.

use musubi::entity::credit_package;
use musubi::entity::plan::PlanType;
use musubi::ids::PackageId;
use musubi::payments::price::Price;
use proptest::prelude::*;

fn package(price_yen: i64, discount_rate: i64, tax_rate: i64) -> credit_package::Model {
    let at = crate::support::beginning();
    credit_package::Model {
        id: PackageId::new(),
        plan_type: PlanType::Essential,
        credits_amount: 500,
        price_yen,
        discount_rate,
        tax_rate,
        is_bulk_package: false,
        is_promotional: false,
        active: true,
        valid_from: at.date_naive(),
        valid_until: None,
        display_name: "五百".into(),
        description: None,
        marketing_highlight: None,
        version: 1,
        created_at: at,
        updated_at: at,
    }
}

proptest! {
    #[test]
    fn the_parts_of_every_price_add_up(
        total in 1..=1_000_000_000_i64,
        discount_rate in 0..=10_000_i64,
        tax_rate in 0..=10_000_i64,
    ) {
        let price = Price::of(&package(total, discount_rate, tax_rate));
        prop_assert_eq!(price.total, total);
        prop_assert_eq!(price.subtotal - price.discount, total);
        prop_assert!(price.discount >= 0);
        // The tax on what is left without it is the tax, to the yen.
        let net = i128::from(total - price.tax);
        let off = net * i128::from(tax_rate) - i128::from(price.tax) * 10_000;
        prop_assert!((0..10_000 + i128::from(tax_rate)).contains(&off), "{}", off);
    }
}

#[test]
fn prices_are_taken_apart_as_on_a_japanese_receipt() {
    let parts = |total, discount, tax| {
        let price = Price::of(&package(total, discount, tax));
        (price.subtotal, price.discount, price.tax)
    };
    assert_eq!(parts(500, 0, 1_000), (500, 0, 45));
    assert_eq!(parts(8_800, 1_200, 1_000), (10_000, 1_200, 800));
    assert_eq!(parts(108, 0, 800), (108, 0, 8));
    assert_eq!(parts(1, 0, 1_000), (1, 0, 0));
    assert_eq!(parts(1_000, 10_000, 0), (1_000, 0, 0));
}
