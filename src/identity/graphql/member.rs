//! Members and invitations in the API.

use std::collections::HashMap;

use async_graphql::dataloader::Loader;
use async_graphql::{Context, Description, Enum, ID, InputObject, Object, Result, SimpleObject};

use crate::actor;
use crate::entity::{invitation, membership, tenant};
use crate::graphql::caller::{Answer, caller, payload};
use crate::graphql::filter::{DateTimeFilter, EnumFilter, Nested, Terms, Where};
use crate::graphql::loader::{LoadError, Source, load};
use crate::graphql::page::OrderField;
use crate::graphql::payload::int;
use crate::graphql::scalars::DateTime;
use crate::identity::graphql::{Role, Tenant, User, load_user};
use crate::identity::service::invitation::{self as invitations, Invite, Invited};
use crate::identity::service::member::{self as members, KeysOfGone};
use crate::ids::{InvitationId, MembershipId, TypedId, UserId};
use crate::loads;
use crate::payloads;

/// A person's place in a tenant.
#[derive(Description)]
pub struct Membership(pub membership::Model);

#[Object(use_type_description)]
impl Membership {
    /// The membership's id.
    pub async fn id(&self) -> ID {
        self.0.id.to_string().into()
    }

    /// The person; null once they have left.
    async fn user(&self, ctx: &Context<'_>) -> Result<Option<User>> {
        load_user(ctx, self.0.user_id).await
    }

    /// Their role.
    async fn role(&self) -> Role {
        self.0.role.into()
    }

    /// When they joined.
    async fn joined_at(&self) -> DateTime {
        DateTime(self.0.created_at)
    }

    /// When they last began, went on with or moved a session to this tenant, within 90 days: to a
    /// quarter of an hour. Null for all but the person and ADMINs.
    async fn last_activity_at(&self, ctx: &Context<'_>) -> Result<Option<DateTime>> {
        Ok(load(ctx, Activity(self.0.user_id)).await?.map(DateTime))
    }

    /// Rises with every change, for `expectedVersion`.
    async fn version(&self) -> i32 {
        int(self.0.version)
    }
}

/// A tenant that the caller belongs to.
#[derive(SimpleObject)]
pub struct ViewerMembership {
    /// The tenant.
    tenant: Tenant,
    /// The caller's role in it.
    role: Role,
}

impl ViewerMembership {
    /// A place of the caller's.
    pub(crate) fn of((tenant, role): (tenant::Model, actor::Role)) -> Self {
        Self { tenant: Tenant(tenant), role: role.into() }
    }
}

/// An address that may become a member.
#[derive(Description)]
pub struct Invitation(pub invitation::Model);

#[Object(use_type_description)]
impl Invitation {
    /// The invitation's id.
    pub async fn id(&self) -> ID {
        self.0.id.to_string().into()
    }

    /// The address that was invited.
    fn email(&self, ctx: &Context<'_>) -> Result<String> {
        Ok(invitations::email_of(&caller(ctx).app, &self.0)?)
    }

    /// What they will be.
    async fn role(&self) -> Role {
        self.0.role.into()
    }

    /// Who invited them; null when they have left.
    async fn invited_by(&self, ctx: &Context<'_>) -> Result<Option<User>> {
        load_user(ctx, self.0.invited_by).await
    }

    /// When the address was invited first.
    async fn created_at(&self) -> DateTime {
        DateTime(self.0.created_at)
    }

    /// When it is over.
    async fn expires_at(&self) -> DateTime {
        DateTime(self.0.expires_at)
    }

    /// When somebody became a member by it; null before.
    async fn accepted_at(&self) -> Option<DateTime> {
        self.0.accepted_at.map(DateTime)
    }

    /// When it was withdrawn; null when it was not.
    async fn revoked_at(&self) -> Option<DateTime> {
        self.0.revoked_at.map(DateTime)
    }
}

/// What members are sorted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum)]
pub enum MembershipOrderField {
    /// When they joined.
    JoinedAt,
}

impl OrderField for MembershipOrderField {
    type Entity = membership::Entity;

    fn column(self) -> membership::Column {
        match self {
            Self::JoinedAt => membership::Column::CreatedAt,
        }
    }
}

/// Which members to list. All that is given must hold.
#[derive(Clone, Debug, Default, InputObject)]
pub struct MembershipWhere {
    /// By role.
    role: Option<EnumFilter<Role>>,
    /// By the time at which they joined.
    joined_at: Option<DateTimeFilter>,
    /// All of these.
    #[graphql(name = "AND")]
    and: Option<Vec<MembershipWhere>>,
    /// Any of these.
    #[graphql(name = "OR")]
    or: Option<Vec<MembershipWhere>>,
    /// Not this.
    #[graphql(name = "NOT")]
    not: Option<Box<MembershipWhere>>,
}

impl Where for MembershipWhere {
    fn terms(self, terms: &mut Terms) -> Nested<Self> {
        terms.add("role", membership::Column::Role, self.role);
        terms.add("joinedAt", membership::Column::CreatedAt, self.joined_at);
        Nested { and: self.and, or: self.or, not: self.not }
    }
}

