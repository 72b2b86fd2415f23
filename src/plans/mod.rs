//! Plans by subscription: a tenant pays for its plan by the month, through Stripe.
//!
//! What a tenant has is what Stripe says it has. An event only says that something happened:
//! [`service::learn`] asks Stripe how the subscription stands, compares it with our record and
//! sets the account's plan and entitlement in the same transaction, by the rule that platform
//! admins set them by. So events may come in any order and any number of times.

pub mod error;
pub mod graphql;
pub mod rate;

pub mod service {
    //! What can be done with a subscription, a file for each use case.
    pub mod change;
    pub mod end;
    pub mod learn;
    pub mod lookup;
    pub mod reconcile;
    pub mod subscribe;
    pub mod warn;
    pub mod work;
}
