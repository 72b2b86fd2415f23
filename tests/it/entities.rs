//! The entities fit the tables: same columns, same nulls, and rows come back as they were written.

use std::collections::BTreeMap;

use sea_orm::{
    ColumnTrait, ConnectionTrait, DatabaseConnection, DbBackend, EntityTrait, IdenStatic, Iterable,
    QuerySelect, Statement,
};

use musubi::entity::{
    alert, api_key, audit_chain, auto_purchase, auto_purchase_attempt, compliance_assessment,
    credit_account, credit_draw, credit_grant, credit_hold, credit_invoice, credit_package,
    credit_purchase, credit_transaction, credit_withdrawal, cross_site_activity, execution,
    execution_tag, function_price, hand_over, idempotency_key, invitation, job_run, key_use,
    linked_account, membership, membership_removal, monthly_reset, payment_dispute, plan,
    purchase_refund, queue_item, registered_document, session, sign_in_link, site, stripe_cursor,
    stripe_event, system_event, system_event_origin, tenant, tenant_subscription, usage_daily,
    usage_hourly, user, user_profile,
};
use musubi::ids::{AccountId, DrawId};

mod money;
mod people;
mod rows;

use money::{the_cards, the_purchases, the_subscriptions};
use people::{the_sites, the_ways_in};

use rows::{
    Owner, a_tenant, a_user, an_account, an_alert, same, the_executions, the_grants, the_holds,
    the_ledger, the_months, the_price_list, the_queue, the_record,
};

/// Every entity names exactly the columns of its table, with the same nulls.
pub(crate) async fn every_entity_reads_its_table(db: &DatabaseConnection) {
    reads_its_table(db, tenant::Entity).await;
    reads_its_table(db, user::Entity).await;
    reads_its_table(db, membership::Entity).await;
    reads_its_table(db, membership_removal::Entity).await;
    reads_its_table(db, user_profile::Entity).await;
    reads_its_table(db, linked_account::Entity).await;
    reads_its_table(db, session::Entity).await;
    reads_its_table(db, sign_in_link::Entity).await;
    reads_its_table(db, hand_over::Entity).await;
    reads_its_table(db, cross_site_activity::Entity).await;
    reads_its_table(db, site::Entity).await;
    reads_its_table(db, invitation::Entity).await;
    reads_its_table(db, api_key::Entity).await;
    reads_its_table(db, registered_document::Entity).await;
    reads_its_table(db, idempotency_key::Entity).await;
    reads_its_table(db, queue_item::Entity).await;
    reads_its_table(db, job_run::Entity).await;
    reads_its_table(db, alert::Entity).await;
    reads_its_table(db, system_event::Entity).await;
    reads_its_table(db, system_event_origin::Entity).await;
    reads_its_table(db, audit_chain::Entity).await;
    reads_its_table(db, key_use::Entity).await;
    reads_its_table(db, compliance_assessment::Entity).await;
    reads_its_table(db, plan::Entity).await;
    reads_its_table(db, tenant_subscription::Entity).await;
    reads_its_table(db, function_price::Entity).await;
    reads_its_table(db, credit_package::Entity).await;
    reads_its_table(db, credit_account::Entity).await;
    reads_its_table(db, credit_grant::Entity).await;
    reads_its_table(db, credit_withdrawal::Entity).await;
    reads_its_table(db, monthly_reset::Entity).await;
    reads_its_table(db, usage_daily::Entity).await;
    reads_its_table(db, usage_hourly::Entity).await;
    reads_its_table(db, credit_transaction::Entity).await;
    reads_its_table(db, execution::Entity).await;
    reads_its_table(db, execution_tag::Entity).await;
    reads_its_table(db, credit_hold::Entity).await;
    reads_its_table(db, credit_draw::Entity).await;
    reads_its_table(db, credit_purchase::Entity).await;
    reads_its_table(db, auto_purchase::Entity).await;
    reads_its_table(db, auto_purchase_attempt::Entity).await;
    reads_its_table(db, credit_invoice::Entity).await;
    reads_its_table(db, payment_dispute::Entity).await;
    reads_its_table(db, purchase_refund::Entity).await;
    reads_its_table(db, stripe_event::Entity).await;
    reads_its_table(db, stripe_cursor::Entity).await;
}

