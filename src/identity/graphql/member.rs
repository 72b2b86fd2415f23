//! Members and invitations in the API.

use async_graphql::{Context, Description, ID, InputObject, Object, Result, SimpleObject};

use crate::actor;
use crate::entity::{invitation, membership, tenant};
use crate::graphql::caller::{Answer, caller, payload};
use crate::graphql::payload::int;
use crate::graphql::scalars::DateTime;
use crate::identity::graphql::{Role, Tenant, User, load_user};
use crate::identity::service::invitation::{self as invitations, Invite, Invited};
use crate::identity::service::member as members;
use crate::ids::{InvitationId, MembershipId, TypedId};
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
        let work = async { invitations::invite(&caller.app, caller.actor()?, invite).await };
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
        let work = async {
            let actor = caller.actor()?;
            invitations::revoke(&caller.app, actor, InvitationId::parse(&id)?).await
        };
        payload(ctx, work, invited_payload, InvitationPayload::refused).await
    }

    /// Changes a member's role. The last ADMIN stays one. For ADMIN.
    async fn membership_role_change(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The change.")] input: MembershipRoleChangeInput,
    ) -> Answer<MembershipPayload> {
        let caller = caller(ctx);
        let work = async {
            let actor = caller.actor()?;
            let change = (MembershipId::parse(&input.id)?, input.role.into());
            let expected = input.expected_version.map(i64::from);
            members::change_role(&caller.app, actor, change, expected).await
        };
        payload(ctx, work, member_payload, MembershipPayload::refused).await
    }

    /// Takes a member out of the tenant, which ends their sessions in it. The last ADMIN stays.
    /// For ADMIN; anybody may leave by their own membership.
    async fn membership_remove(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The membership.")] id: ID,
    ) -> Answer<MembershipPayload> {
        let caller = caller(ctx);
        let work = async {
            let actor = caller.actor()?;
            members::remove(&caller.app, actor, MembershipId::parse(&id)?).await
        };
        payload(ctx, work, member_payload, MembershipPayload::refused).await
    }
}

fn invited_payload(row: invitation::Model) -> InvitationPayload {
    InvitationPayload { invitation: Some(Invitation(row)), user_errors: Vec::new() }
}

fn member_payload(row: membership::Model) -> MembershipPayload {
    MembershipPayload { membership: Some(Membership(row)), user_errors: Vec::new() }
}

loads! {
    MembershipId => membership::Model, members::find;
    InvitationId => invitation::Model, invitations::find;
}
