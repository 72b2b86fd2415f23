//! Loaders: one query for all rows that an execution asks for one by one.
//!
//! Each execution has its own set, which keeps nothing between loads, so that a subscription never
//! shows an old row. A domain implements `Loader` for [`Source`] in its `graphql` file, with a key
//! type of its own, and filters by the tenant in SQL.

use std::collections::HashMap;
use std::hash::Hash;

use async_graphql::Context;
use async_graphql::dataloader::{DataLoader, Loader};
use async_graphql::runtime::{TokioSpawner, TokioTimer};

use crate::actor::Actor;
use crate::app::App;
use crate::error::Error;
use crate::graphql::caller::Caller;
use crate::ids::TenantId;

/// Keys that one query asks for at most.
const BATCH_MAX: usize = 500;

/// What loaders load from, and for whom.
pub struct Source {
    /// The program's parts.
    pub app: App,
    /// The tenant whose rows may be loaded.
    pub tenant: Option<TenantId>,
    /// Who loads them.
    pub viewer: Option<Actor>,
}

/// Why a load failed; shared by all who asked for a row of it.
#[derive(Clone, Debug)]
pub enum LoadError {
    /// Nobody is signed in.
    Unauthenticated,
    /// The actor may not see such rows.
    Forbidden,
    /// The database does not answer.
    Unavailable,
    /// A fault of ours.
    Broken(String),
}

impl From<Error> for LoadError {
    fn from(error: Error) -> Self {
        match error {
            Error::Unauthenticated => Self::Unauthenticated,
            Error::Forbidden => Self::Forbidden,
            Error::Unavailable(_) => Self::Unavailable,
            other => Self::Broken(other.to_string()),
        }
    }
}

impl From<LoadError> for Error {
    fn from(error: LoadError) -> Self {
        match error {
            LoadError::Unauthenticated => Self::Unauthenticated,
            LoadError::Forbidden => Self::Forbidden,
            LoadError::Unavailable => Self::Unavailable("database"),
            LoadError::Broken(cause) => Self::broken(cause),
        }
    }
}

impl Source {
    /// Who loads; refused when nobody is signed in.
    pub fn actor(&self) -> Result<&Actor, Error> {
        self.viewer.as_ref().ok_or(Error::Unauthenticated)
    }
}

/// Makes [`Source`] load rows by their id, through a service function that judges the actor.
#[macro_export]
macro_rules! loads {
    ($($id:ty => $model:ty, $service:path;)*) => {$(
        impl async_graphql::dataloader::Loader<$id> for $crate::graphql::loader::Source {
            type Value = $model;
            type Error = $crate::graphql::loader::LoadError;

            async fn load(
                &self,
                keys: &[$id],
            ) -> Result<std::collections::HashMap<$id, $model>, Self::Error> {
                let rows = $service(&self.app, self.actor()?, keys).await?;
                Ok($crate::graphql::loader::by_key(rows, |row| row.id))
            }
        }
    )*};
}

/// The loaders of one execution.
pub fn new(caller: &Caller) -> DataLoader<Source> {
    let actor = caller.actor.as_ref();
    let source = Source {
        app: caller.app.clone(),
        tenant: actor.and_then(|actor| actor.tenant_id),
        viewer: actor.cloned(),
    };
    DataLoader::new(source, TokioSpawner::current(), TokioTimer::default())
        .max_batch_size(BATCH_MAX)
}

/// Loads one row, together with all that are asked for at the same time.
pub async fn load<K>(
    ctx: &Context<'_>,
    key: K,
) -> Result<Option<<Source as Loader<K>>::Value>, Error>
where
    K: Send + Sync + Hash + Eq + Clone + 'static,
    Source: Loader<K, Error = LoadError>,
{
    let loaders = ctx.data_unchecked::<DataLoader<Source>>();
    Ok(loaders.load_one(key).await?)
}

/// Rows by their keys.
pub fn by_key<K: Hash + Eq, M>(rows: Vec<M>, key: impl Fn(&M) -> K) -> HashMap<K, M> {
    rows.into_iter().map(|row| (key(&row), row)).collect()
}

/// Rows by a key that several share.
pub fn grouped<K: Hash + Eq, M>(rows: Vec<M>, key: impl Fn(&M) -> K) -> HashMap<K, Vec<M>> {
    let mut groups: HashMap<K, Vec<M>> = HashMap::new();
    for row in rows {
        groups.entry(key(&row)).or_default().push(row);
    }
    groups
}
