//! What stands on a receipt.

use chrono::{Datelike, NaiveDate};
use rust_decimal::Decimal;

use crate::config::Issuer;
use crate::entity::credit_purchase::{self, PaymentMethodKind};
use crate::payments::notice::grouped;
use crate::payments::price;

/// A receipt as it is printed.
#[derive(Clone, Debug)]
pub struct Sheet {
    /// Its number.
    pub number: String,
    /// Whether it was handed out before.
    pub is_reissue: bool,
    /// The day on which it got its number, as all days in the tenant's zone.
    pub issued_on: NaiveDate,
    /// The day on which it is printed.
    pub printed_on: NaiveDate,
    /// The day on which it was paid.
    pub paid_on: NaiveDate,
    /// Whom it is for.
    pub recipient: String,
    /// Who issued it.
    pub issuer: Issuer,
    /// What was bought.
    pub purchase: credit_purchase::Model,
}

impl Sheet {
    /// What it was without the discount.
    pub(super) fn subtotal(&self) -> i64 {
        self.purchase.amount + self.purchase.discount
    }

    /// The tax in what went back.
    pub(super) fn refunded_tax(&self) -> i64 {
        price::tax_in(self.purchase.refunded, self.purchase.tax_rate)
    }

    /// How it was paid, in Japanese and English.
    pub(super) fn method(&self) -> (&'static str, &'static str) {
        match self.purchase.method {
            PaymentMethodKind::Stripe | PaymentMethodKind::StoredCard => {
                ("クレジットカード", "Credit card")
            }
            PaymentMethodKind::Invoice => ("請求書払い", "Invoice"),
        }
    }
}

pub(super) fn yen(amount: i64) -> String {
    let sign = if amount < 0 { "−" } else { "" };
    format!("{sign}¥{}", grouped(amount.abs()))
}

/// A rate in hundredths of a percent.
pub(super) fn percent(rate: i64) -> String {
    format!("{}%", Decimal::new(rate, 2).normalize())
}

pub(super) fn day(day: NaiveDate) -> String {
    format!("{}年{}月{}日", day.year(), day.month(), day.day())
}
