//! A mailer that keeps what it is given.

use std::sync::{Mutex, PoisonError};

use futures_util::future::{self, BoxFuture, FutureExt};
use musubi::external::mail::{Letter, Mail, MailFailure, Mailer};

/// Mails that were sent, oldest first.
#[derive(Default)]
pub(crate) struct Outbox(Mutex<Vec<Mail>>);

impl Outbox {
    pub(crate) fn mails(&self) -> Vec<Mail> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Mailer for Outbox {
    fn send<'a>(&'a self, letter: &'a Letter) -> BoxFuture<'a, Result<(), MailFailure>> {
        let kept = letter.mail.check().map(|_| {
            self.0.lock().unwrap_or_else(PoisonError::into_inner).push(letter.mail.clone());
        });
        future::ready(kept).boxed()
    }
}
