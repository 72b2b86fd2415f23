//! How one limit is counted: a bucket of tokens, or a sliding window of named places.

use std::collections::VecDeque;

use uuid::Uuid;

use crate::meter::Kind;

/// Parts of a bucket's period: tokens that were taken within one come back together.
const SLOTS: i64 = 60;

/// How much is there, and how long one must wait for what is wanted. Times in microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shortage {
    pub(super) remaining: i64,
    pub(super) wait: i64,
}

/// Something that the other nodes do not know.
#[derive(Clone, Copy, Debug)]
pub(super) struct Owed {
    /// How long ago it was taken, in microseconds.
    pub(super) age: i64,
    pub(super) what: Kind,
    /// The slot that it stands in, if it is tokens.
    slot: i64,
}

/// What is counted under a key.
#[derive(Debug)]
pub(super) enum Count {
    Bucket(Bucket),
    Window(Window),
}

impl Count {
    /// Memory that it takes, about.
    pub(super) fn bytes(&self) -> usize {
        match self {
            Self::Bucket(bucket) => bucket.slots.capacity() * size_of::<Slot>(),
            Self::Window(window) => window.places.capacity() * size_of::<Place>(),
        }
    }

    /// Lets go what is too old to count.
    pub(super) fn trim(&mut self, now: i64, period: i64) {
        match self {
            Self::Bucket(bucket) => bucket.trim(now, period),
            Self::Window(window) => window.trim(now, period),
        }
    }

    /// What the others do not know.
    pub(super) fn owed(&self, now: i64, period: i64) -> Vec<Owed> {
        match self {
            Self::Bucket(bucket) => bucket.owed(now, period),
            Self::Window(window) => window.owed(now),
        }
    }

    /// The others know of this now.
    pub(super) fn settle(&mut self, owed: &Owed) {
        match (self, owed.what) {
            (Self::Bucket(bucket), Kind::Tokens(tokens)) => bucket.settle(owed.slot, tokens),
            (Self::Window(window), Kind::Place(id)) => window.settle(id),
            (Self::Bucket(_), Kind::Place(_)) | (Self::Window(_), Kind::Tokens(_)) => {}
        }
    }

    /// As if nobody but us had been told of anything.
    pub(super) fn forget_told(&mut self) {
        match self {
            Self::Bucket(bucket) => {
                bucket.slots.iter_mut().for_each(|slot| slot.untold = slot.count);
            }
            Self::Window(window) => {
                window.places.iter_mut().for_each(|place| place.is_told = false);
            }
        }
    }
}

/// A bucket of tokens. A token that was taken comes back a period later (at most a sixtieth of it
/// more), so that no span of that length ever sees more than the bucket holds.
#[derive(Debug, Default)]
pub(super) struct Bucket {
    /// Oldest first.
    slots: VecDeque<Slot>,
}

#[derive(Debug)]
struct Slot {
    number: i64,
    count: i64,
    /// Of them, those that the other nodes do not know.
    untold: i64,
}

impl Bucket {
    fn slot_length(period: i64) -> i64 {
        (period / SLOTS).max(1)
    }

    pub(super) fn trim(&mut self, now: i64, period: i64) {
        let oldest = now / Self::slot_length(period) - SLOTS;
        while self.slots.front().is_some_and(|slot| slot.number < oldest) {
            self.slots.pop_front();
        }
    }

    /// Why so many tokens cannot be had now.
    pub(super) fn shortage(
        &self,
        now: i64,
        (limit, period): (i64, i64),
        tokens: i64,
    ) -> Option<Shortage> {
        let used: i64 = self.slots.iter().map(|slot| slot.count).sum();
        let mut missing = used + tokens - limit;
        if missing <= 0 {
            return None;
        }
        let remaining = (limit - used).max(0);
        for slot in &self.slots {
            missing -= slot.count;
            if missing <= 0 {
                let wait = (slot.number + SLOTS + 1) * Self::slot_length(period) - now;
                return Some(Shortage { remaining, wait: wait.max(1) });
            }
        }
        Some(Shortage { remaining, wait: period })
    }

