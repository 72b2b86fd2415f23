//! Subscribing to a plan. Our record comes first, then Stripe is asked; the page pays.

use chrono::{DateTime, TimeDelta, Utc};
use sea_orm::sea_query::OnConflict;
use sea_orm::{EntityTrait, IntoActiveModel};
use serde_json::json;

use crate::actor::{Actor, Permission};
use crate::app::App;
use crate::audit::{self, Action, Subject};
use crate::credits::catalog;
use crate::credits::error::CreditError;
use crate::credits::service::account;
use crate::entity::credit_account;
use crate::entity::plan::{self, PlanType};
use crate::entity::tenant_subscription::{self, SubscriptionStatus};
use crate::error::{Error, Result};
use crate::external::stripe::{self, NewSubscription, StripeFailure, Subscription};
use crate::idempotency;
use crate::ids::{SubscriptionId, TenantId};
use crate::limits;
use crate::limits::table::Limit;
use crate::limits::who::Who;
use crate::payments::service::customer;
use crate::plans::error::PlanError;
use crate::plans::rate;
use crate::plans::service::learn;

/// After that nobody asks Stripe for it again: what it never got is given up a little later.
const BEGINNING: TimeDelta = TimeDelta::minutes(10);

/// A plan to subscribe to.
#[derive(Clone, Debug)]
pub struct Wish {
    /// The plan.
    pub plan: PlanType,
    /// Stripe's id of a card that is the tenant's already.
    pub payment_method_id: Option<String>,
    /// The client's key.
    pub idempotency_key: String,
}

/// Subscribes the actor's tenant. The same key subscribes once: it answers the subscription as it
/// is, and goes on with one whose answer was lost.
pub async fn subscribe(app: &App, actor: &Actor, wish: Wish) -> Result<tenant_subscription::Model> {
    actor.require(Permission::MoneyManage)?;
    let tenant = actor.tenant()?;
    if !wish.payment_method_id.as_deref().is_none_or(|id| stripe::is_id(id, "pm_")) {
        return Err(Error::invalid(
            "input.stripePaymentMethodId",
            "StripeのIDを指定してください。",
            "is not such an id of Stripe's",
        ));
    }
    let row = record(app, actor, tenant, wish).await?;
    if row.status == SubscriptionStatus::Pending {
        Box::pin(go_on(app, row)).await
    } else {
        Ok(row)
    }
}

/// Writes the subscription down, or finds the one that the key made.
async fn record(
    app: &App,
    actor: &Actor,
    tenant: TenantId,
    wish: Wish,
) -> Result<tenant_subscription::Model> {
    let now = app.clock.db_now();
    let id = SubscriptionId::new();
    let key = idempotency::Key::new(
        &app.crypto,
        (tenant, actor.principal()),
        "planSubscribe",
        (&wish.idempotency_key, &json!([wish.plan, wish.payment_method_id])),
        id.0,
    )?;
    let account = account::of_tenant(app, tenant).await?;
    let taken = limits::service::take(app, &Who::actor(actor), Limit::Purchases, 1).await;
    if let Err(refused) = taken {
        // A key that is known is answered whatever was taken since.
        let made = idempotency::look(app.db.primary(), &key).await?.ok_or(refused)?;
        let known = tenant_subscription::Entity::find_for(tenant, SubscriptionId(made));
        return known.one(app.db.primary()).await?.ok_or(Error::NotFound("subscription"));
    }
    let txn = app.db.begin().await?;
    if let Some(made) = idempotency::claim_one(&txn, &key, now).await? {
        let known = tenant_subscription::Entity::find_for(tenant, SubscriptionId(made));
        return known.one(&*txn).await?.ok_or(Error::NotFound("subscription"));
    }
    if account.deleted_at.is_some() {
        return Err(CreditError::AccountClosed.into());
    }
    let plan = catalog::plan_in_force(&*txn, wish.plan).await?;
    let row = new_row((id, actor), &account, &plan, wish, now);
    let inserted = tenant_subscription::Entity::insert(row.clone().into_active_model())
        .on_conflict(OnConflict::new().do_nothing().to_owned())
        .exec_without_returning(&*txn)
        .await?;
    if inserted == 0 {
        return Err(PlanError::Subscribed.into());
    }
    let data = json!({ "plan": row.plan_type, "price": row.price_yen });
    let subject = Subject::of("tenant_subscription", id.0).in_tenant(tenant).with(data);
    audit::record(app, &txn, actor, Action::PlanSubscriptionStarted, subject).await?;
    txn.commit().await?;
    Ok(row)
}

