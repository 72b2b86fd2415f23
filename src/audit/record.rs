//! Writing a line beside a change, in its transaction: what was done, and a field's value before
//! and after where it may be known.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use sea_orm::sea_query::OnConflict;
use sea_orm::{EntityTrait, IntoActiveModel};
use serde_json::{Map, Value, json};
use uuid::Uuid;

use crate::actor::{Actor, Source};
use crate::app::App;
use crate::audit::{Action, digest};
use crate::crypto::{Crypto, Place};
use crate::db::Txn;
use crate::entity::system_event::EventType;
use crate::entity::{system_event, system_event_origin};
use crate::error::Result;
use crate::ids::{AuditEventId, TenantId, UserId};
use crate::journal::Note;
use crate::text::Plain;

/// The name of this system in the record.
const SYSTEM: &str = "musubi";
/// What stands for a value that nobody may read in the record.
const HIDDEN: &str = "[changed]";
/// Lines that one statement writes at most; databases bound the values of one.
const ROWS_MAX: usize = 500;

/// The fields that a change changed. What stayed as it was is left out.
///
/// Text does not fit into [`Changes::plain`], so that nobody's words get in by mistake: what is
/// harmless is wrapped as a `Word`, everything else is [`Changes::personal`].
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Changes(Map<String, Value>);

impl Changes {
    /// Nothing so far.
    pub fn new() -> Self {
        Self::default()
    }

    /// A field whose values may be read by whoever reads the record.
    pub fn plain<T: Plain>(mut self, field: &'static str, before: &T, after: &T) -> Self {
        let (before, after) = (before.to_plain(), after.to_plain());
        if before != after {
            self.0.insert(field.to_owned(), json!({ "before": before, "after": after }));
        }
        self
    }

    /// A field with personal or sealed text: only that it changed.
    pub fn personal<T: PartialEq>(mut self, field: &'static str, before: &T, after: &T) -> Self {
        if before != after {
            self.0.insert(field.to_owned(), HIDDEN.into());
        }
        self
    }

    /// As the line holds it; none when nothing changed.
    pub fn into_json(self) -> Option<Value> {
        (!self.0.is_empty()).then_some(Value::Object(self.0))
    }
}

/// What an action was done to.
#[derive(Clone, Debug)]
pub struct Subject {
    /// The table's noun: `credit_package`.
    entity_type: &'static str,
    entity_id: Option<Uuid>,
    tenant: Option<TenantId>,
    data: Value,
    changes: Changes,
}

impl Subject {
    /// A row, by its table's noun (`credit_package`) and its key.
    pub fn of(entity_type: &'static str, entity_id: Uuid) -> Self {
        Self::kind(entity_type).row(Some(entity_id))
    }

    /// Something that is no row.
    pub fn kind(entity_type: &'static str) -> Self {
        let (data, changes) = (json!({}), Changes::new());
        Self { entity_type, entity_id: None, tenant: None, data, changes }
    }

    /// The row, if there is one.
    pub fn row(self, entity_id: Option<Uuid>) -> Self {
        Self { entity_id, ..self }
    }

    /// The tenant that it belongs to. Where none is named, it is the actor's.
    pub fn in_tenant(self, tenant: TenantId) -> Self {
        Self { tenant: Some(tenant), ..self }
    }

    /// Numbers and names of kinds; never personal text.
    pub fn with(self, data: Value) -> Self {
        Self { data, ..self }
    }

    /// What was changed.
    pub fn changing(self, changes: Changes) -> Self {
        Self { changes, ..self }
    }
}

/// Writes a line for what an actor did.
pub async fn record(
    app: &App,
    txn: &Txn,
    actor: &Actor,
    action: Action,
    subject: Subject,
) -> Result<()> {
    let now = app.clock.db_now();
    let row = by(actor, line(action, subject, now));
    write(app, txn, vec![note(row, &actor.source)]).await?;
    actor.source.records.add();
    Ok(())
}

/// Writes a line for what the program did by itself.
pub async fn record_own(app: &App, txn: &Txn, action: Action, subject: Subject) -> Result<()> {
    let row = line(action, subject, app.clock.db_now());
    write(app, txn, vec![Note { row, address: None, user_agent: None }]).await
}

/// Something about who comes in, where nobody may be signed in yet.
#[derive(Clone, Debug)]
pub struct Security<'a> {
    /// What happened.
    pub action: Action,
    /// Whom it concerns.
    pub user: Option<UserId>,
    /// The tenant that they act in.
    pub tenant: Option<TenantId>,
    /// The table's noun, and the row.
    pub subject: (&'static str, Option<Uuid>),
    /// Numbers and names; never personal text.
    pub data: Value,
    /// Where the request came from.
    pub source: &'a Arc<Source>,
}

