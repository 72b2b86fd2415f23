//! Who people are, how they come in, which tenants they belong to, and what their credentials
//! prove.

pub mod error;
pub mod graphql;
pub mod origins;
pub mod rules;
pub mod sign_in {
    //! How people come in and stay: sessions, and the ways to begin one.
    mod entry;
    pub mod hand_over;
    pub mod invitation;
    mod letters;
    pub mod link;
    pub mod provider;
    pub mod session;
}
pub mod service {
    //! People, tenants and keys, a file for each use case.
    pub mod invitation;
    pub mod key;
    pub mod member;
    pub mod people;
    pub mod profile;
    pub mod site;
    pub mod standing;
    pub mod tenant;
}

pub use service::invitation::accept_invitation;
pub use service::people::{
    NewTenant, NewUser, add_member, create_tenant, create_user, email_index, email_of,
    find_by_email, is_member, only_tenant_of, tenant_by_slug, tenants, users,
};
pub use service::standing::{authenticate, issue_token, recheck, refresh};
