//! Purchases by invoice, disputes of payments, and how far Stripe's events were read.

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
CREATE TABLE credit_invoices (
    purchase_id        {uuid}    NOT NULL PRIMARY KEY REFERENCES credit_purchases (id),
    tenant_id          {uuid}    NOT NULL REFERENCES tenants (id),
    email              {bytes},
    days_until_due     integer   NOT NULL CHECK (days_until_due BETWEEN 1 AND 365),
    status             text      NOT NULL CHECK (status IN
                       ('DRAFT', 'OPEN', 'OVERDUE', 'UNCOLLECTIBLE', 'PAID', 'VOID')),
    stripe_invoice_id  text      UNIQUE,
    number             text,
    hosted_url         {bytes},
    pdf_url            {bytes},
    due_at             {instant},
    sent_at            {instant},
    cancel_asked_at    {instant},
    due_told_at        {instant},
    overdue_told_at    {instant},
    next_check_at      {instant} NOT NULL,
    created_at         {instant} NOT NULL,
    updated_at         {instant} NOT NULL,
    CHECK (status = 'DRAFT' OR status = 'VOID' OR stripe_invoice_id IS NOT NULL)
)

CREATE INDEX credit_invoices_unpaid ON credit_invoices (tenant_id)
    WHERE status IN ('DRAFT', 'OPEN', 'OVERDUE', 'UNCOLLECTIBLE')

CREATE INDEX credit_invoices_check ON credit_invoices (next_check_at)
    WHERE status IN ('DRAFT', 'OPEN', 'OVERDUE', 'UNCOLLECTIBLE')

CREATE INDEX credit_invoices_due ON credit_invoices (status, due_at)

CREATE INDEX credit_invoices_addresses ON credit_invoices (updated_at)
    WHERE email IS NOT NULL AND status IN ('PAID', 'VOID')

CREATE TABLE payment_disputes (
    id                 {uuid}    NOT NULL PRIMARY KEY,
    tenant_id          {uuid}    NOT NULL REFERENCES tenants (id),
    purchase_id        {uuid}    NOT NULL REFERENCES credit_purchases (id),
    stripe_dispute_id  text      NOT NULL UNIQUE,
    status             text      NOT NULL CHECK (status IN
                       ('INQUIRY', 'OPEN', 'WON', 'LOST', 'CLOSED')),
    reason             text      NOT NULL,
    amount             bigint    NOT NULL CHECK (amount >= 0),
    withdrawal_id      {uuid}    UNIQUE REFERENCES ai_credit_withdrawals (id),
    refund_kept        bigint    NOT NULL DEFAULT 0 CHECK (refund_kept >= 0),
    created_at         {instant} NOT NULL,
    updated_at         {instant} NOT NULL
)

CREATE INDEX payment_disputes_purchase ON payment_disputes (purchase_id, created_at)

CREATE TABLE stripe_cursors (
    name        text      NOT NULL PRIMARY KEY,
    seen_until  {instant} NOT NULL,
    updated_at  {instant} NOT NULL
)

DROP INDEX credit_purchases_open

CREATE INDEX credit_purchases_open ON credit_purchases (checked_at)
    WHERE status IN ('PENDING', 'REQUIRES_ACTION') AND method <> 'INVOICE'
";
