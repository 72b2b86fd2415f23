//! Random histories of everything that can happen to credits. After every step the books prove
//! themselves. `MUSUBI_TEST_SCALE` makes them more, `MUSUBI_TEST_SEED` repeats one.

use std::time::Duration;

use chrono::TimeDelta;
use fastrand::Rng;
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, join_all};
use musubi::ai::service::run::Job;
use musubi::ai::service::sweep::sweep;
use musubi::app::App;
use musubi::entity::credit_account;
use musubi::entity::credit_grant::GrantKind;
use musubi::entity::credit_transaction::TransactionType;
use musubi::entity::credit_withdrawal::{self, WithdrawalReason};
use musubi::entity::plan::{CarryOver, PlanType};

use super::{
    assert_books, cancel, due, give_back, give_bonus, grants, lines, put_back, release, resets,
    set_carry_over, set_plan, settle, sql, take_away, try_hold, withdrawals,
};
use crate::support::database::is_postgres;
use crate::support::people::{Hotel, Person};
use crate::support::{Setting, TestApp};

/// Steps of one history.
const STEPS: usize = 40;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|value| value.parse().unwrap())
}

fn seeds(histories: u64) -> std::ops::Range<u64> {
    match number("MUSUBI_TEST_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..histories * number("MUSUBI_TEST_SCALE").unwrap_or(1),
    }
}

#[tokio::test]
async fn after_every_step_of_any_history_the_books_prove_themselves() {
    for seed in seeds(if is_postgres() { 2 } else { 10 }) {
        let mut world = World::begin(seed).await;

        for step in 0..STEPS {
            let what = world.step().await;
            world.prove(&format!("seed {seed}, step {step}: {what}")).await;
        }

        world.end_all().await;
        world.prove(&format!("seed {seed}, at the end")).await;
        world.prove_rest(seed).await;
    }
}

#[tokio::test]
async fn three_nodes_that_do_everything_at_once_keep_the_books() {
    for seed in seeds(if is_postgres() { 1 } else { 3 }) {
        let mut rng = Rng::with_seed(1_000 + seed);
        let world = World::begin(seed).await;
        world.hotel.buys(500, 4_999).await;
        let nodes = [world.app.app.clone(), world.app.replica().await, world.app.replica().await];

        for round in 0..4 {
            let paid = world.paid(&nodes, &mut rng, round).await;
            let errands = (0..12).map(|_| world.errand(&nodes, &mut rng, &paid));
            join_all(errands.collect::<Vec<_>>()).await;
            world.prove(&format!("seed {seed}, round {round}")).await;
            world.app.clock.advance(TimeDelta::days(rng.i64(1..40)));
        }
    }
}

/// A tenant and what is going on in it.
struct World {
    app: TestApp,
    hotel: Hotel,
    root: Person,
    rng: Rng,
    running: Vec<Job>,
    ended: Vec<Job>,
    swept: Vec<Job>,
}

impl World {
    async fn begin(seed: u64) -> Self {
        let app = Setting::default().lease(Duration::from_secs(5)).start().await;
        let hotel = app.tenant(PlanType::Essential, "Asia/Tokyo").await;
        let root = app.platform_admin(None).await;
        hotel.account().await;
        let rng = Rng::with_seed(seed);
        let (running, ended, swept) = (Vec::new(), Vec::new(), Vec::new());
        Self { app, hotel, root, rng, running, ended, swept }
    }

    async fn step(&mut self) -> String {
        match self.rng.u32(..100) {
            0..20 => self.reserve().await,
            20..32 => self.settle().await,
            32..37 => self.cancel().await,
            37..42 => self.release().await,
            42..46 => self.sweep().await,
            46..53 => self.bonus().await,
            53..60 => self.purchase().await,
            60..68 => self.refund().await,
            68..75 => self.withdraw().await,
            75..80 => self.put_back().await,
            80..90 => self.time().await,
            90..94 => self.tenant_plan().await,
            94..98 => self.plan().await,
            _ => self.late_result().await,
        }
    }

    async fn reserve(&mut self) -> String {
        let (current, held) = self.hotel.balance().await;
        let most = (current - held + 20).max(1);
        let wish = self.rng.i64(1..=most);
        let wishes = [wish, wish / 2 + 1, wish / 4 + 1];
        match try_hold(&self.app.app, &self.hotel, &wishes).await {
            Ok(job) => self.running.push(job),
            Err(refusal) => return format!("hold {wish} refused: {refusal:?}"),
        }
        format!("hold {wish} of {current} less {held}")
    }

