//! What a hotel has of each kind, and ids of what never was.

use chrono::TimeDelta;
use musubi::actor::{Permission, Role};
use musubi::app::App;
use musubi::db;
use musubi::entity::session::SignInWay;
use musubi::entity::site::Character;
use musubi::entity::{stored_card, user_block};
use musubi::identity::service::invitation::{self, Invite};
use musubi::identity::service::key::{self, NewKey};
use musubi::identity::service::profile;
use musubi::identity::service::site::{self, SiteContent};
use musubi::identity::sign_in::session::{self, NewSession, Tokens, Visitor};
use musubi::ids::{
    AccountId, ApiKeyId, BlockId, ExecutionId, GrantId, InvitationId, MembershipId, PackageId,
    PlanId, PriceId, ProfileId, PurchaseId, ResetId, SessionId, SiteId, StoredCardId, TenantId,
    TransactionId, UserId, new_uuid,
};
use sea_orm::{EntityTrait, FromQueryResult, IntoActiveModel};
use serde_json::json;
use uuid::Uuid;

use super::Kind::{
    self, Account, Block, Card, Execution, Grant, Invitation, Key, Member, Package, Plan, Price,
    Profile, Purchase, Reset, Session, Site, Tenant, Transaction, User,
};
use crate::support::TestApp;
use crate::support::people::Hotel;

#[derive(FromQueryResult)]
struct Row {
    id: Uuid,
}

/// A row of the hotel's account.
async fn row_of(app: &TestApp, hotel: &Hotel, table: &str) -> Uuid {
    let sql = format!("SELECT id FROM {table} WHERE account_id = $1 ORDER BY id LIMIT 1");
    let account = hotel.account().await.id;
    let row: Option<Row> = db::one(app.app.db.primary(), sql, vec![account.into()]).await.unwrap();
    row.unwrap().id
}

/// The id of a hotel's object.
pub(in crate::schema) async fn id_of(app: &TestApp, hotel: &Hotel, kind: Kind) -> String {
    match kind {
        Account => hotel.account().await.id.to_string(),
        Grant => GrantId(row_of(app, hotel, "ai_credit_grants").await).to_string(),
        Transaction => {
            TransactionId(row_of(app, hotel, "ai_credit_transactions").await).to_string()
        }
        Reset => ResetId(row_of(app, hotel, "monthly_credit_resets").await).to_string(),
        Execution => ExecutionId(row_of(app, hotel, "ai_executions").await).to_string(),
        User => hotel.user.id.to_string(),
        Tenant => hotel.id.to_string(),
        Purchase => PurchaseId(row_of(app, hotel, "credit_purchases").await).to_string(),
        Member | Invitation | Site | Key | Profile | Session => own_id_of(app, hotel, kind).await,
        Block => a_block(&app.app, hotel).await,
        Card => a_card(&app.app, hotel).await,
        Package | Plan | Price => panic!("{kind:?} belongs to nobody"),
    }
}

/// The id of what a hotel's ADMIN makes for it.
async fn own_id_of(app: &TestApp, hotel: &Hotel, kind: Kind) -> String {
    let (app, admin) = (&app.app, &hotel.admin.actor);
    let name = format!("a-{}.example.test", new_uuid().simple());
    match kind {
        Member => {
            let sql = "SELECT id FROM memberships WHERE tenant_id = $1 AND user_id = $2";
            let values = vec![hotel.id.into(), hotel.user.id.into()];
            let row: Option<Row> = db::one(app.db.primary(), sql, values).await.unwrap();
            MembershipId(row.unwrap().id).to_string()
        }
        Invitation => {
            let invite = Invite { email: format!("guest@{name}"), role: Role::User };
            invitation::invite(app, admin, invite).await.unwrap().invitation.id.to_string()
        }
        Site => {
            let content = SiteContent {
                character: Character::Both,
                name: name.clone(),
                domain: name,
                origins: Vec::new(),
            };
            site::create(app, admin, content).await.unwrap().id.to_string()
        }
        Key => {
            let permissions = vec![Permission::CreditsRead];
            let new = NewKey { name, permissions, expires_at: None };
            key::create(app, admin, new).await.unwrap().0.id.to_string()
        }
        Profile => profile::get(app, admin).await.unwrap().profile.id.to_string(),
        Session => begin_session(app, hotel.admin.id, hotel.id).await.session.id.to_string(),
        _ => panic!("{kind:?} is not identity's"),
    }
}

