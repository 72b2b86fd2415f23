//! Money and shares of it, as integers. No floats come near either.

use rust_decimal::Decimal;

/// A currency with the number of its decimals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Currency {
    /// Japanese yen; it has no minor unit: ¥500 is 500.
    Jpy,
}

impl Currency {
    /// Decimals of the minor unit (ISO 4217).
    pub fn decimals(self) -> u32 {
        match self {
            Self::Jpy => 0,
        }
    }

    /// ISO 4217 code.
    pub fn code(self) -> &'static str {
        match self {
            Self::Jpy => "JPY",
        }
    }
}

/// An amount in a currency's minor unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Money {
    /// The amount in minor units.
    pub minor: i64,
    /// Its currency.
    pub currency: Currency,
}

impl Money {
    /// An amount of yen.
    pub fn yen(minor: i64) -> Self {
        Self { minor, currency: Currency::Jpy }
    }

    /// The amount in major units, with the currency's own decimals.
    pub fn major(self) -> Decimal {
        Decimal::new(self.minor, self.currency.decimals())
    }
}

/// `total · part / whole`, rounded half up; 0 when `whole` is 0. All values are at least 0.
///
/// Draws use it with what is left of a grant, so that the parts add up to the total.
pub fn share(total: i64, part: i64, whole: i64) -> i64 {
    if whole <= 0 {
        return 0;
    }
    let doubled = 2 * i128::from(total) * i128::from(part) + i128::from(whole);
    i64::try_from(doubled / (2 * i128::from(whole))).unwrap_or(i64::MAX)
}

/// `a / b` to `scale` decimals, rounded half up; `None` when `b` is 0.
pub fn ratio(a: i64, b: i64, scale: u32) -> Option<Decimal> {
    if b == 0 {
        return None;
    }
    let exact = Decimal::from(a).checked_div(Decimal::from(b))?;
    Some(exact.round_dp_with_strategy(scale, rust_decimal::RoundingStrategy::MidpointAwayFromZero))
}
