//! An empty database filled with two tenants and a year of history, by the same code that serves
//! customers, so that the books of the demo prove themselves like any others. The same seed makes
//! the same history before any given day.

use std::sync::Arc;

use chrono::{DateTime, Datelike, Days, TimeDelta, Utc, Weekday};
use fastrand::Rng;
use sea_orm::{EntityTrait, IntoActiveModel, PaginatorTrait};
use serde_json::Map;

use crate::actor::Role;
use crate::ai::input::{Checked, Parameters};
use crate::ai::pricing;
use crate::ai::service::finish::{self, Ending, Run, judge};
use crate::ai::service::reserve::{self, Answer, Request};
use crate::ai::service::run::{Job, Output};
use crate::ai::service::start::{self, Draft};
use crate::anomaly::baseline;
use crate::anomaly::score::Score;
use crate::anomaly::watch;
use crate::app::App;
use crate::clock::Clock;
use crate::credits::service::grant::{Purchase, grant_purchase};
use crate::credits::service::{account, due};
use crate::credits::{catalog, period};
use crate::db::{self, Txn};
use crate::entity::function_price::{self, AiFunctionType};
use crate::entity::plan::PlanType;
use crate::entity::site::{self, Character};
use crate::entity::{credit_account, credit_package, tenant};
use crate::error::{Error, Result};
use crate::external::models::{FailureKind, Usage};
use crate::idempotency::Key;
use crate::identity::{self, NewTenant, NewUser};
use crate::ids::{ExecutionId, PackageId, SiteId, TenantId, UserId, new_uuid};
use crate::jobs;

/// The platform admin's address.
pub const ROOT: &str = "root@musubi.test";
/// The hotel's slug.
const HOTEL: &str = "tsubaki";
/// The slug of the studio.
const STUDIO: &str = "studio";
/// Days of history.
const DAYS: u64 = 365;
/// Of them, the last days, whose runs are settled one by one; a day before is settled as a whole,
/// which takes a tenth of the statements.
const DETAILED_DAYS: u64 = 30;

struct Cast {
    name: &'static str,
    slug: &'static str,
    plan: PlanType,
    runs_per_day: std::ops::Range<u32>,
    people: [(&'static str, &'static str, Role); 4],
}

const CAST: [Cast; 2] = [
    Cast {
        name: "旅館 椿",
        slug: HOTEL,
        plan: PlanType::Professional,
        runs_per_day: 8..22,
        people: [
            ("椿 花子", "admin", Role::Admin),
            ("山本 健", "manager", Role::Manager),
            ("佐藤 美咲", "support", Role::Support),
            ("鈴木 太郎", "user", Role::User),
        ],
    },
    Cast {
        name: "スタジオ結",
        slug: STUDIO,
        plan: PlanType::Essential,
        runs_per_day: 2..7,
        people: [
            ("結城 蓮", "admin", Role::Admin),
            ("高橋 葵", "manager", Role::Manager),
            ("中村 凛", "support", Role::Support),
            ("小林 湊", "user", Role::User),
        ],
    },
];

const QUESTIONS: [&str; 8] = [
    "チェックインは何時からですか？",
    "露天風呂は貸切にできますか？",
    "近くのおすすめの散策コースを教えてください。",
    "アレルギー対応の夕食はありますか？",
    "駐車場の予約は必要ですか？",
    "連泊の割引について教えてください。",
    "What time does the last bus from the station leave?",
    "Can you suggest a two-day plan with children?",
];

/// What a database holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// No tenant yet.
    Empty,
    /// A part of the demo: the process that filled it ended on the way.
    Interrupted,
    /// The demo, or tenants of its own.
    Filled,
}

/// What the database holds.
pub async fn state(app: &App) -> Result<State> {
    if tenant::Entity::find().count(app.db.primary()).await? == 0 {
        return Ok(State::Empty);
    }
    let is_demo = identity::tenant_by_slug(app, HOTEL).await?.is_some();
    // The platform admin is made last.
    let is_complete = identity::find_by_email(app, ROOT).await?.is_some();
    Ok(if is_demo && !is_complete { State::Interrupted } else { State::Filled })
}