    fn any_running(&mut self) -> Option<Job> {
        let index = self.rng.usize(..self.running.len().max(1));
        (index < self.running.len()).then(|| self.running.swap_remove(index))
    }

    async fn settle(&mut self) -> String {
        let Some(job) = self.any_running() else { return "nothing to settle".to_owned() };
        let charge = self.rng.i64(0..=job.execution.credits_held + 1);
        settle(&self.app.app, &job, charge).await;
        let line = self.usage_line(&job).await;
        assert_eq!(line, Some(-charge.min(job.execution.credits_held)));
        self.ended.push(job);
        format!("settle {charge}")
    }

    async fn cancel(&mut self) -> String {
        let Some(job) = self.any_running() else { return "nothing to cancel".to_owned() };
        let charge = self.rng.i64(1..=job.execution.credits_held);
        cancel(&self.app.app, &job, charge).await;
        assert_eq!(self.usage_line(&job).await, Some(-charge));
        self.ended.push(job);
        format!("cancel at {charge}")
    }

    async fn release(&mut self) -> String {
        let Some(job) = self.any_running() else { return "nothing to release".to_owned() };
        release(&self.app.app, &job).await;
        assert_eq!(self.usage_line(&job).await, None);
        "release".to_owned()
    }

    async fn usage_line(&self, job: &Job) -> Option<i64> {
        let lines = lines(&self.app, &self.hotel).await;
        let mut own = lines.iter().filter(|line| {
            line.hold_id == Some(job.hold) && line.transaction_type == TransactionType::Usage
        });
        own.next().map(|line| line.credits_amount)
    }

    /// Some runs are marked in flight, some have stored output; then every lease ends.
    async fn sweep(&mut self) -> String {
        for job in &self.running {
            let stored = self.rng.i64(-1..=job.execution.credits_held);
            if stored >= 0 {
                let text = "UPDATE ai_credit_holds SET in_flight_at = $2, watermark = $3
                            WHERE id = $1";
                let now = self.app.clock.db_now();
                sql(&self.app, text, vec![job.hold.into(), now.into(), stored.into()]).await;
            }
        }
        self.app.clock.advance(TimeDelta::minutes(3));
        assert_eq!(sweep(&self.app.app).await.unwrap(), self.running.len());
        assert_eq!(self.hotel.balance().await.1, 0);
        let swept = std::mem::take(&mut self.running);
        let count = swept.len();
        self.ended.extend(swept.iter().cloned());
        self.swept.extend(swept);
        format!("sweep {count}")
    }

    async fn bonus(&mut self) -> String {
        let credits = self.rng.i64(1..300);
        let lasts = self.rng.bool().then(|| TimeDelta::hours(self.rng.i64(1..960)));
        give_bonus(&self.app, (&self.root, &self.hotel), credits, lasts).await;
        format!("bonus {credits} for {lasts:?}")
    }

    async fn purchase(&mut self) -> String {
        let (credits, price) = (self.rng.i64(1..300), self.rng.i64(1..5_000));
        self.hotel.buys(credits, price).await;
        format!("buy {credits} for {price}")
    }

    async fn refund(&mut self) -> String {
        let Some(job) = self.rng.choice(&self.ended).cloned() else {
            return "nothing to refund".to_owned();
        };
        let part = self.rng.bool().then(|| self.rng.i64(1..50));
        let (before, _) = self.hotel.balance().await;
        let whose = (&self.root, &self.hotel);
        match give_back(&self.app.app, whose, &job, part).await {
            Ok(line) => {
                assert!(line.credits_amount > 0);
                if let Some(part) = part {
                    assert_eq!(line.credits_amount, part);
                }
                assert_eq!(line.balance_after, before + line.credits_amount);
                format!("refund {}", line.credits_amount)
            }
            Err(error) => format!("refund {part:?} refused: {error:?}"),
        }
    }

    async fn withdraw(&mut self) -> String {
        let grants = grants(&self.app, &self.hotel).await;
        let bought: Vec<_> =
            grants.into_iter().filter(|grant| grant.kind == GrantKind::Purchased).collect();
        let Some(grant) = self.rng.choice(&bought) else { return "nothing bought".to_owned() };
        let credits = self.rng.i64(1..=grant.granted);
        let reason = match self.rng.bool() {
            true => WithdrawalReason::Dispute,
            false => WithdrawalReason::PurchaseRefund,
        };
        let (current, held) = self.hotel.balance().await;
        let row = take_away(&self.app.app, &self.hotel, (grant.id, credits), reason).await;
        assert!(row.taken <= current - held);
        if reason == WithdrawalReason::PurchaseRefund {
            assert!(row.closed_at.is_some(), "a purchase refund stays open");
        }
        format!("{reason} {credits}: {} taken", row.taken)
    }

