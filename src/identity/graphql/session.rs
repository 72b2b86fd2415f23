//! Where a person is signed in, and the tenant that they act in, in the API.

use async_graphql::{Context, Description, Enum, ID, Object};

use crate::actor::Credential;
use crate::entity::session;
use crate::error::Result;
use crate::graphql::caller::{Answer, Caller, caller, payload};
use crate::graphql::scalars::DateTime;
use crate::identity::graphql::Tenant;
use crate::identity::service::{member as members, profile as profiles};
use crate::identity::sign_in::session as sessions;
use crate::ids::{SessionId, TenantId, TypedId};
use crate::loads;
use crate::payloads;

/// How a session began.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum)]
#[graphql(remote = "session::SignInWay")]
pub enum SignInWay {
    /// By a link in a mail.
    Email,
    /// By Discord.
    Discord,
    /// By GitHub.
    Github,
    /// From the other site.
    HandOver,
}

/// A person who is signed in somewhere. Only they see it.
#[derive(Description)]
pub struct Session(pub session::Model);

#[Object(use_type_description)]
impl Session {
    /// The session's id.
    pub async fn id(&self) -> ID {
        self.0.id.to_string().into()
    }

    /// The browser and the system, in words.
    async fn device(&self) -> &str {
        &self.0.device
    }

    /// How it began.
    async fn way(&self) -> SignInWay {
        self.0.way.into()
    }

    /// When it began.
    async fn created_at(&self) -> DateTime {
        DateTime(self.0.created_at)
    }

    /// When it was refreshed last.
    async fn last_used_at(&self) -> DateTime {
        DateTime(self.0.last_used_at)
    }

    /// When it ends unless it is refreshed.
    async fn expires_at(&self) -> DateTime {
        DateTime(self.0.expires_at)
    }

    /// Whether it is the one that asks.
    async fn is_current(&self, ctx: &Context<'_>) -> bool {
        let actor = caller(ctx).actor.as_ref();
        let is_this = |credential: &Credential| match credential {
            Credential::Session(id) => *id == self.0.id,
            Credential::Token | Credential::Key(_) => false,
        };
        actor.is_some_and(|actor| is_this(&actor.credential))
    }
}

payloads! {
    /// The result of `sessionEnd` and `sessionEndAll`.
    SessionEndPayload {
        /// How many sessions ended.
        ended: i32,
    }
    /// The result of `tenantSwitch`.
    TenantSwitchPayload {
        /// The access token for the tenant. Refreshed tokens are for it, too.
        access_token: String,
        /// When the token ends.
        expires_at: DateTime,
        /// The tenant.
        tenant: Tenant,
    }
}

/// Changes of one's own sessions.
#[derive(Default)]
pub struct SessionMutation;

#[Object]
impl SessionMutation {
    /// Ends one of the caller's sessions: its tokens are refused and its sockets close.
    async fn session_end(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The session.")] id: ID,
    ) -> Answer<SessionEndPayload> {
        let caller = caller(ctx);
        let work = Box::pin(async {
            caller.actor()?;
            end(caller, Some(SessionId::parse(&id)?)).await
        });
        payload(ctx, work, |done| done, SessionEndPayload::refused).await
    }

    /// Ends all of the caller's sessions, this one too.
    async fn session_end_all(&self, ctx: &Context<'_>) -> Answer<SessionEndPayload> {
        let caller = caller(ctx);
        payload(ctx, end(caller, None), |done| done, SessionEndPayload::refused).await
    }

    /// Goes on in another tenant of the caller's, in the same session.
    async fn tenant_switch(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The tenant.")] tenant_id: ID,
    ) -> Answer<TenantSwitchPayload> {
        let caller = caller(ctx);
        payload(ctx, switch(caller, &tenant_id), |done| done, TenantSwitchPayload::refused).await
    }
}

async fn end(caller: &Caller, only: Option<SessionId>) -> Result<SessionEndPayload> {
    let ended = sessions::revoke(&caller.app, caller.actor()?, only).await?;
    // A person has 50 sessions at most.
    let ended = i32::try_from(ended).ok();
    Ok(SessionEndPayload { ended, user_errors: Vec::new() })
}

async fn switch(caller: &Caller, id: &str) -> Result<TenantSwitchPayload> {
    let actor = caller.actor()?;
    let id = TenantId::parse(id)?;
    let (access_token, expires_at) = sessions::switch_tenant(&caller.app, actor, id).await?;
    let tenant = members::place(&caller.app, actor, id).await?;
    Ok(TenantSwitchPayload {
        access_token: Some(access_token),
        expires_at: Some(DateTime(expires_at)),
        tenant: Some(Tenant(tenant)),
        user_errors: Vec::new(),
    })
}

loads! {
    SessionId => session::Model, profiles::sessions;
}
