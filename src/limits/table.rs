//! The limits, in one table.

use chrono::TimeDelta;

use crate::entity::function_price::AiFunctionType;

/// Calls of a function in an hour that a tenant may be allowed at most.
pub const PER_HOUR_MAX: i64 = 10_000;
/// The hour of a function.
pub const HOUR: TimeDelta = TimeDelta::hours(1);

/// Something that is limited for each caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// Root fields that are executed, by either transport.
    Operations,
    /// Calls of AI functions.
    CreditUse,
    /// Purchases of credits.
    Purchases,
    /// Analytics.
    Analytics,
    /// Links that an address of the network asks for.
    SignInLinks,
    /// All tries to come in of an address of the network; many people share one.
    SignInTries,
    /// Mails of invitations that a tenant sends.
    Invitations,
    /// Of them, those to one address.
    InvitationsToAddress,
}

impl Limit {
    /// How many in which period. This is the whole table.
    pub fn allowance(self) -> (i64, TimeDelta) {
        match self {
            Self::Operations => (1_000, TimeDelta::minutes(1)),
            Self::CreditUse => (100, TimeDelta::minutes(1)),
            Self::Purchases => (10, TimeDelta::minutes(1)),
            Self::Analytics => (50, TimeDelta::minutes(1)),
            Self::SignInLinks => (30, TimeDelta::minutes(15)),
            Self::SignInTries => (600, TimeDelta::minutes(15)),
            Self::Invitations => (50, TimeDelta::hours(1)),
            Self::InvitationsToAddress => (3, TimeDelta::days(1)),
        }
    }

    /// Its name in keys.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Operations => "operations",
            Self::CreditUse => "credit-use",
            Self::Purchases => "purchases",
            Self::Analytics => "analytics",
            Self::SignInLinks => "sign-in-links",
            Self::SignInTries => "sign-in-tries",
            Self::Invitations => "invitations",
            Self::InvitationsToAddress => "invitations-to",
        }
    }

    /// Whether it holds even where limits are off.
    pub(crate) fn is_always_on(self) -> bool {
        matches!(self, Self::SignInLinks | Self::SignInTries)
    }
}

/// Calls of a function in any hour that each member of a tenant may make, unless a platform admin
/// set another number for the tenant.
pub fn per_hour(function: AiFunctionType) -> i64 {
    match function {
        AiFunctionType::Chatbot => 100,
        AiFunctionType::Recommendation => 50,
        AiFunctionType::Prediction => 20,
        AiFunctionType::Analysis | AiFunctionType::Custom => 10,
    }
}
