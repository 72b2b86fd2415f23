//! What several nodes count together, in Redis.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use aws_lc_rs::hmac;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::clock::Clock;
use crate::config::Config;
use crate::error::{Error, Result};
use crate::external::redis_scripts::{Call, Script, Server, Session};
use crate::meter::local::{Debt, Local};
use crate::meter::{Charge, History, Kind, Past, Refusal, Usage, Verdict, micros, span};

/// The pause before the next attempt to reach Redis, at first and at most.
const PAUSE_MIN: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(2);
/// Keys that are told in one round trip.
const TOLD_AT_ONCE: usize = 200;

static TAKE: Script = Script::new(include_str!("take.lua"));
static GIVE_BACK: Script = Script::new(include_str!("give_back.lua"));
static TELL: Script = Script::new(include_str!("tell.lua"));

/// Redis, while it answers.
pub(super) struct Shared {
    server: Server,
    /// What the keys of this installation begin with.
    namespace: String,
    patience: Duration,
    link: RwLock<Option<Arc<Link>>>,
    wake: Notify,
}

/// A connection, and what keys begin with on this run of the server.
struct Link {
    session: Session,
    prefix: String,
}

impl Link {
    fn key(&self, charge: &Charge) -> String {
        format!("{}{}", self.prefix, charge.key.text)
    }
}

impl Shared {
    /// None without Redis.
    pub(super) fn new(config: &Config) -> Option<Self> {
        let server = Server::new(config.redis_url.as_ref()?)
            .inspect_err(|error| error!(%error, "REDIS_URL cannot be used: {error}"))
            .ok()?;
        Some(Self {
            server,
            namespace: namespace(config),
            patience: config.limits.redis_patience,
            link: RwLock::default(),
            wake: Notify::new(),
        })
    }

    pub(super) fn is_up(&self) -> bool {
        self.link().is_some()
    }

    /// There is something to tell, or to mend.
    pub(super) fn wake(&self) {
        self.wake.notify_one();
    }

