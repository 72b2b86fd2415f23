//! From one site of a tenant to another without signing in again: a code that is good once, for
//! 60 s, at one origin, and only with the person's consent.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::TimeDelta;
use sea_orm::{EntityTrait, IntoActiveModel};
use serde_json::json;

use crate::actor::{Actor, Credential};
use crate::app::App;
use crate::audit::{self, Action};
use crate::crypto::random_secret;
use crate::db;
use crate::entity::session::SignInWay;
use crate::entity::{cross_site_activity, hand_over};
use crate::error::{Error, Result};
use crate::identity::error::IdentityError;
use crate::identity::origins::Place;
use crate::identity::service::standing::may_act_in;
use crate::identity::sign_in::session::{self, NewSession, Tokens};
use crate::ids::{CrossSiteActivityId, HandOverId};

/// How long a code is good.
const LIFETIME: TimeDelta = TimeDelta::seconds(60);

/// The way that somebody wants to go.
#[derive(Clone, Copy, Debug)]
pub struct Way<'a> {
    /// The site that they are on.
    pub from: &'a Place,
    /// The site that they go to; of the same tenant.
    pub to: &'a Place,
    /// The origin that may redeem the code.
    pub to_origin: &'a str,
    /// Whether the person agreed that the two sites know of each other's visit.
    pub has_consent: bool,
}

/// Makes a code for the actor.
pub async fn create(app: &App, actor: &Actor, way: Way<'_>) -> Result<String> {
    let Credential::Session(session) = actor.credential else { return Err(Error::Forbidden) };
    let is_inside = way.from.tenant == way.to.tenant && way.from.id != way.to.id;
    if !is_inside {
        return Err(Error::NotFound("site"));
    }
    if !may_act_in(app, actor.user_id, way.to.tenant).await? {
        return Err(Error::NotFound("site"));
    }
    if !way.has_consent {
        return Err(IdentityError::ConsentMissing.into());
    }
    let now = app.clock.db_now();
    let code = URL_SAFE_NO_PAD.encode(random_secret()?);
    let row = hand_over::Model {
        id: HandOverId::new(),
        code_hash: hash(app, &code),
        user_id: actor.user_id,
        session_id: session,
        from_domain: way.from.domain.clone(),
        to_domain: way.to.domain.clone(),
        to_origin: way.to_origin.to_owned(),
        tenant_id: way.to.tenant,
        created_at: now,
        expires_at: now + LIFETIME,
        used_at: None,
    };
    let txn = app.db.begin().await?;
    hand_over::Entity::insert(row.into_active_model()).exec_without_returning(&*txn).await?;
    txn.commit().await?;
    Ok(code)
}

/// Takes a code at the origin that it is for, and begins a session there. The session that it came
/// from must still be open.
pub async fn redeem(app: &App, code: &str, origin: &str, device: String) -> Result<Tokens> {
    let now = app.clock.db_now();
    let mut txn = app.db.begin().await?;
    let sql = "UPDATE hand_overs SET used_at = $3
               WHERE code_hash = $1 AND to_origin = $2 AND used_at IS NULL AND expires_at > $3
                 AND EXISTS (SELECT 1 FROM sessions s WHERE s.id = session_id
                             AND s.ended_at IS NULL AND s.expires_at > $3)
               RETURNING *";
    let values = vec![hash(app, code).into(), origin.into(), now.into()];
    let row: Option<hand_over::Model> = db::one(&*txn, sql, values).await?;
    let row = row.ok_or(IdentityError::LinkOver)?;
    let new = NewSession {
        user: row.user_id,
        tenant: Some(row.tenant_id),
        parent: Some(row.session_id),
        device,
        way: SignInWay::HandOver,
    };
    let tokens = session::begin(app, &mut txn, new).await?;
    let crossing = cross_site_activity::Model {
        id: CrossSiteActivityId::new(),
        tenant_id: row.tenant_id,
        user_id: row.user_id,
        session_id: tokens.session.id,
        from_domain: row.from_domain.clone(),
        to_domain: row.to_domain.clone(),
        created_at: now,
    };
    cross_site_activity::Entity::insert(crossing.into_active_model())
        .exec_without_returning(&*txn)
        .await?;
    let event = audit::Security {
        action: Action::HandedOver,
        user: Some(row.user_id),
        tenant: Some(row.tenant_id),
        subject: ("hand_over", Some(row.id.0)),
        data: json!({ "from": row.from_domain, "to": row.to_domain }),
    };
    audit::record_security(&txn, event, now).await?;
    txn.commit().await?;
    Ok(tokens)
}

fn hash(app: &App, code: &str) -> Vec<u8> {
    app.crypto.index("hand_overs.code", code)
}
