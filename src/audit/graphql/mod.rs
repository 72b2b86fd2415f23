//! The audit record in the API.

pub mod event;
pub mod list;

use async_graphql::{Context, Enum, Object, SimpleObject};

use crate::audit::entries;
use crate::graphql::caller::{Answer, answer, caller};
use crate::graphql::page::{Connection, List, Order, OrderDirection, PageArgs};
use crate::graphql::payload::int;
use list::{AuditEventOrderField, AuditEventWhere};

pub use event::AuditEvent;

/// How an export is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum)]
#[graphql(remote = "entries::Format")]
pub enum AuditExportFormat {
    /// Comma-separated values with a head. What a spreadsheet would run as a formula is disarmed
    /// by an apostrophe.
    Csv,
    /// One JSON object on each line.
    Jsonl,
}

/// Lines of the audit record, written down.
#[derive(SimpleObject)]
pub struct AuditExport {
    /// The lines. Without addresses and user agents.
    content: String,
    /// How many lines there are.
    count: i32,
    /// Whether more lines follow.
    has_next_page: bool,
    /// Pass it as `after` for the lines that follow; null when there are no lines.
    end_cursor: Option<String>,
}

/// The record of who did what.
#[derive(Default)]
pub struct AuditQuery;

#[Object]
impl AuditQuery {
    /// The audit record of the caller's tenant and the lines of its ledger in one list, the newest
    /// first unless they are sorted otherwise. For ADMIN; platform admins who act in no tenant see
    /// the platform's own.
    #[expect(clippy::too_many_arguments, reason = "a paged list with filter and order has so many")]
    async fn audit_events(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "So many from the front, 1 to 100.")] first: Option<i32>,
        #[graphql(desc = "Only what follows this cursor.")] after: Option<String>,
        #[graphql(desc = "So many from the back, 1 to 100.")] last: Option<i32>,
        #[graphql(desc = "Only what precedes this cursor.")] before: Option<String>,
        #[graphql(name = "where", desc = "Only events that this lets through.")] filter: Option<
            AuditEventWhere,
        >,
        #[graphql(desc = "How to sort; the newest first when absent.")] order_by: Option<
            Vec<Order<AuditEventOrderField>>,
        >,
    ) -> Answer<Connection<AuditEvent>> {
        let caller = caller(ctx);
        answer(
            ctx,
            Box::pin(async {
                let from_newest = is_from_newest(order_by.as_deref(), last.is_some());
                let select = entries::visible(&caller.app, caller.actor()?, from_newest).await?;
                let list = List::new(caller.app.db.primary(), select, NEWEST).filter(filter);
                let list = list.order(order_by);
                let page = list.page(PageArgs { first, after, last, before }).await?;
                Ok(page.map(AuditEvent))
            }),
        )
        .await
    }

    /// Lines of the audit record for use elsewhere, the newest first. For ADMIN. Each export is
    /// itself recorded.
    async fn audit_export(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "How to write them.")] format: AuditExportFormat,
        #[graphql(desc = "So many lines, 1 to 1000; 1000 when absent.")] first: Option<i32>,
        #[graphql(desc = "Only what follows this cursor.")] after: Option<String>,
        #[graphql(name = "where", desc = "Only events that this lets through.")] filter: Option<
            AuditEventWhere,
        >,
    ) -> Answer<AuditExport> {
        let caller = caller(ctx);
        answer(
            ctx,
            Box::pin(async {
                let (app, actor) = (&caller.app, caller.actor()?);
                let select = entries::visible(app, actor, true).await?;
                let list = List::new(app.db.primary(), select, NEWEST).filter(filter);
                let page = list.in_bulk(first, after).await?;
                entries::note_export(app, actor, page.rows().count()).await?;
                Ok(AuditExport {
                    content: entries::export(page.rows(), format.into()),
                    count: int(i64::try_from(page.rows().count()).unwrap_or(i64::MAX)),
                    has_next_page: page.has_next(),
                    end_cursor: page.end_cursor(),
                })
            }),
        )
        .await
    }
}

/// Whether the newest are read first: by the list's order, or because it is read from its end.
fn is_from_newest(order_by: Option<&[Order<AuditEventOrderField>]>, is_from_end: bool) -> bool {
    let first = order_by.and_then(<[_]>::first);
    first.is_none_or(|order| order.direction == OrderDirection::Desc) != is_from_end
}

const NEWEST: &[(AuditEventOrderField, OrderDirection)] =
    &[(AuditEventOrderField::OccurredAt, OrderDirection::Desc)];