/// Fills an empty database. Says false, and does nothing, when there is a tenant already.
pub async fn fill(app: &App) -> Result<bool> {
    if state(app).await? != State::Empty {
        return Ok(false);
    }
    let today = app.clock.now();
    let first = today.checked_sub_days(Days::new(DAYS)).unwrap_or(today);
    let past = app.at(Clock::fixed(first));
    let packages = put_packages_on_sale(&past).await?;
    let mut rng = Rng::with_seed(20_251_121);
    let mut stages = Vec::new();
    for cast in &CAST {
        stages.push(Stage::set(&past, cast, &packages).await?);
    }
    for day in 0..DAYS {
        let morning = first + TimeDelta::days(i64::try_from(day).unwrap_or(0));
        past.clock.set(morning);
        for stage in &stages {
            stage.play_day(&past, day + DETAILED_DAYS >= DAYS, &mut rng).await?;
        }
    }
    jobs::roll_up_from(app, first).await?;
    baseline::compute_all(app).await?;
    // Of a year ago only what would still be here is kept.
    jobs::clean_up(app.clone()).await?;
    open_sites(app).await?;
    make_root(app).await?;
    Ok(true)
}

/// The studio's sites.
const SITES: [(Character, &str, &str); 2] = [
    (Character::Yuya, "傾奇ユウヤ", "yuya-kabuki.com"),
    (Character::Aoba, "猫空あおば", "aoba-nekosora.com"),
];

/// Gives the studio its two sites, whose visitors become members.
async fn open_sites(app: &App) -> Result<()> {
    let studio = identity::tenant_by_slug(app, STUDIO).await?;
    let studio = studio.ok_or_else(|| Error::broken("a demo without its studio"))?.id;
    let now = app.clock.db_now();
    let txn = app.db.begin().await?;
    for (character, name, domain) in SITES {
        let row = site::Model {
            id: SiteId::new(),
            tenant_id: studio,
            character,
            name: name.to_owned(),
            domain: domain.to_owned(),
            origins: serde_json::json!([
                format!("https://{domain}"),
                format!("https://www.{domain}"),
                format!("https://api.{domain}"),
            ]),
            version: 1,
            created_at: now,
            updated_at: now,
        };
        site::Entity::insert(row.into_active_model()).exec_without_returning(&*txn).await?;
    }
    let sql = "UPDATE tenants SET membership_policy = 'OPEN' WHERE id = $1";
    db::execute(&*txn, sql, vec![studio.into()]).await?;
    txn.commit().await
}

async fn make_root(app: &App) -> Result<()> {
    let now = app.clock.db_now();
    let txn = app.db.begin().await?;
    let root = NewUser { name: "運営", email: ROOT, is_platform_admin: true };
    identity::create_user(app, &txn, root, now).await?;
    txn.commit().await
}

/// Plan, credits, yen, discount in hundredths of a percent.
const PACKAGES: [(PlanType, i64, i64, i64); 9] = [
    (PlanType::Essential, 100, 1_980, 0),
    (PlanType::Essential, 500, 8_800, 1_100),
    (PlanType::Essential, 2_000, 31_900, 1_940),
    (PlanType::Professional, 500, 8_250, 0),
    (PlanType::Professional, 2_000, 29_700, 1_000),
    (PlanType::Professional, 10_000, 132_000, 2_000),
    (PlanType::Enterprise, 2_000, 26_400, 0),
    (PlanType::Enterprise, 10_000, 118_800, 1_000),
    (PlanType::Enterprise, 50_000, 528_000, 2_000),
];

