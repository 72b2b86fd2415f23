//! The mail about a month's free credits: to where the tenant's bills go, or else to its ADMINs, in
//! the tenant's language, once for each reset. A job finds resets that nobody was told of, so that
//! a reset itself takes no longer for it.

use std::collections::HashMap;

use chrono::{DateTime, Datelike, TimeDelta, Utc};
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter};

use crate::actor::Role;
use crate::app::App;
use crate::db::{self, Txn};
use crate::entity::{credit_account, membership, monthly_reset, tenant, user};
use crate::error::{Lang, Result};
use crate::external::mail::Mail;
use crate::identity;
use crate::identity::service::tenant as tenants;
use crate::ids::{AccountId, TenantId, UserId};
use crate::payments::notice::{self, grouped};

/// Resets of one transaction.
const BATCH: i64 = 50;
/// ADMINs of a tenant that are told.
const ADMINS_MAX: usize = 10;
/// What is older is no news.
const NEWS: TimeDelta = TimeDelta::days(7);

const CLAIM: &str = "
UPDATE monthly_credit_resets SET noticed_at = $1
WHERE id IN (SELECT id FROM monthly_credit_resets WHERE noticed_at IS NULL
             ORDER BY created_at LIMIT $2)
  AND noticed_at IS NULL
RETURNING *";

/// Tells of all resets that nobody was told of. Says how many.
pub async fn tell_all(app: App) -> Result<String> {
    let mut told = 0;
    loop {
        let now = app.clock.db_now();
        let mut txn = app.db.begin().await?;
        let resets: Vec<monthly_reset::Model> =
            db::all(&*txn, CLAIM, vec![now.into(), BATCH.into()]).await?;
        let is_last = resets.len() < usize::try_from(BATCH).unwrap_or(usize::MAX);
        told += tell(&app, &mut txn, resets, now).await?;
        txn.commit().await?;
        if is_last {
            return Ok(format!("{told} tenants were told of their credits"));
        }
    }
}

async fn tell(
    app: &App,
    txn: &mut Txn,
    mut resets: Vec<monthly_reset::Model>,
    now: DateTime<Utc>,
) -> Result<usize> {
    resets.retain(|reset| now - reset.created_at <= NEWS);
    let tenants = Addressed::load(txn, &resets).await?;
    let mut told = 0;
    for reset in &resets {
        let Some(tenant) = tenants.of(reset.account_id) else { continue };
        let addresses = tenants.addresses(app, tenant);
        for (whose, to) in &addresses {
            let key = format!("monthly-reset:{}:{whose}", reset.id);
            notice::send(app, txn, mail(tenant, reset, to), key).await?;
        }
        told += usize::from(!addresses.is_empty());
    }
    Ok(told)
}

/// The open tenants of resets, and their ADMINs.
struct Addressed {
    accounts: HashMap<AccountId, TenantId>,
    tenants: HashMap<TenantId, tenant::Model>,
    admins: Vec<(TenantId, user::Model)>,
}

impl Addressed {
    async fn load(txn: &Txn, resets: &[monthly_reset::Model]) -> Result<Self> {
        let accounts: HashMap<AccountId, TenantId> = credit_account::Entity::find()
            .filter(credit_account::Column::Id.is_in(resets.iter().map(|it| it.account_id)))
            .filter(credit_account::Column::DeletedAt.is_null())
            .all(&**txn)
            .await?
            .into_iter()
            .map(|account| (account.id, account.tenant_id))
            .collect();
        let tenants: HashMap<TenantId, tenant::Model> = tenant::Entity::find()
            .filter(tenant::Column::Id.is_in(accounts.values().copied()))
            .filter(tenant::Column::DeletedAt.is_null())
            .all(&**txn)
            .await?
            .into_iter()
            .map(|tenant| (tenant.id, tenant))
            .collect();
        let without = tenants.values().filter(|tenant| tenant.billing_email.is_none());
        let places = membership::Entity::find()
            .filter(membership::Column::TenantId.is_in(without.map(|tenant| tenant.id)))
            .filter(membership::Column::Role.eq(Role::Admin))
            .all(&**txn)
            .await?;
        let people: HashMap<UserId, user::Model> = user::Entity::find()
            .filter(user::Column::Id.is_in(places.iter().map(|place| place.user_id)))
            .filter(user::Column::DeletedAt.is_null())
            .all(&**txn)
            .await?
            .into_iter()
            .map(|person| (person.id, person))
            .collect();
        let admin =
            |place: membership::Model| Some((place.tenant_id, people.get(&place.user_id)?.clone()));
        Ok(Self { accounts, tenants, admins: places.into_iter().filter_map(admin).collect() })
    }

    fn of(&self, account: AccountId) -> Option<&tenant::Model> {
        self.tenants.get(self.accounts.get(&account)?)
    }

    /// Whose address it is, and the address. One that does not open is none: it must hold up no
    /// other mail.
    fn addresses(&self, app: &App, tenant: &tenant::Model) -> Vec<(String, String)> {
        if tenant.billing_email.is_some() {
            let address = tenants::billing_address(app, tenant).ok().flatten();
            return address.map(|to| ("billing".to_owned(), to)).into_iter().collect();
        }
        let admins = self.admins.iter().filter(|(place, _)| *place == tenant.id);
        let addresses = admins.filter_map(|(_, person)| {
            Some((person.id.to_string(), identity::email_of(app, person).ok()?))
        });
        addresses.take(ADMINS_MAX).collect()
    }
}

fn mail(tenant: &tenant::Model, reset: &monthly_reset::Model, to: &str) -> Mail {
    let lang = Lang::from_accept_language(&tenant.locale);
    let [added, kept, used] =
        [reset.free_credits_added, reset.carried_over_credits, reset.total_usage_previous_month]
            .map(grouped);
    let (year, month) = (reset.reset_date.year(), reset.reset_date.month());
    let name = &tenant.name;
    Mail {
        to: to.to_owned(),
        subject: lang.pick(
            format!("{month}月分の無料クレジットを追加しました"),
            "This month's free credits are here",
        ),
        text: lang.pick(
            format!(
                "{name} 様\n\n{year}年{month}月分の無料クレジット{added}を追加しました。\n\n\
                 繰り越した無料クレジット: {kept}\n前月のご利用: {used}クレジット\n"
            ),
            format!(
                "To {name}\n\n{added} free credits for {year}-{month:02} were added to your \
                 account.\n\nFree credits carried over: {kept}\nUsed last month: {used} credits\n"
            ),
        ),
        html: None,
        expires_at: None,
    }
}
