//! How the audit record is listed: what it can be sorted and filtered by.

use async_graphql::{Enum, InputObject};
use uuid::Uuid;

use crate::audit::entries;
use crate::audit::graphql::event::{AuditEventType, AuditRiskLevel, AuditStatus};
use crate::entity::audit_entry;
use crate::error::Error;
use crate::graphql::filter::{
    DateTimeFilter, EnumFilter, IdFilter, Nested, StringFilter, Terms, Where, Whether,
};
use crate::graphql::page::OrderField;
use crate::ids::{ApiKeyId, TypedId, UserId};

/// What audit events can be sorted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum)]
pub enum AuditEventOrderField {
    /// When they happened.
    OccurredAt,
}

impl OrderField for AuditEventOrderField {
    type Entity = audit_entry::Entity;

    fn column(self) -> audit_entry::Column {
        match self {
            Self::OccurredAt => audit_entry::Column::OccurredAt,
        }
    }
}

/// Which audit events to list. All that is given must hold.
#[derive(Clone, Debug, Default, InputObject)]
pub struct AuditEventWhere {
    /// By what they are about.
    pub event_type: Option<EnumFilter<AuditEventType>>,
    /// By what was done.
    pub action: Option<StringFilter>,
    /// By whether it was done.
    pub status: Option<EnumFilter<AuditStatus>>,
    /// By how much they matter.
    pub risk_level: Option<EnumFilter<AuditRiskLevel>>,
    /// By who did it.
    pub actor_id: Option<IdFilter>,
    /// By the API key that did it.
    pub api_key_id: Option<IdFilter>,
    /// By the kind of thing that it was done to.
    pub entity_type: Option<StringFilter>,
    /// By the thing that it was done to.
    pub entity_id: Option<IdFilter>,
    /// By the request that did it.
    pub request_id: Option<StringFilter>,
    /// By when it happened.
    pub occurred_at: Option<DateTimeFilter>,
    /// All of these.
    #[graphql(name = "AND")]
    pub and: Option<Vec<AuditEventWhere>>,
    /// Any of these.
    #[graphql(name = "OR")]
    pub or: Option<Vec<AuditEventWhere>>,
    /// Not this.
    #[graphql(name = "NOT")]
    pub not: Option<Box<AuditEventWhere>>,
}

impl Where for AuditEventWhere {
    fn terms(self, terms: &mut Terms) -> Nested<Self> {
        use audit_entry::Column;
        terms.add("eventType", Column::EventType, self.event_type);
        terms.add("action", Column::Action, self.action);
        let status = |filter| Whether { filter, is: AuditStatus::Success };
        terms.add("status", Column::IsSuccess, self.status.map(status));
        terms.add("riskLevel", Column::RiskLevel, self.risk_level);
        terms.id::<UserId>("actorId", Column::UserId, self.actor_id);
        terms.id::<ApiKeyId>("apiKeyId", Column::ApiKeyId, self.api_key_id);
        terms.add("entityType", Column::EntityType, self.entity_type);
        terms.id::<EntityId>("entityId", Column::EntityId, self.entity_id);
        terms.add("requestId", Column::RequestId, self.request_id);
        terms.add("occurredAt", Column::OccurredAt, self.occurred_at);
        Nested { and: self.and, or: self.or, not: self.not }
    }
}

/// The id of any kind of thing that the record speaks of.
#[derive(Clone, Copy)]
struct EntityId(Uuid);

impl TypedId for EntityId {
    const PREFIX: &'static str = "";

    fn from_uuid(uuid: Uuid) -> Self {
        Self(uuid)
    }

    fn uuid(self) -> Uuid {
        self.0
    }

    fn parse(text: &str) -> Result<Self, Error> {
        entries::parse_entity(text).map(Self).ok_or(Error::InvalidId)
    }
}