async fn put_packages_on_sale(app: &App) -> Result<Vec<credit_package::Model>> {
    let now = app.clock.db_now();
    let rows: Vec<credit_package::Model> = PACKAGES
        .iter()
        .map(|(plan_type, credits, price, discount)| credit_package::Model {
            id: PackageId::new(),
            plan_type: *plan_type,
            credits_amount: *credits,
            price_yen: *price,
            discount_rate: *discount,
            tax_rate: 1_000,
            is_bulk_package: *credits >= 2_000,
            is_promotional: false,
            active: true,
            valid_from: now.date_naive(),
            valid_until: None,
            display_name: format!("{credits}クレジット"),
            description: Some("購入したクレジットに有効期限はありません。".to_owned()),
            marketing_highlight: (*discount > 0).then(|| "まとめてお得".to_owned()),
            version: 1,
            created_at: now,
            updated_at: now,
        })
        .collect();
    let txn = app.db.begin().await?;
    let models = rows.iter().cloned().map(sea_orm::IntoActiveModel::into_active_model);
    credit_package::Entity::insert_many(models).exec_without_returning(&*txn).await?;
    txn.commit().await?;
    Ok(rows)
}

/// A tenant with its people, ready to play.
struct Stage {
    tenant: TenantId,
    people: Vec<UserId>,
    price: function_price::Model,
    package: credit_package::Model,
    runs_per_day: std::ops::Range<u32>,
}

impl Stage {
    async fn set(app: &App, cast: &Cast, packages: &[credit_package::Model]) -> Result<Self> {
        let now = app.clock.db_now();
        let txn = app.db.begin().await?;
        let new = NewTenant {
            name: cast.name,
            slug: cast.slug,
            plan: cast.plan,
            time_zone: "Asia/Tokyo",
        };
        let tenant = identity::create_tenant(&txn, new, now).await?;
        let mut people = Vec::new();
        for (name, role_name, role) in cast.people {
            let email = format!("{role_name}@{}.test", cast.slug);
            let new = NewUser { name, email: &email, is_platform_admin: false };
            let user = identity::create_user(app, &txn, new, now).await?;
            identity::add_member(&txn, (tenant.id, user.id), role, now).await?;
            people.push(user.id);
        }
        txn.commit().await?;
        account::of_tenant(app, tenant.id).await?;
        catalog::entitle_for_ever(app, tenant.id).await?;
        let price = pricing::in_force(app, AiFunctionType::Chatbot, None).await?;
        let package = packages
            .iter()
            .filter(|package| package.plan_type == cast.plan)
            .min_by_key(|package| package.credits_amount)
            .cloned()
            .ok_or_else(|| Error::broken("a plan without a package"))?;
        let runs_per_day = cast.runs_per_day.clone();
        Ok(Self { tenant: tenant.id, people, price, package, runs_per_day })
    }

    /// A day's runs between nine and nine, and a purchase when the credits run low.
    async fn play_day(&self, app: &App, is_detailed: bool, rng: &mut Rng) -> Result<()> {
        let account = account::of_tenant(app, self.tenant).await?;
        due::apply_due(app, account.id).await?;
        let account = account::of_tenant(app, self.tenant).await?;
        let zone = period::zone(&account.time_zone);
        let day = period::local_day(app.clock.db_now(), zone);
        let open = period::start_of_day(day, zone) + TimeDelta::hours(9);
        if account.current_balance < 60 {
            self.buy(app, &account, open).await?;
        }
        let mut runs = rng.u32(self.runs_per_day.clone());
        if matches!(day.weekday(), Weekday::Sat | Weekday::Sun) {
            runs += runs / 2;
        }
        let mut times: Vec<i64> = (0..runs).map(|_| rng.i64(0..12 * 3_600)).collect();
        times.sort_unstable();
        let times: Vec<_> =
            times.into_iter().map(|second| open + TimeDelta::seconds(second)).collect();
        let at_once = if is_detailed { 1 } else { times.len().max(1) };
        let mut txn = app.db.begin().await?;
        for (part, times) in times.chunks(at_once).enumerate() {
            self.run_all(app, &mut txn, (&account, &format!("{day}-{part}"), times), rng).await?;
        }
        txn.commit().await
    }

    async fn buy(
        &self,
        app: &App,
        account: &credit_account::Model,
        at: DateTime<Utc>,
    ) -> Result<()> {
        let mut txn = app.db.begin().await?;
        let purchase = Purchase {
            account: account.id,
            credits: self.package.credits_amount,
            price: self.package.price_yen,
            reference: new_uuid(),
        };
        grant_purchase(&mut txn, purchase, at).await?;
        txn.commit().await
    }

