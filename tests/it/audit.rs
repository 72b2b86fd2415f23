//! The audit record: what is written, what is not, and how tampering is found.

mod attempts;
mod chain;
mod compliance;
mod lists;
mod mutations;
mod scan;
mod seals;

use musubi::audit::{self, Action, Subject};
use musubi::db;
use musubi::entity::{audit_chain, system_event, system_event_origin};
use sea_orm::{EntityTrait, QueryOrder};
use serde_json::json;

use crate::support::TestApp;
use crate::support::people::{Hotel, Person};

/// All lines, sealed ones first and in their places, after what waits was written.
async fn lines(app: &TestApp) -> Vec<system_event::Model> {
    audit::flush(&app.app).await.unwrap();
    let select = system_event::Entity::find()
        .order_by_asc(system_event::Column::ChainId)
        .order_by_asc(system_event::Column::Seq)
        .order_by_asc(system_event::Column::Id);
    select.all(app.app.db.primary()).await.unwrap()
}

/// The lines of an action.
pub(crate) async fn lines_of(app: &TestApp, action: &str) -> Vec<system_event::Model> {
    lines(app).await.into_iter().filter(|line| line.action == action).collect()
}

async fn origins(app: &TestApp) -> Vec<system_event_origin::Model> {
    system_event_origin::Entity::find().all(app.app.db.primary()).await.unwrap()
}

async fn heads(app: &TestApp) -> Vec<audit_chain::Model> {
    audit_chain::Entity::find().all(app.app.db.primary()).await.unwrap()
}

/// Writes so many lines of a person's.
async fn writes(app: &TestApp, person: &Person, count: usize) {
    let txn = app.app.db.begin().await.unwrap();
    for number in 0..count {
        let subject = Subject::kind("test").with(json!({ "number": number }));
        audit::record(&app.app, &txn, &person.actor, Action::SiteUpdated, subject).await.unwrap();
    }
    txn.commit().await.unwrap();
}

/// A tenant with so many sealed lines.
async fn a_chain_of(app: &TestApp, count: usize) -> Hotel {
    let hotel = app.hotel().await;
    writes(app, &hotel.admin, count).await;
    audit::seal::seal_all(&app.app).await.unwrap();
    hotel
}

/// What `musubi verify` says of the record.
async fn flaws(app: &TestApp) -> Vec<audit::proof::Flaw> {
    audit::proof::prove(&app.app).await.unwrap()
}

/// Runs a statement of ours, as somebody with the database's password would.
async fn runs(app: &TestApp, sql: &str, values: Vec<sea_orm::Value>) -> u64 {
    let txn = app.app.db.begin().await.unwrap();
    let rows = db::execute(&*txn, sql, values).await.unwrap();
    txn.commit().await.unwrap();
    rows
}
