//! The mails of payments, in Japanese and English: written with what they tell of, once.

use sea_orm::EntityTrait;

use crate::app::App;
use crate::db::Txn;
use crate::entity::credit_purchase::PurchaseSource;
use crate::entity::{credit_purchase, user};
use crate::error::{Lang, Result};
use crate::external::mail::Mail;
use crate::identity;
use crate::mail;
use crate::payments::error::explain;

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
    send(app, txn, row, (format!("credits-added:{id}"), words)).await
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
    send(app, txn, row, (format!("auto-purchase-failed:{id}"), words)).await
}

/// Writes to the buyer, once for a key. Whoever has left, or cannot be sent mail, is told nothing:
/// nothing waits for that.
async fn send(
    app: &App,
    txn: &mut Txn,
    row: &credit_purchase::Model,
    (key, words): (String, impl Fn(Lang) -> (String, String)),
) -> Result<()> {
    let buyer = user::Entity::find_by_id(row.user_id).one(&**txn).await?;
    let Some(buyer) = buyer.filter(|buyer| buyer.deleted_at.is_none()) else { return Ok(()) };
    let Ok(to) = identity::email_of(app, &buyer) else { return Ok(()) };
    let (subject, text) = words(Lang::from_accept_language(&buyer.locale));
    let mail = Mail { to, subject, text, html: None, expires_at: None };
    if mail.check().is_err() {
        return Ok(());
    }
    mail::push(app, txn, &mail, Some(key)).await
}

/// A number with a comma between thousands.
fn grouped(number: i64) -> String {
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
