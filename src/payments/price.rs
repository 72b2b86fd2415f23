//! What a package costs, and what is in that price. The row's price is what the buyer pays: tax is
//! in it, the discount is off it.

use crate::entity::credit_package;
use crate::money::share;

/// A hundred percent, in hundredths of a percent.
const WHOLE: i64 = 10_000;

/// A price and its parts, in minor units.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Price {
    /// What it would cost without the discount, tax included.
    pub subtotal: i64,
    /// What the discount takes off.
    pub discount: i64,
    /// Hundredths of a percent.
    pub discount_rate: i64,
    /// What the buyer pays, tax included.
    pub total: i64,
    /// The tax in the total, rounded down, once.
    pub tax: i64,
    /// Hundredths of a percent.
    pub tax_rate: i64,
}

impl Price {
    /// A package's.
    pub fn of(package: &credit_package::Model) -> Self {
        let (total, tax_rate) = (package.price_yen, package.tax_rate);
        // No discount can be told from a price of which all was taken off.
        let kept = WHOLE - package.discount_rate;
        let subtotal = if kept > 0 { share(total, WHOLE, kept) } else { total };
        Self {
            subtotal,
            discount: subtotal - total,
            discount_rate: package.discount_rate,
            total,
            tax: tax_in(total, tax_rate),
            tax_rate,
        }
    }
}

/// The tax in an amount that includes it, rounded down once.
pub(crate) fn tax_in(amount: i64, tax_rate: i64) -> i64 {
    let tax = i128::from(amount) * i128::from(tax_rate) / i128::from(WHOLE + tax_rate);
    i64::try_from(tax).unwrap_or(0)
}
