//! A place in a sorted list, as opaque text: base64url of a JSON list of the sort it belongs to
//! and the row's values in it, the id's last.

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use chrono::{DateTime, Datelike, NaiveDate, Utc};
use sea_orm::Value;
use sea_orm::sea_query::ArrayType;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Bytes of a cursor at most, when it is read. Texts that lists are sorted by must be shorter.
const CURSOR_BYTES_MAX: usize = 16 * 1024;

/// One value of a row. The names are short because they travel in every cursor.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) enum Cell {
    #[serde(rename = "n")]
    Null,
    #[serde(rename = "b")]
    Bool(bool),
    #[serde(rename = "i")]
    Int(i64),
    #[serde(rename = "s")]
    Text(String),
    #[serde(rename = "u")]
    Uuid(Uuid),
    #[serde(rename = "d")]
    Date(NaiveDate),
    #[serde(rename = "t")]
    Instant(DateTime<Utc>),
}

/// What a column's cells are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Bool,
    Int,
    Text,
    Uuid,
    Date,
    Instant,
}

impl Kind {
    /// The kind of a column by the Rust type of its values; `None` when lists cannot be sorted by
    /// it, as floats and decimals differ between the databases.
    pub(super) fn of(value: &ArrayType) -> Option<Self> {
        match value {
            ArrayType::Bool => Some(Self::Bool),
            ArrayType::SmallInt | ArrayType::Int | ArrayType::BigInt => Some(Self::Int),
            ArrayType::String | ArrayType::Enum(_) => Some(Self::Text),
            ArrayType::Uuid => Some(Self::Uuid),
            ArrayType::ChronoDate => Some(Self::Date),
            ArrayType::ChronoDateTimeUtc => Some(Self::Instant),
            _ => None,
        }
    }
}

impl Cell {
    /// The cell of a row's value; `None` when it is of no [`Kind`].
    pub(super) fn of(value: Value) -> Option<Self> {
        let cell = match value {
            Value::Bool(value) => value.map(Self::Bool),
            Value::SmallInt(value) => value.map(|value| Self::Int(value.into())),
            Value::Int(value) => value.map(|value| Self::Int(value.into())),
            Value::BigInt(value) => value.map(Self::Int),
            Value::String(value) => value.map(Self::Text),
            Value::Uuid(value) => value.map(Self::Uuid),
            Value::ChronoDate(value) => value.map(Self::Date),
            Value::ChronoDateTimeUtc(value) => value.map(Self::Instant),
            _ => return None,
        };
        Some(cell.unwrap_or(Self::Null))
    }

    /// The value to compare a column with; `None` for null.
    pub(super) fn value(&self) -> Option<Value> {
        match self {
            Self::Null => None,
            Self::Bool(value) => Some((*value).into()),
            Self::Int(value) => Some((*value).into()),
            Self::Text(value) => Some(value.clone().into()),
            Self::Uuid(value) => Some((*value).into()),
            Self::Date(value) => Some((*value).into()),
            Self::Instant(value) => Some((*value).into()),
        }
    }

    /// Whether a column of this kind can hold it, on either database.
    fn fits(&self, kind: Kind, is_nullable: bool) -> bool {
        let is_common_year = |year| (1..=9999).contains(&year);
        match self {
            Self::Null => is_nullable,
            Self::Bool(_) => kind == Kind::Bool,
            Self::Int(_) => kind == Kind::Int,
            Self::Text(text) => kind == Kind::Text && !text.contains('\0'),
            Self::Uuid(_) => kind == Kind::Uuid,
            Self::Date(date) => kind == Kind::Date && is_common_year(date.year()),
            Self::Instant(at) => kind == Kind::Instant && is_common_year(at.year()),
        }
    }
}

/// Writes a cursor.
pub(super) fn encode(sort: &str, cells: &[Cell]) -> Result<String, serde_json::Error> {
    Ok(BASE64_URL_SAFE_NO_PAD.encode(serde_json::to_vec(&(sort, cells))?))
}

/// Reads a cursor of this sort, whose columns are of these kinds and nullable or not.
pub(super) fn decode(text: &str, sort: &str, columns: &[(Kind, bool)]) -> Option<Vec<Cell>> {
    if text.len() > CURSOR_BYTES_MAX {
        return None;
    }
    let json = BASE64_URL_SAFE_NO_PAD.decode(text).ok()?;
    let (of_sort, cells): (String, Vec<Cell>) = serde_json::from_slice(&json).ok()?;
    let is_ours = of_sort == sort
        && cells.len() == columns.len()
        && cells.iter().zip(columns).all(|(cell, (kind, null))| cell.fits(*kind, *null));
    is_ours.then_some(cells)
}
