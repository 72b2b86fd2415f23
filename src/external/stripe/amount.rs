//! Amounts as Stripe counts them. Our records count in the currency's minor unit (ISO 4217), and so
//! does Stripe, but for some currencies.
//!
//! Source: <https://docs.stripe.com/currencies>, "Zero-decimal currencies", "Three-decimal
//! currencies" and "Special cases".

/// Three decimals, of which Stripe wants the last to be 0.
const THREE_DECIMALS: [&str; 5] = ["BHD", "JOD", "KWD", "OMR", "TND"];
/// No decimals, and counted by Stripe with two, which are 00.
const COUNTED_WITH_TWO: [&str; 2] = ["ISK", "UGX"];
/// Two decimals, and counted by Stripe without.
const COUNTED_WITH_NONE: [&str; 1] = ["MGA"];

/// What Stripe is told for an amount in minor units; none when it cannot take that amount.
pub fn to_stripe(minor: i64, currency: &str) -> Option<i64> {
    let is_one_of = |codes: &[&str]| codes.iter().any(|code| code.eq_ignore_ascii_case(currency));
    if is_one_of(&THREE_DECIMALS) {
        (minor % 10 == 0).then_some(minor)
    } else if is_one_of(&COUNTED_WITH_TWO) {
        minor.checked_mul(100)
    } else if is_one_of(&COUNTED_WITH_NONE) {
        (minor % 100 == 0).then_some(minor / 100)
    } else {
        Some(minor)
    }
}

/// Minor units of an amount that Stripe tells; none of one that it cannot mean.
pub fn from_stripe(amount: i64, currency: &str) -> Option<i64> {
    let is_one_of = |codes: &[&str]| codes.iter().any(|code| code.eq_ignore_ascii_case(currency));
    if is_one_of(&COUNTED_WITH_TWO) {
        (amount % 100 == 0).then_some(amount / 100)
    } else if is_one_of(&COUNTED_WITH_NONE) {
        amount.checked_mul(100)
    } else {
        Some(amount)
    }
}
