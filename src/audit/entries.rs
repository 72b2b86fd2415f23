//! Reading the record: one list of its lines and the ledger's, where their requests came from, and
//! the export.

use std::collections::HashMap;
use std::net::IpAddr;

use sea_orm::{ColumnTrait, EntityTrait, Order, QueryFilter, QuerySelect, Select};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::actor::{Actor, Permission};
use crate::app::App;
use crate::audit::record::{chain_of, place};
use crate::audit::{Action, Subject, record};
use crate::crypto::Sealed;
use crate::entity::system_event::EventType;
use crate::entity::{audit_entry, credit_account, system_event, system_event_origin};
use crate::error::{Error, Result};
use crate::ids::{
    self, ApiKeyId, AuditEventId, ExecutionId, GrantId, HandOverId, InvitationId, LinkedAccountId,
    MembershipId, PackageId, PlanId, PriceId, ProfileId, SessionId, SiteId, TenantId,
    TransactionId, TypedId, UserId,
};

/// The chain that an actor may read: their tenant's for ADMINs, the platform's for platform admins
/// who act in no tenant.
pub fn readable(actor: &Actor) -> Result<Uuid> {
    if actor.tenant_id.is_none() {
        actor.require(Permission::Platform)?;
        return Ok(chain_of(None));
    }
    actor.require(Permission::AuditRead)?;
    Ok(chain_of(actor.tenant_id))
}

/// The lines that an actor may read, for a walk that begins with the newest, or the oldest.
pub async fn visible(
    app: &App,
    actor: &Actor,
    from_newest: bool,
) -> Result<Select<audit_entry::Entity>> {
    let chain = readable(actor)?;
    let account = match actor.tenant_id {
        Some(tenant) => credit_account::Entity::find_for(tenant).one(app.db.primary()).await?,
        None => None,
    };
    let on = app.db.primary().get_database_backend();
    let order = if from_newest { Order::Desc } else { Order::Asc };
    Ok(audit_entry::Entity::of(on, chain, account.map(|account| account.id), &order))
}

/// The id of an entry as clients know it.
pub fn id_of(entry: &audit_entry::Model) -> String {
    match entry.event_type {
        EventType::CreditTransaction => TransactionId(entry.id).to_string(),
        EventType::Security | EventType::Data | EventType::System => {
            AuditEventId(entry.id).to_string()
        }
    }
}

/// Writes a key as an id of its kind.
type Write = fn(Uuid) -> String;

/// The kinds of things that the record speaks of, each with how its ids begin and are written.
const KINDS: &[(&str, &str, Write)] = &[
    ("account", LinkedAccountId::PREFIX, |key| LinkedAccountId(key).to_string()),
    ("api_key", ApiKeyId::PREFIX, |key| ApiKeyId(key).to_string()),
    ("credit_grant", GrantId::PREFIX, |key| GrantId(key).to_string()),
    ("credit_package", PackageId::PREFIX, |key| PackageId(key).to_string()),
    ("credit_transaction", TransactionId::PREFIX, |key| TransactionId(key).to_string()),
    ("execution", ExecutionId::PREFIX, |key| ExecutionId(key).to_string()),
    ("function_price", PriceId::PREFIX, |key| PriceId(key).to_string()),
    ("hand_over", HandOverId::PREFIX, |key| HandOverId(key).to_string()),
    ("invitation", InvitationId::PREFIX, |key| InvitationId(key).to_string()),
    ("membership", MembershipId::PREFIX, |key| MembershipId(key).to_string()),
    ("plan", PlanId::PREFIX, |key| PlanId(key).to_string()),
    ("session", SessionId::PREFIX, |key| SessionId(key).to_string()),
    ("site", SiteId::PREFIX, |key| SiteId(key).to_string()),
    ("tenant", TenantId::PREFIX, |key| TenantId(key).to_string()),
    ("user", UserId::PREFIX, |key| UserId(key).to_string()),
    ("user_profile", ProfileId::PREFIX, |key| ProfileId(key).to_string()),
];

/// The id of the thing that an entry is about, as clients know it; a bare key for a kind that is
/// not listed.
pub fn entity_id(entry: &audit_entry::Model) -> Option<String> {
    let key = entry.entity_id?;
    let kind = KINDS.iter().find(|(kind, ..)| *kind == entry.entity_type);
    Some(kind.map_or_else(|| key.to_string(), |(_, _, write)| write(key)))
}

/// The key in an id of a thing that the record may speak of.
pub fn parse_entity(text: &str) -> Option<Uuid> {
    let (prefix, key) = ids::split(text)?;
    KINDS.iter().any(|(_, known, _)| *known == prefix).then_some(key)
}

/// What an entry says: the line's own data, or the figures of the ledger's line.
pub fn data_of(entry: &audit_entry::Model) -> Value {
    if let Some(data) = &entry.event_data {
        return data.clone();
    }
    json!({
        "creditsAmount": entry.credits_amount,
        "balanceAfter": entry.balance_after,
        "functionType": entry.function_type,
        "executionTimeMs": entry.execution_time_ms,
        "totalCostYen": entry.total_cost_yen,
    })
}

/// Where the request behind a line came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The sender's address.
    pub address: Option<IpAddr>,
    /// What the sender's program calls itself.
    pub user_agent: Option<String>,
}