    /// Reserves the runs, performs them and settles them, each as a slice.
    async fn run_all(
        &self,
        app: &App,
        txn: &mut Txn,
        (account, name, times): (&credit_account::Model, &str, &[DateTime<Utc>]),
        rng: &mut Rng,
    ) -> Result<()> {
        let (Some(first), Some(last)) = (times.first(), times.last()) else { return Ok(()) };
        let mut requests = Vec::with_capacity(times.len());
        let mut given = Vec::with_capacity(times.len());
        for (number, at) in times.iter().enumerate() {
            let key = format!("demo-{name}-{number}");
            let (request, parameters) = self.request(app, account, (key, *at), rng)?;
            requests.push(request);
            given.push(parameters);
        }
        let answers = reserve::reserve(txn, &requests, *first).await?;
        let mut acts = Vec::with_capacity(times.len());
        for (answer, parameters) in answers.into_iter().zip(given) {
            let Answer::Reserved(execution, hold) = answer else { continue };
            let (price, parameters) = (Arc::new(self.price.clone()), Arc::new(parameters));
            let job = Job { execution: *execution, hold, price, parameters };
            let (ending, output, time_ms) = perform(&job, rng);
            acts.push((judge(&job, ending, &output), job, output, time_ms));
        }
        let runs: Vec<Run<'_>> = acts
            .iter()
            .map(|(verdict, job, output, time_ms)| Run {
                job,
                attempt: new_uuid(),
                verdict,
                output,
                time_ms: *time_ms,
                finished_at: job.execution.created_at + TimeDelta::milliseconds(*time_ms),
            })
            .collect();
        finish::settle_runs(app, txn, &runs, *last + TimeDelta::seconds(30)).await?;
        Ok(())
    }

    fn request(
        &self,
        app: &App,
        account: &credit_account::Model,
        (key, at): (String, DateTime<Utc>),
        rng: &mut Rng,
    ) -> Result<(Request, Parameters)> {
        let question = QUESTIONS.get(rng.usize(..QUESTIONS.len())).copied().unwrap_or_default();
        let user = self.people.get(rng.usize(..self.people.len())).copied();
        let user = user.ok_or_else(|| Error::broken("a stage without people"))?;
        let parameters = Parameters {
            input: question.to_owned(),
            context: None,
            temperature: rust_decimal::Decimal::new(7, 1),
            options: Map::new(),
        };
        let tags = if rng.u8(..4) == 0 { vec!["フロント".to_owned()] } else { Vec::new() };
        let checked = Checked { parameters: parameters.clone(), max_tokens: 800, tags };
        let id = ExecutionId::new();
        let body = serde_json::json!([question]);
        let whose = (self.tenant, user.0);
        let key = Key::new(&app.crypto, whose, "aiExecute", (&key, &body), id.0)?;
        let draft = Draft {
            id,
            account,
            price: &self.price,
            checked: &checked,
            user,
            requested_by: user,
            key: None,
            input_tokens: start::count(&self.price, &checked),
            prompt_digest: watch::digest(app, question),
            score: Score::default(),
        };
        Ok((draft.request(app, key, at)?, parameters))
    }
}

/// What the model might have said: mostly an answer, now and then a failure.
fn perform(job: &Job, rng: &mut Rng) -> (Ending, Output, i64) {
    let time_ms = rng.i64(600..4_500);
    let read = u32::try_from(job.execution.estimated_tokens).unwrap_or(0);
    let text = format!("「{}」へのご案内です。", job.parameters.input);
    match rng.u32(..100) {
        0 => (Ending::Failed(FailureKind::RateLimited), Output::default(), 300),
        1 => (Ending::Failed(FailureKind::Unavailable), Output::default(), 3_000),
        2 => (Ending::Failed(FailureKind::TimedOut), Output::default(), 20_000),
        3 => (Ending::Cancelled, Output { text, usage: None }, time_ms),
        _ => {
            let usage = Usage { input_tokens: read, output_tokens: rng.u32(40..780) };
            (Ending::Finished, Output { text, usage: Some(usage) }, time_ms)
        }
    }
}
