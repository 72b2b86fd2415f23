//! Any object by its id alone.

use async_graphql::{Context, ID, Interface, Object};
use futures_util::future::join_all;

use crate::ai::graphql::{AiExecution, AiPrice};
use crate::anomaly::graphql::AnomalyBlock;
use crate::credits::graphql::{
    CreditAccount, CreditGrant, CreditPackage, CreditTransaction, MonthlyReset, Plan,
};
use crate::error::{Error, Result, Violation};
use crate::graphql::caller::{Answer, answer, caller};
use crate::graphql::loader::load;
use crate::identity::graphql::{
    ApiKey, Invitation, Membership, Session, Site, Tenant, User, UserProfile,
};
use crate::ids::{
    AccountId, ApiKeyId, BlockId, ExecutionId, GrantId, InvitationId, MembershipId, PackageId,
    PlanId, PriceId, ProfileId, PurchaseId, ResetId, SessionId, SiteId, StoredCardId, TenantId,
    TransactionId, TypedId, UserId, split,
};
use crate::payments::graphql::{CreditPurchase, StoredCard};

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
    /// Credits that are being bought, or were.
    CreditPurchase(CreditPurchase),
    /// A card that Stripe keeps for the tenant.
    StoredCard(StoredCard),
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
    /// A person's place in a tenant.
    Membership(Membership),
    /// An address that may become a member.
    Invitation(Invitation),
    /// A tenant's web site.
    Site(Site),
    /// A key of a tenant's server.
    ApiKey(ApiKey),
    /// What a person tells of themselves.
    UserProfile(UserProfile),
    /// A person who is signed in somewhere.
    Session(Session),
    /// A person whose AI calls are refused for a while.
    AnomalyBlock(AnomalyBlock),
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
        answer(ctx, find(ctx, &id)).await
    }

    /// Objects by their ids, in their order; null in the place of each that is not there.
    async fn nodes(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "At most 100 ids.")] ids: Vec<ID>,
    ) -> Answer<Vec<Option<Node>>> {
        answer(
            ctx,
            Box::pin(async {
                caller(ctx).actor()?;
                if ids.len() > NODES_MAX {
                    let violation =
                        Violation::new("ids", "100件以内で指定してください。", "at most 100");
                    return Err(Error::Invalid(vec![violation]));
                }
                // Asked for at once, so that each kind takes one query.
                let found = join_all(ids.iter().map(|id| find(ctx, id))).await;
                let mut nodes = Vec::with_capacity(ids.len());
                for node in found {
                    nodes.push(match node {
                        Ok(node) => Some(node),
                        Err(Error::NotFound(_)) => None,
                        Err(error) => return Err(error),
                    });
                }
                Ok(nodes)
            }),
        )
        .await
    }
}

/// The object of an id, by its prefix; read as the actor may see it.
async fn find(ctx: &Context<'_>, id: &str) -> Result<Node> {
    caller(ctx).actor()?;
    let (prefix, uuid) = split(id).ok_or(Error::InvalidId)?;
    let found: Option<Node> = match prefix {
        AccountId::PREFIX => load(ctx, AccountId(uuid)).await?.map(|row| CreditAccount(row).into()),
        GrantId::PREFIX => load(ctx, GrantId(uuid)).await?.map(|row| CreditGrant(row).into()),
        TransactionId::PREFIX => {
            load(ctx, TransactionId(uuid)).await?.map(|row| CreditTransaction(row).into())
        }
        PackageId::PREFIX => load(ctx, PackageId(uuid)).await?.map(|row| CreditPackage(row).into()),
        PurchaseId::PREFIX => {
            load(ctx, PurchaseId(uuid)).await?.map(|row| CreditPurchase(row).into())
        }
        StoredCardId::PREFIX => {
            load(ctx, StoredCardId(uuid)).await?.map(|row| StoredCard(row).into())
        }
        ResetId::PREFIX => load(ctx, ResetId(uuid)).await?.map(|row| MonthlyReset(row).into()),
        PlanId::PREFIX => load(ctx, PlanId(uuid)).await?.map(|row| Plan(row).into()),
        ExecutionId::PREFIX => {
            load(ctx, ExecutionId(uuid)).await?.map(|row| AiExecution(row).into())
        }
        PriceId::PREFIX => load(ctx, PriceId(uuid)).await?.map(|row| AiPrice(row).into()),
        UserId::PREFIX => load(ctx, UserId(uuid)).await?.map(|row| User(row).into()),
        TenantId::PREFIX => load(ctx, TenantId(uuid)).await?.map(|row| Tenant(row).into()),
        MembershipId::PREFIX => {
            load(ctx, MembershipId(uuid)).await?.map(|row| Membership(row).into())
        }
        InvitationId::PREFIX => {
            load(ctx, InvitationId(uuid)).await?.map(|row| Invitation(row).into())
        }
        SiteId::PREFIX => load(ctx, SiteId(uuid)).await?.map(|row| Site(row).into()),
        ApiKeyId::PREFIX => load(ctx, ApiKeyId(uuid)).await?.map(|row| ApiKey(row).into()),
        ProfileId::PREFIX => load(ctx, ProfileId(uuid)).await?.map(|row| UserProfile(row).into()),
        BlockId::PREFIX => load(ctx, BlockId(uuid)).await?.map(|row| AnomalyBlock(row).into()),
        SessionId::PREFIX => load(ctx, SessionId(uuid)).await?.map(|row| Session(row).into()),
        _ => return Err(Error::InvalidId),
    };
    found.ok_or(Error::NotFound("object"))
}
