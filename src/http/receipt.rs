//! `GET /receipt`: receipts as PDF. Plain HTTP, as a browser has to save the file, which it does by
//! an address; the address is signed, for one receipt and a quarter of an hour.

use std::sync::Arc;

use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, Request, State};
use axum::response::{IntoResponse, Response};
use http::Method;
use http::header::{self, HeaderName, HeaderValue};
use serde::Deserialize;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::error::{Error, Lang};
use crate::graphql::engine::OperationKind;
use crate::http::Shared;
use crate::http::envelope::RequestId;
use crate::http::reply::Refusal;
use crate::payments::receipts::{Sheet, issue, print};

/// Receipts that are drawn at once on a node; others wait for their turn.
const PRINTING_MAX: usize = 2;

/// The drawing of receipts.
pub(super) struct Printing(Arc<Semaphore>);

impl Default for Printing {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(PRINTING_MAX)))
    }
}

impl Printing {
    /// Draws off the async threads. Who leaves meanwhile leaves no room for others.
    async fn print(&self, sheet: Sheet) -> Result<Vec<u8>, Error> {
        let turn = Arc::clone(&self.0).acquire_owned().await.map_err(Error::broken)?;
        let work = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            print(&sheet)
        });
        work.await.map_err(Error::broken)?
    }
}

#[derive(Deserialize)]
pub(super) struct Asked {
    token: String,
}

/// Hands a receipt out. An address that is over, forged or of nothing is no address.
pub(super) async fn download(
    State(shared): State<Shared>,
    asked: Result<Query<Asked>, QueryRejection>,
    request: Request,
) -> Response {
    let id = RequestId::of(request.extensions());
    let handed = match asked {
        Ok(Query(asked)) => hand_out(&shared, &asked.token, request.method()).await,
        Err(_) => Err(Refusal::not_found()),
    };
    handed.unwrap_or_else(|refusal| refusal.reply(&id))
}

async fn hand_out(shared: &Shared, token: &str, method: &Method) -> Result<Response, Refusal> {
    let lang = Lang::En;
    let fault = |error: Error| Refusal::of(&error, lang);
    let room = shared.room().for_operation(OperationKind::Query);
    let _place = room.map_err(|full| Refusal::overload(full, lang))?;
    let opened = issue::open(shared.app(), token).await.map_err(fault)?;
    let (link, sheet) = opened.ok_or_else(Refusal::not_found)?;
    let name = format!("attachment; filename=\"receipt-{}.pdf\"", sheet.number);
    // Nobody waits for ever for a turn.
    let drawn = timeout(shared.limits().operation_timeout, shared.printing().print(sheet)).await;
    let pdf = drawn.unwrap_or(Err(Error::Timeout)).map_err(fault)?;
    // A HEAD hands nothing out.
    if method == Method::GET {
        issue::delivered(shared.app(), link.purchase).await.map_err(fault)?;
    }
    let name = HeaderValue::try_from(name).map_err(|error| fault(Error::broken(error)))?;
    let fixed = [
        (header::CONTENT_TYPE, "application/pdf"),
        (header::CACHE_CONTROL, "private, no-store"),
        (HeaderName::from_static("x-robots-tag"), "noindex"),
    ];
    let mut response = (fixed, pdf).into_response();
    response.headers_mut().insert(header::CONTENT_DISPOSITION, name);
    Ok(response)
}
