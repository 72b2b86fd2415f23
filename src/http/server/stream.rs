//! A TCP stream that does not wait for ever: neither for the rest of a head nor for a peer that
//! takes nothing of its answer. It lies below HTTP/1, HTTP/2 and WebSocket, and holds for all.
//!
//! Hyper has no time limit for writing, and its limit for heads begins when the connection becomes
//! idle, so that it would close every connection that a proxy keeps.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Sleep, sleep};

use crate::http::Limits;
use crate::http::server::activity::Activity;

/// The stream of one connection.
pub(super) struct Guarded {
    stream: TcpStream,
    activity: Arc<Activity>,
    head: Deadline,
    write: Deadline,
}

impl Guarded {
    pub(super) fn new(stream: TcpStream, activity: Arc<Activity>, limits: &Limits) -> Self {
        let head = Deadline::after(limits.header_timeout);
        let write = Deadline::after(limits.write_timeout);
        Self { stream, activity, head, write }
    }

    /// Lets a write wait for so long as it may. The system wants to write on only when a third of
    /// its buffer is free, so that a peer that takes a byte now and then is let go as well.
    fn watch(
        &mut self,
        cx: &mut Context<'_>,
        written: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        let Poll::Ready(result) = written else { return self.write.poll(cx) };
        self.write.clear();
        if let Ok(bytes) = result {
            self.activity.note_written(bytes);
        }
        Poll::Ready(result)
    }
}

impl AsyncRead for Guarded {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let known = buf.filled().len();
        let read = Pin::new(&mut this.stream).poll_read(cx, buf);
        if !this.activity.is_within_head() {
            this.head.clear();
        }
        if buf.filled().len() > known {
            this.activity.note_read();
        }
        match read {
            // One limit for the whole head: more of it does not begin the time anew.
            Poll::Pending if this.activity.is_within_head() => this.head.poll(cx),
            Poll::Pending | Poll::Ready(_) => read,
        }
    }
}

impl AsyncWrite for Guarded {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.stream).poll_write(cx, buf);
        this.watch(cx, written)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.stream).poll_write_vectored(cx, bufs);
        this.watch(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // What was written is with the system: there is nothing to wait for.
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}

/// A timer that costs nothing until something waits.
struct Deadline {
    patience: Duration,
    timer: Option<Pin<Box<Sleep>>>,
}

impl Deadline {
    fn after(patience: Duration) -> Self {
        Self { patience, timer: None }
    }

    /// Fails when the time is over that began with the first call since [`Deadline::clear`].
    fn poll<T>(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<T>> {
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep(self.patience)));
        timer.as_mut().poll(cx).map(|()| Err(io::ErrorKind::TimedOut.into()))
    }

    fn clear(&mut self) {
        self.timer = None;
    }
}