/// A block of a hotel's person.
pub(crate) async fn a_block(app: &App, hotel: &Hotel) -> String {
    let id = BlockId::new();
    let now = app.clock.db_now();
    let block = user_block::Model {
        id,
        tenant_id: hotel.id,
        user_id: hotel.user.id,
        score: 95,
        signals: json!([]),
        blocked_until: now + TimeDelta::minutes(30),
        created_at: now,
        lifted_at: None,
        lifted_by: None,
    };
    let row = block.into_active_model();
    user_block::Entity::insert(row).exec_without_returning(app.db.writer()).await.unwrap();
    id.to_string()
}

/// A card of a hotel's.
pub(crate) async fn a_card(app: &App, hotel: &Hotel) -> String {
    let id = StoredCardId::new();
    let now = app.clock.db_now();
    let card = stored_card::Model {
        id,
        tenant_id: hotel.id,
        user_id: Some(hotel.admin.id),
        stripe_payment_method_id: format!("pm_{}", id.0.simple()),
        brand: stored_card::CardBrand::Visa,
        last4: "4242".to_owned(),
        exp_month: 12,
        exp_year: 2099,
        fingerprint: Some("AOB934RVNwzk6xtn".to_owned()),
        is_default: false,
        created_at: now,
        updated_at: now,
        removed_at: None,
    };
    let row = card.into_active_model();
    stored_card::Entity::insert(row).exec_without_returning(app.db.writer()).await.unwrap();
    id.to_string()
}

/// A session of somebody's in their tenant.
pub(in crate::schema) async fn begin_session(app: &App, user: UserId, tenant: TenantId) -> Tokens {
    let new = NewSession {
        user,
        tenant: Some(tenant),
        parent: None,
        visitor: Visitor { device: "Firefox · Linux".to_owned(), ..Visitor::default() },
        way: SignInWay::Email,
    };
    let mut txn = app.db.begin().await.unwrap();
    let tokens = session::begin(app, &mut txn, new).await.unwrap();
    txn.commit().await.unwrap();
    tokens
}

/// The id of an object that never was.
pub(in crate::schema) fn missing_id(kind: Kind) -> String {
    let uuid = new_uuid();
    match kind {
        Account => AccountId(uuid).to_string(),
        Grant => GrantId(uuid).to_string(),
        Transaction => TransactionId(uuid).to_string(),
        Reset => ResetId(uuid).to_string(),
        Execution => ExecutionId(uuid).to_string(),
        User => UserId(uuid).to_string(),
        Tenant => TenantId(uuid).to_string(),
        Member => MembershipId(uuid).to_string(),
        Invitation => InvitationId(uuid).to_string(),
        Site => SiteId(uuid).to_string(),
        Key => ApiKeyId(uuid).to_string(),
        Profile => ProfileId(uuid).to_string(),
        Session => SessionId(uuid).to_string(),
        Block => BlockId(uuid).to_string(),
        Purchase => PurchaseId(uuid).to_string(),
        Card => StoredCardId(uuid).to_string(),
        Package => PackageId(uuid).to_string(),
        Plan => PlanId(uuid).to_string(),
        Price => PriceId(uuid).to_string(),
    }
}

/// A purchase of a hotel's, paid in the sandbox.
pub(in crate::schema) async fn buys_a_package(app: &TestApp, hotel: &Hotel) {
    let package = crate::payments::package(app, json!({})).await;
    let input = json!({ "packageId": package, "paymentMethod": "STRIPE",
        "stripePaymentMethodId": "pm_card_visa", "idempotencyKey": "their-first-purchase" });
    let done = crate::payments::buys(&hotel.admin, input).await;
    assert_eq!(done["purchase"]["status"], "COMPLETED", "{done}");
}
