//! Work done together: who shares a round, and whom a fault of one of them reaches.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use futures_util::future::join_all;
use musubi::batch::{Batches, Commit, Lookup, Queue, Work};
use musubi::db::Txn;
use musubi::error::{Code, Error, Result};
use tokio::sync::Semaphore;

use crate::support::TestApp;

/// What the rounds of a test work with.
#[derive(Clone)]
struct Desk {
    app: Arc<TestApp>,
    /// Each round takes one; without any, callers gather.
    turns: Arc<Semaphore>,
    /// What each transaction was given.
    rounds: Arc<Mutex<Vec<Vec<&'static str>>>>,
    begun: Arc<AtomicUsize>,
    /// Transactions that can begin; then the database is away.
    begins_max: usize,
    /// Whether what is `locked` can be written.
    is_open: Arc<AtomicBool>,
}

impl Desk {
    async fn new(turns: usize) -> Self {
        Self {
            app: Arc::new(TestApp::start().await),
            turns: Arc::new(Semaphore::new(turns)),
            rounds: Arc::default(),
            begun: Arc::default(),
            begins_max: usize::MAX,
            is_open: Arc::default(),
        }
    }

    fn batches(&self) -> &Batches {
        &self.app.app.batches
    }

    async fn take_turn(&self) {
        self.turns.acquire().await.unwrap().forget();
    }

    fn rounds(&self) -> Vec<Vec<&'static str>> {
        self.rounds.lock().unwrap().clone()
    }
}

/// A write for a part; `broken` ones fail whatever they are done with.
struct Note(u8, &'static str);

impl Commit for Note {
    type Context = Desk;
    type Answer = &'static str;
    type Part = u8;

    fn waiting_max(&self) -> usize {
        if self.1 == "urgent" { usize::MAX } else { 8 }
    }

    fn part(&self) -> u8 {
        self.0
    }

    async fn begin(desk: &Desk) -> Result<Txn> {
        desk.take_turn().await;
        if desk.begun.fetch_add(1, Ordering::Relaxed) >= desk.begins_max {
            return Err(Error::Unavailable("database"));
        }
        desk.app.app.db.begin().await
    }

    async fn write(desk: &Desk, txn: Txn, notes: &[Self]) -> Result<Vec<&'static str>> {
        let words: Vec<&'static str> = notes.iter().map(|note| note.1).collect();
        desk.rounds.lock().unwrap().push(words.clone());
        if words.contains(&"broken") {
            return Err(Error::broken("one of them is broken"));
        }
        assert!(!words.contains(&"panics"), "told to");
        if words.contains(&"locked") && !desk.is_open.load(Ordering::Relaxed) {
            return Err(Error::Unavailable("lock"));
        }
        txn.commit().await?;
        Ok(words)
    }
}

/// Hands all notes in at once; the first round gets its turn when all of them wait.
async fn hand_in(desk: &Desk, notes: Vec<Note>) -> Vec<Result<&'static str>> {
    let answers = notes.into_iter().map(|note| desk.batches().commit(desk, note));
    let answers = join_all(answers);
    tokio::pin!(answers);
    // Polled once, everybody stands in the queue.
    assert!(futures_util::poll!(&mut answers).is_pending());
    desk.turns.add_permits(100);
    answers.await
}

#[tokio::test]
async fn whoever_waits_shares_one_transaction_and_hears_of_their_own_part() {
    let desk = Desk::new(0).await;

    let answers = hand_in(&desk, vec![Note(1, "one"), Note(2, "two"), Note(1, "three")]).await;

    let words: Vec<_> = answers.into_iter().map(Result::unwrap).collect();
    assert_eq!(words, ["one", "two", "three"]);
    assert_eq!(desk.rounds(), [["one", "two", "three"]]);
}

#[tokio::test]
async fn one_broken_write_fails_alone() {
    let desk = Desk::new(0).await;
    let notes = vec![Note(1, "one"), Note(2, "two"), Note(1, "broken"), Note(1, "four")];

    let answers = hand_in(&desk, notes).await;

    let codes: Vec<_> = answers.iter().map(|it| it.as_ref().map_err(Error::code)).collect();
    assert_eq!(codes, [Ok(&"one"), Ok(&"two"), Err(Code::Internal), Ok(&"four")]);
    let mut rounds = desk.rounds();
    assert_eq!(rounds.remove(0), ["one", "two", "broken", "four"]);
    // The other part is done by itself and at the same time, whatever becomes of this one.
    assert!(rounds.contains(&vec!["two"]), "{rounds:?}");
    rounds.retain(|round| *round != ["two"]);
    assert_eq!(rounds, [vec!["one", "broken", "four"], vec!["one"], vec!["broken"], vec!["four"]]);
}

