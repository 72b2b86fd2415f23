//! The mails of payments, in Japanese and English: written with what they tell of, once.

use chrono::{DateTime, TimeDelta, Utc};
use sea_orm::EntityTrait;
use serde_json::json;

use crate::alerts::{self, AlertKind, NewAlert};
use crate::app::App;
use crate::db::{self, Txn};
use crate::entity::alert::AlertSeverity;
use crate::entity::credit_purchase::{self, PaymentStatus, PurchaseSource};
use crate::entity::{membership, user};
use crate::error::{Lang, Result};
use crate::external::mail::Mail;
use crate::identity;
use crate::ids::{TenantId, UserId};
use crate::mail;
use crate::payments::error::explain;

/// The buyer's own request has ended by then, and told them.
const ANSWERED: TimeDelta = TimeDelta::minutes(1);

/// Tells the buyer that their credits are there; of an automatic purchase, that they were bought.
pub(crate) async fn credits_added(
    app: &App,
    txn: &mut Txn,
    row: &credit_purchase::Model,
) -> Result<()> {
    let (credits, amount, id) = (grouped(row.credits), grouped(row.amount), row.id);
    let words = |lang: Lang| match row.source {
        PurchaseSource::AutoPurchase => (
            lang.pick("クレジットを自動購入しました", "Credits were bought automatically"),
            lang.pick(
                format!(
                    "残高が少なくなったため、登録済みのカードで{credits}クレジットを自動購入し\
                     ました。\n\nお支払い金額: {amount}円（税込）\n購入番号: {id}\n\n\
                     自動購入の設定は管理画面で変更できます。\n"
                ),
                format!(
                    "The balance was low: {credits} credits were bought with the stored card.\n\n\
                     Paid: {amount} yen, tax included\nPurchase: {id}\n\n\
                     An administrator can change the settings of automatic purchase.\n"
                ),
            ),
        ),
        PurchaseSource::Dashboard | PurchaseSource::LowBalancePrompt => (
            lang.pick("クレジットが追加されました", "Your credits are here"),
            lang.pick(
                format!(
                    "ご購入ありがとうございます。{credits}クレジットを追加しました。\n\n\
                     お支払い金額: {amount}円（税込）\n購入番号: {id}\n"
                ),
                format!(
                    "Thank you. {credits} credits were added to your account.\n\n\
                     Paid: {amount} yen, tax included\nPurchase: {id}\n"
                ),
            ),
        ),
    };
    tell(app, txn, row, (format!("credits-added:{id}"), words)).await
}

/// Tells who set automatic purchase up that it failed, and whether it goes on.
pub(crate) async fn auto_purchase_failed(
    app: &App,
    txn: &mut Txn,
    (row, is_suspended): (&credit_purchase::Model, bool),
) -> Result<()> {
    let (credits, amount, id) = (grouped(row.credits), grouped(row.amount), row.id);
    let words = |lang: Lang| {
        let why = row.failure_code.map_or_else(
            || {
                lang.pick(
                    "カード会社が本人認証を求めています。",
                    "The card's issuer wants to hear from you.",
                )
            },
            |code| explain(code, lang),
        );
        let next = match is_suspended {
            true => lang.pick(
                "失敗が続いたため、自動購入を停止しました。既定のカードを変更すると再開します。",
                "It failed repeatedly and is suspended until another card is the default.",
            ),
            false => lang.pick(
                "1時間後以降に、必要に応じてもう一度試します。",
                "It is tried again when credits are needed, in an hour at the earliest.",
            ),
        };
        (
            lang.pick("クレジットを自動購入できませんでした", "Automatic purchase failed"),
            lang.pick(
                format!(
                    "{credits}クレジット（{amount}円）を自動購入できませんでした。\n{why}\n{next}\n\n\
                     購入番号: {id}\n"
                ),
                format!(
                    "{credits} credits ({amount} yen) could not be bought.\n{why}\n{next}\n\n\
                     Purchase: {id}\n"
                ),
            ),
        )
    };
    tell(app, txn, row, (format!("auto-purchase-failed:{id}"), words)).await
}

