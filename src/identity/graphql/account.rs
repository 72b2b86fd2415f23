//! The ways in: what a page offers before anybody is signed in, and a person's linked accounts.

use async_graphql::{Context, Description, Enum, ID, Object, SimpleObject};

use crate::config::VERSION;
use crate::entity::linked_account;
use crate::external::oauth;
use crate::graphql::caller::{Answer, answer, caller, payload};
use crate::graphql::scalars::DateTime;
use crate::identity::sign_in::provider;
use crate::payloads;

/// Who else tells who somebody is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum)]
#[graphql(remote = "oauth::Provider")]
pub enum SignInProvider {
    /// Discord: `GET /auth/discord`.
    Discord,
    /// GitHub: `GET /auth/github`.
    Github,
}

/// What a page needs to know before anybody is signed in.
#[derive(SimpleObject)]
pub struct ClientConfig {
    /// Those that people may sign in with, beside a link in a mail.
    sign_in_providers: Vec<SignInProvider>,
    /// Languages of messages, as `Accept-Language` names them; the first is the usual one.
    locales: Vec<String>,
    /// Stripe's key for pages; null where nobody pays: the sandbox.
    stripe_publishable_key: Option<String>,
    /// The program's release.
    version: String,
}

/// What a page needs to know.
#[derive(Default)]
pub struct ClientConfigQuery;

#[Object]
impl ClientConfigQuery {
    /// What a page needs to know before anybody is signed in. Open to everybody.
    async fn client_config(&self, ctx: &Context<'_>) -> Answer<ClientConfig> {
        let app = &caller(ctx).app;
        let providers = app.oauth.offered().map(SignInProvider::from).collect();
        answer(
            ctx,
            Box::pin(async {
                Ok(ClientConfig {
                    sign_in_providers: providers,
                    locales: vec!["ja".to_owned(), "en".to_owned()],
                    stripe_publishable_key: app.config.stripe.publishable_key.clone(),
                    version: VERSION.to_owned(),
                })
            }),
        )
        .await
    }
}

/// A person's account at a provider. Only they see it.
#[derive(Description)]
pub struct LinkedAccount(pub linked_account::Model);

#[Object(use_type_description)]
impl LinkedAccount {
    /// The account's id.
    pub async fn id(&self) -> ID {
        self.0.id.to_string().into()
    }

    /// Where it is.
    async fn provider(&self) -> SignInProvider {
        self.0.provider.into()
    }

    /// When it was linked.
    async fn created_at(&self) -> DateTime {
        DateTime(self.0.created_at)
    }

    /// When the person signed in with it last.
    async fn last_used_at(&self) -> DateTime {
        DateTime(self.0.last_used_at)
    }
}

payloads! {
    /// The result of `accountUnlink`.
    AccountUnlinkPayload {
        /// What was unlinked.
        provider: SignInProvider,
    }
}

/// Changes of one's own ways in.
#[derive(Default)]
pub struct AccountMutation;

#[Object]
impl AccountMutation {
    /// Unlinks the caller's account at a provider. To link one: `GET /auth/github?link=1`, signed
    /// in. Refused when it is the only way left to sign in.
    async fn account_unlink(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Where the account is.")] provider: SignInProvider,
    ) -> Answer<AccountUnlinkPayload> {
        let caller = caller(ctx);
        let work = Box::pin(async {
            provider::unlink(&caller.app, caller.actor()?, provider.into()).await
        });
        let done = |()| AccountUnlinkPayload { provider: Some(provider), user_errors: Vec::new() };
        payload(ctx, work, done, AccountUnlinkPayload::refused).await
    }
}