/// Where the requests behind these lines came from, as far as it is kept: 90 days.
pub async fn origins(
    app: &App,
    actor: &Actor,
    ids: &[AuditEventId],
) -> Result<HashMap<AuditEventId, Origin>> {
    let chain = readable(actor)?;
    let own = system_event::Entity::of_chain(chain)
        .filter(system_event::Column::Id.is_in(ids.iter().copied()))
        .select_only()
        .column(system_event::Column::Id)
        .into_tuple::<AuditEventId>()
        .all(app.db.primary())
        .await?;
    let opened = open_origins(app, &own).await?;
    let readable = opened.into_iter().map(|(id, origin)| {
        let origin = origin.ok_or_else(|| Error::broken("an origin does not open"))?;
        Ok((id, origin))
    });
    readable.collect()
}

/// The origins of lines; none for one that does not open.
pub(super) async fn open_origins(
    app: &App,
    ids: &[AuditEventId],
) -> Result<HashMap<AuditEventId, Option<Origin>>> {
    let rows = system_event_origin::Entity::find()
        .filter(system_event_origin::Column::EventId.is_in(ids.iter().copied()))
        .all(app.db.primary())
        .await?;
    Ok(rows.into_iter().map(|row| (row.event_id, opened(app, &row))).collect())
}

fn opened(app: &App, row: &system_event_origin::Model) -> Option<Origin> {
    let open = |column, sealed: Option<&Sealed>| {
        sealed.map(|sealed| app.crypto.open(place(column, row.event_id), sealed)).transpose()
    };
    let address = open("ip_address", row.ip_address.as_ref()).ok()?;
    let user_agent = open("user_agent", row.user_agent.as_ref()).ok()?;
    let address = address.map(|address| address.parse()).transpose().ok()?;
    Some(Origin { address, user_agent })
}

/// How an export is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Comma-separated values (RFC 4180), with a head.
    Csv,
    /// One JSON object for each line.
    Jsonl,
}

/// The columns of an export.
const COLUMNS: [&str; 16] = [
    "id",
    "occurredAt",
    "eventType",
    "action",
    "status",
    "riskLevel",
    "times",
    "userId",
    "apiKeyId",
    "entityType",
    "entityId",
    "requestId",
    "sourceSystem",
    "eventData",
    "changes",
    "seq",
];

/// Writes entries down for use elsewhere. No address and no user agent is in it.
pub fn export<'a>(entries: impl Iterator<Item = &'a audit_entry::Model>, format: Format) -> String {
    let mut text = String::new();
    if format == Format::Csv {
        text.push_str(&COLUMNS.join(","));
        text.push_str("\r\n");
    }
    for entry in entries {
        let values = values_of(entry);
        match format {
            Format::Csv => {
                let cells: Vec<String> = values.iter().map(csv_cell).collect();
                text.push_str(&cells.join(","));
                text.push_str("\r\n");
            }
            Format::Jsonl => {
                let names = COLUMNS.iter().map(|name| (*name).to_owned());
                let object: serde_json::Map<String, Value> = names.zip(values).collect();
                text.push_str(&Value::Object(object).to_string());
                text.push('\n');
            }
        }
    }
    text
}

/// Notes in the record that lines of it were taken out.
pub async fn note_export(app: &App, actor: &Actor, count: usize) -> Result<()> {
    let subject = Subject::kind("system_event").with(json!({ "lines": count }));
    let txn = app.db.begin().await?;
    record(app, &txn, actor, Action::AuditExported, subject).await?;
    txn.commit().await
}

fn values_of(entry: &audit_entry::Model) -> [Value; 16] {
    let id = |id: Option<String>| id.map_or(Value::Null, Value::from);
    [
        id_of(entry).into(),
        entry.occurred_at.to_rfc3339_opts(chrono::SecondsFormat::Micros, true).into(),
        entry.event_type.as_str().into(),
        entry.action.as_str().into(),
        if entry.is_success { "SUCCESS" } else { "FAILURE" }.into(),
        id(entry.risk_level.map(|risk| risk.to_string())),
        entry.times.into(),
        id(entry.user_id.map(|user| user.to_string())),
        id(entry.api_key_id.map(|key| key.to_string())),
        entry.entity_type.as_str().into(),
        id(entity_id(entry)),
        id(entry.request_id.clone()),
        entry.source_system.as_str().into(),
        data_of(entry),
        entry.changes.clone().unwrap_or(Value::Null),
        entry.seq.map_or(Value::Null, Value::from),
    ]
}

/// A cell: quoted where it must be. What a spreadsheet would take for a formula gets an apostrophe
/// before it (OWASP, CSV Injection).
fn csv_cell(value: &Value) -> String {
    let text = match value {
        Value::Null => return String::new(),
        Value::String(text) => text.clone(),
        Value::Number(number) => return number.to_string(),
        Value::Bool(_) | Value::Array(_) | Value::Object(_) => value.to_string(),
    };
    let is_formula = text.starts_with(['=', '+', '-', '@', '\t', '\r']);
    let text = if is_formula { format!("'{text}") } else { text };
    if text.contains(['"', ',', '\n', '\r']) {
        format!("\"{}\"", text.replace('"', "\"\""))
    } else {
        text
    }
}
