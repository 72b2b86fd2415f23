//! How people come in: linked accounts, sessions, links, hand-overs, profiles; and what a tenant
//! decides about it: sites, invitations, API keys. No secret is stored, only keyed digests.

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
ALTER TABLE users ADD COLUMN email_verified_at {instant}

ALTER TABLE users ADD COLUMN image text

ALTER TABLE tenants ADD COLUMN membership_policy text NOT NULL DEFAULT 'INVITE_ONLY'
    CHECK (membership_policy IN ('OPEN', 'INVITE_ONLY'))

ALTER TABLE tenants ADD COLUMN slack_webhook_url {bytes}

ALTER TABLE tenants ADD COLUMN slack_channel {bytes}

ALTER TABLE tenants ADD COLUMN version bigint NOT NULL DEFAULT 1

ALTER TABLE memberships ADD COLUMN version bigint NOT NULL DEFAULT 1

CREATE TABLE user_profiles (
    id                  {uuid}    NOT NULL PRIMARY KEY,
    user_id             {uuid}    NOT NULL UNIQUE REFERENCES users (id),
    display_name        text,
    bio                 text,
    website_url         text,
    twitter_handle      text,
    discord_id          text,
    preferred_character text      NOT NULL DEFAULT 'BOTH'
                        CHECK (preferred_character IN ('YUYA', 'AOBA', 'BOTH')),
    subscription_tier   text      NOT NULL DEFAULT 'FREE'
                        CHECK (subscription_tier IN ('FREE', 'SUPPORTER', 'PREMIUM')),
    total_spent         bigint    NOT NULL DEFAULT 0 CHECK (total_spent >= 0),
    last_activity       {instant},
    marketing_consent   boolean   NOT NULL DEFAULT FALSE,
    version             bigint    NOT NULL DEFAULT 1,
    created_at          {instant} NOT NULL,
    updated_at          {instant} NOT NULL
)

CREATE TABLE sites (
    id                  {uuid}    NOT NULL PRIMARY KEY,
    tenant_id           {uuid}    NOT NULL REFERENCES tenants (id),
    character           text      NOT NULL CHECK (character IN ('YUYA', 'AOBA', 'BOTH')),
    name                text      NOT NULL,
    domain              text      NOT NULL UNIQUE,
    origins             {json}    NOT NULL,
    version             bigint    NOT NULL DEFAULT 1,
    created_at          {instant} NOT NULL,
    updated_at          {instant} NOT NULL
)

CREATE INDEX sites_tenant ON sites (tenant_id, id)

CREATE TABLE accounts (
    id                  {uuid}    NOT NULL PRIMARY KEY,
    user_id             {uuid}    NOT NULL REFERENCES users (id),
    type                text      NOT NULL DEFAULT 'oauth',
    provider            text      NOT NULL CHECK (provider IN ('DISCORD', 'GITHUB')),
    provider_account_id text      NOT NULL,
    scope               text,
    created_at          {instant} NOT NULL,
    last_used_at        {instant} NOT NULL,
    UNIQUE (provider, provider_account_id),
    UNIQUE (user_id, provider)
)

CREATE TABLE sessions (
    id                  {uuid}    NOT NULL PRIMARY KEY,
    user_id             {uuid}    NOT NULL REFERENCES users (id),
    tenant_id           {uuid}    REFERENCES tenants (id),
    salt                {bytes}   NOT NULL,
    generation          bigint    NOT NULL DEFAULT 1,
    rotated_at          {instant} NOT NULL,
    device              text      NOT NULL,
    way                 text      NOT NULL
                        CHECK (way IN ('EMAIL', 'DISCORD', 'GITHUB', 'HAND_OVER')),
    created_at          {instant} NOT NULL,
    last_used_at        {instant} NOT NULL,
    expires_at          {instant} NOT NULL,
    ended_at            {instant},
    confined_to         {uuid}    REFERENCES tenants (id),
    parent_id           {uuid},
    end_reason          text
                        CHECK (end_reason IN ('SIGNED_OUT', 'REVOKED', 'REUSED', 'EXPIRED'))
)

CREATE INDEX sessions_user ON sessions (user_id, id) WHERE ended_at IS NULL

CREATE INDEX sessions_parent ON sessions (parent_id) WHERE parent_id IS NOT NULL

CREATE INDEX sessions_places ON sessions (user_id, tenant_id, last_used_at)

