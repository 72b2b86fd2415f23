//! Which media type to answer in, and whether the request is JSON.

use http::header::{self, HeaderMap, HeaderName};

/// What we answer in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Media {
    /// `application/json`: 200 also for refused documents, as older clients expect.
    Json,
    /// `application/graphql-response+json`: statuses that tell.
    GraphqlResponse,
}

impl Media {
    pub(super) fn content_type(self) -> &'static str {
        match self {
            Self::Json => "application/json; charset=utf-8",
            Self::GraphqlResponse => "application/graphql-response+json; charset=utf-8",
        }
    }

    fn subtype(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::GraphqlResponse => "graphql-response+json",
        }
    }
}

/// The media type that the client prefers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Accepted {
    pub(super) media: Media,
    /// The client named it, rather than `*/*` or nothing.
    pub(super) is_explicit: bool,
}

/// How well a media type fits a header. The order of the fields is the order of their weight.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
struct Fit {
    quality: f32,
    /// 2 names the type, 1 its first half, 0 is `*/*`.
    precision: u8,
    /// Negative, so that the first of equals wins.
    place: i32,
}

/// Reads `Accept` (RFC 9110 §12.5.1). Absent or empty, it means anything; without preference we
/// answer `application/json`. Nothing in common: `None`.
pub(super) fn accepted(headers: &HeaderMap) -> Option<Accepted> {
    let header = joined(headers, header::ACCEPT)?;
    if header.trim().is_empty() {
        return Some(Accepted { media: Media::Json, is_explicit: false });
    }
    let json = fit(&header, Media::Json);
    let graphql = fit(&header, Media::GraphqlResponse);
    let (media, fit) = match (json, graphql) {
        (Some(json), Some(graphql)) if graphql > json => (Media::GraphqlResponse, graphql),
        (Some(json), _) => (Media::Json, json),
        (None, Some(graphql)) => (Media::GraphqlResponse, graphql),
        (None, None) => return None,
    };
    Some(Accepted { media, is_explicit: fit.precision == 2 })
}

/// Whether the body is JSON in UTF-8, not compressed. A missing type is no JSON: a browser sends
/// such requests for any site's page without asking first.
pub(super) fn is_plain_json(headers: &HeaderMap) -> bool {
    let is_identity = |encoding: &str| encoding.trim().eq_ignore_ascii_case("identity");
    if joined(headers, header::CONTENT_ENCODING)
        .is_none_or(|encoding| !encoding.is_empty() && !is_identity(&encoding))
    {
        return false;
    }
    let mut types = headers.get_all(header::CONTENT_TYPE).iter();
    let (Some(content_type), None) = (types.next(), types.next()) else { return false };
    let Ok(content_type) = content_type.to_str() else { return false };
    let mut parts = content_type.split(';').map(str::trim);
    let is_json = parts.next().is_some_and(|name| name.eq_ignore_ascii_case("application/json"));
    let is_utf8 = |parameter: &str| match parameter.split_once('=') {
        Some((name, value)) if name.trim().eq_ignore_ascii_case("charset") => {
            value.trim().trim_matches('"').eq_ignore_ascii_case("utf-8")
        }
        Some(_) | None => true,
    };
    is_json && parts.all(is_utf8)
}

/// The most precise range decides a media type's quality; quality 0 refuses it.
fn fit(header: &str, media: Media) -> Option<Fit> {
    let ranges = header.split(',').zip(0..).filter_map(|(item, place)| {
        let (range, quality) = parse_range(item)?;
        let precision = precision(range, media)?;
        Some(Fit { quality, precision, place: -place })
    });
    let best =
        ranges.reduce(|best, next| if next.precision > best.precision { next } else { best });
    best.filter(|fit| fit.quality > 0.0)
}

fn parse_range(item: &str) -> Option<(&str, f32)> {
    let mut parts = item.split(';').map(str::trim);
    let range = parts.next()?;
    let mut quality = 1.0;
    for parameter in parts {
        let Some((name, value)) = parameter.split_once('=') else { continue };
        if name.trim().eq_ignore_ascii_case("q") {
            quality = value.trim().parse::<f32>().ok().filter(|q| (0.0..=1.0).contains(q))?;
        }
    }
    Some((range, quality))
}

fn precision(range: &str, media: Media) -> Option<u8> {
    let (main, sub) = range.split_once('/')?;
    let is_application = main.eq_ignore_ascii_case("application");
    match (main, sub) {
        ("*", "*") => Some(0),
        (_, "*") if is_application => Some(1),
        (_, sub) if is_application && sub.eq_ignore_ascii_case(media.subtype()) => Some(2),
        (_, _) => None,
    }
}

/// All values of a header as one list; `None` when one is not text.
fn joined(headers: &HeaderMap, name: HeaderName) -> Option<String> {
    let values: Result<Vec<_>, _> =
        headers.get_all(name).iter().map(|value| value.to_str()).collect();
    values.ok().map(|values| values.join(","))
}
