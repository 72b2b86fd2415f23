//! Which documents a caller may run: any, or registered ones only.

use std::sync::Arc;

use async_graphql::ServerError;
use quick_cache::sync::Cache;

use crate::actor::{Actor, Permission};
use crate::documents;
use crate::error::{Error, Lang};
use crate::graphql::engine::Call;
use crate::http::Shared;
use crate::http::reply;

/// Registered documents that are kept in memory at most.
const KNOWN_MAX: usize = 2_000;

/// Registered documents that were asked for lately, by their ids.
pub(super) struct Documents(Cache<String, Arc<str>>);

/// Where a call comes from, as far as documents matter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sender {
    /// A page in a browser.
    Browser,
    /// A program.
    Program,
}

/// Why a document does not run.
#[derive(Debug)]
pub(super) enum Denied {
    /// Nobody registered a document with this id.
    Unknown,
    /// Browsers run registered documents only.
    Unregistered,
    /// It could not be looked up.
    Fault(Error),
}

impl Default for Documents {
    fn default() -> Self {
        Self(Cache::new(KNOWN_MAX))
    }
}

impl Documents {
    /// Fills in the text of a document that was named by its id, and judges the text of one that
    /// came whole.
    pub(super) async fn admit(
        &self,
        shared: &Shared,
        call: &mut Call,
        (actor, sender): (Option<&Actor>, Sender),
    ) -> Result<(), Denied> {
        if let Some(id) = call.document_id.take().filter(|_| call.query.is_empty()) {
            let text = self.find(shared, id).await?.ok_or(Denied::Unknown)?;
            text.as_ref().clone_into(&mut call.query);
            return Ok(());
        }
        let is_free = actor.is_some_and(|it| it.key().is_some() || it.may(Permission::Platform));
        if is_free || sender == Sender::Program || !shared.app().config.is_production() {
            return Ok(());
        }
        let found = self.find(shared, documents::id_of(&call.query)).await?;
        found.map(|_| ()).ok_or(Denied::Unregistered)
    }

    async fn find(&self, shared: &Shared, id: String) -> Result<Option<Arc<str>>, Denied> {
        if let Some(text) = self.0.get(&id) {
            return Ok(Some(text));
        }
        let found = documents::find(shared.app(), &id).await.map_err(Denied::Fault)?;
        let found: Option<Arc<str>> = found.map(Into::into);
        if let Some(text) = &found {
            self.0.insert(id, Arc::clone(text));
        }
        Ok(found)
    }
}

impl Denied {
    /// The error that the client reads. The first code is the one that clients with persisted
    /// queries know.
    pub(super) fn error(&self, lang: Lang, request_id: &str) -> ServerError {
        match self {
            Self::Unknown => {
                let message = "No document with this id is registered.";
                reply::graphql_error("PERSISTED_QUERY_NOT_FOUND", message, request_id)
            }
            Self::Unregistered => {
                let message = "Pages may run registered documents only.";
                reply::graphql_error("DOCUMENT_NOT_REGISTERED", message, request_id)
            }
            Self::Fault(error) => reply::our_error(error, lang, request_id),
        }
    }
}