/// A row of every table, with every value of every enum, comes back as it was written.
pub(crate) async fn rows_come_back_as_they_were_written(db: &DatabaseConnection) {
    let tenant = a_tenant(db).await;
    let user = a_user(db, tenant).await;
    for severity in alert::AlertSeverity::ALL {
        an_alert(db, *severity, Some(tenant)).await;
    }
    an_alert(db, alert::AlertSeverity::Critical, None).await;
    the_ways_in(db, tenant, user).await;
    the_sites(db, tenant, user).await;
    the_queue(db).await;
    the_record(db, tenant, user).await;
    let price = the_price_list(db).await;
    let account = an_account(db, tenant).await;
    let grant = the_grants(db, account).await;
    the_months(db, account, user).await;
    let transaction = the_ledger(db, account, grant, user).await;
    let of = Owner { tenant, account, user, price };
    let execution = the_executions(db, &of).await;
    let hold = the_holds(db, &of).await;
    let strange = a_tenant(db).await;
    let strange = an_account(db, strange).await;
    let another = the_grants(db, strange).await;
    the_purchases(db, &of, (grant, another)).await;
    the_cards(db, &of).await;
    the_subscriptions(db, &of).await;
    same(db, execution_tag::Model { execution_id: execution, tag: "夏".into() }).await;
    same(
        db,
        credit_draw::Model {
            id: DrawId::new(),
            transaction_id: transaction,
            hold_id: hold,
            grant_id: grant,
            credits: 3,
            cost: 15,
            returned: 1,
            returned_cost: 5,
        },
    )
    .await;
}

/// Finders answer the rows of their tenant or account and no one else's.
pub(crate) async fn a_finder_answers_only_its_own_tenant(db: &DatabaseConnection) {
    let (tenant, stranger) = (a_tenant(db).await, a_tenant(db).await);
    let user = a_user(db, tenant).await;
    let account = an_account(db, tenant).await;
    let price = the_price_list(db).await;
    let id = the_executions(db, &Owner { tenant, account, user, price }).await;
    let grant = the_grants(db, account).await;

    let own = execution::Entity::find_for(tenant, id).one(db).await.unwrap();
    assert_eq!(own.map(|row| row.id), Some(id));
    assert_eq!(execution::Entity::find_for(stranger, id).one(db).await.unwrap(), None);
    assert_eq!(execution::Entity::of_tenant(stranger).all(db).await.unwrap(), []);
    let own = credit_account::Entity::find_for(tenant).one(db).await.unwrap();
    assert_eq!(own.map(|row| row.id), Some(account));
    assert_eq!(credit_account::Entity::find_for(stranger).one(db).await.unwrap(), None);
    let own = credit_grant::Entity::of_account_and_id(account, grant).one(db).await.unwrap();
    assert_eq!(own.map(|row| row.id), Some(grant));
    let other = credit_grant::Entity::of_account_and_id(AccountId::new(), grant);
    assert_eq!(other.one(db).await.unwrap(), None);
}

async fn reads_its_table<E: EntityTrait>(db: &DatabaseConnection, entity: E) {
    let table = entity.table_name().to_owned();
    let backend = db.get_database_backend();
    let columns = match backend {
        DbBackend::Postgres => format!(
            "SELECT column_name AS name, is_nullable = 'YES' AS nulls
             FROM information_schema.columns
             WHERE table_schema = current_schema() AND table_name = '{table}'"
        ),
        _ => format!("SELECT name, NOT \"notnull\" AS nulls FROM pragma_table_info('{table}')"),
    };
    let rows = db.query_all_raw(Statement::from_string(backend, columns)).await.unwrap();
    let stored: BTreeMap<String, bool> = rows
        .iter()
        .map(|row| (row.try_get("", "name").unwrap(), row.try_get("", "nulls").unwrap()))
        .collect();
    let named: BTreeMap<String, bool> = E::Column::iter()
        .map(|column| (column.as_str().to_owned(), column.def().is_null()))
        .collect();
    assert_eq!(named, stored, "columns of {table}, with nulls");
    E::find().limit(0).all(db).await.unwrap();
}

#[tokio::test]
async fn entities_and_tables_agree() {
    let app = crate::support::TestApp::start().await;
    let db = app.app.db.writer();
    every_entity_reads_its_table(db).await;
    rows_come_back_as_they_were_written(db).await;
    a_finder_answers_only_its_own_tenant(db).await;
}