    fn link(&self) -> Option<Arc<Link>> {
        self.link.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set_link(&self, link: Option<Arc<Link>>) {
        *self.link.write().unwrap_or_else(PoisonError::into_inner) = link;
    }

    /// Takes the charges; none when Redis does not answer.
    pub(super) async fn take(
        &self,
        now: i64,
        charges: &[Charge],
        history: &impl History,
    ) -> Result<Option<Verdict>> {
        let Some(answer) = self.ask(now, charges, history, Purpose::Take).await? else {
            return Ok(None);
        };
        Ok(match answer.as_slice() {
            [1] => Some(Verdict::Taken),
            [0, index, remaining, wait] => Some(Verdict::Refused(Refusal {
                index: usize::try_from(*index).unwrap_or_default(),
                remaining: *remaining,
                retry_after: span(*wait),
            })),
            other => self.astray(other),
        })
    }

    /// Looks at a window; none when Redis does not answer.
    pub(super) async fn look(
        &self,
        now: i64,
        charge: &Charge,
        history: &impl History,
    ) -> Result<Option<Usage>> {
        let charges = std::slice::from_ref(charge);
        let Some(answer) = self.ask(now, charges, history, Purpose::Look).await? else {
            return Ok(None);
        };
        Ok(match answer.as_slice() {
            [1, used, left] => {
                let oldest_left = Some(*left).filter(|left| *left >= 0).map(span);
                Some(Usage { used: *used, oldest_left })
            }
            other => self.astray(other),
        })
    }

    /// Gives charges back, if Redis answers.
    pub(super) async fn give_back(&self, charges: &[Charge]) {
        let Some(link) = self.link() else { return };
        let mut call = Call::default();
        for charge in charges {
            call.keys.push(link.key(charge));
            match charge.kind {
                Kind::Tokens(tokens) => {
                    call.push("T");
                    call.push(tokens);
                }
                Kind::Place(id) => {
                    call.push("P");
                    call.push(id.simple());
                }
            }
        }
        self.run(&link, &GIVE_BACK, &call).await;
    }

    /// Asks the script, again when it wants windows to be read first.
    async fn ask(
        &self,
        now: i64,
        charges: &[Charge],
        history: &impl History,
        purpose: Purpose,
    ) -> Result<Option<Vec<i64>>> {
        let Some(link) = self.link() else { return Ok(None) };
        let mut past: Vec<Option<Vec<Past>>> = vec![None; charges.len()];
        let call = purpose.call(&link, now, charges, &past);
        let answer = self.run(&link, &TAKE, &call).await;
        let Some([2, unread @ ..]) = answer.as_deref() else { return Ok(answer) };
        for index in unread {
            let index = usize::try_from(*index).unwrap_or(usize::MAX);
            if let (Some(charge), Some(slot)) = (charges.get(index), past.get_mut(index)) {
                *slot = Some(history.read(charge).await?);
            }
        }
        let call = purpose.call(&link, now, charges, &past);
        Ok(self.run(&link, &TAKE, &call).await)
    }

    /// Runs a script. After a failure nobody asks until Redis was reached again.
    async fn run(&self, link: &Arc<Link>, script: &Script, call: &Call) -> Option<Vec<i64>> {
        match link.session.run(script, call, self.patience).await {
            Ok(answer) => Some(answer),
            Err(error) => {
                self.lose(link, &error);
                None
            }
        }
    }

    fn lose(&self, link: &Arc<Link>, error: &Error) {
        let mut current = self.link.write().unwrap_or_else(PoisonError::into_inner);
        if current.as_ref().is_some_and(|current| Arc::ptr_eq(current, link)) {
            warn!(%error, "Redis is away, each node counts limits alone: {error}");
            *current = None;
        }
        drop(current);
        self.wake();
    }

    fn astray<T>(&self, answer: &[i64]) -> Option<T> {
        error!(?answer, "Redis answered something else than the script does");
        None
    }

    /// Keeps the connection, and tells Redis what was taken without it, until shutdown begins.
    pub(super) async fn keep(&self, local: &Local, clock: &Clock, stopping: CancellationToken) {
        let mut run = String::new();
        let mut pause = PAUSE_MIN;
        let mut is_failing = false;
        loop {
            let began = Instant::now();
            let outcome = tokio::select! {
                biased;
                () = stopping.cancelled() => return,
                outcome = self.stay(local, clock, &mut run) => outcome,
            };
            let was_up = matches!(outcome, Ok(Lost)) || self.is_up();
            self.set_link(None);
            match outcome {
                Ok(Lost) => is_failing = false,
                Err(error) => {
                    if was_up || !is_failing {
                        warn!(%error, "Redis does not count limits: {error}");
                    }
                    is_failing = true;
                }
            }
            if was_up && began.elapsed() > PAUSE_MAX {
                pause = PAUSE_MIN;
            }
            tokio::select! {
                biased;
                () = stopping.cancelled() => return,
                () = sleep(pause.mul_f64(0.5 + fastrand::f64() / 2.0)) => {}
            }
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    /// Connects and stays so until a caller found the connection broken.
    async fn stay(&self, local: &Local, clock: &Clock, run: &mut String) -> Result<Lost> {
        let session = self.server.connect().await?;
        if session.run_id() != run {
            // Another run: who knows what it remembers. All of it goes under new keys.
            local.forget_told();
            session.run_id().clone_into(run);
        }
        let prefix = format!("{}:{}:", self.namespace, session.run_id());
        let link = Arc::new(Link { session, prefix });
        self.tell(&link, local, clock).await?;
        self.set_link(Some(Arc::clone(&link)));
        info!("Connected to Redis, all nodes count limits together");
        loop {
            self.wake.notified().await;
            if !self.link().is_some_and(|current| Arc::ptr_eq(&current, &link)) {
                return Ok(Lost);
            }
            self.tell(&link, local, clock).await?;
        }
    }

    /// Tells Redis what it does not know. What may not have arrived is told again: rather too much
    /// is counted than too little.
    async fn tell(&self, link: &Link, local: &Local, clock: &Clock) -> Result<()> {
        let debts = local.debts(micros(clock.db_now()));
        for some in debts.chunks(TOLD_AT_ONCE) {
            let calls: Vec<Call> = some.iter().map(|debt| debt.call(link)).collect();
            link.session.run_all(&TELL, &calls).await?;
            local.settle(some);
        }
        Ok(())
    }
}

/// The connection is gone.
struct Lost;

impl Debt {
    fn call(&self, link: &Link) -> Call {
        let mut call =
            Call { keys: vec![format!("{}{}", link.prefix, self.key)], ..Call::default() };
        let is_bucket = self.owed.iter().any(|owed| matches!(owed.what, Kind::Tokens(_)));
        call.push(if is_bucket { "T" } else { "P" });
        call.push(self.period);
        for owed in &self.owed {
            call.push(owed.age);
            match owed.what {
                Kind::Tokens(tokens) => call.push(tokens),
                Kind::Place(id) => call.push(id.simple()),
            }
        }
        call
    }
}

/// What the script is to do with charges.
#[derive(Clone, Copy)]
enum Purpose {
    Take,
    Look,
}

impl Purpose {
    fn call(self, link: &Link, now: i64, charges: &[Charge], past: &[Option<Vec<Past>>]) -> Call {
        let mut call = Call::default();
        for (charge, past) in charges.iter().zip(past) {
            call.keys.push(link.key(charge));
            match (self, charge.kind) {
                (Self::Take, Kind::Tokens(tokens)) => {
                    call.push("T");
                    call.push(charge.limit);
                    call.push(charge.period_micros());
                    call.push(tokens);
                }
                (Self::Take, Kind::Place(id)) => {
                    call.push("P");
                    call.push(charge.limit);
                    call.push(charge.period_micros());
                    call.push(id.simple());
                    push_past(&mut call, now, past.as_deref());
                }
                (Self::Look, Kind::Tokens(_) | Kind::Place(_)) => {
                    call.push("L");
                    call.push(charge.period_micros());
                    push_past(&mut call, now, past.as_deref());
                }
            }
        }
        call
    }
}

fn push_past(call: &mut Call, now: i64, past: Option<&[Past]>) {
    let Some(past) = past else { return call.push(-1) };
    call.push(past.len());
    for past in past {
        call.push(now - micros(past.at));
        call.push(past.id.simple());
    }
}

/// What the keys of this installation begin with: two on one Redis count apart, and the name tells
/// nothing of the key. The number is the version of what is kept under them.
fn namespace(config: &Config) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, &config.index_key);
    let digest = hmac::sign(&key, b"musubi limits");
    let hex: String = digest.as_ref().iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    format!("musubi:limits:1:{hex}")
}
