//! Signing in by a link in a mail: good once, for 15 minutes, taken by POST, as mail scanners
//! follow links. Whether an address is known cannot be told from the answer or the work.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::TimeDelta;
use sea_orm::{ColumnTrait, EntityTrait, IntoActiveModel, PaginatorTrait, QueryFilter};

use crate::app::App;
use crate::crypto::{Place, random_secret};
use crate::db;
use crate::entity::session::SignInWay;
use crate::entity::sign_in_link;
use crate::error::{Error, Lang, Result};
use crate::identity::error::IdentityError;
use crate::identity::service::people;
use crate::identity::sign_in::entry::{self, Proved};
use crate::identity::sign_in::letters;
use crate::identity::sign_in::session::{self, NewSession, Tokens, Visitor};
use crate::ids::{SignInLinkId, TenantId};
use crate::text::email_address;

/// How long a link is good.
pub const LIFETIME: TimeDelta = TimeDelta::minutes(15);
/// Links that one address gets within their lifetime; what is asked beyond is answered alike, and
/// sends nothing.
const LINKS_MAX: u64 = 5;

/// Somebody who wants to sign in.
#[derive(Clone, Debug)]
pub struct LinkRequest<'a> {
    /// The address that they typed.
    pub email: &'a str,
    /// The tenant of the site that they are on.
    pub tenant: Option<TenantId>,
    /// Where the link leads: scheme and host of ours.
    pub base: &'a str,
    /// Where the browser goes after it.
    pub return_to: Option<String>,
    /// The language of the mail.
    pub lang: Lang,
}

/// Sends a link, or a mail that says why not. Refused only when the text is no address.
pub async fn request(app: &App, asked: LinkRequest<'_>) -> Result<()> {
    let email = email_address(asked.email).ok_or_else(|| {
        Error::invalid(
            "email",
            "メールアドレスの形式が正しくありません。",
            "is not an e-mail address",
        )
    })?;
    let now = app.clock.db_now();
    let index = people::email_index(app, &email);
    let token = URL_SAFE_NO_PAD.encode(random_secret()?);
    let id = SignInLinkId::new();
    let row = sign_in_link::Model {
        id,
        token_hash: hash(app, &token),
        email: app.crypto.seal(place(id), &email)?,
        email_index: index.clone(),
        return_to: asked.return_to,
        tenant_id: asked.tenant,
        created_at: now,
        expires_at: now + LIFETIME,
        used_at: None,
    };
    let mut txn = app.db.begin().await?;
    // Of posts at the same moment each counts those before it.
    txn.take_name(&index).await?;
    let recent = sign_in_link::Entity::find()
        .filter(sign_in_link::Column::EmailIndex.eq(index.clone()))
        .filter(sign_in_link::Column::CreatedAt.gt(now - LIFETIME))
        .count(&*txn)
        .await?;
    if recent >= LINKS_MAX {
        return txn.rollback().await;
    }
    let letter = if entry::may_enter(app, &txn, &index, asked.tenant).await? {
        letters::link(asked.lang, &email, &format!("{}/auth/email?token={token}", asked.base))
    } else {
        letters::unknown(asked.lang, &email)
    };
    sign_in_link::Entity::insert(row.clone().into_active_model())
        .exec_without_returning(&*txn)
        .await?;
    letters::send(app, &mut txn, letter, Some(row.expires_at)).await?;
    txn.commit().await
}

/// Takes a link, and begins a session. Also where the browser goes then.
pub async fn redeem(app: &App, token: &str, visitor: Visitor) -> Result<(Tokens, Option<String>)> {
    let now = app.clock.db_now();
    let mut txn = app.db.begin().await?;
    let sql = "UPDATE sign_in_links SET used_at = $2
               WHERE token_hash = $1 AND used_at IS NULL AND expires_at > $2 RETURNING *";
    let values = vec![hash(app, token).into(), now.into()];
    let link: Option<sign_in_link::Model> = db::one(&*txn, sql, values).await?;
    let link = link.ok_or(IdentityError::LinkOver)?;
    let email = app.crypto.open(place(link.id), &link.email)?;
    let (tenant, source) = (link.tenant_id, &visitor.source);
    let proved = Proved { email: &email, name: None, tenant, source };
    let (person, tenant) = entry::enter(app, &txn, proved).await?;
    let way = SignInWay::Email;
    let new = NewSession { user: person.id, tenant, parent: None, visitor, way };
    let tokens = session::begin(app, &mut txn, new).await?;
    txn.commit().await?;
    Ok((tokens, link.return_to))
}

fn hash(app: &App, token: &str) -> Vec<u8> {
    app.crypto.index("sign_in_links.token", token)
}

fn place(id: SignInLinkId) -> Place {
    Place { table: "sign_in_links", column: "email", row: id.0 }
}