/// Tells the buyer, and the tenant by an alert, that a purchase failed, when no request of theirs
/// is there any more to be told so: their bank refused, or nobody knew for long. Nothing when it
/// had failed before.
pub(crate) async fn payment_failed(
    app: &App,
    txn: &mut Txn,
    (before, after): (&credit_purchase::Model, &credit_purchase::Model),
    now: DateTime<Utc>,
) -> Result<()> {
    let is_new = before.status != PaymentStatus::Failed && after.status == PaymentStatus::Failed;
    let is_asking = before.status == PaymentStatus::Pending && now - before.created_at < ANSWERED;
    // Automatic purchases tell their own failures.
    let is_ours = after.source != PurchaseSource::AutoPurchase && !is_asking;
    let Some(code) = after.failure_code.filter(|_| is_new && is_ours) else { return Ok(()) };
    let alert = NewAlert {
        tenant: Some(after.tenant_id),
        kind: AlertKind::PaymentFailed,
        severity: AlertSeverity::High,
        dedupe_key: format!("{}:{}", AlertKind::PaymentFailed, after.id),
        data: json!({ "purchase": after.id.to_string(), "amount": after.amount,
                      "failureCode": code }),
    };
    alerts::raise(txn, alert, now).await?;
    let (credits, amount, id) = (grouped(after.credits), grouped(after.amount), after.id);
    let words = |lang: Lang| {
        let why = explain(code, lang);
        (
            lang.pick("お支払いが完了しませんでした", "Your payment did not go through"),
            lang.pick(
                format!(
                    "{credits}クレジット（{amount}円、税込）のお支払いが完了しませんでした。\n\
                     クレジットは追加されていません。\n\n理由: {why}\n購入番号: {id}\n"
                ),
                format!(
                    "Your payment for {credits} credits ({amount} yen, tax included) did not go \
                     through. No credits were added.\n\nReason: {why}\nPurchase: {id}\n"
                ),
            ),
        )
    };
    tell(app, txn, after, (format!("payment-failed:{id}"), words)).await
}

/// Writes to the buyer, once for a key. Whoever has left, or cannot be sent mail, is told nothing:
/// nothing waits for that.
async fn tell(
    app: &App,
    txn: &mut Txn,
    row: &credit_purchase::Model,
    (key, words): (String, impl Fn(Lang) -> (String, String)),
) -> Result<()> {
    match row.source {
        PurchaseSource::AutoPurchase => {
            tell_admin(app, txn, (row.tenant_id, row.user_id), (key, words)).await
        }
        PurchaseSource::Dashboard | PurchaseSource::LowBalancePrompt => {
            write_to(app, txn, row.user_id, (key, words)).await
        }
    }
}

/// Writes to an ADMIN of a tenant, once for a key: this person while they are one, then the one who
/// has been here for longest.
pub(crate) async fn tell_admin(
    app: &App,
    txn: &mut Txn,
    (tenant, user): (TenantId, UserId),
    (key, words): (String, impl Fn(Lang) -> (String, String)),
) -> Result<()> {
    match admin(txn, (tenant, user)).await? {
        Some(reader) => write_to(app, txn, reader, (key, words)).await,
        None => Ok(()),
    }
}

async fn write_to(
    app: &App,
    txn: &mut Txn,
    reader: UserId,
    (key, words): (String, impl Fn(Lang) -> (String, String)),
) -> Result<()> {
    let Some((to, lang)) = reach(app, txn, reader).await? else { return Ok(()) };
    let (subject, text) = words(lang);
    let mail = Mail { to, subject, text, html: None, expires_at: None };
    send(app, txn, mail, key).await
}

/// Where somebody gets mail, and in which language; none when they have left or have no address.
async fn reach(app: &App, txn: &Txn, id: UserId) -> Result<Option<(String, Lang)>> {
    let buyer = user::Entity::find_by_id(id).one(&**txn).await?;
    let Some(buyer) = buyer.filter(|buyer| buyer.deleted_at.is_none()) else { return Ok(None) };
    let Ok(to) = identity::email_of(app, &buyer) else { return Ok(None) };
    Ok(Some((to, Lang::from_accept_language(&buyer.locale))))
}

/// Has a mail sent, once for its key; one that no server would take is left.
pub(crate) async fn send(app: &App, txn: &mut Txn, mail: Mail, key: String) -> Result<()> {
    if mail.check().is_err() {
        return Ok(());
    }
    mail::push(app, txn, &mail, Some(key)).await
}

async fn admin(txn: &Txn, (tenant, user): (TenantId, UserId)) -> Result<Option<UserId>> {
    let sql = "SELECT * FROM memberships WHERE tenant_id = $1 AND role = 'ADMIN'
               ORDER BY CASE WHEN user_id = $2 THEN 0 ELSE 1 END, created_at, id LIMIT 1";
    let values = vec![tenant.into(), user.into()];
    let found: Option<membership::Model> = db::one(&**txn, sql, values).await?;
    Ok(found.map(|membership| membership.user_id))
}

/// A number with a comma between thousands.
pub(crate) fn grouped(number: i64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
