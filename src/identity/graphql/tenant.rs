//! Tenants in the API.

use async_graphql::{Context, Description, Enum, ID, InputObject, MaybeUndefined, Object, Result};

use crate::credits::graphql::PlanType;
use crate::entity::tenant;
use crate::graphql::caller::{Answer, answer, caller, payload};
use crate::graphql::filter::{DateTimeFilter, EnumFilter, Nested, StringFilter, Terms, Where};
use crate::graphql::page::{Connection, List, Order, OrderDirection, OrderField, PageArgs};
use crate::graphql::payload::int;
use crate::graphql::scalars::DateTime;
use crate::identity::graphql::member::{
    InvitationOrderField, MembershipOrderField, MembershipWhere,
};
use crate::identity::graphql::{ApiKey, Invitation, Membership, Site};
use crate::identity::service::tenant::{self as tenants, TenantChange, TenantOrder};
use crate::identity::service::{invitation as invitations, key, member as members, site as sites};
use crate::ids::{TenantId, TypedId};
use crate::payloads;
use crate::plans::graphql::{PlanSubscription, subscription_of};

/// How somebody becomes a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum)]
#[graphql(remote = "tenant::MembershipPolicy")]
pub enum MembershipPolicy {
    /// Who signs in on a site of the tenant becomes a USER.
    Open,
    /// Only who was invited.
    InviteOnly,
}

/// A customer: a hotel or a studio.
#[derive(Description)]
pub struct Tenant(pub tenant::Model);

#[Object(use_type_description)]
impl Tenant {
    /// The tenant's id.
    pub async fn id(&self) -> ID {
        self.0.id.to_string().into()
    }

    /// The name that people see.
    async fn name(&self) -> &str {
        &self.0.name
    }

    /// The name in addresses and commands.
    async fn slug(&self) -> &str {
        &self.0.slug
    }

    /// The IANA name of the zone in which its days and months are counted.
    async fn time_zone(&self) -> &str {
        &self.0.time_zone
    }

    /// The language of what we send: `ja` or `en`.
    async fn locale(&self) -> &str {
        &self.0.locale
    }

    /// The plan that it is on.
    async fn plan_type(&self) -> PlanType {
        self.0.crm_plan_type.into()
    }

    /// When its first plan was set; null before.
    async fn crm_activated_at(&self) -> Option<DateTime> {
        self.0.crm_activated_at.map(DateTime)
    }

    /// Where bills go; null for all but the tenant's ADMINs.
    fn billing_email(&self, ctx: &Context<'_>) -> Result<Option<String>> {
        let caller = caller(ctx);
        Ok(tenants::billing_email(&caller.app, caller.actor()?, &self.0)?)
    }

    /// The customer at Stripe; null for all but platform admins.
    fn stripe_customer_id(&self, ctx: &Context<'_>) -> Result<Option<&str>> {
        Ok(tenants::stripe_customer(caller(ctx).actor()?, &self.0))
    }

    /// Where its alerts go in Slack, like `****abcd`; null for all but the tenant's ADMINs.
    fn slack_webhook_url(&self, ctx: &Context<'_>) -> Result<Option<String>> {
        let caller = caller(ctx);
        Ok(tenants::slack_hook(&caller.app, caller.actor()?, &self.0)?)
    }

    /// The channel in Slack; null for all but the tenant's ADMINs.
    fn slack_channel(&self, ctx: &Context<'_>) -> Result<Option<String>> {
        let caller = caller(ctx);
        Ok(tenants::slack_channel(&caller.app, caller.actor()?, &self.0)?)
    }

    /// How somebody becomes a member.
    async fn membership_policy(&self) -> MembershipPolicy {
        self.0.membership_policy.into()
    }

    /// Rises with every change, for `expectedVersion`.
    async fn version(&self) -> i32 {
        int(self.0.version)
    }

    /// When the tenant was made.
    async fn created_at(&self) -> DateTime {
        DateTime(self.0.created_at)
    }

    /// When it was closed; null while it is open.
    async fn closed_at(&self) -> Option<DateTime> {
        self.0.deleted_at.map(DateTime)
    }

    /// Its web sites, the oldest first; at most 20. Only within the tenant.
    async fn sites(&self, ctx: &Context<'_>) -> Result<Vec<Site>> {
        let caller = caller(ctx);
        tenants::only_within(caller.actor()?, self.0.id)?;
        let rows = sites::list(&caller.app, caller.actor()?).await?;
        Ok(rows.into_iter().map(Site).collect())
    }

