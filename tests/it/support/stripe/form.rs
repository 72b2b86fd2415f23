//! Stripe's form encoding: `metadata[order]=1&payment_method_types[0]=card`.

use std::collections::BTreeMap;

/// A form by the names of its fields, such as `metadata[order]`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Form(BTreeMap<String, String>);

impl Form {
    pub(super) fn read(query: Option<&str>, body: &[u8]) -> Self {
        let body = std::str::from_utf8(body).unwrap();
        let text = [query.unwrap_or_default(), body].concat();
        let url = reqwest::Url::parse(&format!("form:?{text}")).unwrap();
        let pairs = url.query_pairs().into_owned();
        Self(pairs.filter(|(name, _)| !name.is_empty()).collect())
    }

    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// The fields of a group, by their inner names.
    pub(super) fn group(&self, name: &str) -> BTreeMap<String, String> {
        let inner = |field: &str| {
            let inner = field.strip_prefix(name)?.strip_prefix('[')?.strip_suffix(']')?;
            Some(inner.to_owned())
        };
        self.0.iter().filter_map(|(field, value)| Some((inner(field)?, value.clone()))).collect()
    }

    /// Fields that are none of these, groups by their outer name.
    pub(super) fn unknown(&self, known: &[&str]) -> Option<&str> {
        let outer = |field: &&String| !known.contains(&field.split('[').next().unwrap());
        self.0.keys().find(outer).map(String::as_str)
    }
}
