//! From one site of a tenant to another without signing in again: a code that is good once, for
//! 60 s, at one origin, and only with the person's consent.
//!
//! Whoever lures a browser to a page with a code of their own would sign its owner in as somebody
//! else, and read later what they wrote. So the browser begins at the target, which keeps a
//! verifier in a cookie, and the code is made for its SHA-256, the challenge: what `state` and PKCE
//! (RFC 7636) are to OAuth. A target that takes codes without a challenge has to say so each time,
//! and a browser that began takes none of these. Nor does a code replace the session of somebody
//! else, unless the page says that its person wants that.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::TimeDelta;
use sea_orm::{EntityTrait, IntoActiveModel};
use serde_json::json;

use crate::actor::{Actor, Credential, Source};
use crate::app::App;
use crate::audit::{self, Action};
use crate::crypto::random_secret;
use crate::db::{self, Txn};
use crate::entity::session::SignInWay;
use crate::entity::{cross_site_activity, hand_over};
use crate::error::{Error, Result};
use crate::identity::error::IdentityError;
use crate::identity::origins::Place;
use crate::identity::service::standing::may_act_in;
use crate::identity::sign_in::session::{self, NewSession, Tokens, Visitor};
use crate::ids::{CrossSiteActivityId, HandOverId, UserId};

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
    /// What the target told the browser when it began there; none: any browser may redeem the code,
    /// if the target lets it.
    pub challenge: Option<&'a str>,
    /// Whether the person agreed that the two sites know of each other's visit.
    pub has_consent: bool,
}

/// Which codes a browser may redeem.
#[derive(Clone, Debug)]
pub enum Bond {
    /// Those for this challenge, which follows from its cookie.
    Challenge(String),
    /// It has not begun, and the page takes codes that are for any browser.
    Any,
    /// None: it has not begun.
    Missing,
}

/// A page that redeems a code.
#[derive(Clone, Debug)]
pub struct Arrival<'a> {
    /// The code.
    pub code: &'a str,
    /// The page's origin.
    pub origin: &'a str,
    /// What ties the code to the browser.
    pub bond: Bond,
    /// Who is signed in there and must not be replaced by somebody else.
    pub holder: Option<UserId>,
    /// The browser, and where its request came from.
    pub visitor: Visitor,
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
    if !way.challenge.is_none_or(is_challenge) {
        let ja = "43文字のbase64urlで指定してください。";
        return Err(Error::invalid("challenge", ja, "must be 43 letters of base64url"));
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
        challenge: way.challenge.map(str::to_owned),
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

/// Takes a code at the origin and in the browser that it is for, and begins a session there. The
/// session that it came from must still be open. None when somebody else is signed in there:
/// nothing was taken.
pub async fn redeem(app: &App, arrival: Arrival<'_>) -> Result<Option<Tokens>> {
    let Arrival { code, origin, bond, holder, visitor } = arrival;
    let challenge = match bond {
        Bond::Challenge(challenge) => challenge,
        Bond::Any => String::new(),
        Bond::Missing => return Err(IdentityError::NotBegunHere.into()),
    };
    let source = Arc::clone(&visitor.source);
    let now = app.clock.db_now();
    let mut txn = app.db.begin().await?;
    let sql = "UPDATE hand_overs SET used_at = $3
               WHERE code_hash = $1 AND to_origin = $2 AND COALESCE(challenge, '') = $4
                 AND used_at IS NULL AND expires_at > $3
                 AND EXISTS (SELECT 1 FROM sessions s WHERE s.id = session_id
                             AND s.ended_at IS NULL AND s.expires_at > $3)
               RETURNING *";
    let values = vec![hash(app, code).into(), origin.into(), now.into(), challenge.into()];
    let row: Option<hand_over::Model> = db::one(&*txn, sql, values).await?;
    let row = row.ok_or(IdentityError::LinkOver)?;
    if holder.is_some_and(|holder| holder != row.user_id) {
        txn.rollback().await?;
        return Ok(None);
    }
    let new = NewSession {
        user: row.user_id,
        tenant: Some(row.tenant_id),
        parent: Some(row.session_id),
        visitor,
        way: SignInWay::HandOver,
    };
    let tokens = session::begin(app, &mut txn, new).await?;
    record(app, &txn, &row, (&tokens, &source)).await?;
    txn.commit().await?;
    Ok(Some(tokens))
}

/// Writes down that somebody went from one site to the other.
async fn record(
    app: &App,
    txn: &Txn,
    row: &hand_over::Model,
    (tokens, source): (&Tokens, &Arc<Source>),
) -> Result<()> {
    let crossing = cross_site_activity::Model {
        id: CrossSiteActivityId::new(),
        tenant_id: row.tenant_id,
        user_id: row.user_id,
        session_id: tokens.session.id,
        from_domain: row.from_domain.clone(),
        to_domain: row.to_domain.clone(),
        created_at: app.clock.db_now(),
    };
    cross_site_activity::Entity::insert(crossing.into_active_model())
        .exec_without_returning(&**txn)
        .await?;
    let event = audit::Security {
        action: Action::HandedOver,
        user: Some(row.user_id),
        tenant: Some(row.tenant_id),
        subject: ("hand_over", Some(row.id.0)),
        data: json!({ "from": row.from_domain, "to": row.to_domain }),
        source,
    };
    audit::record_security(app, txn, event).await
}

/// Whether a text can be a SHA-256 in base64url.
fn is_challenge(text: &str) -> bool {
    text.len() == 43 && URL_SAFE_NO_PAD.decode(text).is_ok()
}

fn hash(app: &App, code: &str) -> Vec<u8> {
    app.crypto.index("hand_overs.code", code)
}
