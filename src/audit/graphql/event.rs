//! A line of the audit record, or of the ledger, in the API.

use std::collections::HashMap;

use async_graphql::dataloader::Loader;
use async_graphql::{Context, Description, Enum, ID, Object, Result};

use crate::audit::entries::{self, Origin};
use crate::credits::graphql::CreditTransaction;
use crate::entity::audit_entry;
use crate::entity::system_event::{self, EventType};
use crate::graphql::loader::{LoadError, Source, load};
use crate::graphql::payload::int;
use crate::graphql::scalars::{DateTime, Json};
use crate::identity::graphql::{ApiKey, User, load_user};
use crate::ids::{AuditEventId, TransactionId};

/// What an audit event is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum)]
#[graphql(remote = "system_event::EventType")]
pub enum AuditEventType {
    /// Credits came or went: a line of the ledger.
    CreditTransaction,
    /// Who comes in and who may what; refused attempts.
    Security,
    /// Something was made, changed or removed.
    Data,
    /// What the system did by itself.
    System,
}

/// How much a security event matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum)]
#[graphql(remote = "system_event::RiskLevel")]
pub enum AuditRiskLevel {
    /// Everyday.
    Low,
    /// Worth a look when it repeats.
    Medium,
    /// Worth a look.
    High,
    /// Something was broken into, or is being.
    Critical,
}

/// Whether what was tried was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum)]
pub enum AuditStatus {
    /// It was done.
    Success,
    /// It was refused, or failed.
    Failure,
}

/// Something that somebody did or tried.
#[derive(Description)]
pub struct AuditEvent(pub audit_entry::Model);

#[Object(use_type_description)]
impl AuditEvent {
    /// The event's id; for a line of the ledger, that line's.
    async fn id(&self) -> ID {
        entries::id_of(&self.0).into()
    }

    /// When it happened; the first time where repetitions are summed up.
    async fn occurred_at(&self) -> DateTime {
        DateTime(self.0.occurred_at)
    }

    /// What it is about.
    async fn event_type(&self) -> AuditEventType {
        self.0.event_type.into()
    }

    /// What was done, like `MEMBER_ROLE_CHANGED`; a mutation's name where it has no other.
    async fn action(&self) -> &str {
        &self.0.action
    }

    /// Whether it was done.
    async fn status(&self) -> AuditStatus {
        if self.0.is_success { AuditStatus::Success } else { AuditStatus::Failure }
    }

    /// How much it matters; of security events only.
    async fn risk_level(&self) -> Option<AuditRiskLevel> {
        self.0.risk_level.map(AuditRiskLevel::from)
    }

    /// How often it happened, where repetitions are summed up.
    async fn times(&self) -> i32 {
        int(self.0.times)
    }

    /// Who did it; null when nobody was signed in, the system did it, or they are not a member any
    /// more. With an API key, the person who made the key.
    async fn actor(&self, ctx: &Context<'_>) -> Result<Option<User>> {
        let Some(id) = self.0.user_id else { return Ok(None) };
        load_user(ctx, id).await
    }

    /// The API key that did it.
    async fn api_key(&self, ctx: &Context<'_>) -> Result<Option<ApiKey>> {
        let Some(id) = self.0.api_key_id else { return Ok(None) };
        Ok(load(ctx, id).await?.map(ApiKey))
    }

    /// The kind of thing that it was done to.
    async fn entity_type(&self) -> &str {
        &self.0.entity_type
    }

    /// The id of the thing that it was done to.
    async fn entity_id(&self) -> Option<String> {
        entries::entity_id(&self.0)
    }

    /// Numbers and kinds that belong to it; never what people wrote.
    async fn event_data(&self) -> Json {
        Json(entries::data_of(&self.0))
    }

    /// By field, `{ "before": …, "after": … }`, or `"[changed]"` where the values are personal.
    async fn changes(&self) -> Option<Json> {
        self.0.changes.clone().map(Json)
    }

    /// The request that did it, as errors and the log name it.
    async fn request_id(&self) -> Option<&str> {
        self.0.request_id.as_deref()
    }

    /// The system that wrote it.
    async fn source_system(&self) -> &str {
        &self.0.source_system
    }

    /// Its place in the tenant's chain; null until it is sealed, and for lines of the ledger.
    async fn seq(&self) -> Option<i32> {
        self.0.seq.map(int)
    }

    /// The sender's address; erased after 90 days.
    async fn ip_address(&self, ctx: &Context<'_>) -> Result<Option<String>> {
        let origin = origin(ctx, &self.0).await?;
        Ok(origin.and_then(|origin| origin.address).map(|address| address.to_string()))
    }

    /// What the sender's program calls itself; erased after 90 days.
    async fn user_agent(&self, ctx: &Context<'_>) -> Result<Option<String>> {
        Ok(origin(ctx, &self.0).await?.and_then(|origin| origin.user_agent))
    }

    /// The line of the ledger, if it is one.
    async fn transaction(&self, ctx: &Context<'_>) -> Result<Option<CreditTransaction>> {
        if self.0.event_type != EventType::CreditTransaction {
            return Ok(None);
        }
        Ok(load(ctx, TransactionId(self.0.id)).await?.map(CreditTransaction))
    }
}

async fn origin(ctx: &Context<'_>, entry: &audit_entry::Model) -> Result<Option<Origin>> {
    if entry.event_type == EventType::CreditTransaction {
        return Ok(None);
    }
    Ok(load(ctx, OriginOf(AuditEventId(entry.id))).await?)
}

/// Key of where an event's request came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct OriginOf(AuditEventId);

impl Loader<OriginOf> for Source {
    type Value = Origin;
    type Error = LoadError;

    async fn load(
        &self,
        keys: &[OriginOf],
    ) -> std::result::Result<HashMap<OriginOf, Origin>, LoadError> {
        let ids: Vec<AuditEventId> = keys.iter().map(|key| key.0).collect();
        let origins = entries::origins(&self.app, self.actor()?, &ids).await?;
        Ok(origins.into_iter().map(|(id, origin)| (OriginOf(id), origin)).collect())
    }
}
