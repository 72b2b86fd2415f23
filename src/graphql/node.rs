//! Any object by its id alone.

use async_graphql::{Context, ID, Interface, Object};

use crate::ai::graphql::{AiExecution, AiPrice};
use crate::ai::service::history;
use crate::credits::graphql::{
    CreditAccount, CreditGrant, CreditPackage, CreditTransaction, MonthlyReset, Plan,
};
use crate::credits::service::lookup;
use crate::error::{Error, Result, Violation};
use crate::graphql::caller::{Answer, Caller, answer, caller};
use crate::identity::graphql::{Tenant, User};
use crate::ids::{
    AccountId, ExecutionId, GrantId, PackageId, PlanId, PriceId, ResetId, TenantId, TransactionId,
    TypedId, UserId, split,
};

/// Ids that one call may ask for.
const NODES_MAX: usize = 100;

/// An object with an id of its own.
#[derive(Interface)]
#[graphql(field(name = "id", ty = "ID", desc = "The object's id, unique over all kinds."))]
pub enum Node {
    /// A tenant's prepaid credits.
    CreditAccount(CreditAccount),
    /// Credits that came in together.
    CreditGrant(CreditGrant),
    /// A line of the ledger.
    CreditTransaction(CreditTransaction),
    /// Credits for sale.
    CreditPackage(CreditPackage),
    /// A month's free credits.
    MonthlyReset(MonthlyReset),
    /// A plan's version.
    Plan(Plan),
    /// A call of an AI function.
    AiExecution(AiExecution),
    /// A price's version.
    AiPrice(AiPrice),
    /// A person.
    User(User),
    /// A tenant.
    Tenant(Tenant),
}

/// Objects by their ids.
#[derive(Default)]
pub struct NodeQuery;

#[Object]
impl NodeQuery {
    /// Any object by its id; null when there is none, or when it is not the caller's.
    async fn node(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The object's id.")] id: ID,
    ) -> Answer<Node> {
        let caller = caller(ctx);
        answer(ctx, async { find(caller, &id).await }).await
    }

    /// Objects by their ids, in their order; null in the place of each that is not there.
    async fn nodes(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "At most 100 ids.")] ids: Vec<ID>,
    ) -> Answer<Vec<Option<Node>>> {
        let caller = caller(ctx);
        answer(ctx, async {
            if ids.len() > NODES_MAX {
                let violation = Violation::new("ids", "100件以内で指定してください。", "at most 100");
                return Err(Error::Invalid(vec![violation]));
            }
            let mut nodes = Vec::with_capacity(ids.len());
            for id in &ids {
                nodes.push(match find(caller, id).await {
                    Ok(node) => Some(node),
                    Err(Error::NotFound(_)) => None,
                    Err(error) => return Err(error),
                });
            }
            Ok(nodes)
        })
        .await
    }
}

/// The object of an id, by its prefix; read as the actor may see it.
async fn find(caller: &Caller, id: &str) -> Result<Node> {
    let actor = caller.actor()?;
    let app = &caller.app;
    let (prefix, uuid) = split(id).ok_or(Error::InvalidId)?;
    Ok(match prefix {
        AccountId::PREFIX => CreditAccount(lookup::account(app, actor, AccountId(uuid)).await?).into(),
        GrantId::PREFIX => CreditGrant(lookup::grant(app, actor, GrantId(uuid)).await?).into(),
        TransactionId::PREFIX => {
            CreditTransaction(lookup::transaction(app, actor, TransactionId(uuid)).await?).into()
        }
        PackageId::PREFIX => CreditPackage(lookup::package(app, actor, PackageId(uuid)).await?).into(),
        ResetId::PREFIX => MonthlyReset(lookup::reset(app, actor, ResetId(uuid)).await?).into(),
        PlanId::PREFIX => Plan(lookup::plan(app, actor, PlanId(uuid)).await?).into(),
        ExecutionId::PREFIX => AiExecution(history::get(app, actor, ExecutionId(uuid)).await?).into(),
        PriceId::PREFIX => AiPrice(crate::ai::pricing::get(app, actor, PriceId(uuid)).await?).into(),
        UserId::PREFIX => User(crate::identity::user(app, actor, UserId(uuid)).await?).into(),
        TenantId::PREFIX => Tenant(crate::identity::tenant(app, actor, TenantId(uuid)).await?).into(),
        _ => return Err(Error::InvalidId),
    })
}