/// Writes the line of a security event.
pub async fn record_security(app: &App, txn: &Txn, event: Security<'_>) -> Result<()> {
    let subject = Subject::kind(event.subject.0).row(event.subject.1).with(event.data);
    let row = system_event::Model {
        tenant_id: event.tenant,
        chain_id: chain_of(event.tenant),
        user_id: event.user,
        request_id: request_of(event.source),
        ..line(event.action, subject, app.clock.db_now())
    };
    write(app, txn, vec![note(row, event.source)]).await?;
    event.source.records.add();
    Ok(())
}

/// The chain of a tenant's lines, or of the platform's.
pub(crate) fn chain_of(tenant: Option<TenantId>) -> Uuid {
    tenant.map_or(Uuid::nil(), |tenant| tenant.0)
}

/// A line as an actor's, by their request.
pub(super) fn by(actor: &Actor, row: system_event::Model) -> system_event::Model {
    let tenant = row.tenant_id.or(actor.tenant_id);
    system_event::Model {
        tenant_id: tenant,
        chain_id: chain_of(tenant),
        user_id: Some(actor.user_id),
        api_key_id: actor.key().map(|key| key.id),
        request_id: request_of(&actor.source),
        ..row
    }
}

/// A line by nobody.
pub(super) fn line(action: Action, subject: Subject, now: DateTime<Utc>) -> system_event::Model {
    let (event_type, risk_level) = action.kind();
    let row = named(action.as_str(), subject, now);
    system_event::Model { event_type, risk_level, is_success: !action.is_failure(), ..row }
}

/// A line by nobody, of an action that has no name of its own.
pub(super) fn named(action: &str, subject: Subject, now: DateTime<Utc>) -> system_event::Model {
    system_event::Model {
        id: AuditEventId::new(),
        chain_id: chain_of(subject.tenant),
        tenant_id: subject.tenant,
        user_id: None,
        api_key_id: None,
        request_id: None,
        event_type: EventType::Data,
        source_system: SYSTEM.to_owned(),
        entity_type: subject.entity_type.to_owned(),
        entity_id: subject.entity_id,
        action: action.to_owned(),
        event_data: subject.data,
        changes: subject.changes.into_json(),
        risk_level: None,
        times: 1,
        is_success: true,
        occurred_at: now,
        origin_digest: None,
        digest: Vec::new(),
        seq: None,
        chain_hash: None,
    }
}

pub(super) fn request_of(source: &Source) -> Option<String> {
    (!source.request_id.is_empty()).then(|| source.request_id.to_string())
}

/// A line and where its request came from.
pub(super) fn note(row: system_event::Model, source: &Source) -> Note {
    Note { row, address: source.address, user_agent: source.user_agent.clone() }
}

/// Writes lines, each with its digests, and where they came from beside them.
pub(super) async fn write(app: &App, txn: &Txn, notes: Vec<Note>) -> Result<()> {
    let (mut rows, mut origins) = (Vec::with_capacity(notes.len()), Vec::new());
    for note in notes {
        let agent = note.user_agent.as_deref();
        let mut row = note.row;
        row.origin_digest = digest::of_origin(&app.crypto, row.id.0, (note.address, agent));
        row.digest = digest::of_line(&app.crypto, &row);
        if row.origin_digest.is_some() {
            origins.push(system_event_origin::Model {
                event_id: row.id,
                ip_address: sealed(&app.crypto, &row, ("ip_address", note.address.as_ref()))?,
                user_agent: sealed(&app.crypto, &row, ("user_agent", agent.as_ref()))?,
                created_at: row.occurred_at,
            });
        }
        rows.push(row.into_active_model());
    }
    while !rows.is_empty() {
        let rest = rows.split_off(rows.len().min(ROWS_MAX));
        let part = std::mem::replace(&mut rows, rest);
        // Lines that are written again, as a commit's answer was lost, may be there already.
        system_event::Entity::insert_many(part)
            .on_conflict(OnConflict::new().do_nothing().to_owned())
            .exec_without_returning(&**txn)
            .await?;
    }
    while !origins.is_empty() {
        let rest = origins.split_off(origins.len().min(ROWS_MAX));
        let part = std::mem::replace(&mut origins, rest);
        let part = part.into_iter().map(IntoActiveModel::into_active_model);
        system_event_origin::Entity::insert_many(part)
            .on_conflict(OnConflict::new().do_nothing().to_owned())
            .exec_without_returning(&**txn)
            .await?;
    }
    Ok(())
}

/// Where a part of an origin is sealed.
pub(super) fn place(column: &'static str, event: AuditEventId) -> Place {
    Place { table: "system_event_origins", column, row: event.0 }
}

fn sealed(
    crypto: &Crypto,
    row: &system_event::Model,
    (column, text): (&'static str, Option<&impl ToString>),
) -> Result<Option<crate::crypto::Sealed>> {
    text.map(|text| crypto.seal(place(column, row.id), &text.to_string())).transpose()
}