#[tokio::test]
async fn one_write_that_panics_is_a_fault_for_its_caller_alone() {
    let desk = Desk::new(0).await;
    let notes = vec![Note(1, "one"), Note(2, "two"), Note(1, "panics"), Note(1, "four")];

    let answers = hand_in(&desk, notes).await;

    let codes: Vec<_> = answers.iter().map(|it| it.as_ref().map_err(Error::code)).collect();
    assert_eq!(codes, [Ok(&"one"), Ok(&"two"), Err(Code::Internal), Ok(&"four")]);
}

#[tokio::test]
async fn a_part_that_is_locked_spoils_one_round_and_then_goes_on_beside_them() {
    let desk = Desk::new(0).await;

    let answers = hand_in(&desk, vec![Note(1, "locked"), Note(2, "two")]).await;
    let codes: Vec<_> = answers.iter().map(|it| it.as_ref().map_err(Error::code)).collect();
    assert_eq!(codes, [Err(Code::Unavailable), Ok(&"two")]);

    // Those who come while it is locked: nobody of another part meets it in a round.
    let before = desk.rounds().len();
    let notes = vec![Note(1, "locked"), Note(2, "two"), Note(3, "three")];
    let answers = hand_in(&desk, notes).await;
    let codes: Vec<_> = answers.iter().map(|it| it.as_ref().map_err(Error::code)).collect();
    assert_eq!(codes, [Err(Code::Unavailable), Ok(&"two"), Ok(&"three")]);
    let mut rounds = desk.rounds().split_off(before);
    rounds.sort_unstable();
    assert_eq!(rounds, [vec!["locked"], vec!["two", "three"]]);

    // It opens: the next goes beside once more, and soon the later ones with the others again.
    desk.is_open.store(true, Ordering::Relaxed);
    for _ in 0..100 {
        let answers = hand_in(&desk, vec![Note(1, "locked"), Note(2, "two")]).await;
        assert!(answers.iter().all(Result::is_ok), "{answers:?}");
        if desk.rounds().last().unwrap() == &["locked", "two"] {
            return;
        }
    }
    panic!("it never came back to the others");
}

#[tokio::test]
async fn a_database_that_is_away_is_asked_once_and_not_for_each_caller() {
    let desk = Desk { begins_max: 0, ..Desk::new(0).await };

    let answers = hand_in(&desk, vec![Note(1, "one"), Note(2, "two"), Note(3, "three")]).await;

    assert!(answers.iter().all(|it| matches!(it, Err(Error::Unavailable(_)))), "{answers:?}");
    assert_eq!((desk.begun.load(Ordering::Relaxed), desk.rounds().len()), (1, 0));
}

#[tokio::test]
async fn a_database_that_goes_away_during_a_round_refuses_all_that_is_left() {
    let desk = Desk { begins_max: 1, ..Desk::new(0).await };
    let notes = (1..=6).map(|part| Note(part, if part == 1 { "broken" } else { "sound" }));

    let answers = hand_in(&desk, notes.collect()).await;

    assert!(answers.iter().all(|it| matches!(it, Err(Error::Unavailable(_)))), "{answers:?}");
    assert_eq!(desk.rounds().len(), 1);
}

#[tokio::test]
async fn more_than_may_wait_are_refused_and_the_others_served() {
    let desk = Desk::new(0).await;
    let notes = (0..10).map(|_| Note(1, "note")).collect();

    let answers = hand_in(&desk, notes).await;

    let served = answers.iter().filter(|answer| answer.is_ok()).count();
    assert_eq!((served, answers.len() - served), (8, 2));
    assert!(answers.iter().flat_map(|it| it.as_ref().err()).all(|e| e.code() == Code::Unavailable));
}

#[tokio::test]
async fn what_may_not_be_refused_waits_behind_any_number() {
    let desk = Desk::new(0).await;
    let notes = (0..10).map(|number| Note(1, if number < 9 { "note" } else { "urgent" }));

    let answers = hand_in(&desk, notes.collect()).await;

    let words: Vec<_> = answers.iter().map(|it| it.as_ref().map_err(Error::code)).collect();
    let mut expected = vec![Ok(&"note"); 8];
    expected.extend([Err(Code::Unavailable), Ok(&"urgent")]);
    assert_eq!(words, expected);
}

