//! What third parties tell us: `POST /webhook/stripe`.
//!
//! The body is judged as it came, byte by byte, and kept before it is answered. Stripe sends again
//! what was not answered with 2xx, for three days.

use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use http::header::{self, HeaderValue};

use crate::error::Lang;
use crate::graphql::engine::OperationKind;
use crate::http::envelope::RequestId;
use crate::http::reply::Refusal;
use crate::http::{Shared, body};
use crate::payments::service::inbox::{self, Receipt};

/// Events have some kilobytes; the largest objects of Stripe's fit in.
const BODY_BYTES_MAX: usize = 512 * 1024;

/// Takes an event of Stripe's.
pub(super) async fn stripe(State(shared): State<Shared>, request: Request) -> Response {
    let id = RequestId::of(request.extensions());
    let received = receive(&shared, request).await;
    received.unwrap_or_else(|refusal| refusal.reply(&id))
}

async fn receive(shared: &Shared, request: Request) -> Result<Response, Refusal> {
    let lang = Lang::En;
    let room = shared.room().for_operation(OperationKind::Mutation);
    let _place = room.map_err(|full| Refusal::overload(full, lang))?;
    let (parts, body) = request.into_parts();
    let signature = parts.headers.get("stripe-signature").and_then(|it| it.to_str().ok());
    let Some(signature) = signature else {
        return Err(Refusal::malformed("There is no signature."));
    };
    let timeout = shared.limits().body_timeout;
    let body = body::read(body, &parts.headers, (BODY_BYTES_MAX, timeout)).await?;
    let receipt = inbox::receive(shared.app(), signature, &body).await;
    match receipt.map_err(|error| Refusal::of(&error, lang))? {
        Receipt::Kept | Receipt::Known => {
            let json = HeaderValue::from_static("application/json");
            Ok(([(header::CONTENT_TYPE, json)], r#"{"received":true}"#).into_response())
        }
        Receipt::Rejected(why) => Err(Refusal::malformed(why)),
        Receipt::NotExpected => Err(Refusal::not_found()),
    }
}
