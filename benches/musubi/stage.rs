//! Databases of this run, hotels with credits in them, and what their people ask.

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_graphql::Variables;
use chrono::TimeDelta;
use migration::{Migrator, MigratorTrait};
use musubi::actor::{Actor, Role};
use musubi::app::{App, External};
use musubi::clock::Clock;
use musubi::config::{
    Config, DbSettings, EmailSettings, Environment, LimitSettings, OauthSettings, StripeSettings,
};
use musubi::credits::service::account;
use musubi::credits::service::grant::{Purchase, grant_purchase};
use musubi::crypto::Key;
use musubi::entity::plan::PlanType;
use musubi::error::Lang;
use musubi::external::models::ChatModel;
use musubi::graphql::caller::Caller;
use musubi::graphql::engine::{Call, Engine, Prepared};
use musubi::identity::{self, NewTenant, NewUser};
use musubi::ids::{AccountId, TenantId, UserId, new_uuid};
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Connection, Executor};

/// Connections of each pool, ours and the peers': the program's default.
pub(crate) const CONNECTIONS: u32 = 20;
/// Who issues tokens.
pub(crate) const ISSUER: &str = "http://localhost:3200";
/// Yen for a credit.
pub(crate) const YEN: i64 = 10;

/// A database of this run, migrated.
pub(crate) struct Stage {
    pub(crate) url: String,
}

/// A tenant with credits and administrators.
#[derive(Clone)]
pub(crate) struct Hotel {
    pub(crate) tenant: TenantId,
    pub(crate) account: AccountId,
    pub(crate) people: Vec<UserId>,
}

fn server() -> String {
    std::env::var("MUSUBI_TEST_POSTGRES")
        .unwrap_or_else(|_| "postgres://postgres@127.0.0.1:5432".to_owned())
}

/// The server's own database.
pub(crate) fn server_url() -> String {
    format!("{}/postgres", server())
}

impl Stage {
    /// Makes and migrates a database.
    pub(crate) async fn create(tag: &str) -> Self {
        let name = format!("musubi_bench_{}_{tag}", std::process::id());
        let mut admin = PgConnection::connect(&server_url()).await.expect("PostgreSQL answers");
        admin.execute(AssertSqlSafe(format!("CREATE DATABASE {name}"))).await.unwrap();
        let stage = Self { url: format!("{}/{name}", server()) };
        let mut options = sea_orm::ConnectOptions::new(stage.url.clone());
        options.max_connections(1).sqlx_logging(false);
        let fresh = sea_orm::Database::connect(options).await.unwrap();
        Migrator::up(&fresh, None).await.unwrap();
        fresh.close().await.unwrap();
        stage
    }

    /// The program on this database, in this process, with its jobs.
    pub(crate) async fn app(&self, models: Arc<dyn ChatModel>) -> App {
        let config = config(&self.url);
        let external = External { models, ..External::sandbox(&config).unwrap() };
        let app = App::start(config, Clock::system(), external).await.unwrap();
        app.db.measure_clock(&app.clock).await.unwrap();
        musubi::jobs::start(&app);
        app
    }

    /// A connection of the benchmark's own.
    pub(crate) async fn connect(&self) -> PgConnection {
        PgConnection::connect(&self.url).await.unwrap()
    }
}

/// Ends the program in order.
pub(crate) async fn close(app: App) {
    assert!(app.tasks.drain(Duration::from_secs(30)).await, "work is left over");
    app.db.close().await;
}

/// Drops the databases of this run.
pub(crate) async fn drop_own() {
    let own = std::process::id().to_string();
    drop_where(|owner| owner == own).await;
}

/// Drops what runs have left that are gone.
pub(crate) async fn drop_leftovers() {
    drop_where(|owner| !std::path::Path::new("/proc").join(owner).exists()).await;
}

async fn drop_where(is_over: impl Fn(&str) -> bool) {
    let mut admin = PgConnection::connect(&server_url()).await.expect("PostgreSQL answers");
    let sql = "SELECT datname::text FROM pg_database WHERE datname LIKE 'musubi_bench_%'";
    let names: Vec<String> = sqlx::query_scalar(sql).fetch_all(&mut admin).await.unwrap();
    for name in names {
        let owner = name.trim_start_matches("musubi_bench_").split('_').next().unwrap_or_default();
        if is_over(owner) {
            let sql = format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)");
            admin.execute(AssertSqlSafe(sql)).await.unwrap();
        }
    }
}

