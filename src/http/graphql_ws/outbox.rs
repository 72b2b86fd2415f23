//! What waits to be written to one socket, bounded in messages and in bytes. Who has more to say
//! waits, first come, first served, so that no operation keeps the others from the socket.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::ws::{CloseFrame, Message};
use futures_util::{Sink, SinkExt};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::time::timeout;

/// Messages that may wait.
const MESSAGES_MAX: usize = 64;
/// Bytes that may wait. A longer message waits alone.
const BYTES_MAX: usize = 1024 * 1024;

/// The way to the writer. Clones share it.
#[derive(Clone)]
pub(super) struct Outbox {
    queue: mpsc::Sender<Parcel>,
    room: Arc<Semaphore>,
}

/// A message and the room that it takes until it is written.
struct Parcel {
    message: Message,
    _room: Option<OwnedSemaphorePermit>,
}

/// The writer's end.
pub(super) struct Inbox(mpsc::Receiver<Parcel>);

pub(super) fn open() -> (Outbox, Inbox) {
    let (queue, inbox) = mpsc::channel(MESSAGES_MAX);
    (Outbox { queue, room: Arc::new(Semaphore::new(BYTES_MAX)) }, Inbox(inbox))
}

impl Outbox {
    /// Waits for room and queues the message. A message to a socket that is gone is dropped.
    pub(super) async fn send(&self, message: Message) {
        let bytes = length(&message).clamp(1, BYTES_MAX) as u32;
        // It is never closed.
        let room = Arc::clone(&self.room).acquire_many_owned(bytes).await.ok();
        // An error means that the writer is gone; the session ends with it.
        let _ = self.queue.send(Parcel { message, _room: room }).await;
    }
}

pub(super) fn length(message: &Message) -> usize {
    match message {
        Message::Text(text) => text.len(),
        Message::Binary(bytes) | Message::Ping(bytes) | Message::Pong(bytes) => bytes.len(),
        Message::Close(_) => 0,
    }
}

/// Writes until the socket fails, a message takes longer than `patience`, or a close frame, which
/// overtakes what waits, has been written.
pub(super) async fn write<S>(
    mut socket: S,
    mut inbox: Inbox,
    mut goodbye: oneshot::Receiver<CloseFrame>,
    patience: Duration,
) where
    S: Sink<Message> + Unpin,
{
    loop {
        let parcel = tokio::select! {
            biased;
            frame = &mut goodbye => match frame {
                Ok(frame) => Parcel { message: Message::Close(Some(frame)), _room: None },
                Err(_) => return,
            },
            Some(parcel) = inbox.0.recv() => parcel,
            else => return,
        };
        let is_last = matches!(parcel.message, Message::Close(_));
        match timeout(patience, socket.send(parcel.message)).await {
            Ok(Ok(())) if !is_last => {}
            Ok(_) | Err(_) => return,
        }
    }
}
