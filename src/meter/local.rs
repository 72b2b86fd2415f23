//! What this node counts by itself, in bounded memory. What was asked for twice outlives any flood
//! of what was asked for once, and strangers push none out who are known.

use std::sync::{Mutex, MutexGuard, PoisonError};

use quick_cache::Weighter;
use quick_cache::unsync::Cache;

use crate::meter::count::{Bucket, Count, Owed, Shortage, Window};
use crate::meter::{Charge, Crowd, Kind, Past, Refusal, Usage, Verdict, micros, span};

/// What may be kept of each crowd, in bytes.
const BYTES_MAX: u64 = 24 * 1024 * 1024;
/// Keys that the first allocation has room for.
const USUAL: usize = 1_000;
/// What a key costs beside its text and its count, in bytes.
const OVERHEAD: usize = 128;

/// The counts of this node.
pub(super) struct Local(Mutex<Store>);

struct Store {
    known: Counts,
    strangers: Counts,
}

type Counts = Cache<Box<str>, Kept, Memory>;

/// A count, with the period that it is over.
struct Kept {
    period: i64,
    count: Count,
}

#[derive(Clone)]
struct Memory;

impl Weighter<Box<str>, Kept> for Memory {
    fn weight(&self, key: &Box<str>, kept: &Kept) -> u64 {
        u64::try_from(key.len() + OVERHEAD + kept.count.bytes()).unwrap_or(u64::MAX)
    }
}

/// What the other nodes do not know of a key.
pub(super) struct Debt {
    pub(super) key: Box<str>,
    pub(super) period: i64,
    pub(super) owed: Vec<Owed>,
}

impl Local {
    pub(super) fn new() -> Self {
        let counts = || Cache::with_weighter(USUAL, BYTES_MAX, Memory);
        Self(Mutex::new(Store { known: counts(), strangers: counts() }))
    }

    fn lock(&self) -> MutexGuard<'_, Store> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the counts take, in bytes.
    pub(super) fn bytes(&self) -> u64 {
        let store = self.lock();
        store.known.weight() + store.strangers.weight()
    }

    /// Takes all charges or none.
    pub(super) fn take(&self, now: i64, charges: &[Charge]) -> Verdict {
        let mut store = self.lock();
        let mut refused: Option<(usize, Shortage)> = None;
        for (index, charge) in charges.iter().enumerate() {
            let Some(shortage) = store.shortage(now, charge) else { continue };
            if refused.is_none_or(|(_, longest)| shortage.wait > longest.wait) {
                refused = Some((index, shortage));
            }
        }
        if let Some((index, shortage)) = refused {
            let Shortage { remaining, wait } = shortage;
            return Verdict::Refused(Refusal { index, remaining, retry_after: span(wait) });
        }
        charges.iter().for_each(|charge| store.note(now, charge, false));
        Verdict::Taken
    }

    /// Notes what was taken elsewhere.
    pub(super) fn note(&self, now: i64, charges: &[Charge]) {
        let mut store = self.lock();
        charges.iter().for_each(|charge| store.note(now, charge, true));
    }

    /// Gives back what was taken.
    pub(super) fn give_back(&self, charges: &[Charge]) {
        let mut store = self.lock();
        for charge in charges {
            store.with(charge, |count, _| match (count, charge.kind) {
                (Count::Bucket(bucket), Kind::Tokens(tokens)) => bucket.give_back(tokens),
                (Count::Window(window), Kind::Place(id)) => window.give_back(id),
                (Count::Bucket(_), Kind::Place(_)) | (Count::Window(_), Kind::Tokens(_)) => {}
            });
        }
    }

    /// Whether what was in a window before this process was read.
    pub(super) fn is_read(&self, charge: &Charge) -> bool {
        let mut store = self.lock();
        let counts = store.counts(charge.key.crowd);
        match counts.get(charge.key.text.as_str()).map(|kept| &kept.count) {
            Some(Count::Window(window)) => window.is_read,
            Some(Count::Bucket(_)) | None => false,
        }
    }

    /// Adds what was in a window before, or came to it elsewhere.
    pub(super) fn read(&self, charge: &Charge, past: &[Past]) {
        self.lock().with(charge, |count, _| {
            if let Count::Window(window) = count {
                past.iter().for_each(|past| window.take(micros(past.at), past.id, true));
                window.is_read = true;
            }
        });
    }

