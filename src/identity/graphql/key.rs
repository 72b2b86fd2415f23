//! API keys in the API.

use async_graphql::{Context, Description, ID, InputObject, Object, Result};

use crate::entity::api_key;
use crate::graphql::caller::{Answer, caller, payload};
use crate::graphql::scalars::DateTime;
use crate::identity::graphql::{Permission, User, load_user};
use crate::identity::service::key::{self as keys, NewKey};
use crate::ids::{ApiKeyId, TypedId};
use crate::loads;
use crate::payloads;

/// A key with which a server of the tenant acts.
#[derive(Description)]
pub struct ApiKey(pub api_key::Model);

#[Object(use_type_description)]
impl ApiKey {
    /// The key's id.
    pub async fn id(&self) -> ID {
        self.0.id.to_string().into()
    }

    /// What people call it.
    async fn name(&self) -> &str {
        &self.0.name
    }

    /// The beginning of the key, to tell keys apart.
    async fn prefix(&self) -> &str {
        &self.0.prefix
    }

    /// What it may.
    async fn permissions(&self) -> Vec<Permission> {
        keys::permissions(&self.0).into_iter().map(Permission::from).collect()
    }

    /// Who made it; null when they have left.
    async fn created_by(&self, ctx: &Context<'_>) -> Result<Option<User>> {
        load_user(ctx, self.0.created_by).await
    }

    /// When it was made.
    async fn created_at(&self) -> DateTime {
        DateTime(self.0.created_at)
    }

    /// When it ends by itself; null when it does not.
    async fn expires_at(&self) -> Option<DateTime> {
        self.0.expires_at.map(DateTime)
    }

    /// When it was used last, to a minute; null when it never was.
    async fn last_used_at(&self) -> Option<DateTime> {
        self.0.last_used_at.map(DateTime)
    }

    /// When it was revoked; null when it was not.
    async fn revoked_at(&self) -> Option<DateTime> {
        self.0.revoked_at.map(DateTime)
    }
}

/// A key to make.
#[derive(Debug, InputObject)]
pub struct ApiKeyCreateInput {
    /// What people call it, 1 to 100 characters.
    name: String,
    /// What it may: one or more of what an API key can have.
    permissions: Vec<Permission>,
    /// When it ends by itself; it does not when absent.
    expires_at: Option<DateTime>,
}

payloads! {
    /// The result of `apiKeyCreate`.
    ApiKeyCreatePayload {
        /// The key's row.
        api_key: ApiKey,
        /// The key itself, shown here and never again.
        key: String,
    }
    /// The result of `apiKeyRevoke`.
    ApiKeyPayload {
        /// The key's row as it is now.
        api_key: ApiKey,
    }
}

/// Changes of API keys.
#[derive(Default)]
pub struct ApiKeyMutation;

#[Object]
impl ApiKeyMutation {
    /// Makes an API key for the caller's tenant, which may have 100 in force; one more is refused
    /// with `LIMIT_REACHED`. For ADMIN.
    async fn api_key_create(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The key.")] input: ApiKeyCreateInput,
    ) -> Answer<ApiKeyCreatePayload> {
        let caller = caller(ctx);
        let new = NewKey {
            name: input.name,
            permissions: input.permissions.into_iter().map(Into::into).collect(),
            expires_at: input.expires_at.map(|at| at.0),
        };
        let work = Box::pin(async { keys::create(&caller.app, caller.actor()?, new).await });
        let done = |(row, key)| ApiKeyCreatePayload {
            api_key: Some(ApiKey(row)),
            key: Some(key),
            user_errors: Vec::new(),
        };
        payload(ctx, work, done, ApiKeyCreatePayload::refused).await
    }

    /// Ends an API key at once; doing so twice changes nothing. For ADMIN.
    async fn api_key_revoke(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The key's id.")] id: ID,
    ) -> Answer<ApiKeyPayload> {
        let caller = caller(ctx);
        let work = Box::pin(async {
            let actor = caller.actor()?;
            keys::revoke(&caller.app, actor, ApiKeyId::parse(&id)?).await
        });
        let done = |row| ApiKeyPayload { api_key: Some(ApiKey(row)), user_errors: Vec::new() };
        payload(ctx, work, done, ApiKeyPayload::refused).await
    }
}

loads! {
    ApiKeyId => api_key::Model, keys::find;
}
