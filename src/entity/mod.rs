//! One file per table: columns, keys, enums and the finders that scope rows to a tenant or an
//! account. No verbs, no permissions.

/// Customers of ours.
pub mod tenant;
/// People who can sign in.
pub mod user;
/// People's places in tenants.
pub mod membership;
/// People whom others took out of a tenant.
pub mod membership_removal;
/// What people tell of themselves.
pub mod user_profile;
/// People's accounts at providers.
pub mod linked_account;
/// People who are signed in.
pub mod session;
/// Links in mails that sign in.
pub mod sign_in_link;
/// Ways from one site to another.
pub mod hand_over;
/// People who went from one site to another.
pub mod cross_site_activity;
/// Tenants' web sites.
pub mod site;
/// Addresses that may become members.
pub mod invitation;
/// Keys of tenants' servers.
pub mod api_key;
/// Documents that everybody may run.
pub mod registered_document;
/// Remembered keys of writes.
pub mod idempotency_key;
/// Durable work with retries.
pub mod queue_item;
/// Runs of jobs by the clock.
pub mod job_run;
/// What people should know.
pub mod alert;
/// The audit record.
pub mod system_event;
/// Where the requests behind the audit record came from.
pub mod system_event_origin;
/// The heads of the audit record's chains.
pub mod audit_chain;
/// The audit record and the ledger as one list.
pub mod audit_entry;
/// Keys, and since when they are used.
pub mod key_use;
/// Assessments of compliance.
pub mod compliance_assessment;
/// Plans' versions.
pub mod plan;
/// Prices of AI functions.
pub mod function_price;
/// Tenants' own limits of functions.
pub mod function_limit;
/// Credits for sale.
pub mod credit_package;
/// Tenants' prepaid credits.
pub mod credit_account;
/// Where credits came from.
pub mod credit_grant;
/// Credits being taken away.
pub mod credit_withdrawal;
/// Months and their free credits.
pub mod monthly_reset;
/// Use by account, day and function.
pub mod usage_daily;
/// Use by account, user, function and hour.
pub mod usage_hourly;
/// What is usual of whom.
pub mod usage_baseline;
/// People whose calls are refused for a while.
pub mod user_block;
/// The ledger.
pub mod credit_transaction;
/// Calls of AI functions.
pub mod execution;
/// Labels of executions.
pub mod execution_tag;
/// Credits set aside for running calls.
pub mod credit_hold;
/// Which grants settlements drew from.
pub mod credit_draw;
/// Credits that are being bought, or were.
pub mod credit_purchase;
/// Cards that Stripe keeps for tenants.
pub mod stored_card;
/// What was decided about automatic purchase, and how it goes.
pub mod auto_purchase;
/// Purchases that we tried to make by ourselves.
pub mod auto_purchase_attempt;
/// Receipts of purchases.
pub mod credit_receipt;
/// Invoices that ask for the price of purchases.
pub mod credit_invoice;
/// Money of purchases that goes back.
pub mod purchase_refund;
/// Payments that somebody disputes.
pub mod payment_dispute;
/// Plans that tenants pay for by the month.
pub mod tenant_subscription;
/// What Stripe told us.
pub mod stripe_event;
/// How far what Stripe tells was read.
pub mod stripe_cursor;
