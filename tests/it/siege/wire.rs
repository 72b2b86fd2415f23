//! Bytes on a connection, without a client that would keep to the protocol.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::{Instant, interval, timeout};

use crate::support::process::Process;

/// Within this everybody who misbehaves is disconnected: the longest deadline of the server is
/// that of an idle connection, 75 s, and a machine may be slow.
const PATIENCE: Duration = Duration::from_secs(150);

/// A connection that the other side has ended: after how long, and what it had said.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) after: Duration,
    pub(super) heard: Vec<u8>,
}

impl Ended {
    pub(super) fn text(&self) -> String {
        String::from_utf8_lossy(&self.heard).into_owned()
    }
}

/// A raw connection.
pub(super) struct Wire {
    stream: TcpStream,
    begun: Instant,
}

impl Wire {
    pub(super) async fn open(process: &Process) -> Self {
        let stream = TcpStream::connect(process.address()).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream, begun: Instant::now() }
    }

    /// A connection whose reader takes in next to nothing.
    pub(super) async fn narrow(process: &Process) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(4 * 1024).unwrap();
        let stream = socket.connect(process.address().parse().unwrap()).await.unwrap();
        Self { stream, begun: Instant::now() }
    }

    pub(super) fn of(stream: TcpStream) -> Self {
        Self { stream, begun: Instant::now() }
    }

    pub(super) fn into_stream(self) -> TcpStream {
        self.stream
    }

    /// Says all of this; a connection that is closed meanwhile is no failure.
    pub(super) async fn say(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes).await
    }

    /// Reads so many bytes at least.
    pub(super) async fn hear(&mut self, least: usize) -> Vec<u8> {
        let mut heard = Vec::new();
        while heard.len() < least {
            let read = timeout(PATIENCE, self.stream.read_buf(&mut heard)).await;
            assert_ne!(read.expect("waited in vain").unwrap(), 0, "closed early");
        }
        heard
    }

    /// Says the piece again and again, with a pause between, and listens until the other side
    /// ends the connection.
    pub(super) async fn drip(self, piece: &[u8], pause: Duration) -> Ended {
        let (mut reading, mut writing) = self.stream.into_split();
        let drips = async {
            let mut beat = interval(pause);
            loop {
                beat.tick().await;
                if writing.write_all(piece).await.is_err() {
                    // What was said before may still be read.
                    return std::future::pending::<()>().await;
                }
            }
        };
        let mut heard = Vec::new();
        let listens = async {
            // A reset is an end too.
            while reading.read_buf(&mut heard).await.is_ok_and(|read| read > 0) {}
        };
        tokio::select! {
            () = drips => {}
            ended = timeout(PATIENCE, listens) => ended.expect("the server ends the connection"),
        }
        Ended { after: self.begun.elapsed(), heard }
    }

    /// Says nothing more and listens until the other side ends the connection.
    pub(super) async fn waits(self) -> Ended {
        self.drip(b"", Duration::from_secs(3_600)).await
    }

    /// Says the piece for as long as it is taken, reads nothing, and tries again every second
    /// until the connection is gone.
    pub(super) async fn drip_unread(mut self, piece: &[u8]) -> Duration {
        let drips = async {
            loop {
                // A piece that is cut by the timeout is not understood any more, nor need it be.
                let said = timeout(Duration::from_secs(1), self.stream.write_all(piece)).await;
                if said.is_ok_and(|said| said.is_err()) {
                    return;
                }
            }
        };
        timeout(PATIENCE, drips).await.expect("the server ends the connection");
        self.begun.elapsed()
    }

    /// Reads a byte in each pause until all was read or the connection is reset.
    pub(super) async fn sips(mut self, pause: Duration) {
        let mut beat = interval(pause);
        let mut byte = [0];
        loop {
            beat.tick().await;
            match self.stream.read(&mut byte).await {
                Ok(0) | Err(_) => return,
                Ok(_) => {}
            }
        }
    }
}
