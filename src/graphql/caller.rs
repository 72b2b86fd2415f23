//! The request's data, and the way from a service's result to a field's.
//!
//! A root field answers through [`answer`], a mutation through [`payload`]; both keep a failure
//! beside its siblings. Any other field just uses `?`: [`Caller::finish`] gives our errors their
//! code when the response is complete.
//!
//! ```ignore
//! async fn credit_account(&self, ctx: &Context<'_>) -> Answer<CreditAccount> {
//!     let caller = caller(ctx);
//!     answer(ctx, async {
//!         let account = credits::account(&caller.app, caller.actor()?).await?;
//!         Ok(CreditAccount(account))
//!     })
//!     .await
//! }
//! ```

use std::sync::Arc;

use async_graphql::{Context, Response, ServerError};

use crate::actor::Actor;
use crate::app::App;
use crate::error::{Error, Lang, Result};
use crate::graphql::payload::{self, UserError};

/// What a root field returns: an error nulls this field only.
pub type Answer<T> = Option<async_graphql::Result<T>>;

/// Who asks, in which language, under which request id. Put into the data of every request.
#[derive(Clone)]
pub struct Caller {
    /// The program's parts.
    pub app: App,
    /// Who is signed in, if anybody is.
    pub actor: Option<Actor>,
    /// The language of messages.
    pub lang: Lang,
    /// Names the request in errors and in the log.
    pub request_id: String,
}

impl Caller {
    /// The signed-in actor; refused as [`Error::Unauthenticated`].
    pub fn actor(&self) -> Result<&Actor> {
        self.actor.as_ref().ok_or(Error::Unauthenticated)
    }

    /// The error as the client sees it at the top level. Logs a fault of ours.
    pub fn coded(&self, error: &Error) -> async_graphql::Error {
        payload::top_level(error, self.lang, &self.request_id)
    }

    /// Gives every error that left a resolver by `?` its code and hides its cause. Call it on each
    /// response, also of a subscription, before it is sent.
    pub fn finish(&self, mut response: Response) -> Response {
        for error in &mut response.errors {
            self.finish_error(error);
        }
        response
    }

    fn finish_error(&self, error: &mut ServerError) {
        // What has no source was written for the client: by `coded`, or by the library about the
        // document.
        let Some(source) = error.source.take() else { return };
        // A loader hands the same error to each of its keys, behind an `Arc`.
        let shared = || source.downcast_ref::<Arc<Error>>().map(Arc::as_ref);
        let coded = match source.downcast_ref::<Error>().or_else(shared) {
            Some(ours) => self.coded(ours),
            None => self.coded(&Error::broken(error.message.clone())),
        };
        error.message = coded.message;
        error.extensions = coded.extensions;
    }
}

/// The request's caller. The transports put it into every request before it runs.
pub fn caller<'a>(ctx: &Context<'a>) -> &'a Caller {
    ctx.data_unchecked::<Caller>()
}

/// Answers a root field: the value, null for `None`, or null with a coded error at its path.
pub async fn answer<T, V: Into<Option<T>>>(
    ctx: &Context<'_>,
    work: impl Future<Output = Result<V>>,
) -> Answer<T> {
    match work.await {
        Ok(value) => value.into().map(Ok),
        Err(error) => Some(Err(caller(ctx).coded(&error))),
    }
}

/// Answers a mutation: what `done` makes of the value, what `refused` makes of the `userErrors`, or
/// null with a coded error when the cause belongs to the top level.
pub async fn payload<V, P>(
    ctx: &Context<'_>,
    work: impl Future<Output = Result<V>>,
    done: impl FnOnce(V) -> P,
    refused: impl FnOnce(Vec<UserError>) -> P,
) -> Answer<P> {
    let error = match work.await {
        Ok(value) => return Some(Ok(done(value))),
        Err(error) => error,
    };
    let caller = caller(ctx);
    match payload::user_errors(&error, caller.lang) {
        Some(user_errors) => Some(Ok(refused(user_errors))),
        None => Some(Err(caller.coded(&error))),
    }
}
