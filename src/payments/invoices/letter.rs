//! The mails about an invoice, in Japanese and English.

use sea_orm::EntityTrait;

use crate::app::App;
use crate::credits::period;
use crate::db::Txn;
use crate::entity::{credit_account, credit_invoice, credit_purchase, user};
use crate::error::{Error, Lang, Result};
use crate::external::mail::Mail;
use crate::mail;
use crate::payments::invoices::due::Stage;
use crate::payments::invoices::{issue, keep};
use crate::payments::notice::grouped;

/// Reminds the payer of an invoice, in the language of who bought.
pub(crate) async fn remind(
    app: &App,
    txn: &mut Txn,
    (row, paper): (&credit_purchase::Model, &credit_invoice::Model),
    stage: Stage,
) -> Result<()> {
    let Some(to) = issue::email_of(app, paper)? else { return Ok(()) };
    let buyer = user::Entity::find_by_id(row.user_id).one(&**txn).await?;
    let lang = buyer.map(|buyer| Lang::from_accept_language(&buyer.locale)).unwrap_or_default();
    let account = credit_account::Entity::find_by_id(row.account_id).one(&**txn).await?;
    let account = account.ok_or(Error::NotFound("credit account"))?;
    let zone = period::zone(&account.time_zone);
    let due = paper.due_at.map(|due| period::local_day(due, zone).to_string()).unwrap_or_default();
    let place = keep::place("hosted_url", row.id);
    let url = paper.hosted_url.as_ref().map(|sealed| app.crypto.open(place, sealed)).transpose()?;
    let (number, url) = (paper.number.as_deref().unwrap_or_default(), url.unwrap_or_default());
    let amount = grouped(row.amount);
    let (subject, first) = match stage {
        Stage::DueSoon => (
            lang.pick("請求書のお支払い期限が近づいています", "Your invoice is due soon"),
            lang.pick(
                "下記の請求書のお支払い期限が近づいています。",
                "The invoice below is due soon.",
            ),
        ),
        Stage::Overdue => (
            lang.pick("請求書のお支払い期限が過ぎています", "Your invoice is overdue"),
            lang.pick(
                "下記の請求書のお支払いを確認できていません。お支払いが確認でき次第、クレジットを追加します。",
                "The invoice below is not paid yet. The credits come as soon as it is.",
            ),
        ),
    };
    let text = lang.pick(
        format!(
            "{first}\n\n請求書番号: {number}\n金額: {amount}円（税込）\nお支払い期限: {due}\n{url}\n"
        ),
        format!(
            "{first}\n\nInvoice: {number}\nAmount: {amount} yen, tax included\nDue: {due}\n{url}\n"
        ),
    );
    let mail = Mail { to, subject, text, html: None, expires_at: None };
    if mail.check().is_err() {
        return Ok(());
    }
    let word = match stage {
        Stage::DueSoon => "due",
        Stage::Overdue => "overdue",
    };
    mail::push(app, txn, &mail, Some(format!("invoice-{word}:{}", row.id))).await
}
