//! GraphQL over HTTP, in the profile that the `graphql-http` audits ask for: `application/json`
//! answers 200 to a refused document, `application/graphql-response+json` answers 400.

mod negotiation;
mod params;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use http::header::{self, HeaderValue};
use http::request::Parts;
use http::{Method, StatusCode};

use crate::graphql::caller::Caller;
use crate::graphql::engine::{Call, OperationKind, Prepared};
use crate::http::envelope::{self, RequestId};
use crate::http::operation::{self, Asker, Outcome, Verdict};
use crate::http::overload::Place;
use crate::http::reply::{self, Extent, Refusal};
use crate::http::{Shared, access, body, client, graphql_ws};
use crate::limits::who::Who;
use negotiation::Media;
pub(super) use params::from_object;

/// Answers any request to `/graphql`.
pub(super) async fn answer(State(shared): State<Shared>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let id = RequestId::of(&parts.extensions);
    let origin = match access::check_origin(&shared, &parts.uri, &parts.headers) {
        Ok(origin) => origin,
        Err(refusal) => return refusal.reply(&id),
    };
    if graphql_ws::is_upgrade(&parts) {
        return graphql_ws::upgrade(&shared, parts, &id).await;
    }
    let response = match access::preflight(&parts.method, &parts.headers, &origin) {
        Some(response) => Ok(response),
        None => Box::pin(respond(&shared, &parts, body, &id)).await,
    };
    let mut response = response.unwrap_or_else(|refusal| refusal.reply(&id));
    access::add_cors(&mut response, &origin);
    response
}

async fn respond(
    shared: &Shared,
    parts: &Parts,
    body: Body,
    id: &RequestId,
) -> Result<Response, Refusal> {
    let media = check_head(parts)?;
    let lang = envelope::lang(&parts.headers);
    let mut call = if parts.method == Method::GET {
        params::from_query(&parts.uri)?
    } else {
        let limits = shared.limits();
        let bounds = (limits.body_bytes_max, limits.body_timeout);
        params::from_body(&body::read(body, &parts.headers, bounds).await?)?
    };
    // Before the sign-in asks the database: what is refused must cost next to nothing.
    let place = shared.room().for_reading(&call).map_err(|full| Refusal::overload(full, lang))?;
    let app = shared.app().clone();
    let source = client::source(shared, parts, id);
    let actor = access::sign_in(&app, &parts.headers, lang).await.map_err(|error| {
        access::note_refused(&app, &error, &source);
        Refusal::sign_in(&error, lang)
    })?;
    let caller = Caller::new(app, actor, lang, source);
    let sender = (caller.actor.as_ref(), access::sender(&parts.headers));
    if let Err(denied) = shared.documents().admit(shared, &mut call, sender).await {
        let who = Who::of(shared.app(), caller.actor.as_ref(), &caller.source);
        let asker = (&who, &Asker::of(&caller));
        let errors = vec![denied.error(lang, id.as_str())];
        let refused = operation::refuse(shared.app(), asker, errors).await;
        return Ok(into_response(&refused, media));
    }
    let outcome = run(shared, &parts.method, call, caller, place).await?;
    Ok(into_response(&outcome, media))
}

/// Judges the method, what the client accepts and what it says it sends.
fn check_head(parts: &Parts) -> Result<Media, Refusal> {
    let accepted = negotiation::accepted(&parts.headers);
    if parts.method == Method::GET {
        // Links, images and forms cannot name our media types, so a page of another site cannot
        // make a browser run even a query.
        let accepted = accepted.filter(|accepted| accepted.is_explicit);
        return accepted.map(|accepted| accepted.media).ok_or_else(Refusal::not_acceptable);
    }
    if parts.method != Method::POST {
        return Err(Refusal::graphql_method());
    }
    let media = accepted.map(|accepted| accepted.media).ok_or_else(Refusal::not_acceptable)?;
    if negotiation::is_plain_json(&parts.headers) { Ok(media) } else { Err(Refusal::media_type()) }
}

async fn run(
    shared: &Shared,
    method: &Method,
    call: Call,
    caller: Caller,
    place: Place,
) -> Result<Outcome, Refusal> {
    let asker = Asker::of(&caller);
    let app = shared.app();
    let who = Who::of(app, caller.actor.as_ref(), &caller.source);
    let ready = match shared.engine().prepare(call, caller) {
        Prepared::Ready(ready) => ready,
        Prepared::Refused(refused) => {
            let errors = refused.response.errors;
            return Ok(operation::refuse(app, (&who, &asker), errors).await);
        }
    };
    match ready.kind {
        OperationKind::Query => {}
        OperationKind::Mutation if method == Method::POST => {}
        OperationKind::Mutation => return Err(Refusal::mutation_over(method)),
        OperationKind::Subscription => {
            let message = "Subscriptions travel by WebSocket (graphql-transport-ws) at this path.";
            return Err(Refusal::malformed(message));
        }
    }
    if let Err(limited) = operation::limit(app, (&who, &asker), ready.fields).await {
        return Ok(limited);
    }
    let room = shared.room();
    let place = match place {
        Some(place) => Some(place),
        None => {
            room.for_operation(ready.kind).map_err(|full| Refusal::overload(full, asker.lang))?
        }
    };
    Ok(operation::run(shared, ready, asker, place).await)
}

fn into_response(outcome: &Outcome, media: Media) -> Response {
    let (extent, status) = match (outcome.verdict, media) {
        (Verdict::Executed, _) => (Extent::Executed, StatusCode::OK),
        (Verdict::Refused, Media::Json) => (Extent::Refused, StatusCode::OK),
        (Verdict::Refused, Media::GraphqlResponse) => (Extent::Refused, StatusCode::BAD_REQUEST),
        (Verdict::Limited(_), Media::Json) => (Extent::Refused, StatusCode::OK),
        (Verdict::Limited(_), Media::GraphqlResponse) => {
            (Extent::Refused, StatusCode::TOO_MANY_REQUESTS)
        }
        (Verdict::TimedOut, _) => (Extent::Refused, StatusCode::GATEWAY_TIMEOUT),
        (Verdict::Failed, _) => (Extent::Refused, StatusCode::INTERNAL_SERVER_ERROR),
    };
    let body = reply::to_json(&reply::Body::new(&outcome.response, extent));
    let mut response = (status, body).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(media.content_type()));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.append(header::VARY, HeaderValue::from_static("accept"));
    if let Verdict::Limited(seconds) = outcome.verdict {
        headers.insert(header::RETRY_AFTER, seconds.into());
    }
    response
}
