//! Who people are, which tenants they belong to, and what a token proves.

pub mod graphql;

mod service;

pub use service::{
    NewTenant, NewUser, add_member, authenticate, create_tenant, create_user, email_of,
    find_by_email, is_member, issue_token, only_tenant_of, recheck, refresh, tenant_by_slug,
    tenants, users,
};
