//! Lines of the audit record that are written beside requests: refused attempts, and changes that
//! wrote no line of their own. The waiting room is bounded; what repeats is summed up, so that
//! nobody can fill the record, or the memory, by trying again.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::entity::system_event;

/// Lines that wait at once at most; what comes beyond is counted and dropped.
const WAITING_MAX: usize = 10_000;
/// Callers whose attempts are summed apart at once at most; all others share a line for each kind.
const CALLERS_MAX: usize = 1_000;
/// For so long the attempts of one caller, of one kind, are one sum.
const WINDOW: Duration = Duration::from_secs(60);

/// A line to be written, and where its request came from.
#[derive(Clone, Debug)]
pub struct Note {
    /// The line, without its digests.
    pub row: system_event::Model,
    /// The sender's address.
    pub address: Option<IpAddr>,
    /// What the sender's program calls itself.
    pub user_agent: Option<Box<str>>,
}

/// Whose attempts of which kind are one sum.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Sum {
    /// The caller; none for those who come when too many are known.
    pub caller: Option<Box<str>>,
    /// The action.
    pub action: &'static str,
    /// What it was tried on: a field of the schema or a path of ours, never text of a caller.
    pub what: Box<str>,
}

/// The waiting room. Clones share it.
#[derive(Clone, Default)]
pub struct Journal(Arc<Mutex<Room>>);

#[derive(Default)]
struct Room {
    notes: VecDeque<Note>,
    sums: HashMap<Sum, Tally>,
    dropped: u64,
}

struct Tally {
    since: Instant,
    /// Not yet written; its `times` counts.
    open: Option<Note>,
    /// Whether the window's first line was handed out.
    is_begun: bool,
}

impl Journal {
    /// Takes a line; drops it, and counts that, when too many wait.
    pub fn push(&self, note: Note) {
        let mut room = self.lock();
        if room.notes.len() < WAITING_MAX {
            room.notes.push_back(note);
        } else {
            room.dropped += 1;
        }
    }

    /// Counts an attempt. `note` is called where a sum begins: for a known caller, or (with none)
    /// for all those who come when too many are known.
    pub fn sum(&self, sum: Sum, note: impl FnOnce(&Sum) -> Note) {
        let mut room = self.lock();
        let is_full = room.sums.len() >= CALLERS_MAX && !room.sums.contains_key(&sum);
        let sum = if is_full { Sum { caller: None, ..sum } } else { sum };
        let fresh = || Tally { since: Instant::now(), open: None, is_begun: false };
        let tally = room.sums.entry(sum.clone()).or_insert_with(fresh);
        match &mut tally.open {
            Some(note) => note.row.times += 1,
            None => tally.open = Some(note(&sum)),
        }
    }

    /// What is to be written now: every line; of each sum the first attempt at once, and the others
    /// when the minute is over.
    pub fn take_due(&self) -> Vec<Note> {
        self.take(|tally, now| !tally.is_begun || now - tally.since >= WINDOW)
    }

    /// All that waits, as at the end of the program.
    pub fn take_all(&self) -> Vec<Note> {
        self.take(|_, _| true)
    }

    /// Lines that could not be written wait again, as far as there is room.
    pub fn put_back(&self, notes: Vec<Note>) {
        let mut room = self.lock();
        for note in notes.into_iter().rev() {
            if room.notes.len() < WAITING_MAX {
                room.notes.push_front(note);
            } else {
                room.dropped += 1;
            }
        }
    }

    /// How many lines were dropped since this was asked last.
    pub fn take_dropped(&self) -> u64 {
        std::mem::take(&mut self.lock().dropped)
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        let room = self.lock();
        room.notes.is_empty() && room.sums.values().all(|tally| tally.open.is_none())
    }

    fn take(&self, is_due: impl Fn(&Tally, Instant) -> bool) -> Vec<Note> {
        let now = Instant::now();
        let mut room = self.lock();
        let mut notes: Vec<Note> = room.notes.drain(..).collect();
        for tally in room.sums.values_mut() {
            if is_due(tally, now) {
                notes.extend(tally.open.take());
                tally.is_begun = true;
            }
        }
        room.sums.retain(|_, tally| tally.open.is_some() || now - tally.since < WINDOW);
        notes
    }

    fn lock(&self) -> MutexGuard<'_, Room> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
