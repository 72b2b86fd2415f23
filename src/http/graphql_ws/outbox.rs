//! What waits to be written to one socket, bounded in messages and in bytes. Who has more to say
//! waits, first come, first served, so that no operation keeps the others from the socket.
//!
//! Most sockets have nothing waiting most of the time, and then this holds next to no memory,
//! which a channel of tokio would.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::extract::ws::{CloseFrame, Message};
use futures_util::{Sink, SinkExt};
use tokio::sync::{Notify, Semaphore};
use tokio::time::timeout;

/// Bytes that may wait. A longer message waits alone.
const BYTES_MAX: usize = 1024 * 1024;
/// Messages that may wait.
const MESSAGES_MAX: usize = 64;
/// A queue that was longer than this gives its memory back when it is empty.
const KEPT_MAX: usize = 4;

/// The way to the writer. Clones share it.
#[derive(Clone)]
pub(super) struct Outbox(Arc<Shelf>);

/// The writer's end; dropped, nobody waits for room any more.
pub(super) struct Inbox(Arc<Shelf>);

struct Shelf {
    /// Bytes; a short message counts as its share of the room for all messages.
    room: Semaphore,
    waiting: Mutex<Waiting>,
    changed: Notify,
}

#[derive(Default)]
struct Waiting {
    messages: VecDeque<Message>,
    goodbye: Option<CloseFrame>,
}

pub(super) fn open() -> (Outbox, Inbox) {
    let shelf = Arc::new(Shelf {
        room: Semaphore::new(BYTES_MAX),
        waiting: Mutex::default(),
        changed: Notify::new(),
    });
    (Outbox(Arc::clone(&shelf)), Inbox(shelf))
}

impl Shelf {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Outbox {
    /// Waits for room and queues the message. A message to a socket that is gone is dropped.
    pub(super) async fn send(&self, message: Message) {
        let Ok(room) = self.0.room.acquire_many(share(&message)).await else { return };
        // The writer gives it back.
        room.forget();
        self.0.lock().messages.push_back(message);
        self.0.changed.notify_one();
    }

    /// Queues the last frame, which overtakes all that waits.
    pub(super) fn close(&self, frame: CloseFrame) {
        self.0.lock().goodbye = Some(frame);
        self.0.changed.notify_one();
    }
}

impl Inbox {
    async fn next(&self) -> Message {
        loop {
            if let Some(message) = self.take() {
                return message;
            }
            self.0.changed.notified().await;
        }
    }

    fn take(&self) -> Option<Message> {
        let mut waiting = self.0.lock();
        if let Some(frame) = waiting.goodbye.take() {
            return Some(Message::Close(Some(frame)));
        }
        let message = waiting.messages.pop_front();
        if waiting.messages.is_empty() && waiting.messages.capacity() > KEPT_MAX {
            waiting.messages = VecDeque::new();
        }
        message
    }

    fn is_empty(&self) -> bool {
        let waiting = self.0.lock();
        waiting.messages.is_empty() && waiting.goodbye.is_none()
    }
}

impl Drop for Inbox {
    fn drop(&mut self) {
        self.0.room.close();
        self.0.lock().messages = VecDeque::new();
    }
}

pub(super) fn length(message: &Message) -> usize {
    match message {
        Message::Text(text) => text.len(),
        Message::Binary(bytes) | Message::Ping(bytes) | Message::Pong(bytes) => bytes.len(),
        Message::Close(_) => 0,
    }
}

/// The room that a message takes.
fn share(message: &Message) -> u32 {
    length(message).clamp(BYTES_MAX / MESSAGES_MAX, BYTES_MAX) as u32
}

/// Writes until the socket fails, a message takes longer than `patience`, or the close frame has
/// been written.
pub(super) async fn write<S>(mut socket: S, inbox: Inbox, patience: Duration)
where
    S: Sink<Message> + Unpin,
{
    loop {
        let message = inbox.next().await;
        let is_last = matches!(message, Message::Close(_));
        let room = if is_last { 0 } else { share(&message) };
        let written = timeout(patience, async {
            socket.feed(message).await?;
            // Several that wait leave together.
            if is_last || inbox.is_empty() { socket.flush().await } else { Ok(()) }
        });
        match written.await {
            Ok(Ok(())) if !is_last => inbox.0.room.add_permits(room as usize),
            Ok(_) | Err(_) => return,
        }
    }
}
