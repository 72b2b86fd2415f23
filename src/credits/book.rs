//! One account's credits in memory, under its row lock: draws, takings and returns as arithmetic.
//!
//! The caller locks the account row first and reads the grants after; the book then decides and
//! `ledger` writes down what changed. Nothing here touches the database, so that the rules of
//! credits can be read, and tested, on one page.

use chrono::{DateTime, Utc};

use crate::entity::credit_grant::GrantKind;
use crate::entity::credit_transaction::TransactionType;
use crate::entity::credit_withdrawal::WithdrawalReason;
use crate::entity::{credit_grant, credit_withdrawal};
use crate::ids::{ExecutionId, GrantId, HoldId, TransactionId, UserId, WithdrawalId};
use crate::money::share;

/// An account's state and everything that changed in it.
#[derive(Debug)]
pub struct Book {
    /// Credits on the account, holds included.
    pub current: i64,
    /// Credits set aside by running calls.
    pub held: i64,
    /// The account's version; each ledger line makes a new one.
    pub version: i64,
    pub(crate) grants: Vec<Kept<credit_grant::Model>>,
    pub(crate) withdrawals: Vec<Kept<credit_withdrawal::Model>>,
    pub(crate) lines: Vec<Line>,
    pub(crate) draws: Vec<Draw>,
}

/// A row and what is to be done with it.
#[derive(Debug)]
pub(crate) struct Kept<R> {
    pub(crate) row: R,
    pub(crate) state: RowState,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RowState {
    Same,
    Changed,
    New,
}

impl<R> Kept<R> {
    fn same(row: R) -> Self {
        Self { row, state: RowState::Same }
    }

    fn new(row: R) -> Self {
        Self { row, state: RowState::New }
    }

    fn change(&mut self) -> &mut R {
        if self.state == RowState::Same {
            self.state = RowState::Changed;
        }
        &mut self.row
    }
}

/// A ledger line before it is written.
#[derive(Clone, Debug)]
pub struct Line {
    /// Its id.
    pub id: TransactionId,
    /// The account version that it made.
    pub version: i64,
    /// Why the balance moved.
    pub kind: TransactionType,
    /// Signed credits.
    pub credits: i64,
    /// The balance after it.
    pub balance_after: i64,
    /// What the credits had cost, in yen.
    pub cost: Option<i64>,
    /// What the line is about.
    pub about: About,
}

/// What a ledger line is about, as far as it applies.
#[derive(Clone, Debug, Default)]
pub struct About {
    /// The person who caused it.
    pub user: Option<UserId>,
    /// The execution.
    pub execution: Option<ExecutionId>,
    /// The hold that was settled.
    pub hold: Option<HoldId>,
    /// The grant that came or went.
    pub grant: Option<GrantId>,
    /// The line or object that this one refers to.
    pub reference: Option<uuid::Uuid>,
    /// One of our own phrases; never a customer's text.
    pub description: Option<String>,
    /// The function that ran, with its model and limits.
    pub run: Option<RunFacts>,
}

/// What the ledger keeps of a run: numbers and names, never a prompt.
#[derive(Clone, Debug)]
pub struct RunFacts {
    /// The function.
    pub function: crate::entity::function_price::AiFunctionType,
    /// Model, temperature and limits.
    pub params: serde_json::Value,
    /// Wall time of the run in milliseconds.
    pub time_ms: i64,
}

/// What a settlement takes from one grant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Draw {
    /// The settled hold.
    pub hold: HoldId,
    /// The ledger line.
    pub transaction: TransactionId,
    /// The grant.
    pub grant: GrantId,
    /// Credits taken.
    pub credits: i64,
    /// What these credits had cost, in yen.
    pub cost: i64,
    /// Whether the grant was a month's free credits.
    pub is_free: bool,
}

impl Book {
    /// Opens the book on an account's numbers, its grants with credits left and its open
    /// withdrawals.
    pub fn open(
        (current, held, version): (i64, i64, i64),
        grants: Vec<credit_grant::Model>,
        withdrawals: Vec<credit_withdrawal::Model>,
    ) -> Self {
        Self {
            current,
            held,
            version,
            grants: grants.into_iter().map(Kept::same).collect(),
            withdrawals: withdrawals.into_iter().map(Kept::same).collect(),
            lines: Vec::new(),
            draws: Vec::new(),
        }
    }

    /// Credits that are not held.
    pub fn available(&self) -> i64 {
        self.current - self.held
    }

    /// The grants as they stand.
    pub fn grants(&self) -> impl Iterator<Item = &credit_grant::Model> {
        self.grants.iter().map(|kept| &kept.row)
    }

    /// Whether a withdrawal is open on the grant.
    pub fn is_being_withdrawn(&self, grant: GrantId) -> bool {
        self.open_withdrawals().any(|withdrawal| withdrawal.grant_id == grant)
    }

    /// Credits of the grant that open withdrawals still ask for.
    pub fn still_asked(&self, grant: GrantId) -> i64 {
        let open = self.open_withdrawals().filter(|withdrawal| withdrawal.grant_id == grant);
        open.map(|withdrawal| withdrawal.asked - withdrawal.taken).sum()
    }

