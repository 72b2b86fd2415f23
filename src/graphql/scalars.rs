//! The API's own scalars. `is_valid` is a full parse, so a bad literal or variable is an error of
//! the document and never of a resolver.

use async_graphql::{
    Enum, InputType, InputValueError, InputValueResult, Object, Scalar, ScalarType, Value,
};
use chrono::{Datelike, NaiveDate, SecondsFormat, SubsecRound, Timelike, Utc};

use crate::money;

/// Digits of a `Decimal` at most; `rust_decimal` holds every number of so many.
const DECIMAL_DIGITS_MAX: usize = 28;
/// Digits of a number that survive a JSON parser which reads it as a double.
const NUMBER_DIGITS_MAX: usize = 15;
/// Nesting of a `JSON` value at most; a plain value has none.
const JSON_DEPTH_MAX: usize = 8;
/// Bytes of a `JSON` value at most, written without spaces.
const JSON_BYTES_MAX: usize = 16 * 1024;

/// An instant, by the microsecond.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct DateTime(pub chrono::DateTime<Utc>);

/// An instant as RFC 3339 text with its offset, for example `2026-11-21T10:02:03.123456+09:00`.
/// Answers are in UTC and end with `Z`. Digits after the microsecond are dropped. Years 1 to 9999.
#[Scalar]
impl ScalarType for DateTime {
    fn parse(value: Value) -> InputValueResult<Self> {
        let text = text_of(&value)?;
        let instant = chrono::DateTime::parse_from_rfc3339(text)
            .map_err(|_| "write RFC 3339 with an offset, like 2026-11-21T01:02:03Z")?
            .with_timezone(&Utc);
        // The databases disagree about leap seconds: one keeps them, the other moves on.
        let is_leap_second = instant.nanosecond() >= 1_000_000_000;
        if is_leap_second || !(1..=9999).contains(&instant.year()) {
            return Err("the instant is outside the supported range".into());
        }
        Ok(Self(instant.trunc_subsecs(6)))
    }

    fn is_valid(value: &Value) -> bool {
        <Self as ScalarType>::parse(value.clone()).is_ok()
    }

    fn to_value(&self) -> Value {
        let format = match self.0.timestamp_subsec_micros() {
            0 => SecondsFormat::Secs,
            micros if micros % 1000 == 0 => SecondsFormat::Millis,
            _ => SecondsFormat::Micros,
        };
        Value::String(self.0.to_rfc3339_opts(format, true))
    }
}

impl From<chrono::DateTime<Utc>> for DateTime {
    fn from(instant: chrono::DateTime<Utc>) -> Self {
        Self(instant)
    }
}

/// A day of the calendar.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Date(pub NaiveDate);

/// A day of the calendar as `YYYY-MM-DD`, for example `2026-11-21`. Years 0001 to 9999.
#[Scalar]
impl ScalarType for Date {
    fn parse(value: Value) -> InputValueResult<Self> {
        let date = day(text_of(&value)?).ok_or("write a day like 2026-11-21")?;
        Ok(Self(date))
    }

    fn is_valid(value: &Value) -> bool {
        <Self as ScalarType>::parse(value.clone()).is_ok()
    }

    fn to_value(&self) -> Value {
        Value::String(self.0.format("%Y-%m-%d").to_string())
    }
}

impl From<NaiveDate> for Date {
    fn from(date: NaiveDate) -> Self {
        Self(date)
    }
}

/// An exact decimal number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Decimal(pub rust_decimal::Decimal);

/// An exact decimal number of at most 28 digits. Answers are strings, for example `"12.50"`.
/// Send a string; a plain number of at most 15 digits is taken too. Exponents are refused in
/// strings.
#[Scalar]
impl ScalarType for Decimal {
    fn parse(value: Value) -> InputValueResult<Self> {
        let decimal = match &value {
            Value::String(text) => exact(text, DECIMAL_DIGITS_MAX),
            Value::Number(number) => match number.as_f64() {
                Some(double) if number.is_f64() => exact(&double.to_string(), NUMBER_DIGITS_MAX),
                Some(_) | None => exact(&number.to_string(), DECIMAL_DIGITS_MAX),
            },
            _ => return Err(InputValueError::expected_type(value)),
        };
        Ok(Self(decimal.ok_or("write a decimal number of at most 28 digits as a string")?))
    }