fn new_row(
    (id, actor): (SubscriptionId, &Actor),
    account: &credit_account::Model,
    plan: &plan::Model,
    wish: Wish,
    now: DateTime<Utc>,
) -> tenant_subscription::Model {
    tenant_subscription::Model {
        id,
        tenant_id: account.tenant_id,
        account_id: account.id,
        user_id: actor.user_id,
        status: SubscriptionStatus::Pending,
        plan_type: plan.plan_type,
        pending_plan_type: None,
        price_yen: plan.price_yen,
        stripe_price_id: plan.stripe_price_id.clone(),
        payment_method_id: wish.payment_method_id,
        stripe_id: None,
        item_id: None,
        client_secret: None,
        period_start: None,
        period_end: None,
        cancel_at_period_end: false,
        grace_until: None,
        change_id: None,
        change_plan_type: None,
        change_at: None,
        reads: 0,
        version: 1,
        created_at: now,
        updated_at: now,
        check_at: now + TimeDelta::minutes(5),
        activated_at: None,
        ended_at: None,
    }
}

/// Goes on with a subscription that was written down, wherever it was left.
async fn go_on(app: &App, row: tenant_subscription::Model) -> Result<tenant_subscription::Model> {
    // Older ones are the reconciler's.
    if app.clock.db_now() - row.created_at > BEGINNING {
        return Ok(row);
    }
    let outcome = match begin(app, &row).await {
        Ok(made) => learn::look(app, row.id, &made.id).await,
        Err(
            failure @ (StripeFailure::Refused(_)
            | StripeFailure::NotFound
            | StripeFailure::NoCustomer),
        ) => {
            tracing::error!(subscription.id = %row.id, %failure, "{} was refused", row.id);
            learn::end(app, &row, SubscriptionStatus::Failed).await
        }
        Err(StripeFailure::Declined(..)) => learn::end(app, &row, SubscriptionStatus::Failed).await,
        Err(StripeFailure::Unavailable(why)) => {
            tracing::warn!(subscription.id = %row.id, why, "{} stays pending: {why}", row.id);
            return Ok(row);
        }
    };
    match outcome {
        Err(Error::Unavailable(_)) => Ok(row),
        outcome => outcome,
    }
}

async fn begin(
    app: &App,
    row: &tenant_subscription::Model,
) -> std::result::Result<Subscription, StripeFailure> {
    let customer = customer::of_tenant(app, row.tenant_id).await;
    let customer = customer.map_err(|error| StripeFailure::Unavailable(error.to_string()))?;
    let rate = rate::told(row.plan_type, row.price_yen, row.stripe_price_id.clone());
    rate::keep(app, row.plan_type, &rate).await?;
    let new = NewSubscription {
        key: row.id.to_string(),
        customer,
        rate,
        method: row.payment_method_id.clone(),
        tenant: row.tenant_id.to_string(),
        subscription: row.id.to_string(),
    };
    let made = app.payments.subscribe(&new).await;
    if let Err(StripeFailure::NoCustomer) = made {
        // Nothing was made; the next wish finds another customer.
        let forgotten = customer::forget(app, &new.customer).await;
        forgotten.map_err(|error| StripeFailure::Unavailable(error.to_string()))?;
    }
    made
}
