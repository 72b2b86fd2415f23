//! People, tenants and the caller themselves in the API.

pub mod account;
pub mod key;
pub mod member;
pub mod profile;
pub mod session;
pub mod site;
pub mod tenant;

use async_graphql::{ComplexObject, Context, Description, Enum, ID, Object, Result, SimpleObject};

use crate::actor;
use crate::entity::{tenant as tenants, user};
use crate::error::Error;
use crate::graphql::caller::{Answer, answer, caller};
use crate::graphql::loader::load;
use crate::graphql::scalars::DateTime;
use crate::identity::service::people::visible_email;
use crate::identity::service::{member as members, profile as profiles};
use crate::identity::{self, sign_in};
use crate::ids::{TenantId, UserId};
use crate::loads;

pub use account::{AccountMutation, ClientConfigQuery, LinkedAccount};
pub use key::{ApiKey, ApiKeyMutation};
pub use member::{Invitation, MemberMutation, Membership, ViewerMembership};
pub use profile::{ProfileMutation, UserProfile};
pub use session::{Session, SessionMutation};
pub use site::{Site, SiteMutation};
pub use tenant::{Tenant, TenantMutation, TenantQuery};

/// A person's role within a tenant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum)]
#[graphql(remote = "actor::Role")]
pub enum Role {
    /// Everything of the tenant, money included.
    Admin,
    /// Leads, projects, figures and the ledger.
    Manager,
    /// Inquiries.
    Support,
    /// Their own data, and the AI functions.
    User,
}

/// What the caller may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum)]
#[graphql(remote = "actor::Permission")]
pub enum Permission {
    /// Run AI functions, see one's own executions and the balance.
    AiExecute,
    /// Run AI functions in the name of another member.
    AiExecuteForOthers,
    /// See executions of everyone in the tenant.
    AiReadAll,
    /// See the balance, grants and packages.
    CreditsRead,
    /// See the ledger.
    LedgerRead,
    /// See analytics.
    AnalyticsRead,
    /// Buy credits, keep cards, change the plan.
    MoneyManage,
    /// See the tenant's members; addresses are masked for all but ADMINs.
    MembersRead,
    /// Invite, change roles, remove.
    MembersManage,
    /// Change the tenant's settings and sites, close it.
    TenantManage,
    /// Make and revoke API keys.
    ApiKeysManage,
    /// See the audit record.
    AuditRead,
    /// See leads; personal fields are masked for all but ADMINs.
    LeadsRead,
    /// Make leads and change them.
    LeadsWrite,
    /// Merge leads, import and export them.
    LeadsTransfer,
    /// See inquiries.
    InquiriesRead,
    /// Make inquiries, answer them, keep canned replies.
    InquiriesWrite,
    /// See and change companies and their contacts.
    CompaniesWrite,
    /// See projects, deliverables and tasks.
    ProjectsRead,
    /// Make and change projects, deliverables and tasks.
    ProjectsWrite,
    /// See and change one's own data.
    OwnData,
    /// What costs the platform money or crosses tenants: only for platform admins, whatever their
    /// role.
    Platform,
}

/// A person who can sign in.
#[derive(Description)]
pub struct User(pub user::Model);

#[Object(use_type_description)]
impl User {
    /// The user's id.
    pub async fn id(&self) -> ID {
        self.0.id.to_string().into()
    }

    /// The name that others see.
    async fn name(&self) -> &str {
        &self.0.name
    }

    /// The e-mail address; masked, like `ta***@tsubaki.test`, for all but the person and ADMINs.
    fn email(&self, ctx: &Context<'_>) -> Result<String> {
        let caller = caller(ctx);
        Ok(visible_email(&caller.app, caller.actor()?, &self.0)?)
    }

    /// When the user was made.
    async fn created_at(&self) -> DateTime {
        DateTime(self.0.created_at)
    }
}