    /// Its members, the oldest first. For ADMIN, MANAGER and SUPPORT, within the tenant.
    async fn members(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "So many from the front, 1 to 100; 25 when absent.")] first: Option<i32>,
        #[graphql(desc = "Only what follows this cursor.")] after: Option<String>,
        #[graphql(desc = "So many from the back, 1 to 100.")] last: Option<i32>,
        #[graphql(desc = "Only what precedes this cursor.")] before: Option<String>,
        #[graphql(name = "where", desc = "Which members to list.")] filter: Option<MembershipWhere>,
    ) -> Result<Connection<Membership>> {
        let caller = caller(ctx);
        tenants::only_within(caller.actor()?, self.0.id)?;
        let order = [(MembershipOrderField::JoinedAt, OrderDirection::Asc)];
        let list = List::new(caller.app.db.primary(), members::list(caller.actor()?)?, &order);
        let page = list.filter(filter).page(PageArgs { first, after, last, before }).await?;
        Ok(page.map(Membership))
    }

    /// Its open invitations, the newest first. For ADMIN, within the tenant.
    async fn invitations(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "So many from the front, 1 to 100; 25 when absent.")] first: Option<i32>,
        #[graphql(desc = "Only what follows this cursor.")] after: Option<String>,
        #[graphql(desc = "So many from the back, 1 to 100.")] last: Option<i32>,
        #[graphql(desc = "Only what precedes this cursor.")] before: Option<String>,
    ) -> Result<Connection<Invitation>> {
        let caller = caller(ctx);
        tenants::only_within(caller.actor()?, self.0.id)?;
        let order = [(InvitationOrderField::CreatedAt, OrderDirection::Desc)];
        let list = List::new(caller.app.db.primary(), invitations::open(caller.actor()?)?, &order);
        Ok(list.page(PageArgs { first, after, last, before }).await?.map(Invitation))
    }

    /// Its API keys, those in force before those that are over, the newest first; at most 200. For
    /// ADMIN, within the tenant.
    async fn api_keys(&self, ctx: &Context<'_>) -> Result<Vec<ApiKey>> {
        let caller = caller(ctx);
        tenants::only_within(caller.actor()?, self.0.id)?;
        let rows = key::list(&caller.app, caller.actor()?).await?;
        Ok(rows.into_iter().map(ApiKey).collect())
    }

    /// What it pays for its plan by the month, or paid last; null when it never subscribed. For
    /// ADMIN, within the tenant.
    async fn subscription(&self, ctx: &Context<'_>) -> Result<Option<PlanSubscription>> {
        subscription_of(ctx, self.0.id).await
    }
}

/// What tenants can be sorted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum)]
pub enum TenantOrderField {
    /// When they were made.
    CreatedAt,
    /// By name.
    Name,
    /// By slug.
    Slug,
}

impl OrderField for TenantOrderField {
    type Entity = tenant::Entity;

    fn column(self) -> tenant::Column {
        match self {
            Self::CreatedAt => tenant::Column::CreatedAt,
            Self::Name => tenant::Column::Name,
            Self::Slug => tenant::Column::Slug,
        }
    }
}

/// Which tenants to list. All that is given must hold.
#[derive(Clone, Debug, Default, InputObject)]
pub struct TenantWhere {
    /// By name.
    name: Option<StringFilter>,
    /// By slug.
    slug: Option<StringFilter>,
    /// By plan.
    plan_type: Option<EnumFilter<PlanType>>,
    /// By the time at which they were made.
    created_at: Option<DateTimeFilter>,
    /// By the time at which they were closed; `isNull: true` lists those that are open.
    closed_at: Option<DateTimeFilter>,
    /// All of these.
    #[graphql(name = "AND")]
    and: Option<Vec<TenantWhere>>,
    /// Any of these.
    #[graphql(name = "OR")]
    or: Option<Vec<TenantWhere>>,
    /// Not this.
    #[graphql(name = "NOT")]
    not: Option<Box<TenantWhere>>,
}

impl Where for TenantWhere {
    fn terms(self, terms: &mut Terms) -> Nested<Self> {
        use tenant::Column;
        terms.add("name", Column::Name, self.name);
        terms.add("slug", Column::Slug, self.slug);
        terms.add("planType", Column::CrmPlanType, self.plan_type);
        terms.add("createdAt", Column::CreatedAt, self.created_at);
        terms.add("closedAt", Column::DeletedAt, self.closed_at);
        Nested { and: self.and, or: self.or, not: self.not }
    }
}

/// All tenants.
#[derive(Default)]
pub struct TenantQuery;

#[Object]
impl TenantQuery {
    /// All tenants, closed ones too, the newest first. For platform admins.
    #[expect(clippy::too_many_arguments, reason = "a paged list with filter and order has so many")]
    async fn tenants(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "So many from the front, 1 to 100; 25 when absent.")] first: Option<i32>,
        #[graphql(desc = "Only what follows this cursor.")] after: Option<String>,
        #[graphql(desc = "So many from the back, 1 to 100.")] last: Option<i32>,
        #[graphql(desc = "Only what precedes this cursor.")] before: Option<String>,
        #[graphql(name = "where", desc = "Which tenants to list.")] filter: Option<TenantWhere>,
        #[graphql(desc = "The order.")] order_by: Option<Vec<Order<TenantOrderField>>>,
    ) -> Answer<Connection<Tenant>> {
        let caller = caller(ctx);
        answer(
            ctx,
            Box::pin(async {
                let order = [(TenantOrderField::CreatedAt, OrderDirection::Desc)];
                let select = tenants::all(caller.actor()?)?;
                let list = List::new(caller.app.db.primary(), select, &order);
                let list = list.filter(filter).order(order_by);
                Ok(list.page(PageArgs { first, after, last, before }).await?.map(Tenant))
            }),
        )
        .await
    }
}