/// The settings of a program; the keys are no secret.
pub(crate) fn config(database_url: &str) -> Config {
    let key = |kid: &str, byte: u8| Key { kid: kid.to_owned(), secret: [byte; 32] };
    Config {
        environment: Environment::Production,
        host: std::net::Ipv4Addr::LOCALHOST.into(),
        port: 0,
        public_url: ISSUER.to_owned(),
        token_issuer: ISSUER.to_owned(),
        database: DbSettings {
            url: database_url.to_owned(),
            read_url: None,
            connections_max: CONNECTIONS,
            acquire_timeout: Duration::from_secs(3),
            idle_timeout: Duration::from_secs(600),
        },
        redis_url: None,
        jwt_keys: vec![key("jwt1", 1)],
        encryption_keys: vec![key("enc1", 2)],
        index_key: [3; 32],
        openai_api_key: None,
        openai_base_url: "http://127.0.0.1:9/v1".to_owned(),
        email: EmailSettings::default(),
        receipts: None,
        oauth: OauthSettings::default(),
        limits: LimitSettings { is_on: false, ..LimitSettings::default() },
        stripe: StripeSettings::default(),
        hold_lease: Duration::from_secs(120),
        allowed_origins: Vec::new(),
        trusted_proxies: Vec::new(),
        log_json: false,
        log_filter: "warn".to_owned(),
    }
}

/// Makes hotels, each with so many administrators and credits that were bought, and no others.
pub(crate) async fn hotels(app: &App, count: usize, people: usize, credits: i64) -> Vec<Hotel> {
    let now = app.clock.db_now();
    let mut made: Vec<(TenantId, Vec<UserId>)> = Vec::with_capacity(count);
    let txn = app.db.begin().await.unwrap();
    for _ in 0..count {
        let slug = format!("hotel-{}", new_uuid().simple());
        let plan = PlanType::Essential;
        let new = NewTenant { name: "旅館", slug: &slug, plan, time_zone: "Asia/Tokyo" };
        let tenant = identity::create_tenant(&txn, new, now).await.unwrap();
        let mut users = Vec::with_capacity(people);
        for number in 0..people {
            let email = format!("admin-{number}@{slug}.test");
            let new = NewUser { name: "椿 花子", email: &email, is_platform_admin: false };
            let user = identity::create_user(app, &txn, new, now).await.unwrap();
            identity::add_member(&txn, (tenant.id, user.id), Role::Admin, now).await.unwrap();
            users.push(user.id);
        }
        made.push((tenant.id, users));
    }
    // Tenants of long ago that never subscribed get no free credits when their account opens.
    let sql = "UPDATE tenants SET created_at = $1";
    let long_ago = now - TimeDelta::days(400);
    musubi::db::execute(&*txn, sql, vec![long_ago.into()]).await.unwrap();
    txn.commit().await.unwrap();
    let mut hotels = Vec::with_capacity(count);
    for (tenant, people) in made {
        let account = account::of_tenant(app, tenant).await.unwrap().id;
        hotels.push(Hotel { tenant, account, people });
    }
    let mut txn = app.db.begin().await.unwrap();
    for hotel in &hotels {
        let (account, price) = (hotel.account, credits * YEN);
        let purchase = Purchase { account, credits, price, reference: new_uuid() };
        grant_purchase(&mut txn, purchase, now).await.unwrap();
    }
    txn.commit().await.unwrap();
    hotels
}

/// A person who may cross tenants.
pub(crate) async fn platform_admin(app: &App) -> UserId {
    let txn = app.db.begin().await.unwrap();
    let new = NewUser { name: "運営", email: "root@musubi.test", is_platform_admin: true };
    let user = identity::create_user(app, &txn, new, app.clock.db_now()).await.unwrap();
    txn.commit().await.unwrap();
    user.id
}

/// An access token.
pub(crate) async fn token(app: &App, user: UserId, tenant: TenantId) -> String {
    identity::issue_token(app, user, Some(tenant), TimeDelta::hours(12)).await.unwrap()
}

/// Somebody of a hotel, signed in.
pub(crate) async fn actor(app: &App, hotel: &Hotel) -> Actor {
    let token = token(app, hotel.people[0], hotel.tenant).await;
    identity::authenticate(app, &token, Lang::En).await.unwrap()
}

/// Asks a query in this process, without any transport; answers how long that took.
pub(crate) async fn ask(app: &App, engine: &Engine, actor: &Actor, query: String) -> Duration {
    let caller = Caller::new(app.clone(), Some(actor.clone()), Lang::En, Arc::default());
    let call = Call {
        query,
        operation_name: None,
        variables: Variables::default(),
        extensions: serde_json::Map::new(),
        document_id: None,
    };
    let begun = Instant::now();
    let Prepared::Ready(ready) = engine.prepare(call, caller) else {
        panic!("the query was refused");
    };
    let executed = engine.execute(ready).await;
    let time = begun.elapsed();
    assert!(executed.response.errors.is_empty(), "{:?}", executed.response.errors);
    time
}

/// Fails when the books do not add up.
pub(crate) async fn prove(app: &App) {
    let drifts = musubi::verify::verify(app).await.unwrap();
    let drifts: Vec<String> = drifts.iter().map(ToString::to_string).collect();
    assert!(drifts.is_empty(), "the books do not add up: {drifts:#?}");
}