/// The caller: who they are, where they act and what they may do.
#[derive(SimpleObject)]
#[graphql(complex)]
pub struct Viewer {
    /// The person; null for API keys.
    user: Option<User>,
    /// The tenant that they act in; null for a token without one.
    tenant: Option<Tenant>,
    /// Their role in it; null for a platform admin who is no member, and acts as ADMIN.
    role: Option<Role>,
    /// Everything that they may do.
    permissions: Vec<Permission>,
    /// Whether they may do what crosses tenants.
    is_platform_admin: bool,
}

#[ComplexObject]
impl Viewer {
    /// What the person tells of themselves; made on first use, null for API keys.
    async fn profile(&self, ctx: &Context<'_>) -> Result<Option<UserProfile>> {
        let caller = caller(ctx);
        if self.user.is_none() {
            return Ok(None);
        }
        Ok(Some(UserProfile(profiles::get(&caller.app, caller.actor()?).await?)))
    }

    /// Where the person is signed in, the last used first; at most 50. None for API keys.
    async fn sessions(&self, ctx: &Context<'_>) -> Result<Vec<Session>> {
        let caller = caller(ctx);
        if self.user.is_none() {
            return Ok(Vec::new());
        }
        let open = sign_in::session::list(&caller.app, caller.actor()?).await?;
        Ok(open.into_iter().map(Session).collect())
    }

    /// The person's accounts at providers, by which they can sign in. None for API keys.
    async fn accounts(&self, ctx: &Context<'_>) -> Result<Vec<LinkedAccount>> {
        let caller = caller(ctx);
        if self.user.is_none() {
            return Ok(Vec::new());
        }
        let linked = sign_in::provider::list(&caller.app, caller.actor()?).await?;
        Ok(linked.into_iter().map(LinkedAccount).collect())
    }

    /// The tenants that the person belongs to and may switch to; at most 100. None for API keys.
    async fn memberships(&self, ctx: &Context<'_>) -> Result<Vec<ViewerMembership>> {
        let caller = caller(ctx);
        if self.user.is_none() {
            return Ok(Vec::new());
        }
        let places = members::places(&caller.app, caller.actor()?).await?;
        Ok(places.into_iter().map(ViewerMembership::of).collect())
    }
}

/// The caller.
#[derive(Default)]
pub struct IdentityQuery;

#[Object]
impl IdentityQuery {
    /// The caller; null when nobody is signed in.
    async fn viewer(&self, ctx: &Context<'_>) -> Answer<Viewer> {
        let caller = caller(ctx);
        answer(
            ctx,
            Box::pin(async {
                let Some(actor) = caller.actor.as_ref() else { return Ok(None) };
                let user = match actor.person() {
                    Ok(id) => load(ctx, id).await?,
                    Err(_) => None,
                };
                let tenant = match actor.tenant_id {
                    Some(id) => load(ctx, id).await?,
                    None => None,
                };
                let all = actor::Permission::ALL.iter();
                let permitted = all.filter(|permission| actor.may(**permission));
                Ok(Some(Viewer {
                    user: user.map(User),
                    tenant: tenant.map(Tenant),
                    role: actor.role.map(Role::from),
                    permissions: permitted.map(|permission| (*permission).into()).collect(),
                    is_platform_admin: actor.is_platform_admin,
                }))
            }),
        )
        .await
    }
}

loads! {
    UserId => user::Model, identity::users;
    TenantId => tenants::Model, identity::tenants;
}

/// A person of the caller's tenant; null when they are no longer there.
pub(crate) async fn load_user(ctx: &Context<'_>, id: UserId) -> Result<Option<User>> {
    Ok(load(ctx, id).await?.map(User))
}

/// A tenant, for objects that the caller may see.
pub(crate) async fn load_tenant(ctx: &Context<'_>, id: TenantId) -> Result<Tenant> {
    let row = load(ctx, id).await?.ok_or(Error::NotFound("tenant"))?;
    Ok(Tenant(row))
}
