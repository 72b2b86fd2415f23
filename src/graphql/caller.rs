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

use crate::actor::{Actor, Source};
use crate::app::App;
use crate::audit::{self, Action, Attempt};
use crate::compliance::access;
use crate::error::{Code, Error, Lang, Result};
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
    /// Where the request came from; the actor's, too.
    pub source: Arc<Source>,
}

impl Caller {
    /// Who asks by this request.
    pub fn new(app: App, actor: Option<Actor>, lang: Lang, source: Arc<Source>) -> Self {
        let actor = actor.map(|actor| Actor { source: Arc::clone(&source), ..actor });
        Self { app, actor, lang, source }
    }

    /// Names the request in errors and in the log.
    pub fn request_id(&self) -> &str {
        &self.source.request_id
    }

    /// The signed-in actor; refused as [`Error::Unauthenticated`].
    pub fn actor(&self) -> Result<&Actor> {
        self.actor.as_ref().ok_or(Error::Unauthenticated)
    }

    /// Notes in the audit record that something was refused. `what` is a name of ours, never text
    /// of the caller.
    pub fn note_attempt(&self, action: Action, what: &str) {
        let (actor, source) = (self.actor.as_ref(), &self.source);
        audit::attempt(&self.app, Attempt { action, what, actor, tenant: None, source });
    }

    /// The error as the client sees it at the top level. Logs a fault of ours.
    pub fn coded(&self, error: &Error) -> async_graphql::Error {
        payload::top_level(error, self.lang, self.request_id())
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
            Some(ours) => {
                // The path has the caller's own names of fields.
                if let Error::Forbidden = ours {
                    self.note_attempt(Action::AccessRefused, "a field within, or a subscription");
                }
                self.coded(ours)
            }
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
    let outcome = match judge(ctx, "Query") {
        Ok(()) => work.await,
        Err(refused) => Err(refused),
    };
    match outcome {
        Ok(value) => value.into().map(Ok),
        Err(error) => {
            note_refusal(ctx, &error);
            Some(Err(caller(ctx).coded(&error)))
        }
    }
}

/// Judges the caller by the table of rules. A field that is not in it is judged by its service
/// alone; the compliance check names it, and a test fails.
fn judge(ctx: &Context<'_>, root: &str) -> Result<()> {
    match access::rule_of(&format!("{root}.{}", ctx.field().name())) {
        Some(rule) => access::judge(rule, caller(ctx).actor.as_ref()),
        None => Ok(()),
    }
}

/// Mutations whose record is not in the audit record: the execution, and its line in the ledger.
pub const RECORDED_ELSEWHERE: &[&str] = &["aiExecute", "aiExecutionStart"];

/// Every mutation that was done leaves a line in the audit record: its own, or else this one.
fn note_change(ctx: &Context<'_>, recorded: u32) {
    let (caller, field) = (caller(ctx), ctx.field().name());
    let is_recorded =
        caller.source.records.count() > recorded || RECORDED_ELSEWHERE.contains(&field);
    if let Some(actor) = caller.actor.as_ref().filter(|_| !is_recorded) {
        audit::note_change(&caller.app, actor, field);
    }
}

/// Whoever asks a root field for what they may not, or too often, leaves a line, too.
fn note_refusal(ctx: &Context<'_>, error: &Error) {
    let action = match error {
        Error::Forbidden => Action::AccessRefused,
        Error::Refused(refusal) => match refusal.code() {
            Code::RateLimited => Action::RateLimited,
            Code::SuspiciousActivity => Action::AccessRefused,
            _ => return,
        },
        _ => return,
    };
    caller(ctx).note_attempt(action, ctx.field().name());
}

/// Answers a mutation: what `done` makes of the value, what `refused` makes of the `userErrors`, or
/// null with a coded error when the cause belongs to the top level.
pub async fn payload<V, P>(
    ctx: &Context<'_>,
    work: impl Future<Output = Result<V>>,
    done: impl FnOnce(V) -> P,
    refused: impl FnOnce(Vec<UserError>) -> P,
) -> Answer<P> {
    let caller = caller(ctx);
    // The root fields of a mutation run one after the other: what is counted meanwhile is this
    // one's.
    let recorded = caller.source.records.count();
    let outcome = match judge(ctx, "Mutation") {
        Ok(()) => work.await,
        Err(refused) => Err(refused),
    };
    let error = match outcome {
        Ok(value) => {
            note_change(ctx, recorded);
            return Some(Ok(done(value)));
        }
        Err(error) => error,
    };
    note_refusal(ctx, &error);
    match payload::user_errors(&error, caller.lang) {
        Some(user_errors) => Some(Ok(refused(user_errors))),
        None => Some(Err(caller.coded(&error))),
    }
}
