//! Buying a package with a card. Our record comes first, then Stripe is asked.

use chrono::{DateTime, TimeDelta, Utc};
use sea_orm::{ConnectionTrait, EntityTrait, IntoActiveModel};
use serde_json::json;

use crate::actor::{Actor, Permission};
use crate::app::App;
use crate::audit::{self, Action, Subject};
use crate::credits::catalog;
use crate::credits::error::CreditError;
use crate::credits::period;
use crate::credits::service::account;
use crate::credits::service::grant::BALANCE_MAX;
use crate::entity::credit_purchase::{
    FailureCode, PaymentMethodKind, PaymentStatus, PurchaseSource,
};
use crate::entity::{credit_account, credit_package, credit_purchase};
use crate::error::{Error, Result, Violation};
use crate::external::stripe::{self, Method, NewPayment, Payment, StripeFailure};
use crate::idempotency;
use crate::ids::{PackageId, PurchaseId, StoredCardId, TenantId, UserId};
use crate::limits;
use crate::limits::table::Limit;
use crate::limits::who::Who;
use crate::payments::cards;
use crate::payments::error::PaymentError;
use crate::payments::invoices::issue;
use crate::payments::price::Price;
use crate::payments::service::{customer, learn};
use crate::text::email_address;

/// Stripe forgets a key after a day; until then the same key makes the same payment.
pub(crate) const KEY_LIFE: TimeDelta = TimeDelta::hours(20);
const URL_BYTES_MAX: usize = 2_048;

/// A package to buy.
#[derive(Clone, Debug)]
pub struct Wish {
    /// The package.
    pub package: PackageId,
    /// How it is paid.
    pub method: PaymentMethodKind,
    /// Stripe's id of a card; this or the next.
    pub payment_method_id: Option<String>,
    /// Stripe's id of what the buyer confirmed.
    pub confirmation_token_id: Option<String>,
    /// A card of the tenant's.
    pub stored_card: Option<StoredCardId>,
    /// Where the buyer comes back to from their bank.
    pub return_url: Option<String>,
    /// Whom an invoice is sent to.
    pub invoice_email: Option<String>,
    /// Whether the card is kept for later.
    pub saves_card: bool,
    /// Where it was begun.
    pub source: PurchaseSource,
    /// The client's key.
    pub idempotency_key: String,
}

/// Buys a package, at the price of our row. The same key buys once: it answers the purchase as it
/// is, and goes on with one whose answer was lost.
pub async fn buy(app: &App, actor: &Actor, mut wish: Wish) -> Result<credit_purchase::Model> {
    actor.require(Permission::MoneyManage)?;
    let tenant = actor.tenant()?;
    match wish.method {
        PaymentMethodKind::Stripe | PaymentMethodKind::StoredCard => {
            check(&wish, app.config.is_production())?
        }
        PaymentMethodKind::Invoice => check_invoice(&mut wish)?,
    }
    let row = record(app, actor, tenant, wish).await?;
    if row.status == PaymentStatus::Pending { Box::pin(go_on(app, row)).await } else { Ok(row) }
}