    /// The withdrawal, if it is in the book.
    pub fn withdrawal(&self, id: WithdrawalId) -> Option<&credit_withdrawal::Model> {
        self.withdrawals.iter().map(|kept| &kept.row).find(|row| row.id == id)
    }

    /// Brings an empty grant or a closed withdrawal into the book, unless it is there.
    pub fn admit_rows(&mut self, grant: credit_grant::Model, row: credit_withdrawal::Model) {
        self.admit_grant(grant);
        if self.withdrawal(row.id).is_none() {
            self.withdrawals.push(Kept::same(row));
        }
    }

    /// Brings a grant without credits into the book, unless it is there.
    pub fn admit_grant(&mut self, grant: credit_grant::Model) {
        if !self.grants().any(|row| row.id == grant.id) {
            self.grants.push(Kept::same(grant));
        }
    }

    /// Adds a grant with its line; all of it is free to spend.
    pub fn add_grant(&mut self, grant: credit_grant::Model, kind: TransactionType, about: About) {
        let about = About { grant: Some(grant.id), ..about };
        self.current += grant.remaining;
        self.write_line(kind, grant.remaining, Some(grant.price_minor), about);
        self.grants.push(Kept::new(grant));
    }

    /// Adds a grant whose line the caller writes together with others.
    pub fn add_silently(&mut self, grant: credit_grant::Model) {
        self.current += grant.remaining;
        self.grants.push(Kept::new(grant));
    }

    /// Takes a settled charge from the grants. The account's numbers were already lowered with the
    /// lock; `line` is the charge's own line. A hold that is older than a withdrawal draws from
    /// that grant first, which lowers what the withdrawal asks; a younger one draws from it last.
    /// Returns the credits that no grant had: always 0, or the account has drifted.
    #[must_use]
    pub fn draw(&mut self, hold: HoldId, hold_version: i64, line: &mut Line) -> i64 {
        let mut wanted = -line.credits;
        let mut cost = 0;
        for index in self.draw_order(hold_version) {
            if wanted == 0 {
                break;
            }
            let Some(kept) = self.grants.get_mut(index) else { break };
            let credits = wanted.min(kept.row.remaining);
            let part = take_from(kept.change(), credits);
            let (grant, is_free) = (kept.row.id, kept.row.kind == GrantKind::Free);
            self.lower_older_withdrawals(grant, hold_version, credits);
            wanted -= credits;
            cost += part;
            self.draws.push(Draw {
                hold,
                transaction: line.id,
                grant,
                credits,
                cost: part,
                is_free,
            });
        }
        line.cost = Some(cost);
        wanted
    }

    /// Gives credits of a settled charge back to their grant, with their cost.
    pub fn give_back(&mut self, grant: GrantId, credits: i64, cost: i64) -> bool {
        let Some(kept) = self.grants.iter_mut().find(|kept| kept.row.id == grant) else {
            return false;
        };
        let row = kept.change();
        row.remaining += credits;
        row.cost_left += cost;
        self.current += credits;
        true
    }

    /// Begins to take credits away from a grant: what is free goes at once, the rest as holds end.
    /// The book must be at the version that stands in `row`.
    pub fn withdraw(&mut self, row: credit_withdrawal::Model, now: DateTime<Utc>) {
        self.withdrawals.push(Kept::new(row));
        self.take_open(now);
    }

    /// Lets every open withdrawal take what has become free, oldest first.
    pub fn take_open(&mut self, now: DateTime<Utc>) {
        for index in 0..self.withdrawals.len() {
            let Some(kept) = self.withdrawals.get(index) else { continue };
            if kept.row.closed_at.is_some() {
                continue;
            }
            let (grant, id) = (kept.row.grant_id, kept.row.id);
            let (reason, open) = (kept.row.reason, kept.row.asked - kept.row.taken);
            let reference = kept.row.reference_id;
            let available = self.available();
            let left = match self.grants.iter_mut().find(|kept| kept.row.id == grant) {
                None => 0,
                Some(kept) => {
                    let credits = open.min(kept.row.remaining).min(available).max(0);
                    if credits > 0 {
                        let cost = take_from(kept.change(), credits);
                        let left = kept.row.remaining;
                        self.record_taking(id, reason, Taken { grant, credits, cost, reference });
                        left
                    } else {
                        kept.row.remaining
                    }
                }
            };
            self.close_when_done(index, left, now);
        }
    }

    /// Puts what a withdrawal took back into its grant and closes it. The grant must be in the
    /// book. A dispute that was won has its own type; a refund that failed keeps its type.
    pub fn put_back(&mut self, id: WithdrawalId, now: DateTime<Utc>) -> bool {
        let Some(kept) = self.withdrawals.iter_mut().find(|kept| kept.row.id == id) else {
            return false;
        };
        let row = kept.change();
        let credits = row.taken - row.put_back;
        let (grant, cost, reason) = (row.grant_id, row.cost_taken, row.reason);
        let reference = row.reference_id;
        row.put_back = row.taken;
        row.cost_taken = 0;
        row.asked = row.taken;
        row.closed_at = Some(now);
        if credits == 0 {
            return true;
        }
        if !self.give_back(grant, credits, cost) {
            return false;
        }
        let kind = match reason {
            WithdrawalReason::Dispute => TransactionType::DisputeWon,
            WithdrawalReason::PurchaseRefund => TransactionType::PurchaseRefund,
            WithdrawalReason::Expiry | WithdrawalReason::CarryOver => TransactionType::Expiry,
        };
        let about = About { grant: Some(grant), reference, ..About::default() };
        self.write_line(kind, credits, Some(cost), about);
        true
    }