    /// How full a window is.
    pub(super) fn look(&self, now: i64, charge: &Charge) -> Usage {
        let (used, left) = self.lock().with(charge, |count, period| match count {
            Count::Window(window) => {
                window.trim(now, period);
                window.look(now, period)
            }
            Count::Bucket(_) => (0, None),
        });
        Usage { used, oldest_left: left.map(span) }
    }

    /// As if nobody but us had been told of anything.
    pub(super) fn forget_told(&self) {
        self.lock().each(|_, kept| kept.count.forget_told());
    }

    /// What the others do not know.
    pub(super) fn debts(&self, now: i64) -> Vec<Debt> {
        let mut debts = Vec::new();
        self.lock().each(|key, kept| {
            kept.count.trim(now, kept.period);
            let owed = kept.count.owed(now, kept.period);
            if !owed.is_empty() {
                debts.push(Debt { key: key.into(), period: kept.period, owed });
            }
        });
        debts
    }

    /// The others know of these now.
    pub(super) fn settle(&self, debts: &[Debt]) {
        let mut store = self.lock();
        let Store { known, strangers } = &mut *store;
        for debt in debts {
            for counts in [&mut *known, &mut *strangers] {
                if let Some(mut kept) = counts.peek_mut(debt.key.as_ref()) {
                    debt.owed.iter().for_each(|owed| kept.count.settle(owed));
                }
            }
        }
    }
}

impl Store {
    fn counts(&mut self, crowd: Crowd) -> &mut Counts {
        match crowd {
            Crowd::Known => &mut self.known,
            Crowd::Strangers => &mut self.strangers,
        }
    }

    fn each(&mut self, mut work: impl FnMut(&str, &mut Kept)) {
        for counts in [&mut self.known, &mut self.strangers] {
            let keys: Vec<Box<str>> = counts.iter().map(|(key, _)| key.clone()).collect();
            for key in keys {
                if let Some(mut kept) = counts.peek_mut(key.as_ref()) {
                    work(&key, &mut kept);
                }
            }
        }
    }

    /// Works with the count of a charge, which is made when it is missing.
    fn with<T>(&mut self, charge: &Charge, work: impl FnOnce(&mut Count, i64) -> T) -> T {
        let period = charge.period_micros();
        let counts = self.counts(charge.key.crowd);
        if let Some(mut kept) = counts.get_mut(charge.key.text.as_str()) {
            kept.period = period;
            return work(&mut kept.count, period);
        }
        let mut count = match charge.kind {
            Kind::Tokens(_) => Count::Bucket(Bucket::default()),
            Kind::Place(_) => Count::Window(Window::default()),
        };
        let done = work(&mut count, period);
        counts.insert(charge.key.text.as_str().into(), Kept { period, count });
        done
    }

    /// Why a charge cannot be taken. Looking makes nothing and keeps nothing alive: who came once
    /// is the first to be forgotten.
    fn shortage(&mut self, now: i64, charge: &Charge) -> Option<Shortage> {
        let period = charge.period_micros();
        let terms = (charge.limit, period);
        let counts = self.counts(charge.key.crowd);
        let mut kept = counts.peek_mut(charge.key.text.as_str());
        match (kept.as_mut().map(|kept| &mut kept.count), charge.kind) {
            (Some(Count::Bucket(bucket)), Kind::Tokens(tokens)) => {
                bucket.trim(now, period);
                bucket.shortage(now, terms, tokens)
            }
            (Some(Count::Window(window)), Kind::Place(id)) => {
                window.trim(now, period);
                window.shortage(now, terms, id)
            }
            (None, Kind::Tokens(tokens)) => Bucket::default().shortage(now, terms, tokens),
            (None, Kind::Place(id)) => Window::default().shortage(now, terms, id),
            (Some(Count::Bucket(_)), Kind::Place(_))
            | (Some(Count::Window(_)), Kind::Tokens(_)) => None,
        }
    }

    fn note(&mut self, now: i64, charge: &Charge, is_told: bool) {
        self.with(charge, |count, period| match (count, charge.kind) {
            (Count::Bucket(bucket), Kind::Tokens(tokens)) => {
                bucket.trim(now, period);
                bucket.take(now, period, tokens, is_told);
            }
            (Count::Window(window), Kind::Place(id)) => {
                window.trim(now, period);
                window.take(now, id, is_told);
            }
            (Count::Bucket(_), Kind::Place(_)) | (Count::Window(_), Kind::Tokens(_)) => {}
        });
    }
}
