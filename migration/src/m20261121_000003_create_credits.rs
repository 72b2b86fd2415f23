//! Prepaid credits: accounts, where credits came from, what they were used for, what they cost.

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
        dialect::run(manager, SQL).await?;
        dialect::forbid_changes(manager, "ai_credit_transactions").await
    }
}

const SQL: &str = "
CREATE TABLE ai_plans (
    id                    {uuid}    NOT NULL PRIMARY KEY,
    plan_type             text      NOT NULL
                          CHECK (plan_type IN ('ESSENTIAL', 'PROFESSIONAL', 'ENTERPRISE')),
    version               integer   NOT NULL CHECK (version >= 1),
    price_yen             bigint    NOT NULL CHECK (price_yen >= 0),
    monthly_free_credits  bigint    NOT NULL CHECK (monthly_free_credits BETWEEN 0 AND 100000000),
    carry_over            text      NOT NULL CHECK (carry_over IN ('ALL', 'NONE', 'CAP')),
    carry_over_cap        bigint    NOT NULL DEFAULT 0 CHECK (carry_over_cap >= 0),
    created_at            {instant} NOT NULL,
    UNIQUE (plan_type, version)
)

CREATE TABLE ai_function_prices (
    id                    {uuid}    NOT NULL PRIMARY KEY,
    function_type         text      NOT NULL CHECK (function_type IN
                          ('CHATBOT', 'RECOMMENDATION', 'PREDICTION', 'ANALYSIS', 'CUSTOM')),
    model                 text      NOT NULL,
    version               integer   NOT NULL CHECK (version >= 1),
    is_default            boolean   NOT NULL DEFAULT FALSE,
    is_active             boolean   NOT NULL DEFAULT TRUE,
    base_credits          bigint    NOT NULL CHECK (base_credits BETWEEN 0 AND 1000000),
    tier_1_tokens         bigint    NOT NULL CHECK (tier_1_tokens >= 0),
    tier_2_tokens         bigint    NOT NULL CHECK (tier_2_tokens >= tier_1_tokens),
    tier_3_tokens         bigint    NOT NULL CHECK (tier_3_tokens >= tier_2_tokens),
    tier_1_per_mille      bigint    NOT NULL CHECK (tier_1_per_mille >= 0),
    tier_2_per_mille      bigint    NOT NULL CHECK (tier_2_per_mille >= tier_1_per_mille),
    tier_3_per_mille      bigint    NOT NULL CHECK (tier_3_per_mille >= tier_2_per_mille),
    tier_4_per_mille      bigint    NOT NULL
                          CHECK (tier_4_per_mille BETWEEN tier_3_per_mille AND 1000000),
    rate_limit_credits    bigint    NOT NULL DEFAULT 1 CHECK (rate_limit_credits >= 0),
    created_at            {instant} NOT NULL,
    UNIQUE (function_type, model, version)
)

CREATE TABLE ai_credit_packages (
    id                    {uuid}    NOT NULL PRIMARY KEY,
    plan_type             text      NOT NULL
                          CHECK (plan_type IN ('ESSENTIAL', 'PROFESSIONAL', 'ENTERPRISE')),
    credits_amount        bigint    NOT NULL CHECK (credits_amount BETWEEN 1 AND 100000000),
    price_yen             bigint    NOT NULL CHECK (price_yen BETWEEN 1 AND 1000000000),
    discount_rate         bigint    NOT NULL DEFAULT 0 CHECK (discount_rate BETWEEN 0 AND 10000),
    tax_rate              bigint    NOT NULL DEFAULT 1000 CHECK (tax_rate BETWEEN 0 AND 10000),
    is_bulk_package       boolean   NOT NULL DEFAULT FALSE,
    is_promotional        boolean   NOT NULL DEFAULT FALSE,
    active                boolean   NOT NULL DEFAULT TRUE,
    valid_from            date      NOT NULL,
    valid_until           date,
    display_name          text      NOT NULL,
    description           text,
    marketing_highlight   text,
    version               integer   NOT NULL DEFAULT 1,
    created_at            {instant} NOT NULL,
    updated_at            {instant} NOT NULL,
    CHECK (valid_until IS NULL OR valid_until >= valid_from)
)

