//! Text in the database and in keys: enums that are stored as their name, and canonical forms.

use chrono::{DateTime, NaiveDate, SecondsFormat, Utc};

/// Declares an enum that is stored, sent and shown as its SCREAMING_SNAKE name.
#[macro_export]
macro_rules! text_enum {
    (
        $(#[$doc:meta])*
        $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $text:literal,)* }
    ) => {
        $(#[$doc])*
        #[derive(
            Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, sea_orm::EnumIter,
            sea_orm::DeriveActiveEnum, serde::Serialize, serde::Deserialize,
        )]
        #[sea_orm(rs_type = "String", db_type = "Text")]
        pub enum $name {
            $(
                $(#[$variant_doc])*
                #[sea_orm(string_value = $text)]
                #[serde(rename = $text)]
                $variant,
            )*
        }

        impl $name {
            /// Every value, in the order of its declaration.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The name in the database and in the API.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }
        }

        impl $crate::text::Plain for $name {
            fn to_plain(&self) -> serde_json::Value {
                self.as_str().into()
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}

/// A value that tells nothing of a person, so that it may be shown and kept: a number, a kind, an
/// instant. Text is none; what is known to be harmless is wrapped as a [`Word`].
pub trait Plain {
    /// The value as JSON.
    fn to_plain(&self) -> serde_json::Value;
}

/// Text that is no person's: a domain, a slug, the name of a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Word<'a>(pub &'a str);

impl Plain for Word<'_> {
    fn to_plain(&self) -> serde_json::Value {
        self.0.into()
    }
}

macro_rules! plain_numbers {
    ($($number:ty),*) => {$(
        impl Plain for $number {
            fn to_plain(&self) -> serde_json::Value {
                (*self).into()
            }
        }
    )*};
}

plain_numbers!(bool, i32, i64);

impl Plain for DateTime<Utc> {
    fn to_plain(&self) -> serde_json::Value {
        self.to_rfc3339_opts(SecondsFormat::Micros, true).into()
    }
}

impl Plain for NaiveDate {
    fn to_plain(&self) -> serde_json::Value {
        self.to_string().into()
    }
}

impl<T: Plain> Plain for Option<T> {
    fn to_plain(&self) -> serde_json::Value {
        self.as_ref().map_or(serde_json::Value::Null, Plain::to_plain)
    }
}

impl<T: Plain> Plain for Vec<T> {
    fn to_plain(&self) -> serde_json::Value {
        self.iter().map(Plain::to_plain).collect()
    }
}

/// An e-mail address as it is compared: trimmed, lower case.
pub fn canonical_email(email: &str) -> String {
    email.trim().to_lowercase()
}

/// An address in its canonical form, if the text has the shape of one: a local part of at most 64
/// characters, a domain with a dot, 254 bytes at most (RFC 5321 §4.5.3.1), ASCII, nothing
/// invisible.
pub fn email_address(text: &str) -> Option<String> {
    let canonical = canonical_email(text);
    let (local, domain) = canonical.rsplit_once('@')?;
    let has_dots = local.starts_with('.') || local.ends_with('.') || local.contains("..");
    let is_local = (1..=64).contains(&local.len()) && !local.contains('@') && !has_dots;
    let labels = || domain.split('.');
    let is_label = |label: &str| {
        let is_letter = |it: char| it.is_alphanumeric() || it == '-';
        !label.is_empty() && label.chars().all(is_letter) && !label.starts_with('-')
    };
    let is_domain = labels().count() >= 2 && labels().all(is_label);
    let is_plain = !canonical
        .chars()
        .any(|it| it.is_whitespace() || it.is_control() || "<>()[],;:\\\"".contains(it));
    let is_short = canonical.is_ascii() && canonical.len() <= 254;
    (is_local && is_domain && is_plain && is_short).then_some(canonical)
}
