//! Who uses the system: tenants, users and their roles. E-mail is sealed from the first row on.

use sea_orm_migration::prelude::{
    DbErr, DeriveMigrationName, MigrationTrait, SchemaManager, async_trait,
};

use crate::dialect;

/// See the module.
#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        dialect::run(manager, SQL).await
    }
}

const SQL: &str = "
CREATE TABLE tenants (
    id                 {uuid}    NOT NULL PRIMARY KEY,
    name               text      NOT NULL,
    slug               text      NOT NULL UNIQUE,
    crm_plan_type      text      NOT NULL DEFAULT 'ESSENTIAL'
                       CHECK (crm_plan_type IN ('ESSENTIAL', 'PROFESSIONAL', 'ENTERPRISE')),
    crm_activated_at   {instant},
    billing_email      {bytes},
    stripe_customer_id text,
    time_zone          text      NOT NULL DEFAULT 'Asia/Tokyo',
    locale             text      NOT NULL DEFAULT 'ja',
    created_at         {instant} NOT NULL,
    updated_at         {instant} NOT NULL,
    deleted_at         {instant}
)

CREATE TABLE users (
    id                 {uuid}    NOT NULL PRIMARY KEY,
    name               text      NOT NULL,
    email              {bytes}   NOT NULL,
    email_index        {bytes}   NOT NULL UNIQUE,
    is_platform_admin  boolean   NOT NULL DEFAULT FALSE,
    locale             text      NOT NULL DEFAULT 'ja',
    created_at         {instant} NOT NULL,
    updated_at         {instant} NOT NULL,
    deleted_at         {instant}
)

CREATE TABLE memberships (
    id                 {uuid}    NOT NULL PRIMARY KEY,
    tenant_id          {uuid}    NOT NULL REFERENCES tenants (id),
    user_id            {uuid}    NOT NULL REFERENCES users (id),
    role               text      NOT NULL CHECK (role IN ('ADMIN', 'MANAGER', 'SUPPORT', 'USER')),
    created_at         {instant} NOT NULL,
    updated_at         {instant} NOT NULL,
    UNIQUE (tenant_id, user_id)
)

CREATE INDEX memberships_user ON memberships (user_id)
";