CREATE INDEX ai_credit_packages_plan ON ai_credit_packages (plan_type, active)

CREATE TABLE ai_credit_accounts (
    id                       {uuid}    NOT NULL PRIMARY KEY,
    tenant_id                {uuid}    NOT NULL UNIQUE REFERENCES tenants (id),
    plan_type                text      NOT NULL
                             CHECK (plan_type IN ('ESSENTIAL', 'PROFESSIONAL', 'ENTERPRISE')),
    next_plan_type           text
                             CHECK (next_plan_type IN ('ESSENTIAL', 'PROFESSIONAL', 'ENTERPRISE')),
    monthly_free_credits     bigint    NOT NULL CHECK (monthly_free_credits >= 0),
    time_zone                text      NOT NULL,
    current_balance          bigint    NOT NULL DEFAULT 0,
    held                     bigint    NOT NULL DEFAULT 0,
    version                  bigint    NOT NULL DEFAULT 0 CHECK (version >= 0),
    next_due_at              {instant} NOT NULL,
    entitled_until           {instant},
    alert_threshold          bigint    NOT NULL DEFAULT 50 CHECK (alert_threshold >= 0),
    total_purchased_credits  bigint    NOT NULL DEFAULT 0,
    total_used_credits       bigint    NOT NULL DEFAULT 0,
    auto_purchase_enabled    boolean   NOT NULL DEFAULT FALSE,
    auto_purchase_threshold  bigint    NOT NULL DEFAULT 50 CHECK (auto_purchase_threshold >= 0),
    auto_purchase_amount     bigint    NOT NULL DEFAULT 500 CHECK (auto_purchase_amount > 0),
    created_at               {instant} NOT NULL,
    updated_at               {instant} NOT NULL,
    deleted_at               {instant},
    CHECK (0 <= held AND held <= current_balance),
    CHECK (current_balance <= 2000000000)
)

CREATE INDEX ai_credit_accounts_due ON ai_credit_accounts (next_due_at) WHERE deleted_at IS NULL

CREATE TABLE ai_credit_grants (
    id            {uuid}    NOT NULL PRIMARY KEY,
    account_id    {uuid}    NOT NULL REFERENCES ai_credit_accounts (id),
    kind          text      NOT NULL CHECK (kind IN ('FREE', 'PURCHASED', 'BONUS', 'REFUND')),
    granted       bigint    NOT NULL CHECK (granted > 0),
    remaining     bigint    NOT NULL CHECK (remaining BETWEEN 0 AND granted),
    price_minor   bigint    NOT NULL DEFAULT 0 CHECK (price_minor >= 0),
    cost_left     bigint    NOT NULL DEFAULT 0 CHECK (cost_left BETWEEN 0 AND price_minor),
    period        date,
    expires_at    {instant},
    description   text,
    reference_id  {uuid},
    created_at    {instant} NOT NULL
)

CREATE INDEX ai_credit_grants_left ON ai_credit_grants (account_id) WHERE remaining > 0

CREATE INDEX ai_credit_grants_account ON ai_credit_grants (account_id, created_at, id)

CREATE TABLE ai_credit_withdrawals (
    id            {uuid}    NOT NULL PRIMARY KEY,
    account_id    {uuid}    NOT NULL REFERENCES ai_credit_accounts (id),
    grant_id      {uuid}    NOT NULL REFERENCES ai_credit_grants (id),
    reason        text      NOT NULL
                  CHECK (reason IN ('EXPIRY', 'CARRY_OVER', 'DISPUTE', 'PURCHASE_REFUND')),
    asked         bigint    NOT NULL CHECK (asked >= 0),
    taken         bigint    NOT NULL DEFAULT 0 CHECK (taken BETWEEN 0 AND asked),
    put_back      bigint    NOT NULL DEFAULT 0 CHECK (put_back BETWEEN 0 AND taken),
    cost_taken    bigint    NOT NULL DEFAULT 0 CHECK (cost_taken >= 0),
    version       bigint    NOT NULL,
    reference_id  {uuid},
    created_at    {instant} NOT NULL,
    closed_at     {instant}
)

