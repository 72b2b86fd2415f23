//! The GraphiQL page. Its files are part of the program; `graphiql/page` builds them.

use std::sync::LazyLock;

use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use futures_util::future::BoxFuture;
use http::header::{self, HeaderMap};
use http::{HeaderValue, StatusCode};
use serde_json::{Value, json};

use crate::app::App;
use crate::http::Shared;
use crate::http::auth;
use crate::http::envelope::RequestId;
use crate::http::reply::{self, Refusal};

/// What the page starts with.
#[derive(Clone, Debug, Default)]
pub struct Prefill {
    /// The token that the page sends, without `Bearer`.
    pub bearer: Option<String>,
    /// The tabs that are open at first: `[{ "query": …, "variables": … }]`.
    pub tabs: Value,
}

/// Makes a [`Prefill`] for each load of the page, so that its token is fresh.
pub type Prefiller = fn(App) -> BoxFuture<'static, Prefill>;

/// The page runs its own scripts and workers, and speaks with its own server, nobody else.
const POLICY: &str = "default-src 'none'; script-src 'self'; worker-src 'self'; \
    style-src 'self' 'unsafe-inline'; font-src 'self' data:; img-src 'self' data:; \
    connect-src 'self' ws: wss:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
/// Where the page takes what it starts with.
const PLACE: &str = "__MUSUBI_CONFIG__";
const PAGE: &str = include_str!("assets/index.html");

/// A file of the page.
struct Asset {
    name: &'static str,
    content_type: &'static str,
    bytes: &'static [u8],
}

const JAVASCRIPT: &str = "text/javascript; charset=utf-8";

static ASSETS: [Asset; 7] = [
    Asset {
        name: "graphiql.js",
        content_type: JAVASCRIPT,
        bytes: include_bytes!("assets/graphiql.js"),
    },
    Asset {
        name: "graphiql.css",
        content_type: "text/css; charset=utf-8",
        bytes: include_bytes!("assets/graphiql.css"),
    },
    Asset {
        name: "editor.worker.js",
        content_type: JAVASCRIPT,
        bytes: include_bytes!("assets/editor.worker.js"),
    },
    Asset {
        name: "json.worker.js",
        content_type: JAVASCRIPT,
        bytes: include_bytes!("assets/json.worker.js"),
    },
    Asset {
        name: "graphql.worker.js",
        content_type: JAVASCRIPT,
        bytes: include_bytes!("assets/graphql.worker.js"),
    },
    Asset {
        name: "codicon.ttf",
        content_type: "font/ttf",
        bytes: include_bytes!("assets/codicon.ttf"),
    },
    Asset {
        name: "LICENSES.txt",
        content_type: "text/plain; charset=utf-8",
        bytes: include_bytes!("assets/LICENSES.txt"),
    },
];

/// One tag for all files, as they change together. Weak, because answers may be compressed.
static TAG: LazyLock<String> = LazyLock::new(|| {
    let bytes = ASSETS.iter().flat_map(|asset| asset.bytes);
    format!("W/\"{:016x}\"", fnv1a(bytes))
});

/// The page, with what it starts with. Never stored: it holds a token. Where nothing fills it in,
/// it is there for platform admins only, signed in as they are.
pub(super) async fn page(
    State(shared): State<Shared>,
    headers: HeaderMap,
    id: RequestId,
) -> Response {
    let prefill = match shared.0.graphiql {
        Some(prefiller) => prefiller(shared.app().clone()).await,
        None => match auth::admin_access(&shared, &headers).await {
            Some(bearer) => Prefill { bearer: Some(bearer), tabs: json!([]) },
            None => return Refusal::not_found().reply(&id),
        },
    };
    let headers = prefill.bearer.map(|token| json!({ "authorization": format!("Bearer {token}") }));
    let config = reply::to_json(&json!({ "headers": headers, "tabs": prefill.tabs }));
    // Within a script element only `</script` and `<!--` could end the JSON early.
    let page = PAGE.replace(PLACE, &config.replace('<', "\\u003c"));
    let headers = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::CACHE_CONTROL, "no-store"),
    ];
    (headers, page).into_response()
}

/// A file of the page. Browsers keep it and ask only whether it has changed.
pub(super) async fn asset(Path(name): Path<String>, headers: HeaderMap, id: RequestId) -> Response {
    let Some(asset) = ASSETS.iter().find(|asset| asset.name == name) else {
        return Refusal::not_found().reply(&id);
    };
    let mut response = if is_known(&headers) {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        ([(header::CONTENT_TYPE, asset.content_type)], asset.bytes).into_response()
    };
    let headers = response.headers_mut();
    if let Ok(tag) = HeaderValue::from_str(&TAG) {
        headers.insert(header::ETAG, tag);
    }
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("public, no-cache"));
    // A worker lives under the policy of its own file.
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    response
}

/// Whether the browser has this build's files.
fn is_known(headers: &HeaderMap) -> bool {
    let tags = headers.get_all(header::IF_NONE_MATCH).iter();
    let mut tags = tags.filter_map(|value| value.to_str().ok()).flat_map(|list| list.split(','));
    let opaque = TAG.trim_start_matches("W/");
    tags.any(|tag| tag.trim() == "*" || tag.trim().trim_start_matches("W/") == opaque)
}

/// FNV-1a, 64 bits: tells builds apart, guards nothing.
/// <https://datatracker.ietf.org/doc/draft-eastlake-fnv/>
fn fnv1a<'a>(bytes: impl Iterator<Item = &'a u8>) -> u64 {
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}
