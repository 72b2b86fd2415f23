use chrono::{DateTime, Utc};
use sea_orm::entity::prelude::*;
use sea_orm::sea_query::{
    Alias, Asterisk, Expr, ExprTrait, Order, Query, SelectStatement, UnionType,
};
use sea_orm::{DbBackend, QuerySelect};
use uuid::Uuid;

use super::function_price::AiFunctionType;
use super::system_event::{EventType, RiskLevel};
use crate::ids::{AccountId, ApiKeyId, UserId};

/// A line of the audit record or of the ledger, as one list shows both. No table: see
/// [`Entity::of`].
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "audit_entries")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: Uuid,
    pub occurred_at: DateTime<Utc>,
    pub event_type: EventType,
    pub action: String,
    pub user_id: Option<UserId>,
    pub api_key_id: Option<ApiKeyId>,
    pub request_id: Option<String>,
    pub source_system: String,
    pub entity_type: String,
    pub entity_id: Option<Uuid>,
    pub event_data: Option<serde_json::Value>,
    pub changes: Option<serde_json::Value>,
    pub risk_level: Option<RiskLevel>,
    pub times: i64,
    pub is_success: bool,
    pub seq: Option<i64>,
    /// The following are of lines of the ledger only.
    pub credits_amount: Option<i64>,
    pub balance_after: Option<i64>,
    pub function_type: Option<AiFunctionType>,
    pub execution_time_ms: Option<i64>,
    pub total_cost_yen: Option<i64>,
}

/// None: relations are read by loaders.
#[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

/// For each column of the list: what it is in the audit record, and in the ledger. The casts make
/// the types of both sides the same, without which neither database walks each side by its own
/// index.
const COLUMNS: &[(&str, &str, &str)] = &[
    ("id", "id", "id"),
    ("occurred_at", "occurred_at", "created_at"),
    ("event_type", "event_type", "CAST('CREDIT_TRANSACTION' AS text)"),
    ("action", "action", "transaction_type"),
    ("user_id", "user_id", "user_id"),
    ("api_key_id", "api_key_id", "CAST(NULL AS uuid)"),
    ("request_id", "request_id", "CAST(NULL AS text)"),
    ("source_system", "source_system", "CAST('musubi' AS text)"),
    ("entity_type", "entity_type", "CAST('credit_transaction' AS text)"),
    ("entity_id", "entity_id", "id"),
    ("event_data", "event_data", "CAST(NULL AS jsonb)"),
    ("changes", "changes", "CAST(NULL AS jsonb)"),
    ("risk_level", "risk_level", "CAST(NULL AS text)"),
    ("times", "times", "CAST(1 AS bigint)"),
    ("is_success", "is_success", "CAST(TRUE AS boolean)"),
    ("seq", "seq", "CAST(NULL AS bigint)"),
    ("credits_amount", "CAST(NULL AS bigint)", "credits_amount"),
    ("balance_after", "CAST(NULL AS bigint)", "balance_after"),
    ("function_type", "CAST(NULL AS text)", "ai_function_type"),
    ("execution_time_ms", "CAST(NULL AS bigint)", "execution_time_ms"),
    ("total_cost_yen", "CAST(NULL AS bigint)", "total_cost_yen"),
];

impl Entity {
    /// The lines of a chain of the record, and of an account's ledger if there is one; for a walk
    /// in this order of time.
    pub fn of(
        on: DbBackend,
        chain: Uuid,
        account: Option<AccountId>,
        order: &Order,
    ) -> Select<Self> {
        let record = ("system_event", "chain_id", chain);
        let mut lines = one_side((on, order), record, |column| column.1);
        if let Some(account) = account {
            let ledger = ("ai_credit_transactions", "account_id", account.0);
            let ledger = one_side((on, order), ledger, |column| column.2);
            lines.union(UnionType::All, ledger);
        }
        let mut select = Self::find();
        QuerySelect::query(&mut select).from_clear().from_subquery(lines, Entity);
        select
    }
}

fn one_side(
    (on, order): (DbBackend, &Order),
    (table, key, value): (&'static str, &'static str, Uuid),
    source: impl Fn(&(&'static str, &'static str, &'static str)) -> &'static str,
) -> SelectStatement {
    let mut select = Query::select();
    for column in COLUMNS {
        let mut expression = source(column).to_owned();
        if on != DbBackend::Postgres {
            expression = expression.replace(" AS uuid)", " AS uuid_text)");
            expression = expression.replace(" AS jsonb)", " AS jsonb_text)");
        }
        select.expr_as(Expr::cust(expression), Alias::new(column.0));
    }
    select.from(Alias::new(table)).and_where(Expr::col(Alias::new(key)).eq(value));
    if on != DbBackend::Postgres {
        return select;
    }
    // PostgreSQL merges sides that come in an order, and would sort all of them otherwise.
    for column in ["occurred_at", "id"] {
        select.order_by(Alias::new(column), order.clone());
    }
    let mut side = Query::select();
    side.column(Asterisk).from_subquery(select, Alias::new("side"));
    side
}