CREATE INDEX ai_credit_withdrawals_open ON ai_credit_withdrawals (account_id)
    WHERE closed_at IS NULL

CREATE INDEX ai_credit_withdrawals_grant ON ai_credit_withdrawals (grant_id)

CREATE TABLE monthly_credit_resets (
    id                          {uuid}    NOT NULL PRIMARY KEY,
    account_id                  {uuid}    NOT NULL REFERENCES ai_credit_accounts (id),
    reset_date                  date      NOT NULL,
    plan_type                   text      NOT NULL,
    previous_balance            bigint    NOT NULL,
    free_credits_added          bigint    NOT NULL CHECK (free_credits_added >= 0),
    carried_over_credits        bigint    NOT NULL DEFAULT 0 CHECK (carried_over_credits >= 0),
    total_usage_previous_month  bigint    NOT NULL DEFAULT 0,
    most_used_function          text,
    efficiency_score            bigint    CHECK (efficiency_score BETWEEN 0 AND 10000),
    created_at                  {instant} NOT NULL,
    UNIQUE (account_id, reset_date)
)

CREATE TABLE usage_daily (
    account_id          {uuid}  NOT NULL REFERENCES ai_credit_accounts (id),
    day                 date    NOT NULL,
    function_type       text    NOT NULL,
    runs                bigint  NOT NULL DEFAULT 0,
    failures            bigint  NOT NULL DEFAULT 0,
    time_ms             bigint  NOT NULL DEFAULT 0,
    credits             bigint  NOT NULL DEFAULT 0,
    credits_on_success  bigint  NOT NULL DEFAULT 0,
    free_credits        bigint  NOT NULL DEFAULT 0,
    cost_yen            bigint  NOT NULL DEFAULT 0,
    PRIMARY KEY (account_id, day, function_type)
)

CREATE TABLE usage_hourly (
    account_id          {uuid}    NOT NULL REFERENCES ai_credit_accounts (id),
    user_id             {uuid}    NOT NULL,
    function_type       text      NOT NULL,
    hour                {instant} NOT NULL,
    runs                bigint    NOT NULL DEFAULT 0,
    failures            bigint    NOT NULL DEFAULT 0,
    credits             bigint    NOT NULL DEFAULT 0,
    PRIMARY KEY (account_id, hour, user_id, function_type)
)

CREATE TABLE ai_credit_transactions (
    id                  {uuid}    NOT NULL PRIMARY KEY,
    account_id          {uuid}    NOT NULL REFERENCES ai_credit_accounts (id),
    version             bigint    NOT NULL,
    transaction_type    text      NOT NULL CHECK (transaction_type IN
                        ('USAGE', 'PURCHASE', 'MONTHLY_RESET', 'BONUS', 'REFUND', 'EXPIRY',
                         'PURCHASE_REFUND', 'DISPUTE', 'DISPUTE_WON')),
    credits_amount      bigint    NOT NULL,
    balance_after       bigint    NOT NULL CHECK (balance_after >= 0),
    ai_function_type    text,
    ai_function_params  {json},
    execution_time_ms   bigint,
    total_cost_yen      bigint,
    user_id             {uuid},
    execution_id        {uuid},
    hold_id             {uuid},
    grant_id            {uuid}    REFERENCES ai_credit_grants (id),
    reference_id        {uuid},
    description         text,
    created_at          {instant} NOT NULL,
    UNIQUE (account_id, version)
)

CREATE UNIQUE INDEX ai_credit_transactions_usage ON ai_credit_transactions (hold_id)
    WHERE transaction_type = 'USAGE'

CREATE UNIQUE INDEX ai_credit_transactions_purchase ON ai_credit_transactions (reference_id)
    WHERE transaction_type = 'PURCHASE'

CREATE INDEX ai_credit_transactions_date ON ai_credit_transactions (account_id, created_at, id)

CREATE INDEX ai_credit_transactions_execution ON ai_credit_transactions (execution_id)
";