    pub(super) fn take(&mut self, now: i64, period: i64, tokens: i64, is_told: bool) {
        let number = now / Self::slot_length(period);
        let untold = if is_told { 0 } else { tokens };
        match self.slots.back_mut().filter(|slot| slot.number >= number) {
            Some(slot) => {
                slot.count += tokens;
                slot.untold += untold;
            }
            None => self.slots.push_back(Slot { number, count: tokens, untold }),
        }
    }

    /// Gives the newest tokens back.
    pub(super) fn give_back(&mut self, mut tokens: i64) {
        while let Some(slot) = self.slots.back_mut().filter(|_| tokens > 0) {
            let back = tokens.min(slot.count);
            slot.count -= back;
            slot.untold = (slot.untold - back).max(0);
            tokens -= back;
            if slot.count == 0 {
                self.slots.pop_back();
            }
        }
    }

    fn owed(&self, now: i64, period: i64) -> Vec<Owed> {
        let length = Self::slot_length(period);
        let untold = self.slots.iter().filter(|slot| slot.untold > 0);
        untold
            .map(|slot| Owed {
                // From the middle of the slot, as the others' may begin at another moment.
                age: (now - slot.number * length - length / 2).max(0),
                what: Kind::Tokens(slot.untold),
                slot: slot.number,
            })
            .collect()
    }

    fn settle(&mut self, number: i64, tokens: i64) {
        let slots = self.slots.iter_mut();
        for slot in slots.filter(|slot| slot.number == number) {
            slot.untold = (slot.untold - tokens).max(0);
        }
    }
}

/// Named places of which each is free again when a period has passed.
#[derive(Debug, Default)]
pub(super) struct Window {
    /// Oldest first.
    places: VecDeque<Place>,
    /// Whether what was there before this process was read.
    pub(super) is_read: bool,
}

#[derive(Debug)]
struct Place {
    at: i64,
    id: Uuid,
    is_told: bool,
}

impl Window {
    pub(super) fn trim(&mut self, now: i64, period: i64) {
        while self.places.front().is_some_and(|place| place.at <= now - period) {
            self.places.pop_front();
        }
    }

    fn has(&self, id: Uuid) -> bool {
        self.places.iter().any(|place| place.id == id)
    }

    /// Why there is no place now for this id; one that it has is enough.
    pub(super) fn shortage(
        &self,
        now: i64,
        (limit, period): (i64, i64),
        id: Uuid,
    ) -> Option<Shortage> {
        let used = i64::try_from(self.places.len()).unwrap_or(i64::MAX);
        if used < limit || self.has(id) {
            return None;
        }
        let rank = usize::try_from(used - limit).unwrap_or(usize::MAX);
        let leaves = self.places.get(rank).map(|place| place.at + period - now);
        Some(Shortage { remaining: 0, wait: leaves.unwrap_or(period).max(1) })
    }

    pub(super) fn take(&mut self, at: i64, id: Uuid, is_told: bool) {
        if self.has(id) {
            return;
        }
        let index = self.places.partition_point(|place| place.at <= at);
        self.places.insert(index, Place { at, id, is_told });
    }

    pub(super) fn give_back(&mut self, id: Uuid) {
        self.places.retain(|place| place.id != id);
    }

    /// How many places are taken, and how long the oldest still is.
    pub(super) fn look(&self, now: i64, period: i64) -> (i64, Option<i64>) {
        let used = i64::try_from(self.places.len()).unwrap_or(i64::MAX);
        (used, self.places.front().map(|place| place.at + period - now))
    }

    fn owed(&self, now: i64) -> Vec<Owed> {
        let untold = self.places.iter().filter(|place| !place.is_told);
        let owed = |place: &Place| Owed {
            age: (now - place.at).max(0),
            what: Kind::Place(place.id),
            slot: 0,
        };
        untold.map(owed).collect()
    }

    fn settle(&mut self, id: Uuid) {
        let places = self.places.iter_mut();
        places.filter(|place| place.id == id).for_each(|place| place.is_told = true);
    }
}