/// What invitations are sorted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum)]
pub enum InvitationOrderField {
    /// When the address was invited first.
    CreatedAt,
}

impl OrderField for InvitationOrderField {
    type Entity = invitation::Entity;

    fn column(self) -> invitation::Column {
        match self {
            Self::CreatedAt => invitation::Column::CreatedAt,
        }
    }
}

/// Somebody to invite.
#[derive(Debug, InputObject)]
pub struct MembershipInviteInput {
    /// Their e-mail address.
    email: String,
    /// What they will be.
    role: Role,
}

/// A member's role to change.
#[derive(Debug, InputObject)]
pub struct MembershipRoleChangeInput {
    /// The membership.
    id: ID,
    /// Their new role.
    role: Role,
    /// The version that the caller saw.
    expected_version: Option<i32>,
}

/// A member who goes.
#[derive(Debug, InputObject)]
pub struct MembershipRemoveInput {
    /// The membership.
    id: ID,
    /// Whether the API keys that the person made end, too: they know the secrets. Those that stay
    /// have no `createdBy` any more.
    #[graphql(default = true)]
    revoke_api_keys: bool,
}

payloads! {
    /// The result of a change of an invitation.
    InvitationPayload {
        /// The invitation as it is now. Its token goes by mail only.
        invitation: Invitation,
    }
    /// The result of a change of a member.
    MembershipPayload {
        /// The membership as it is now; what it was, when it was removed.
        membership: Membership,
    }
}

/// Changes of members.
#[derive(Default)]
pub struct MemberMutation;

#[Object]
impl MemberMutation {
    /// Invites an address by mail, for 7 days. An address that has an open invitation gets a new
    /// one in its place; at most 200 are open. For ADMIN.
    async fn membership_invite(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Whom to invite.")] input: MembershipInviteInput,
    ) -> Answer<InvitationPayload> {
        let caller = caller(ctx);
        let invite = Invite { email: input.email, role: input.role.into() };
        let work =
            Box::pin(async { invitations::invite(&caller.app, caller.actor()?, invite).await });
        let done = |invited: Invited| invited_payload(invited.invitation);
        payload(ctx, work, done, InvitationPayload::refused).await
    }

    /// Withdraws an invitation; doing so twice changes nothing. For ADMIN.
    async fn membership_invitation_revoke(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The invitation.")] id: ID,
    ) -> Answer<InvitationPayload> {
        let caller = caller(ctx);
        let work = Box::pin(async {
            let actor = caller.actor()?;
            invitations::revoke(&caller.app, actor, InvitationId::parse(&id)?).await
        });
        payload(ctx, work, invited_payload, InvitationPayload::refused).await
    }

    /// Changes a member's role. The last ADMIN stays one. For ADMIN.
    async fn membership_role_change(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The change.")] input: MembershipRoleChangeInput,
    ) -> Answer<MembershipPayload> {
        let caller = caller(ctx);
        let work = Box::pin(async {
            let actor = caller.actor()?;
            let change = (MembershipId::parse(&input.id)?, input.role.into());
            let expected = input.expected_version.map(i64::from);
            members::change_role(&caller.app, actor, change, expected).await
        });
        payload(ctx, work, member_payload, MembershipPayload::refused).await
    }

    /// Takes a member out of the tenant, which ends their sessions in it, and the API keys that
    /// they made. Not even an open door lets them in again, only a new invitation. The last ADMIN
    /// stays. For ADMIN; anybody may leave by their own membership, and come back by an open door.
    async fn membership_remove(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Who goes.")] input: MembershipRemoveInput,
    ) -> Answer<MembershipPayload> {
        let caller = caller(ctx);
        let work = Box::pin(async {
            let actor = caller.actor()?;
            let keys = if input.revoke_api_keys { KeysOfGone::End } else { KeysOfGone::Stay };
            members::remove(&caller.app, actor, (MembershipId::parse(&input.id)?, keys)).await
        });
        payload(ctx, work, member_payload, MembershipPayload::refused).await
    }
}

fn invited_payload(row: invitation::Model) -> InvitationPayload {
    InvitationPayload { invitation: Some(Invitation(row)), user_errors: Vec::new() }
}

fn member_payload(row: membership::Model) -> MembershipPayload {
    MembershipPayload { membership: Some(Membership(row)), user_errors: Vec::new() }
}

/// A person's last activity in the caller's tenant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Activity(UserId);

impl Loader<Activity> for Source {
    type Value = chrono::DateTime<chrono::Utc>;
    type Error = LoadError;

    async fn load(&self, keys: &[Activity]) -> Result<HashMap<Activity, Self::Value>, LoadError> {
        let people: Vec<UserId> = keys.iter().map(|key| key.0).collect();
        let found = members::last_active(&self.app, self.actor()?, &people).await?;
        Ok(found.into_iter().map(|(person, at)| (Activity(person), at)).collect())
    }
}

loads! {
    MembershipId => membership::Model, members::find;
    InvitationId => invitation::Model, invitations::find;
}
