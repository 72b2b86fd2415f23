//! What people tell of themselves, and where they are signed in.

use chrono::{DateTime, TimeDelta, Utc};
use sea_orm::{ActiveModelTrait, ColumnTrait, EntityTrait, IntoActiveModel, QueryFilter};
use serde_json::json;

use crate::actor::{Actor, Permission};
use crate::app::App;
use crate::audit::{self, Action, Changes, Subject};
use crate::db::{self, Txn};
use crate::entity::site::Character;
use crate::entity::user_profile::{self, SubscriptionTier};
use crate::entity::{session, user};
use crate::error::{Error, Result};
use crate::identity::rules::Refusals;
use crate::identity::service::tenant::refuse_stale;
use crate::identity::sign_in;
use crate::ids::{ProfileId, SessionId, UserId};
use crate::text::Word;

/// Activity within such a time is written down once.
const ACTIVITY_EVERY: TimeDelta = TimeDelta::minutes(10);

/// A person with what they tell of themselves.
#[derive(Clone, Debug)]
pub struct Profile {
    /// The person.
    pub user: user::Model,
    /// What they tell.
    pub profile: user_profile::Model,
}

/// The actor's own profile, made on first use.
pub async fn get(app: &App, actor: &Actor) -> Result<Profile> {
    actor.require(Permission::OwnData)?;
    let person = actor.person()?;
    let mine = user_profile::Column::UserId.eq(person);
    let user = user::Entity::find_by_id(person).one(app.db.primary()).await?;
    let user = user.ok_or(Error::NotFound("user"))?;
    let found = user_profile::Entity::find().filter(mine).one(app.db.primary()).await?;
    if let Some(profile) = found {
        return Ok(Profile { user, profile });
    }
    let txn = app.db.begin().await?;
    let profile = open(&txn, person, app.clock.db_now()).await?;
    txn.commit().await?;
    Ok(Profile { user, profile })
}

/// The profile of a person in a transaction, locked; made if there is none.
async fn open(txn: &Txn, person: UserId, now: DateTime<Utc>) -> Result<user_profile::Model> {
    let new = user_profile::Model {
        id: ProfileId::new(),
        user_id: person,
        display_name: None,
        bio: None,
        website_url: None,
        twitter_handle: None,
        discord_id: None,
        preferred_character: Character::Both,
        subscription_tier: SubscriptionTier::Free,
        total_spent: 0,
        last_activity: None,
        marketing_consent: false,
        version: 1,
        created_at: now,
        updated_at: now,
    };
    user_profile::Entity::insert(new.into_active_model())
        .on_conflict_do_nothing_on([user_profile::Column::UserId])
        .exec_without_returning(&**txn)
        .await?;
    let sql = "UPDATE user_profiles SET version = version WHERE user_id = $1 RETURNING *";
    let row = db::one(&**txn, sql, vec![person.into()]).await?;
    row.ok_or_else(|| Error::broken("a profile that was made is gone"))
}

/// Writes down that a person was active, at most every ten minutes. Sessions do so when they begin
/// and go on, so that no other request has to. The version of what the person tells stays.
pub(crate) async fn note_activity(txn: &Txn, person: UserId, now: DateTime<Utc>) -> Result<()> {
    let sql = "INSERT INTO user_profiles (id, user_id, last_activity, created_at, updated_at)
               VALUES ($1, $2, $3, $3, $3) ON CONFLICT (user_id) DO UPDATE
               SET last_activity = excluded.last_activity WHERE user_profiles.last_activity IS NULL
               OR user_profiles.last_activity <= $4";
    let values =
        vec![ProfileId::new().into(), person.into(), now.into(), (now - ACTIVITY_EVERY).into()];
    db::execute(&**txn, sql, values).await?;
    Ok(())
}

/// What a person changes. None: it stays; `Some(None)`: it goes.
#[derive(Clone, Debug, Default)]
pub struct ProfileChange {
    /// The name that others see.
    pub name: Option<String>,
    /// The language of what we send.
    pub locale: Option<String>,
    /// A name for the sites.
    pub display_name: Option<Option<String>>,
    /// About themselves.
    pub bio: Option<Option<String>>,
    /// Their own page.
    pub website_url: Option<Option<String>>,
    /// Their name at Twitter.
    pub twitter_handle: Option<Option<String>>,
    /// Their number at Discord.
    pub discord_id: Option<Option<String>>,
    /// Whom they like.
    pub preferred_character: Option<Character>,
    /// Whether we may write to them about news.
    pub marketing_consent: Option<bool>,
    /// The version that the change was made on.
    pub expected_version: Option<i64>,
}

/// Changes the actor's own profile.
pub async fn update(app: &App, actor: &Actor, change: ProfileChange) -> Result<Profile> {
    actor.require(Permission::OwnData)?;
    let person = actor.person()?;
    check(&change)?;
    let now = app.clock.db_now();
    let txn = app.db.begin().await?;
    let old = open(&txn, person, now).await?;
    refuse_stale(change.expected_version, old.version)?;
    let before = user::Entity::find_by_id(person).one(&*txn).await?;
    let before = before.ok_or(Error::NotFound("user"))?;
    let user = rename(&txn, person, &change, now).await?;
    let profile = changed(old.clone(), change, now);
    profile.clone().into_active_model().reset_all().update(&*txn).await?;
    let subject = Subject::of("user_profile", profile.id.0)
        .with(json!({ "version": profile.version }))
        .changing(changes((&before, &old), (&user, &profile)));
    audit::record(app, &txn, actor, Action::ProfileUpdated, subject).await?;
    txn.commit().await?;
    Ok(Profile { user, profile })
}