    /// Writes a line at the next version, with the balance as it stands.
    pub fn write_line(
        &mut self,
        kind: TransactionType,
        credits: i64,
        cost: Option<i64>,
        about: About,
    ) -> TransactionId {
        self.version += 1;
        let id = TransactionId::new();
        let (version, balance_after) = (self.version, self.current);
        self.lines.push(Line { id, version, kind, credits, balance_after, cost, about });
        id
    }

    /// The earliest expiry of a grant that still has credits and is not being withdrawn.
    pub fn next_expiry(&self) -> Option<DateTime<Utc>> {
        self.grants()
            .filter(|grant| grant.remaining > 0 && !self.is_being_withdrawn(grant.id))
            .filter_map(|grant| grant.expires_at)
            .min()
    }

    /// Indexes of the grants in the order in which a hold of this age draws from them: earliest
    /// expiry, then FREE, BONUS, REFUND, PURCHASED, then oldest; grants that are being withdrawn
    /// first or last.
    fn draw_order(&self, hold_version: i64) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.grants.len())
            .filter(|index| self.grants.get(*index).is_some_and(|kept| kept.row.remaining > 0))
            .collect();
        order.sort_by_key(|index| {
            self.grants.get(*index).map(|kept| {
                let row = &kept.row;
                let expiry = row.expires_at.unwrap_or(DateTime::<Utc>::MAX_UTC);
                (self.turn(row.id, hold_version), expiry, rank(row.kind), row.created_at, row.id)
            })
        });
        order
    }

    fn turn(&self, grant: GrantId, hold_version: i64) -> u8 {
        let mut turn = 1;
        for withdrawal in self.open_withdrawals().filter(|row| row.grant_id == grant) {
            if withdrawal.version > hold_version {
                return 0;
            }
            turn = 2;
        }
        turn
    }

    fn lower_older_withdrawals(&mut self, grant: GrantId, hold_version: i64, credits: i64) {
        let mut left = credits;
        for kept in &mut self.withdrawals {
            let row = &kept.row;
            let concerns = row.grant_id == grant && row.closed_at.is_none();
            if left > 0 && concerns && row.version > hold_version {
                let lowered = left.min(row.asked - row.taken);
                kept.change().asked -= lowered;
                left -= lowered;
            }
        }
    }

    fn record_taking(&mut self, id: WithdrawalId, reason: WithdrawalReason, taken: Taken) {
        self.current -= taken.credits;
        if let Some(kept) = self.withdrawals.iter_mut().find(|kept| kept.row.id == id) {
            let row = kept.change();
            row.taken += taken.credits;
            row.cost_taken += taken.cost;
        }
        let kind = match reason {
            WithdrawalReason::Expiry | WithdrawalReason::CarryOver => TransactionType::Expiry,
            WithdrawalReason::Dispute => TransactionType::Dispute,
            WithdrawalReason::PurchaseRefund => TransactionType::PurchaseRefund,
        };
        let about = About {
            grant: Some(taken.grant),
            reference: taken.reference,
            description: Some(reason.as_str().to_owned()),
            ..About::default()
        };
        self.write_line(kind, -taken.credits, Some(taken.cost), about);
    }

    /// Closes a withdrawal that has all it asked, whose grant is empty, or that may not wait.
    fn close_when_done(&mut self, index: usize, left_in_grant: i64, now: DateTime<Utc>) {
        let Some(kept) = self.withdrawals.get_mut(index) else { return };
        let is_done = kept.row.taken == kept.row.asked || left_in_grant == 0 || !kept.row.waits;
        if is_done {
            let row = kept.change();
            row.asked = row.taken;
            row.closed_at = Some(now);
        }
    }

    fn open_withdrawals(&self) -> impl Iterator<Item = &credit_withdrawal::Model> {
        self.withdrawals.iter().map(|kept| &kept.row).filter(|row| row.closed_at.is_none())
    }
}

struct Taken {
    grant: GrantId,
    credits: i64,
    cost: i64,
    reference: Option<uuid::Uuid>,
}

/// Takes credits and their share of the cost; returns that share.
fn take_from(grant: &mut credit_grant::Model, credits: i64) -> i64 {
    let cost = share(grant.cost_left, credits, grant.remaining);
    grant.remaining -= credits;
    grant.cost_left -= cost;
    cost
}

fn rank(kind: GrantKind) -> u8 {
    match kind {
        GrantKind::Free => 0,
        GrantKind::Bonus => 1,
        GrantKind::Refund => 2,
        GrantKind::Purchased => 3,
    }
}