/// Writes the purchase down, or finds the one that the key made.
async fn record(
    app: &App,
    actor: &Actor,
    tenant: TenantId,
    mut wish: Wish,
) -> Result<credit_purchase::Model> {
    let now = app.clock.db_now();
    let id = PurchaseId::new();
    let mut body = vec![json!([
        wish.package,
        wish.method,
        wish.stored_card.map(|id| id.to_string()).or(wish.payment_method_id.clone()),
        wish.confirmation_token_id,
        wish.return_url,
        wish.saves_card,
        wish.source,
    ])];
    body.extend(wish.invoice_email.as_ref().map(|email| json!(email)));
    // Without an address the body is what it always was, or known keys would conflict.
    let body = if body.len() == 1 { body.swap_remove(0) } else { json!(body) };
    let key = idempotency::Key::new(
        &app.crypto,
        (tenant, actor.principal()),
        "creditPurchase",
        (&wish.idempotency_key, &body),
        id.0,
    )?;
    let account = account::of_tenant(app, tenant).await?;
    let taken = limits::service::take(app, &Who::actor(actor), Limit::Purchases, 1).await;
    if let Err(refused) = taken {
        // A key that is known is answered whatever was taken since.
        let made = idempotency::look(app.db.primary(), &key).await?.ok_or(refused)?;
        let known = credit_purchase::Entity::find_for(tenant, PurchaseId(made));
        return known.one(app.db.primary()).await?.ok_or(Error::NotFound("purchase"));
    }
    let txn = app.db.begin().await?;
    if let Some(made) = idempotency::claim_one(&txn, &key, now).await? {
        let known = credit_purchase::Entity::find_for(tenant, PurchaseId(made));
        return known.one(&*txn).await?.ok_or(Error::NotFound("purchase"));
    }
    if let Some(card) = wish.stored_card {
        let card = cards::usable(&*txn, tenant, card).await?;
        wish.payment_method_id = Some(card.stripe_payment_method_id);
    }
    let package = package_on_sale(&*txn, &account, wish.package, now).await?;
    if wish.saves_card && wish.stored_card.is_none() && cards::is_full(&*txn, tenant).await? {
        return Err(PaymentError::TooManyCards.into());
    }
    if account.deleted_at.is_some() {
        return Err(CreditError::AccountClosed.into());
    }
    if account.current_balance + package.credits_amount > BALANCE_MAX {
        return Err(CreditError::BalanceTooLarge.into());
    }
    let email = wish.invoice_email.clone();
    let row = new_row((id, actor.user_id), &account, &package, wish, now);
    credit_purchase::Entity::insert(row.clone().into_active_model())
        .exec_without_returning(&*txn)
        .await?;
    if let Some(email) = email {
        issue::record(app, &txn, &row, &email).await?;
    }
    let data = json!({ "package": row.package_id.to_string(), "amount": row.amount,
                       "credits": row.credits, "source": row.source });
    let subject = Subject::of("credit_purchase", id.0).in_tenant(tenant).with(data);
    audit::record(app, &txn, actor, Action::CreditPurchaseStarted, subject).await?;
    txn.commit().await?;
    Ok(row)
}

/// The package, if the account's tenant can buy it today.
pub(crate) async fn package_on_sale(
    conn: &impl ConnectionTrait,
    account: &credit_account::Model,
    id: PackageId,
    now: DateTime<Utc>,
) -> Result<credit_package::Model> {
    let today = period::local_day(now, period::zone(&account.time_zone));
    let offered = catalog::on_sale(conn, account.plan_type, today).await?;
    if let Some(package) = offered.into_iter().find(|package| package.id == id) {
        return Ok(package);
    }
    match credit_package::Entity::find_by_id(id).one(conn).await? {
        Some(_) => Err(PaymentError::PackageUnavailable.into()),
        None => Err(Error::NotFound("package")),
    }
}

/// The row of a purchase to begin, by this buyer.
pub(crate) fn new_row(
    (id, buyer): (PurchaseId, UserId),
    account: &credit_account::Model,
    package: &credit_package::Model,
    wish: Wish,
    now: DateTime<Utc>,
) -> credit_purchase::Model {
    let price = Price::of(package);
    credit_purchase::Model {
        id,
        tenant_id: account.tenant_id,
        account_id: account.id,
        user_id: buyer,
        package_id: package.id,
        package_version: package.version,
        credits: package.credits_amount,
        currency: crate::money::Currency::Jpy.code().to_owned(),
        amount: price.total,
        tax: price.tax,
        tax_rate: price.tax_rate,
        discount: price.discount,
        discount_rate: price.discount_rate,
        method: wish.method,
        source: wish.source,
        status: PaymentStatus::Pending,
        payment_method_id: wish.payment_method_id,
        confirmation_token_id: wish.confirmation_token_id,
        return_url: wish.return_url,
        // One that is stored already needs nothing.
        save_card: wish.saves_card && wish.method == PaymentMethodKind::Stripe,
        customer_id: None,
        customer_number: 1,
        payment_intent_id: None,
        client_secret: None,
        failure_code: None,
        grant_id: None,
        refunded: 0,
        version: 1,
        created_at: now,
        updated_at: now,
        checked_at: now,
        completed_at: None,
    }
}

