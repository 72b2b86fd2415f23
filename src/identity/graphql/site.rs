//! A tenant's web sites in the API.

use async_graphql::{Context, Description, Enum, ID, InputObject, Object};

use crate::entity::site;
use crate::graphql::caller::{Answer, caller, payload};
use crate::graphql::payload::int;
use crate::graphql::scalars::DateTime;
use crate::identity::rules::texts;
use crate::identity::service::site::{self as sites, SiteContent};
use crate::ids::{SiteId, TypedId};
use crate::loads;
use crate::payloads;

/// Whom something is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum)]
#[graphql(remote = "site::Character")]
pub enum Character {
    /// 傾奇ユウヤ.
    Yuya,
    /// 猫空あおば.
    Aoba,
    /// Both of them.
    Both,
}

/// A web site of a tenant.
#[derive(Description)]
pub struct Site(pub site::Model);

#[Object(use_type_description)]
impl Site {
    /// The site's id.
    pub async fn id(&self) -> ID {
        self.0.id.to_string().into()
    }

    /// Whom it is about.
    async fn character(&self) -> Character {
        self.0.character.into()
    }

    /// The name that people see.
    async fn name(&self) -> &str {
        &self.0.name
    }

    /// Its host name, unique among all tenants.
    async fn domain(&self) -> &str {
        &self.0.domain
    }

    /// The browser origins that its pages come from; at most 10.
    async fn origins(&self) -> Vec<String> {
        texts(&self.0.origins)
    }

    /// Rises with every change, for `expectedVersion`.
    async fn version(&self) -> i32 {
        int(self.0.version)
    }

    /// When it was added.
    async fn created_at(&self) -> DateTime {
        DateTime(self.0.created_at)
    }
}

/// A site to add.
#[derive(Debug, InputObject)]
pub struct SiteCreateInput {
    /// Whom it is about.
    character: Character,
    /// The name that people see, 1 to 100 characters.
    name: String,
    /// Its host name in lower case; no other site has it.
    domain: String,
    /// The browser origins of its pages, at most 10: `https://` and a host, without a path.
    origins: Vec<String>,
}

/// A change of a site. What is left out stays.
#[derive(Debug, InputObject)]
pub struct SiteUpdateInput {
    /// The site.
    id: ID,
    /// Whom it is about.
    character: Option<Character>,
    /// The name that people see, 1 to 100 characters.
    name: Option<String>,
    /// Its host name in lower case; no other site has it.
    domain: Option<String>,
    /// The browser origins of its pages, at most 10; they take the place of all that it had.
    origins: Option<Vec<String>>,
    /// The version that the caller saw.
    expected_version: Option<i32>,
}

payloads! {
    /// The result of a change of a site.
    SitePayload {
        /// The site as it is now; what it was, when it was removed.
        site: Site,
    }
}

/// Changes of sites.
#[derive(Default)]
pub struct SiteMutation;

#[Object]
impl SiteMutation {
    /// Adds a site to the caller's tenant, which may have 20. For ADMIN.
    async fn site_create(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The site.")] input: SiteCreateInput,
    ) -> Answer<SitePayload> {
        let caller = caller(ctx);
        let content = SiteContent {
            character: input.character.into(),
            name: input.name,
            domain: input.domain,
            origins: input.origins,
        };
        let work = Box::pin(async { sites::create(&caller.app, caller.actor()?, content).await });
        payload(ctx, work, done, SitePayload::refused).await
    }

    /// Changes a site. For ADMIN.
    async fn site_update(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The change.")] input: SiteUpdateInput,
    ) -> Answer<SitePayload> {
        let caller = caller(ctx);
        let work = Box::pin(async {
            let actor = caller.actor()?;
            let which = (SiteId::parse(&input.id)?, input.expected_version.map(i64::from));
            let change = |content: &mut SiteContent| apply(content, input);
            sites::update(&caller.app, actor, which, change).await
        });
        payload(ctx, work, done, SitePayload::refused).await
    }

    /// Removes a site: browsers may no longer come from its origins. For ADMIN.
    async fn site_remove(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The site.")] id: ID,
    ) -> Answer<SitePayload> {
        let caller = caller(ctx);
        let work = Box::pin(async {
            let actor = caller.actor()?;
            sites::remove(&caller.app, actor, SiteId::parse(&id)?).await
        });
        payload(ctx, work, done, SitePayload::refused).await
    }
}

fn apply(content: &mut SiteContent, input: SiteUpdateInput) {
    if let Some(character) = input.character {
        content.character = character.into();
    }
    if let Some(name) = input.name {
        content.name = name;
    }
    if let Some(domain) = input.domain {
        content.domain = domain;
    }
    if let Some(origins) = input.origins {
        content.origins = origins;
    }
}

fn done(row: site::Model) -> SitePayload {
    SitePayload { site: Some(Site(row)), user_errors: Vec::new() }
}

loads! {
    SiteId => site::Model, sites::find;
}