/// What people tell of themselves is theirs: the record says which fields changed.
fn changes(
    (old_user, old): (&user::Model, &user_profile::Model),
    (user, new): (&user::Model, &user_profile::Model),
) -> Changes {
    Changes::new()
        .personal("name", &old_user.name, &user.name)
        .plain("locale", &Word(&old_user.locale), &Word(&user.locale))
        .personal("displayName", &old.display_name, &new.display_name)
        .personal("bio", &old.bio, &new.bio)
        .personal("websiteUrl", &old.website_url, &new.website_url)
        .personal("twitterHandle", &old.twitter_handle, &new.twitter_handle)
        .personal("discordId", &old.discord_id, &new.discord_id)
        .plain("preferredCharacter", &old.preferred_character, &new.preferred_character)
        .plain("marketingConsent", &old.marketing_consent, &new.marketing_consent)
}

async fn rename(
    txn: &Txn,
    person: UserId,
    change: &ProfileChange,
    now: DateTime<Utc>,
) -> Result<user::Model> {
    let sql = "UPDATE users SET name = COALESCE($2, name), locale = COALESCE($3, locale),
               updated_at = $4 WHERE id = $1 RETURNING *";
    let name = change.name.as_ref().map(|name| name.trim().to_owned());
    let values = vec![person.into(), name.into(), change.locale.clone().into(), now.into()];
    let user: Option<user::Model> = db::one(&**txn, sql, values).await?;
    user.ok_or(Error::NotFound("user"))
}

fn check(change: &ProfileChange) -> Result<()> {
    let mut refusals = Refusals::default();
    if let Some(name) = &change.name {
        refusals.name("input.name", name);
    }
    if let Some(locale) = &change.locale {
        refusals.locale("input.locale", locale);
    }
    if let Some(Some(name)) = &change.display_name {
        refusals.name("input.displayName", name);
    }
    refusals.text("input.bio", change.bio.as_ref().and_then(|bio| bio.as_deref()), 2_000);
    if let Some(Some(address)) = &change.website_url {
        refusals.web_address("input.websiteUrl", address);
    }
    if let Some(Some(handle)) = &change.twitter_handle {
        let is_name = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        let bare = bare_handle(handle);
        if !(1..=15).contains(&bare.len()) || !bare.bytes().all(is_name) {
            let ja = "英数字と下線で1〜15文字を指定してください。";
            let en = "must have 1 to 15 letters, digits and underscores";
            refusals.add("input.twitterHandle", ja, en);
        }
    }
    if let Some(Some(id)) = &change.discord_id
        && (!(17..=20).contains(&id.len()) || !id.bytes().all(|byte| byte.is_ascii_digit()))
    {
        let ja = "17〜20桁の数字を指定してください。";
        refusals.add("input.discordId", ja, "must have 17 to 20 digits");
    }
    refusals.finish()
}

fn bare_handle(handle: &str) -> &str {
    handle.strip_prefix('@').unwrap_or(handle)
}

fn changed(
    old: user_profile::Model,
    change: ProfileChange,
    now: DateTime<Utc>,
) -> user_profile::Model {
    let handle = change.twitter_handle;
    let handle = handle.map(|handle| handle.map(|handle| bare_handle(&handle).to_owned()));
    user_profile::Model {
        display_name: change.display_name.unwrap_or(old.display_name),
        bio: change.bio.unwrap_or(old.bio),
        website_url: change.website_url.unwrap_or(old.website_url),
        twitter_handle: handle.unwrap_or(old.twitter_handle),
        discord_id: change.discord_id.unwrap_or(old.discord_id),
        preferred_character: change.preferred_character.unwrap_or(old.preferred_character),
        marketing_consent: change.marketing_consent.unwrap_or(old.marketing_consent),
        version: old.version + 1,
        updated_at: now,
        ..old
    }
}

/// The actor's own profile, if its id is among these.
pub async fn find(app: &App, actor: &Actor, ids: &[ProfileId]) -> Result<Vec<Profile>> {
    let person = actor.person()?;
    let profile = user_profile::Entity::find()
        .filter(user_profile::Column::Id.is_in(ids.iter().copied()))
        .filter(user_profile::Column::UserId.eq(person))
        .one(app.db.primary())
        .await?;
    let user = user::Entity::find_by_id(person).one(app.db.primary()).await?;
    Ok(user.zip(profile).map(|(user, profile)| Profile { user, profile }).into_iter().collect())
}

/// The actor's open sessions by their ids.
pub async fn sessions(app: &App, actor: &Actor, ids: &[SessionId]) -> Result<Vec<session::Model>> {
    let mut open = sign_in::session::list(app, actor).await?;
    open.retain(|session| ids.contains(&session.id));
    Ok(open)
}