    fn is_valid(value: &Value) -> bool {
        <Self as ScalarType>::parse(value.clone()).is_ok()
    }

    fn to_value(&self) -> Value {
        Value::String(self.0.to_string())
    }
}

impl From<rust_decimal::Decimal> for Decimal {
    fn from(decimal: rust_decimal::Decimal) -> Self {
        Self(decimal)
    }
}

/// Any JSON value within the limits.
#[derive(Clone, Debug, PartialEq)]
pub struct Json(pub serde_json::Value);

/// Any JSON value: at most 8 levels of lists and objects, at most 16 KiB written without spaces,
/// no NUL characters.
#[Scalar(name = "JSON")]
impl ScalarType for Json {
    fn parse(value: Value) -> InputValueResult<Self> {
        if !is_plain(&value, JSON_DEPTH_MAX) {
            return Err("the value is nested too deeply or holds what JSON cannot".into());
        }
        let json = value.into_json()?;
        if json.to_string().len() > JSON_BYTES_MAX {
            return Err("the value is too large".into());
        }
        Ok(Self(json))
    }

    fn is_valid(value: &Value) -> bool {
        <Self as ScalarType>::parse(value.clone()).is_ok()
    }

    fn to_value(&self) -> Value {
        Value::from_json(self.0.clone()).unwrap_or_default()
    }
}

impl From<serde_json::Value> for Json {
    fn from(json: serde_json::Value) -> Self {
        Self(json)
    }
}

/// A currency by its ISO 4217 code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum)]
#[graphql(remote = "money::Currency")]
pub enum Currency {
    /// Japanese yen; it has no decimals.
    Jpy,
}

/// An amount of money.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Money(pub money::Money);

/// An amount of money.
#[Object]
impl Money {
    /// The amount in major units, with the currency's own decimals: ¥500 is `"500"`.
    async fn amount(&self) -> Decimal {
        Decimal(self.0.major())
    }

    /// The currency.
    async fn currency(&self) -> Currency {
        self.0.currency.into()
    }
}

impl From<money::Money> for Money {
    fn from(money: money::Money) -> Self {
        Self(money)
    }
}

fn text_of<T: InputType>(value: &Value) -> Result<&str, InputValueError<T>> {
    match value {
        Value::String(text) => Ok(text),
        _ => Err(InputValueError::expected_type(value.clone())),
    }
}

/// Strictly `YYYY-MM-DD`: chrono alone would take signs and single digits.
fn day(text: &str) -> Option<NaiveDate> {
    let has_shape = text.len() == 10
        && text.bytes().enumerate().all(|(place, byte)| match place {
            4 | 7 => byte == b'-',
            _ => byte.is_ascii_digit(),
        });
    let date = NaiveDate::parse_from_str(text, "%Y-%m-%d").ok()?;
    (has_shape && date.year() >= 1).then_some(date)
}

/// Reads `-?digits(.digits)?` of at most `digits_max` digits.
fn exact(text: &str, digits_max: usize) -> Option<rust_decimal::Decimal> {
    let unsigned = text.strip_prefix('-').unwrap_or(text);
    let (whole, fraction) = unsigned.split_once('.').unwrap_or((unsigned, "0"));
    let is_digits = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    let digits = unsigned.bytes().filter(u8::is_ascii_digit).count();
    if !is_digits(whole) || !is_digits(fraction) || digits > digits_max {
        return None;
    }
    let mut decimal = rust_decimal::Decimal::from_str_exact(text).ok()?;
    if decimal.is_zero() {
        decimal.set_sign_positive(true);
    }
    Some(decimal)
}

/// Whether the value is JSON of at most `depth` levels that both databases can keep: PostgreSQL's
/// `jsonb` has no NUL.
fn is_plain(value: &Value, depth: usize) -> bool {
    match value {
        Value::Null | Value::Number(_) | Value::Boolean(_) => true,
        Value::String(text) => !text.contains('\0'),
        Value::Enum(_) | Value::Binary(_) => false,
        Value::List(items) => depth > 0 && items.iter().all(|item| is_plain(item, depth - 1)),
        Value::Object(fields) => {
            depth > 0
                && fields
                    .iter()
                    .all(|(name, field)| !name.contains('\0') && is_plain(field, depth - 1))
        }
    }
}
