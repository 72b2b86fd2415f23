//! Sources of events that wait outside the library.
//!
//! The library's stream of a subscription keeps kilobytes for each subscriber as long as it waits,
//! and executes each event for each of them. So a field whose events answer the same to everybody
//! hands its source over when the library starts it: [`live`]. The engine waits for the source
//! alone, and lets the library execute the document anew for each event, with the event at hand:
//! once for all who sent the same document and see the same event.
//!
//! Whether a subscriber may see the event is the source's to decide, for each of them. There is no
//! caller while an event is executed, so that no answer can depend on one.

use std::any::{Any, TypeId};
use std::hash::{Hash, Hasher};
use std::sync::{Arc, Mutex, PoisonError};

use async_graphql::Context;
use futures_util::stream::{self, BoxStream};
use futures_util::{Stream, StreamExt};

use crate::error::Result;

/// What a source tells: equal facts answer the same.
pub trait Fact: Any + Send + Sync {
    /// Whether it tells the same.
    fn is_same(&self, other: &dyn Fact) -> bool;
    /// Feeds a hash.
    fn digest(&self, state: &mut dyn Hasher);
}

impl<T: Any + Send + Sync + Eq + Hash> Fact for T {
    fn is_same(&self, other: &dyn Fact) -> bool {
        (other as &dyn Any).downcast_ref::<T>() == Some(self)
    }

    fn digest(&self, mut state: &mut dyn Hasher) {
        TypeId::of::<T>().hash(&mut state);
        self.hash(&mut state);
    }
}

/// An event of a source, or why it ended.
pub(crate) type Told = Result<Arc<dyn Fact>>;
/// Events as one subscriber may see them.
pub(crate) type Source = BoxStream<'static, Told>;

/// In the request that starts a subscription: where a field puts its source.
#[derive(Clone, Default)]
pub(crate) struct Handover(Arc<Mutex<Option<Source>>>);

impl Handover {
    fn give(&self, source: Source) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(source);
    }

    /// The source, if a field handed one over.
    pub(crate) fn take(&self) -> Option<Source> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// In the request that executes one event: the event.
pub(crate) struct Moment(Mutex<Option<Told>>);

impl Moment {
    pub(crate) fn new(told: Told) -> Self {
        Self(Mutex::new(Some(told)))
    }

    /// What a field of such events tells; nothing when the event is another field's.
    fn take<T: Fact + Clone>(&self) -> Option<Result<T>> {
        let told = self.0.lock().unwrap_or_else(PoisonError::into_inner).take()?;
        let fact = told.map(|fact| (fact.as_ref() as &dyn Any).downcast_ref::<T>().cloned());
        fact.transpose()
    }
}

/// Answers a field of subscriptions. Nothing but the fact may have a say in what the fields of an
/// event answer: not the caller, and no table.
pub async fn live<T, S>(
    ctx: &Context<'_>,
    source: impl Future<Output = Result<S>> + Send,
) -> Result<BoxStream<'static, Result<T>>>
where
    T: Fact + Clone,
    S: Stream<Item = Result<T>> + Send + 'static,
{
    if let Some(moment) = ctx.data_opt::<Moment>() {
        return Ok(stream::iter(moment.take()).boxed());
    }
    let events = Box::pin(source).await?;
    let source = events.map(|event| event.map(|fact| Arc::new(fact) as Arc<dyn Fact>));
    ctx.data_unchecked::<Handover>().give(source.boxed());
    Ok(stream::empty().boxed())
}
