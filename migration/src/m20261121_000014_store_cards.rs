//! Stored cards, and which customer of Stripe's a purchase was asked for.

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

// No column can hold a card number: the last digits are four, the brand is one of a few words, and
// what is Stripe's own is no number.
const SQL: &str = "
CREATE TABLE stored_cards (
    id                        {uuid}    NOT NULL PRIMARY KEY,
    tenant_id                 {uuid}    NOT NULL REFERENCES tenants (id),
    user_id                   {uuid}    REFERENCES users (id),
    stripe_payment_method_id  text      NOT NULL UNIQUE
                              CHECK (substr(stripe_payment_method_id, 1, 3) = 'pm_'
                                     AND length(stripe_payment_method_id) <= 255),
    brand                     text      NOT NULL CHECK (brand IN
                              ('AMEX', 'CARTES_BANCAIRES', 'DINERS', 'DISCOVER', 'EFTPOS', 'JCB',
                               'MASTERCARD', 'UNIONPAY', 'VISA', 'OTHER')),
    last4                     text      NOT NULL
                              CHECK (length(last4) = 4 AND ltrim(last4, '0123456789') = ''),
    exp_month                 integer   NOT NULL CHECK (exp_month BETWEEN 1 AND 12),
    exp_year                  integer   NOT NULL CHECK (exp_year BETWEEN 2000 AND 9999),
    fingerprint               text      CHECK (length(fingerprint) <= 64
                                               AND ltrim(fingerprint, '0123456789') <> ''),
    is_default                boolean   NOT NULL DEFAULT FALSE,
    created_at                {instant} NOT NULL,
    updated_at                {instant} NOT NULL,
    removed_at                {instant},
    CHECK (NOT is_default OR removed_at IS NULL)
)

CREATE UNIQUE INDEX stored_cards_default ON stored_cards (tenant_id) WHERE is_default

CREATE INDEX stored_cards_tenant ON stored_cards (tenant_id, id) WHERE removed_at IS NULL

CREATE INDEX stored_cards_removed ON stored_cards (removed_at) WHERE removed_at IS NOT NULL

ALTER TABLE tenants ADD COLUMN stripe_customers_lost bigint NOT NULL DEFAULT 0

ALTER TABLE credit_purchases ADD COLUMN customer_id text

ALTER TABLE credit_purchases ADD COLUMN customer_number integer NOT NULL DEFAULT 1
    CHECK (customer_number BETWEEN 1 AND 2)

UPDATE credit_purchases SET customer_id =
    (SELECT t.stripe_customer_id FROM tenants t WHERE t.id = credit_purchases.tenant_id)
WHERE status = 'PENDING'
";