    async fn put_back(&mut self) -> String {
        let rows = withdrawals(&self.app, &self.hotel).await;
        let returnable = |row: &credit_withdrawal::Model| match row.reason {
            WithdrawalReason::Dispute | WithdrawalReason::PurchaseRefund => true,
            WithdrawalReason::Expiry | WithdrawalReason::CarryOver => false,
        };
        let rows: Vec<_> = rows.into_iter().filter(returnable).collect();
        let Some(row) = self.rng.choice(&rows) else { return "nothing to put back".to_owned() };
        let back = put_back(&self.app.app, row).await;
        assert_eq!((back.put_back, back.cost_taken), (back.taken, 0));
        format!("put back {} of {}", back.put_back - row.put_back, row.reason)
    }

    async fn time(&mut self) -> String {
        let by = match self.rng.u32(..4) {
            0 => TimeDelta::minutes(self.rng.i64(1..600)),
            1 | 2 => TimeDelta::days(self.rng.i64(1..20)),
            _ => TimeDelta::days(self.rng.i64(20..95)),
        };
        self.app.clock.advance(by);
        let applied = self.rng.bool() && due(&self.app.app, &self.hotel).await;
        format!("{by} later, applied: {applied}")
    }

    async fn tenant_plan(&mut self) -> String {
        let plans = [PlanType::Essential, PlanType::Professional, PlanType::Enterprise];
        let plan = *self.rng.choice(&plans).unwrap();
        let until = self
            .rng
            .bool()
            .then(|| self.app.clock.db_now() + TimeDelta::days(self.rng.i64(-10..60)));
        set_plan(&self.app, &self.hotel, plan, until).await;
        format!("plan {plan} until {until:?}")
    }

    async fn plan(&mut self) -> String {
        let plans = [PlanType::Essential, PlanType::Professional, PlanType::Enterprise];
        let plan = *self.rng.choice(&plans).unwrap();
        let (rule, cap) = match self.rng.u32(..3) {
            0 => (CarryOver::All, None),
            1 => (CarryOver::None, None),
            _ => (CarryOver::Cap, Some(self.rng.i64(0..400))),
        };
        set_carry_over(&self.app, plan, rule, cap).await;
        format!("{plan} carries over {rule} {cap:?}")
    }

    /// A result that comes after its hold was swept writes nothing.
    async fn late_result(&mut self) -> String {
        let Some(job) = self.swept.pop() else { return "no late result".to_owned() };
        let before = self.hotel.account().await;
        settle(&self.app.app, &job, job.execution.credits_held).await;
        assert_eq!(self.hotel.account().await, before);
        "late result".to_owned()
    }

    async fn end_all(&mut self) {
        while let Some(job) = self.running.pop() {
            let charge = self.rng.i64(0..=job.execution.credits_held);
            settle(&self.app.app, &job, charge).await;
        }
        due(&self.app.app, &self.hotel).await;
    }

    async fn prove(&self, when: &str) {
        assert_eq!(self.app.drifts().await, Vec::<String>::new(), "{when}");
        let account = self.hotel.account().await;
        let (current, held) = (account.current_balance, account.held);
        assert!(0 <= held && held <= current, "{when}: held {held}, current {current}");
        self.prove_withdrawals(when, held).await;
        self.prove_resets(when).await;
        self.prove_due(when, &account).await;
        self.prove_costs(when).await;
    }

    async fn prove_withdrawals(&self, when: &str, held: i64) {
        let grants = grants(&self.app, &self.hotel).await;
        for row in withdrawals(&self.app, &self.hotel).await {
            assert!(row.put_back <= row.taken && row.taken <= row.asked, "{when}: {row:?}");
            if row.closed_at.is_some() {
                assert_eq!(row.asked, row.taken, "{when}: {row:?}");
                continue;
            }
            let grant = grants.iter().find(|grant| grant.id == row.grant_id).unwrap();
            assert!(row.taken < row.asked && grant.remaining > 0, "{when}: {row:?}");
            assert!(held > 0, "{when}: open though nothing is held: {row:?}");
        }
    }

    async fn prove_resets(&self, when: &str) {
        let rows = resets(&self.app, &self.hotel).await;
        for pair in rows.windows(2) {
            let next = musubi::credits::period::next_period(pair[0].reset_date);
            assert_eq!(pair[1].reset_date, next, "{when}: a month is missing");
        }
    }

