//! The sites whose pages may come: read from the database, kept in memory, read again when told.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use http::Uri;

use crate::app::App;
use crate::events::Topic;
use crate::identity::origins::{self, Place};

/// Sites are read again so often, in case nobody told.
const REREAD_EVERY: Duration = Duration::from_secs(60);

/// The sites by the origins of their pages.
#[derive(Default)]
pub(super) struct Perimeter(RwLock<Arc<HashMap<String, Arc<Place>>>>);

impl Perimeter {
    /// The site that a browser's origin belongs to.
    pub(super) fn site(&self, origin: &str) -> Option<Arc<Place>> {
        self.places().get(&canonical(origin)?).cloned()
    }

    /// Reads the sites; those known before stay when the database does not answer.
    pub(super) async fn load(&self, app: &App) {
        let places = match origins::places(app).await {
            Ok(places) => places,
            Err(error) => {
                tracing::warn!(%error, "The sites could not be read: {error}");
                return;
            }
        };
        let mut by_origin = HashMap::new();
        for place in places.into_iter().map(Arc::new) {
            for origin in place.origins.iter().filter_map(|origin| canonical(origin)) {
                // The older site keeps its origin.
                by_origin.entry(origin).or_insert_with(|| Arc::clone(&place));
            }
        }
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(by_origin);
    }

    /// Follows changes until shutdown.
    pub(super) async fn follow(&self, app: &App) {
        let mut changes = app.events.subscribe(Topic::Sites);
        let stopping = app.tasks.stopping();
        loop {
            self.load(app).await;
            tokio::select! {
                () = stopping.cancelled() => return,
                _ = changes.next() => {}
                () = tokio::time::sleep(REREAD_EVERY) => {}
            }
        }
    }

    fn places(&self) -> Arc<HashMap<String, Arc<Place>>> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }
}

/// An origin as it is compared: lower case, without its scheme's own port.
pub(super) fn canonical(origin: &str) -> Option<String> {
    let uri: Uri = origin.parse().ok()?;
    let scheme = uri.scheme_str()?.to_ascii_lowercase();
    let own = if scheme == "https" { 443 } else { 80 };
    let port = uri.port_u16().unwrap_or(own);
    let host = uri.host()?.to_ascii_lowercase();
    Some(if port == own {
        format!("{scheme}://{host}")
    } else {
        format!("{scheme}://{host}:{port}")
    })
}