/// Goes on with a purchase that was written down, wherever it was left.
pub(crate) async fn go_on(
    app: &App,
    row: credit_purchase::Model,
) -> Result<credit_purchase::Model> {
    if row.method == PaymentMethodKind::Invoice {
        return issue::go_on(app, row).await;
    }
    if let Some(id) = row.payment_intent_id.clone() {
        return learn::ask(app, row, &id).await;
    }
    // Older ones are the reconciler's: their key may make a second payment.
    if app.clock.db_now() - row.created_at > KEY_LIFE {
        return Ok(row);
    }
    match pay(app, &row).await {
        Ok(payment) => learn::learned(app, row, &payment).await,
        Err(StripeFailure::Declined(_, Some(payment))) => learn::learned(app, row, &payment).await,
        Err(StripeFailure::Declined(decline, None)) => {
            learn::fail(app, row, FailureCode::of(&decline)).await
        }
        Err(
            failure @ (StripeFailure::Refused(_)
            | StripeFailure::NotFound
            | StripeFailure::NoCustomer),
        ) => {
            let id = row.id;
            tracing::error!(purchase.id = %id, %failure, "Stripe refused {id}: {failure}");
            learn::fail(app, row, FailureCode::PaymentRefused).await
        }
        Err(StripeFailure::Unavailable(why)) => {
            tracing::warn!(purchase.id = %row.id, why, "{} stays pending: {why}", row.id);
            Ok(row)
        }
    }
}

/// Asks Stripe for the payment; once more when it does not have the customer any more.
async fn pay(
    app: &App,
    row: &credit_purchase::Model,
) -> std::result::Result<Payment, StripeFailure> {
    let unknown = |error: Error| StripeFailure::Unavailable(error.to_string());
    let row = customer::of_purchase(app, row.clone()).await.map_err(unknown)?;
    match ask_for(app, &row).await {
        Err(StripeFailure::NoCustomer) => {
            let row = customer::replaced(app, &row).await.map_err(unknown)?;
            ask_for(app, &row.ok_or(StripeFailure::NoCustomer)?).await
        }
        answer => answer,
    }
}

async fn ask_for(
    app: &App,
    row: &credit_purchase::Model,
) -> std::result::Result<Payment, StripeFailure> {
    let no_customer = || StripeFailure::Unavailable("no customer".to_owned());
    let customer = row.customer_id.clone().ok_or_else(no_customer)?;
    let method = method_of(&row.payment_method_id, &row.confirmation_token_id);
    let new = NewPayment {
        // A key stands for one body, and the customer is in it.
        key: match row.customer_number {
            1 => row.id.to_string(),
            number => format!("{}:{number}", row.id),
        },
        amount: row.amount,
        currency: row.currency.clone(),
        customer,
        method: method.ok_or_else(|| StripeFailure::Refused("no method".to_owned()))?,
        return_url: row.return_url.clone(),
        saves_card: row.save_card,
        off_session: row.method == PaymentMethodKind::StoredCard,
        purchase: row.id.to_string(),
        account: row.account_id.to_string(),
    };
    app.payments.pay(&new).await
}

/// What the buyer's page got from Stripe.
pub(crate) fn method_of(card: &Option<String>, token: &Option<String>) -> Option<Method> {
    let token = || token.clone().map(Method::Token);
    card.clone().map(Method::Card).or_else(token)
}

