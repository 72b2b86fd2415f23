use chrono::{DateTime, Utc};
use sea_orm::entity::prelude::*;

use crate::ids::{SessionId, TenantId, UserId};
use crate::text_enum;

/// A person who is signed in somewhere. Refresh tokens are made from its salt and generation.
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "sessions")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: SessionId,
    pub user_id: UserId,
    /// The tenant that they act in.
    pub tenant_id: Option<TenantId>,
    /// Without it, and our key, no refresh token of the session can be made.
    pub salt: Vec<u8>,
    /// Counts the refresh tokens; only the newest is good.
    pub generation: i64,
    pub rotated_at: DateTime<Utc>,
    /// The browser and the system, in words.
    pub device: String,
    pub way: SignInWay,
    pub created_at: DateTime<Utc>,
    pub last_used_at: DateTime<Utc>,
    pub expires_at: DateTime<Utc>,
    /// A session that began on a site is for the site's tenant alone, and for no platform.
    pub confined_to: Option<TenantId>,
    /// The session that it was handed over from; it ends with it.
    pub parent_id: Option<SessionId>,
    pub ended_at: Option<DateTime<Utc>>,
    pub end_reason: Option<EndReason>,
}

/// None: relations are read by loaders.
#[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

text_enum! {
    /// How a session began.
    SignInWay {
        /// By a link in a mail.
        Email = "EMAIL",
        /// By Discord.
        Discord = "DISCORD",
        /// By GitHub.
        Github = "GITHUB",
        /// From the other site.
        HandOver = "HAND_OVER",
    }
}

text_enum! {
    /// Why a session ended.
    EndReason {
        /// The person signed out there.
        SignedOut = "SIGNED_OUT",
        /// The person ended it from elsewhere.
        Revoked = "REVOKED",
        /// A refresh token came a second time: one of the two who have it stole it.
        Reused = "REUSED",
        /// Its time was over.
        Expired = "EXPIRED",
    }
}
