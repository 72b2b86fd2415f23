//! Ids: a UUIDv7 in the database, a TypeID (`user_01h455vb4pex5vsknk084sn02q`) for everyone else.
//! A wrong prefix is refused without a query. Random values are made here and nowhere else.

use uuid::Uuid;

use crate::error::Error;

/// Crockford's base32 in lower case, as the TypeID specification has it.
const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";

/// An id that knows its kind.
pub trait TypedId: Copy + Sized {
    /// The text before the underscore.
    const PREFIX: &'static str;
    /// The id of a row.
    fn from_uuid(uuid: Uuid) -> Self;
    /// The row's key.
    fn uuid(self) -> Uuid;

    /// Reads the id's text; another kind, or no id at all, is [`Error::InvalidId`].
    fn parse(text: &str) -> Result<Self, Error> {
        match split(text) {
            Some((prefix, uuid)) if prefix == Self::PREFIX => Ok(Self::from_uuid(uuid)),
            Some(_) | None => Err(Error::InvalidId),
        }
    }
}

/// A new random key whose order follows time.
#[expect(clippy::disallowed_methods, reason = "this is the one place that makes ids")]
pub fn new_uuid() -> Uuid {
    Uuid::now_v7()
}

/// The prefix and the key in an id's text, if it is one.
pub fn split(text: &str) -> Option<(&str, Uuid)> {
    let (prefix, suffix) = text.rsplit_once('_')?;
    Some((prefix, decode(suffix)?))
}

fn encode(uuid: Uuid) -> String {
    let value = uuid.as_u128();
    (0..26)
        .rev()
        .map(|place| char::from(ALPHABET[((value >> (place * 5)) & 31) as usize]))
        .collect()
}

fn decode(suffix: &str) -> Option<Uuid> {
    // 26 characters hold 130 bits: the first may only be 0 to 7.
    if suffix.len() != 26 || !matches!(suffix.as_bytes().first(), Some(b'0'..=b'7')) {
        return None;
    }
    let mut value: u128 = 0;
    for byte in suffix.bytes() {
        let digit = ALPHABET.iter().position(|letter| *letter == byte)?;
        value = (value << 5) | digit as u128;
    }
    Some(Uuid::from_u128(value))
}

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident = $prefix:literal;)*) => {$(
        $(#[$doc])*
        #[derive(
            Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, sea_orm::DeriveValueType,
            serde::Serialize, serde::Deserialize,
        )]
        pub struct $name(pub Uuid);

        impl $name {
            /// A new id.
            #[expect(clippy::new_without_default, reason = "an id is made on purpose")]
            pub fn new() -> Self {
                Self(new_uuid())
            }
        }

        impl TypedId for $name {
            const PREFIX: &'static str = $prefix;
            fn from_uuid(uuid: Uuid) -> Self {
                Self(uuid)
            }
            fn uuid(self) -> Uuid {
                self.0
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                write!(f, "{}_{}", $prefix, encode(self.0))
            }
        }

        impl sea_orm::TryFromU64 for $name {
            fn try_from_u64(_: u64) -> Result<Self, sea_orm::DbErr> {
                Err(sea_orm::DbErr::ConvertFromU64(stringify!($name)))
            }
        }
    )*};
}

ids! {
    /// A person who can sign in.
    UserId = "user";
    /// A customer of ours: a hotel or a studio.
    TenantId = "tenant";
    /// A person's place in a tenant.
    MembershipId = "member";
    /// What a person tells of themselves.
    ProfileId = "profile";
    /// A person's account at a provider.
    LinkedAccountId = "login";
    /// A person who is signed in somewhere.
    SessionId = "session";
    /// A link that signs in.
    SignInLinkId = "link";
    /// A way from one site to another.
    HandOverId = "handover";
    /// A person who went from one site to another.
    CrossSiteActivityId = "crossing";
    /// A web site of a tenant.
    SiteId = "site";
    /// An address that may become a member.
    InvitationId = "invite";
    /// A key of a tenant's server.
    ApiKeyId = "apikey";
    /// A tenant's prepaid credits.
    AccountId = "account";
    /// Credits that came in together.
    GrantId = "grant";
    /// Credits set aside for a running call.
    HoldId = "hold";
    /// A line of the ledger.
    TransactionId = "txn";
    /// What a settlement took from a grant.
    DrawId = "draw";
    /// Credits being taken away.
    WithdrawalId = "withdrawal";
    /// A month's free credits.
    ResetId = "reset";
    /// Credits for sale.
    PackageId = "package";
    /// Credits that are being bought, or were.
    PurchaseId = "purchase";
    /// A card that Stripe keeps for a tenant.
    StoredCardId = "card";
    /// A purchase that we tried to make by ourselves.
    AutoPurchaseAttemptId = "attempt";
    /// A plan that a tenant pays for by the month.
    SubscriptionId = "sub";
    /// Something that Stripe told us.
    StripeEventId = "stripe";
    /// Money of a purchase that goes back.
    RefundId = "refund";
    /// A payment that somebody disputes.
    DisputeId = "dispute";
    /// A plan's version.
    PlanId = "plan";
    /// A price's version.
    PriceId = "price";
    /// A call of an AI function.
    ExecutionId = "exec";
    /// A person whose calls are refused for a while.
    BlockId = "block";
    /// A remembered key of a write.
    IdempotencyId = "idem";
    /// Something people should know.
    AlertId = "alert";
    /// A line of the audit record.
    AuditEventId = "event";
    /// An assessment of compliance.
    AssessmentId = "assess";
    /// A durable piece of work.
    QueueItemId = "work";
    /// A run of a job.
    JobRunId = "run";
}
