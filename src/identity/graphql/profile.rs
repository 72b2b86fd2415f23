//! People's own profiles in the API.

use std::collections::HashMap;

use async_graphql::dataloader::Loader;
use async_graphql::{Context, Description, Enum, ID, InputObject, MaybeUndefined, Object};

use crate::entity::user_profile;
use crate::graphql::caller::{Answer, caller, payload};
use crate::graphql::loader::{LoadError, Source, by_key};
use crate::graphql::payload::int;
use crate::graphql::scalars::{DateTime, Money};
use crate::identity::graphql::site::Character;
use crate::identity::service::profile::{self as profiles, Profile, ProfileChange};
use crate::ids::ProfileId;
use crate::money;
use crate::payloads;

/// What a fan has subscribed to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum)]
#[graphql(remote = "user_profile::SubscriptionTier")]
pub enum SubscriptionTier {
    /// Nothing.
    Free,
    /// Supports a character.
    Supporter,
    /// Everything.
    Premium,
}

/// What a person tells of themselves. Only they see it.
#[derive(Description)]
pub struct UserProfile(pub Profile);

#[Object(use_type_description)]
impl UserProfile {
    /// The profile's id.
    pub async fn id(&self) -> ID {
        self.0.profile.id.to_string().into()
    }

    /// The name that others see.
    async fn name(&self) -> &str {
        &self.0.user.name
    }

    /// The language of what we send: `ja` or `en`.
    async fn locale(&self) -> &str {
        &self.0.user.locale
    }

    /// A name for the sites.
    async fn display_name(&self) -> Option<&str> {
        self.0.profile.display_name.as_deref()
    }

    /// About themselves.
    async fn bio(&self) -> Option<&str> {
        self.0.profile.bio.as_deref()
    }

    /// Their own page, by https.
    async fn website_url(&self) -> Option<&str> {
        self.0.profile.website_url.as_deref()
    }

    /// Their name at Twitter, without the sign.
    async fn twitter_handle(&self) -> Option<&str> {
        self.0.profile.twitter_handle.as_deref()
    }

    /// Their number at Discord.
    async fn discord_id(&self) -> Option<&str> {
        self.0.profile.discord_id.as_deref()
    }

    /// Whom they like.
    async fn preferred_character(&self) -> Character {
        self.0.profile.preferred_character.into()
    }

    /// What they have subscribed to.
    async fn subscription_tier(&self) -> SubscriptionTier {
        self.0.profile.subscription_tier.into()
    }

    /// What they have spent, refunds taken off.
    async fn total_spent(&self) -> Money {
        Money(money::Money::yen(self.0.profile.total_spent))
    }

    /// When they were last active anywhere, to a quarter of an hour; null when it is not known.
    async fn last_activity(&self) -> Option<DateTime> {
        self.0.profile.last_activity.map(DateTime)
    }

    /// Whether we may write to them about news.
    async fn marketing_consent(&self) -> bool {
        self.0.profile.marketing_consent
    }

    /// Rises with every change, for `expectedVersion`.
    async fn version(&self) -> i32 {
        int(self.0.profile.version)
    }
}

/// What a person changes of their profile. What is left out stays.
#[derive(Debug, InputObject)]
pub struct ProfileUpdateInput {
    /// The name that others see, 1 to 100 characters.
    name: Option<String>,
    /// The language of what we send: `ja` or `en`.
    locale: Option<String>,
    /// A name for the sites, 1 to 100 characters; null removes it.
    display_name: MaybeUndefined<String>,
    /// About themselves, at most 2 000 characters; null removes it.
    bio: MaybeUndefined<String>,
    /// Their own page, by https, at most 300 characters; null removes it.
    website_url: MaybeUndefined<String>,
    /// Their name at Twitter, with or without the sign; null removes it.
    twitter_handle: MaybeUndefined<String>,
    /// Their number at Discord, 17 to 20 digits; null removes it.
    discord_id: MaybeUndefined<String>,
    /// Whom they like.
    preferred_character: Option<Character>,
    /// Whether we may write to them about news.
    marketing_consent: Option<bool>,
    /// The version that the caller saw.
    expected_version: Option<i32>,
}

impl From<ProfileUpdateInput> for ProfileChange {
    fn from(input: ProfileUpdateInput) -> Self {
        Self {
            name: input.name,
            locale: input.locale,
            display_name: input.display_name.into(),
            bio: input.bio.into(),
            website_url: input.website_url.into(),
            twitter_handle: input.twitter_handle.into(),
            discord_id: input.discord_id.into(),
            preferred_character: input.preferred_character.map(Into::into),
            marketing_consent: input.marketing_consent,
            expected_version: input.expected_version.map(i64::from),
        }
    }
}

payloads! {
    /// The result of `profileUpdate`.
    ProfilePayload {
        /// The profile as it is now.
        profile: UserProfile,
    }
}

/// Changes of one's own profile.
#[derive(Default)]
pub struct ProfileMutation;

#[Object]
impl ProfileMutation {
    /// Changes the caller's own profile.
    async fn profile_update(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The change.")] input: ProfileUpdateInput,
    ) -> Answer<ProfilePayload> {
        let caller = caller(ctx);
        let work =
            Box::pin(async { profiles::update(&caller.app, caller.actor()?, input.into()).await });
        let done = |profile| ProfilePayload {
            profile: Some(UserProfile(profile)),
            user_errors: Vec::new(),
        };
        payload(ctx, work, done, ProfilePayload::refused).await
    }
}

impl Loader<ProfileId> for Source {
    type Value = Profile;
    type Error = LoadError;

    async fn load(&self, ids: &[ProfileId]) -> Result<HashMap<ProfileId, Profile>, LoadError> {
        let found = profiles::find(&self.app, self.actor()?, ids).await?;
        Ok(by_key(found, |found| found.profile.id))
    }
}
