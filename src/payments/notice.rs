//! The mails of payments, in Japanese and English: written with what they tell of, once.

use sea_orm::EntityTrait;

use crate::app::App;
use crate::db::Txn;
use crate::entity::{credit_purchase, user};
use crate::error::{Lang, Result};
use crate::external::mail::Mail;
use crate::identity;
use crate::mail;

/// Tells the buyer that their credits are there. Whoever has left, or cannot be sent mail, is told
/// nothing: no credits wait for that.
pub(crate) async fn credits_added(
    app: &App,
    txn: &mut Txn,
    row: &credit_purchase::Model,
) -> Result<()> {
    let buyer = user::Entity::find_by_id(row.user_id).one(&**txn).await?;
    let Some(buyer) = buyer.filter(|buyer| buyer.deleted_at.is_none()) else { return Ok(()) };
    let Ok(to) = identity::email_of(app, &buyer) else { return Ok(()) };
    let lang = Lang::from_accept_language(&buyer.locale);
    let (credits, amount) = (grouped(row.credits), grouped(row.amount));
    let mail = Mail {
        to,
        subject: lang.pick("クレジットが追加されました", "Your credits are here"),
        text: lang.pick(
            format!(
                "ご購入ありがとうございます。{credits}クレジットを追加しました。\n\n\
                 お支払い金額: {amount}円（税込）\n購入番号: {id}\n",
                id = row.id
            ),
            format!(
                "Thank you. {credits} credits were added to your account.\n\n\
                 Paid: {amount} yen, tax included\nPurchase: {id}\n",
                id = row.id
            ),
        ),
        html: None,
        expires_at: None,
    };
    if mail.check().is_err() {
        return Ok(());
    }
    mail::push(app, txn, &mail, Some(format!("credits-added:{}", row.id))).await
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