/// What a tenant changes of itself. What is left out stays.
#[derive(Debug, InputObject)]
pub struct TenantUpdateInput {
    /// The name that people see, 1 to 100 characters.
    name: Option<String>,
    /// Where bills go; null removes it.
    billing_email: MaybeUndefined<String>,
    /// The IANA name of its zone. It stays once the tenant has a credit account, whose months are
    /// counted in it.
    time_zone: Option<String>,
    /// The language of what we send: `ja` or `en`.
    locale: Option<String>,
    /// Where its alerts go in Slack: `https://hooks.slack.com/services/…`; null removes it.
    slack_webhook_url: MaybeUndefined<String>,
    /// The channel in Slack, 1 to 100 characters; null removes it.
    slack_channel: MaybeUndefined<String>,
    /// How somebody becomes a member.
    membership_policy: Option<MembershipPolicy>,
    /// The version that the caller saw.
    expected_version: Option<i32>,
}

impl From<TenantUpdateInput> for TenantChange {
    fn from(input: TenantUpdateInput) -> Self {
        Self {
            name: input.name,
            billing_email: input.billing_email.into(),
            time_zone: input.time_zone,
            locale: input.locale,
            slack_webhook_url: input.slack_webhook_url.into(),
            slack_channel: input.slack_channel.into(),
            membership_policy: input.membership_policy.map(Into::into),
            expected_version: input.expected_version.map(i64::from),
        }
    }
}

/// A tenant to make.
#[derive(Debug, InputObject)]
pub struct TenantCreateInput {
    /// The name that people see, 1 to 100 characters.
    name: String,
    /// The name in addresses, for ever: 3 to 40 lower-case letters, digits and inner hyphens.
    slug: String,
    /// Its plan.
    plan_type: PlanType,
    /// The IANA name of its zone.
    #[graphql(default = "Asia/Tokyo")]
    time_zone: String,
    /// The language of what we send: `ja` or `en`.
    #[graphql(default = "ja")]
    locale: String,
    /// How somebody becomes a member.
    #[graphql(default_with = "MembershipPolicy::InviteOnly")]
    membership_policy: MembershipPolicy,
    /// Who is invited as its first ADMIN.
    admin_email: Option<String>,
}

/// A tenant to close.
#[derive(Debug, InputObject)]
pub struct TenantCloseInput {
    /// The tenant.
    id: ID,
    /// Its slug, typed out, as nothing opens it again.
    slug: String,
}

payloads! {
    /// The result of a change of a tenant.
    TenantPayload {
        /// The tenant as it is now.
        tenant: Tenant,
    }
}

/// Changes of tenants.
#[derive(Default)]
pub struct TenantMutation;

#[Object]
impl TenantMutation {
    /// Changes the caller's tenant. For ADMIN.
    async fn tenant_update(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The change.")] input: TenantUpdateInput,
    ) -> Answer<TenantPayload> {
        let caller = caller(ctx);
        let work =
            Box::pin(async { tenants::update(&caller.app, caller.actor()?, input.into()).await });
        payload(ctx, work, done, TenantPayload::refused).await
    }

    /// Makes a tenant, and invites its first ADMIN when an address is given. For platform admins.
    async fn tenant_create(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The tenant.")] input: TenantCreateInput,
    ) -> Answer<TenantPayload> {
        let caller = caller(ctx);
        let order = TenantOrder {
            name: input.name,
            slug: input.slug,
            plan: input.plan_type.into(),
            time_zone: input.time_zone,
            locale: input.locale,
            membership_policy: input.membership_policy.into(),
            admin_email: input.admin_email,
        };
        let work = Box::pin(async { tenants::create(&caller.app, caller.actor()?, order).await });
        payload(ctx, work, |(row, _)| done(row), TenantPayload::refused).await
    }

    /// Closes a tenant for ever: nothing of it runs any more, its sessions, keys, sites and
    /// invitations end, its ledger stays. Closing twice changes nothing. For its ADMINs and for
    /// platform admins.
    async fn tenant_close(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The tenant.")] input: TenantCloseInput,
    ) -> Answer<TenantPayload> {
        let caller = caller(ctx);
        let work = Box::pin(async {
            let actor = caller.actor()?;
            let which = (TenantId::parse(&input.id)?, input.slug);
            tenants::close(&caller.app, actor, which).await
        });
        payload(ctx, work, done, TenantPayload::refused).await
    }
}

fn done(row: tenant::Model) -> TenantPayload {
    TenantPayload { tenant: Some(Tenant(row)), user_errors: Vec::new() }
}