/// Judges what the client sent; ids of Stripe's are words with a known beginning.
fn check(wish: &Wish, is_production: bool) -> Result<()> {
    let mut violations = Vec::new();
    let mut refuse = |field: &str, ja: &str, en: &str| {
        violations.push(Violation::new(field, ja, en));
    };
    if wish.source == PurchaseSource::AutoPurchase {
        refuse(
            "input.source",
            "AUTO_PURCHASEは指定できません。",
            "AUTO_PURCHASE is for what nobody asks for",
        );
    }
    let of_page = [&wish.payment_method_id, &wish.confirmation_token_id];
    let of_page = of_page.into_iter().flatten().count();
    let is_stored = wish.method == PaymentMethodKind::StoredCard;
    if wish.stored_card.is_some() != is_stored {
        refuse(
            "input.storedCardId",
            "paymentMethodがSTORED_CARDの場合に限り指定してください。",
            "goes with the payment method STORED_CARD, and with no other",
        );
    }
    if of_page < 2 && of_page != usize::from(!is_stored) {
        refuse(
            "input.stripePaymentMethodId",
            "stripePaymentMethodIdとstripeConfirmationTokenIdのどちらか一方を指定してください。\
             STORED_CARDの場合は指定できません。",
            "give either this or stripeConfirmationTokenId, and none with STORED_CARD",
        );
    }
    if wish.invoice_email.is_some() {
        refuse(
            "input.invoiceEmail",
            "請求書払いの場合のみ指定してください。",
            "is for invoices only",
        );
    }
    let page = (&wish.payment_method_id, &wish.confirmation_token_id, &wish.return_url);
    violations.extend(violations_of_page(page, is_production));
    if violations.is_empty() { Ok(()) } else { Err(Error::Invalid(violations)) }
}

/// Judges what a page got from Stripe, and where its buyer comes back to.
pub(crate) fn violations_of_page(
    (card, token, return_url): (&Option<String>, &Option<String>, &Option<String>),
    is_production: bool,
) -> Vec<Violation> {
    let mut violations = Vec::new();
    let mut refuse = |field: &str, ja: &str, en: &str| {
        violations.push(Violation::new(field, ja, en));
    };
    if card.is_some() && token.is_some() {
        refuse(
            "input.stripePaymentMethodId",
            "stripePaymentMethodIdとstripeConfirmationTokenIdは同時に指定できません。",
            "give either this or stripeConfirmationTokenId",
        );
    }
    let ids = [
        ("input.stripePaymentMethodId", card, "pm_"),
        ("input.stripeConfirmationTokenId", token, "ctoken_"),
    ];
    for (field, id, beginning) in ids {
        if !id.as_ref().is_none_or(|id| stripe::is_id(id, beginning)) {
            refuse(field, "StripeのIDを指定してください。", "is not such an id of Stripe's");
        }
    }
    let is_page = |url: &String| is_page(url, is_production);
    if !return_url.as_ref().is_none_or(is_page) {
        refuse(
            "input.returnUrl",
            "https://で始まるページのURLを指定してください。",
            "must be the https address of a page, without credentials",
        );
    }
    violations
}

/// Judges what the client sent for an invoice, and writes the address as it is compared.
fn check_invoice(wish: &mut Wish) -> Result<()> {
    let mut violations = Vec::new();
    let others = [
        ("input.stripePaymentMethodId", wish.payment_method_id.is_some()),
        ("input.stripeConfirmationTokenId", wish.confirmation_token_id.is_some()),
        ("input.returnUrl", wish.return_url.is_some()),
        ("input.saveCard", wish.saves_card),
    ];
    for (field, is_given) in others {
        if is_given {
            let (ja, en) = ("請求書払いでは指定できません。", "does not go with an invoice");
            violations.push(Violation::new(field, ja, en));
        }
    }
    wish.invoice_email = wish.invoice_email.as_deref().and_then(email_address);
    if wish.invoice_email.is_none() {
        violations.push(Violation::new(
            "input.invoiceEmail",
            "請求書を送るメールアドレスを指定してください。",
            "must be the e-mail address that the invoice is sent to",
        ));
    }
    if violations.is_empty() { Ok(()) } else { Err(Error::Invalid(violations)) }
}

fn is_page(url: &str, is_production: bool) -> bool {
    let is_plain = url.len() <= URL_BYTES_MAX && url.bytes().all(|byte| byte.is_ascii_graphic());
    let uri = url.parse::<http::Uri>().ok().filter(|_| is_plain && !url.contains('\\'));
    uri.is_some_and(|uri| {
        let is_secure = uri.scheme_str() == Some("https");
        let is_local = !is_production && uri.scheme_str() == Some("http");
        let authority = uri.authority().map(http::uri::Authority::as_str);
        (is_secure || is_local) && authority.is_some_and(|it| !it.is_empty() && !it.contains('@'))
    })
}