CREATE INDEX sessions_ended ON sessions (ended_at) WHERE ended_at IS NOT NULL

CREATE INDEX sessions_expiry ON sessions (expires_at)

CREATE TABLE sign_in_links (
    id                  {uuid}    NOT NULL PRIMARY KEY,
    token_hash          {bytes}   NOT NULL UNIQUE,
    email               {bytes}   NOT NULL,
    email_index         {bytes}   NOT NULL,
    return_to           text,
    tenant_id           {uuid}    REFERENCES tenants (id),
    created_at          {instant} NOT NULL,
    expires_at          {instant} NOT NULL,
    used_at             {instant}
)

CREATE INDEX sign_in_links_email ON sign_in_links (email_index, created_at)

CREATE INDEX sign_in_links_expiry ON sign_in_links (expires_at)

CREATE TABLE hand_overs (
    id                  {uuid}    NOT NULL PRIMARY KEY,
    code_hash           {bytes}   NOT NULL UNIQUE,
    user_id             {uuid}    NOT NULL REFERENCES users (id),
    session_id          {uuid}    NOT NULL REFERENCES sessions (id),
    from_domain         text      NOT NULL,
    to_domain           text      NOT NULL,
    to_origin           text      NOT NULL,
    tenant_id           {uuid}    NOT NULL REFERENCES tenants (id),
    created_at          {instant} NOT NULL,
    expires_at          {instant} NOT NULL,
    used_at             {instant}
)

CREATE INDEX hand_overs_expiry ON hand_overs (expires_at)

CREATE TABLE cross_site_activities (
    id                  {uuid}    NOT NULL PRIMARY KEY,
    tenant_id           {uuid}    NOT NULL REFERENCES tenants (id),
    user_id             {uuid}    NOT NULL REFERENCES users (id),
    session_id          {uuid}    NOT NULL,
    from_domain         text      NOT NULL,
    to_domain           text      NOT NULL,
    created_at          {instant} NOT NULL
)

CREATE INDEX cross_site_activities_tenant ON cross_site_activities (tenant_id, created_at)

CREATE TABLE invitations (
    id                  {uuid}    NOT NULL PRIMARY KEY,
    tenant_id           {uuid}    NOT NULL REFERENCES tenants (id),
    email               {bytes}   NOT NULL,
    email_index         {bytes}   NOT NULL,
    role                text      NOT NULL CHECK (role IN ('ADMIN', 'MANAGER', 'SUPPORT', 'USER')),
    token_hash          {bytes}   NOT NULL UNIQUE,
    invited_by          {uuid}    NOT NULL REFERENCES users (id),
    created_at          {instant} NOT NULL,
    expires_at          {instant} NOT NULL,
    accepted_at         {instant},
    accepted_by         {uuid}    REFERENCES users (id),
    revoked_at          {instant}
)

CREATE INDEX invitations_tenant ON invitations (tenant_id, id)

CREATE INDEX invitations_address ON invitations (email_index)
    WHERE accepted_at IS NULL AND revoked_at IS NULL

CREATE INDEX invitations_expiry ON invitations (expires_at)

CREATE UNIQUE INDEX invitations_open ON invitations (tenant_id, email_index)
    WHERE accepted_at IS NULL AND revoked_at IS NULL

CREATE TABLE api_keys (
    id                  {uuid}    NOT NULL PRIMARY KEY,
    tenant_id           {uuid}    NOT NULL REFERENCES tenants (id),
    name                text      NOT NULL,
    prefix              text      NOT NULL UNIQUE,
    key_hash            {bytes}   NOT NULL UNIQUE,
    permissions         {json}    NOT NULL,
    created_by          {uuid}    NOT NULL REFERENCES users (id),
    created_at          {instant} NOT NULL,
    expires_at          {instant},
    last_used_at        {instant},
    revoked_at          {instant}
)

CREATE INDEX api_keys_tenant ON api_keys (tenant_id, id)

CREATE TABLE registered_documents (
    id                  text      NOT NULL PRIMARY KEY,
    document            text      NOT NULL,
    registered_at       {instant} NOT NULL
)

ALTER TABLE ai_executions ADD COLUMN api_key_id {uuid} REFERENCES api_keys (id)

CREATE INDEX ai_executions_api_key ON ai_executions (tenant_id, api_key_id, created_at, id)
    WHERE api_key_id IS NOT NULL

CREATE INDEX sessions_tenant ON sessions (tenant_id) WHERE ended_at IS NULL
";