    /// No expiry lies before the account's next due time.
    async fn prove_due(&self, when: &str, account: &credit_account::Model) {
        if account.next_due_at <= self.app.clock.db_now() {
            return;
        }
        let open: Vec<_> = withdrawals(&self.app, &self.hotel).await;
        for grant in grants(&self.app, &self.hotel).await {
            let is_open =
                open.iter().any(|row| row.grant_id == grant.id && row.closed_at.is_none());
            let Some(expiry) = grant.expires_at.filter(|_| grant.remaining > 0 && !is_open) else {
                continue;
            };
            assert!(expiry >= account.next_due_at, "{when}: {grant:?} would not expire");
        }
    }

    /// Each charge's cost is the sum of its draws' costs.
    async fn prove_costs(&self, when: &str) {
        #[derive(sea_orm::FromQueryResult)]
        struct Off {
            credits_amount: i64,
        }
        let text = "SELECT t.credits_amount FROM ai_credit_transactions t
                    LEFT JOIN ai_credit_draws d ON d.transaction_id = t.id
                    WHERE t.transaction_type = 'USAGE'
                    GROUP BY t.id, t.credits_amount, t.total_cost_yen
                    HAVING t.total_cost_yen IS NULL
                    OR t.total_cost_yen <> COALESCE(SUM(d.cost), 0)";
        let primary = self.app.app.db.primary();
        let off: Vec<Off> = musubi::db::all(primary, text, vec![]).await.unwrap();
        let off: Vec<_> = off.iter().map(|row| row.credits_amount).collect();
        assert_eq!(off, Vec::<i64>::new(), "{when}");
    }

    /// With nothing running and nothing due, no expired credit is left.
    async fn prove_rest(&self, seed: u64) {
        let now = self.app.clock.db_now();
        assert_eq!(self.hotel.balance().await.1, 0, "seed {seed}");
        for grant in grants(&self.app, &self.hotel).await {
            let is_expired = grant.expires_at.is_some_and(|at| at <= now);
            assert!(!is_expired || grant.remaining == 0, "seed {seed}: {grant:?}");
        }
        assert_books(&self.app).await;
    }

    /// Runs that are settled already, to be refunded by many.
    async fn paid(&self, nodes: &[App], rng: &mut Rng, round: i64) -> Vec<Job> {
        self.hotel.buys(100 + round, 1_999).await;
        let mut paid = Vec::new();
        for _ in 0..3 {
            let node = rng.choice(nodes).unwrap();
            if let Ok(job) = try_hold(node, &self.hotel, &[rng.i64(5..40)]).await {
                settle(node, &job, rng.i64(1..=job.execution.credits_held)).await;
                paid.push(job);
            }
        }
        paid
    }

    fn errand<'a>(&'a self, nodes: &'a [App], rng: &mut Rng, paid: &[Job]) -> BoxFuture<'a, ()> {
        let node = rng.choice(nodes).unwrap();
        let (credits, lasts) = (rng.i64(1..60), TimeDelta::hours(rng.i64(1..700)));
        let job = rng.choice(paid).cloned();
        let plans = [PlanType::Essential, PlanType::Professional, PlanType::Enterprise];
        let plan = *rng.choice(&plans).unwrap();
        match rng.u32(..8) {
            0..4 => async move {
                if let Ok(job) = try_hold(node, &self.hotel, &[credits]).await {
                    settle(node, &job, credits / 2).await;
                }
            }
            .boxed(),
            4 => async move {
                give_bonus(&self.app, (&self.root, &self.hotel), credits, Some(lasts)).await;
            }
            .boxed(),
            5 => async move {
                // Refused when another errand gave the same credits back before.
                if let Some(job) = job {
                    let whose = (&self.root, &self.hotel);
                    let refunded = give_back(node, whose, &job, Some(3)).await;
                    assert!(!matches!(refunded, Err(musubi::error::Error::Broken(_))));
                }
            }
            .boxed(),
            6 => async move {
                let grants = grants(&self.app, &self.hotel).await;
                let bought = grants.iter().rfind(|grant| grant.kind == GrantKind::Purchased);
                let what = (bought.unwrap().id, credits);
                let row = take_away(node, &self.hotel, what, WithdrawalReason::Dispute).await;
                put_back(node, &row).await;
            }
            .boxed(),
            _ => set_plan(&self.app, &self.hotel, plan, None).boxed(),
        }
    }
}
