//! Registered documents: what front ends were built with. In production a browser may run nothing
//! else, unless a platform admin sits before it. Rights are judged when a document runs, never
//! when it is registered.

use aws_lc_rs::digest::{SHA256, digest};
use sea_orm::{EntityTrait, IntoActiveModel};

use crate::app::App;
use crate::entity::registered_document;
use crate::error::Result;
use crate::events::{self, Event};

/// A longer document is not registered, in bytes; the guard would refuse it anyway.
const BYTES_MAX: usize = 32 * 1024;

/// The id of a document: the SHA-256 of its text, in hexadecimal.
pub fn id_of(text: &str) -> String {
    digest(&SHA256, text.as_bytes()).as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The text of a registered document.
pub async fn find(app: &App, id: &str) -> Result<Option<String>> {
    let row = registered_document::Entity::find_by_id(id).one(app.db.primary()).await?;
    Ok(row.map(|row| row.document))
}

/// Registers documents; those that are known stay as they are. How many were new. They run at once
/// on this node and on those that hear of it, and elsewhere after 10 s at most.
pub async fn register(app: &App, documents: &[String]) -> Result<u64> {
    let now = app.clock.db_now();
    let mut txn = app.db.begin().await?;
    let mut added = 0;
    for document in documents.iter().filter(|document| document.len() <= BYTES_MAX) {
        let row = registered_document::Model {
            id: id_of(document),
            document: document.clone(),
            registered_at: now,
        };
        let inserted = registered_document::Entity::insert(row.into_active_model())
            .on_conflict_do_nothing()
            .exec_without_returning(&*txn)
            .await?;
        added += u64::from(matches!(inserted, sea_orm::TryInsertResult::Inserted(1..)));
    }
    events::announce(&mut txn, Event::DocumentsRegistered);
    txn.commit().await?;
    Ok(added)
}
