//! Money in: credits are bought through Stripe, and nobody is charged twice, wrongly, or without
//! getting them.
//!
//! A purchase is written down first, as PENDING, under an id of ours. Then Stripe is asked with
//! that id as its key, and with no transaction open. What becomes of the payment we learn from
//! Stripe's answer, from what it sends to the webhook, and from asking again; whoever learns it
//! first, it goes through [`service::learn`], which compares the payment with our record and grants
//! the credits, once.

pub mod auto;
pub mod cards;
pub mod disputes;
pub mod error;
pub mod graphql;
pub mod missed;
pub mod price;
pub mod receipts;

pub(crate) mod handed_on;
pub(crate) mod notice;
pub mod reset_notice;
pub mod invoices {
    //! Purchases that a company pays by invoice: Stripe writes it, we see that it is made whole,
    //! sent once, and turned into credits when it is paid.
    pub mod cancel;
    pub mod due;
    pub(crate) mod hear;
    pub(crate) mod issue;
    pub(crate) mod keep;
    mod letter;
    pub mod lookup;
}
pub mod refunds {
    //! Money that goes back, and the unspent credits that go with it: asked for here, or made at
    //! Stripe.
    pub mod ask;
    pub(crate) mod claims;
    pub(crate) mod due;
    pub(crate) mod keep;
    pub(crate) mod learn;
    pub mod lookup;
}
pub mod service {
    //! What can be done with purchases, a file for each use case.
    pub mod buy;
    pub(crate) mod customer;
    pub mod inbox;
    pub mod learn;
    pub mod lookup;
    pub mod reconcile;
    pub mod watch;
}