/// Work that may have two rounds under way.
struct Paired;

impl Work for Paired {
    type Context = Desk;
    type Answer = usize;
    type Shared = ();
    const ROUNDS_MAX: usize = 2;

    fn waiting_max(&self) -> usize {
        8
    }

    async fn round(desk: Desk, queue: Queue<Self>) {
        let number = desk.begun.fetch_add(1, Ordering::Relaxed);
        let tickets = queue.take(8);
        desk.take_turn().await;
        tickets.into_iter().for_each(|ticket| ticket.answer(Ok(number)));
    }
}

#[tokio::test]
async fn two_rounds_at_most_are_under_way_and_later_callers_share_the_next() {
    let desk = Desk::new(0).await;
    let paired = || {
        let desk = desk.clone();
        tokio::spawn(async move { desk.batches().submit(&desk, Paired).await })
    };

    let mut waiting = Vec::new();
    for _ in 0..5 {
        waiting.push(paired());
        // Lets the caller join the queue, and a round begin if one may.
        for _ in 0..4 {
            tokio::task::yield_now().await;
        }
    }
    assert_eq!(desk.begun.load(Ordering::Relaxed), 2);
    desk.turns.add_permits(100);

    let mut rounds = Vec::new();
    for caller in waiting {
        rounds.push(caller.await.unwrap().unwrap());
    }
    assert_eq!(rounds, [0, 1, 2, 2, 2]);
}

/// A read that tells what it was asked for.
struct Lengths;

impl Lookup for Lengths {
    type Context = Desk;
    type Key = &'static str;
    type Value = usize;

    async fn read(
        desk: &Desk,
        mut keys: Vec<&'static str>,
    ) -> Result<HashMap<&'static str, usize>> {
        desk.take_turn().await;
        keys.sort_unstable();
        desk.rounds.lock().unwrap().push(keys.clone());
        let known = keys.into_iter().filter(|key| *key != "missing");
        Ok(known.map(|key| (key, key.len())).collect())
    }
}

#[tokio::test]
async fn readers_share_what_begins_after_they_asked_and_nothing_older() {
    let desk = Desk::new(1).await;
    let find = |key| desk.batches().find::<Lengths>(&desk, key);
    assert_eq!(find("first").await.unwrap(), Some(5));

    let begun = tokio::spawn({
        let desk = desk.clone();
        async move { desk.batches().find::<Lengths>(&desk, "under way").await }
    });
    // That one has begun and waits for its turn.
    tokio::task::yield_now().await;
    tokio::task::yield_now().await;
    let later = join_all(["a", "bb", "a", "missing"].map(find));
    tokio::pin!(later);
    assert!(futures_util::poll!(&mut later).is_pending());
    desk.turns.add_permits(2);

    let found: Vec<_> = later.await.into_iter().map(Result::unwrap).collect();
    assert_eq!(found, [Some(1), Some(2), Some(1), None]);
    assert_eq!(begun.await.unwrap().unwrap(), Some(9));
    assert_eq!(desk.rounds(), [vec!["first"], vec!["under way"], vec!["a", "bb", "missing"]]);
}

/// Work that panics when it is told to.
struct Risky(bool);

impl Work for Risky {
    type Context = Desk;
    type Answer = ();
    type Shared = ();

    fn waiting_max(&self) -> usize {
        8
    }

    async fn round(desk: Desk, queue: Queue<Self>) {
        desk.take_turn().await;
        assert!(desk.begins_max > 0, "told to");
        for ticket in queue.take(1) {
            assert!(!ticket.work.0, "told to");
            ticket.answer(Ok(()));
        }
    }
}

#[tokio::test]
async fn a_round_that_panics_is_a_fault_for_those_in_it_and_for_nobody_else() {
    let desk = Desk::new(100).await;

    let (first, second) = tokio::join!(
        desk.batches().submit(&desk, Risky(true)),
        desk.batches().submit(&desk, Risky(false)),
    );

    assert_eq!(first.unwrap_err().code(), Code::Internal);
    second.unwrap();
}

#[tokio::test]
async fn rounds_that_panic_before_they_take_anybody_end_with_a_fault_for_all() {
    let desk = Desk { begins_max: 0, ..Desk::new(100).await };

    let (first, second) = tokio::join!(
        desk.batches().submit(&desk, Risky(false)),
        desk.batches().submit(&desk, Risky(false)),
    );

    assert_eq!(first.unwrap_err().code(), Code::Internal);
    assert_eq!(second.unwrap_err().code(), Code::Internal);
}
