//! Load over HTTP/1.1: kept connections that do as little as a client can, so that what is
//! measured is the server. A closed loop finds the most; an open loop measures the latency.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::table::{histogram, record};

/// Makes the bytes of a request.
pub(crate) type Requests = Arc<dyn Fn() -> Vec<u8> + Send + Sync>;

/// A kept connection.
pub(crate) struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
    body: usize,
}

impl Connection {
    pub(crate) async fn open(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, buffer: Vec::with_capacity(16 * 1024), body: 0 })
    }

    /// Sends a request and reads its whole answer; answers the status.
    pub(crate) async fn ask(&mut self, request: &[u8]) -> io::Result<u16> {
        self.stream.write_all(request).await?;
        self.buffer.clear();
        let head = loop {
            self.read().await?;
            if let Some(end) = self.buffer.windows(4).position(|four| four == b"\r\n\r\n") {
                break end + 4;
            }
        };
        self.body = head;
        let text = String::from_utf8_lossy(&self.buffer[..head]).to_ascii_lowercase();
        let length = text.lines().find_map(|line| line.strip_prefix("content-length:"));
        match length.and_then(|length| length.trim().parse::<usize>().ok()) {
            Some(length) => {
                while self.buffer.len() < head + length {
                    self.read().await?;
                }
            }
            None => {
                while !self.buffer.ends_with(b"0\r\n\r\n") {
                    self.read().await?;
                }
            }
        }
        let status = text.get(9..12).and_then(|status| status.parse().ok());
        status.ok_or_else(|| io::Error::other("no status"))
    }

    /// The body of the last answer.
    pub(crate) fn body(&self) -> &[u8] {
        &self.buffer[self.body..]
    }

    async fn read(&mut self) -> io::Result<()> {
        if self.stream.read_buf(&mut self.buffer).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(())
    }
}

/// A POST with a bearer token and a JSON body.
pub(crate) fn post(path: &str, token: &str, body: &str) -> Vec<u8> {
    format!(
        "POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n\
         accept: application/json\r\nauthorization: Bearer {token}\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

/// What a load came to.
pub(crate) struct Load {
    /// Answers per second.
    pub(crate) rate: f64,
    /// Their latency.
    pub(crate) latency: Histogram<u64>,
}

/// What to ask of whom, and what a good answer holds.
#[derive(Clone)]
pub(crate) struct Target {
    pub(crate) address: SocketAddr,
    pub(crate) requests: Requests,
    pub(crate) mark: &'static [u8],
}

impl Target {
    async fn ask(&self, connection: &mut Connection) {
        let status = connection.ask(&(self.requests)()).await.expect("the server answers");
        let body = connection.body();
        let is_good = status == 200 && body.windows(self.mark.len()).any(|part| part == self.mark);
        assert!(is_good, "{status}: {}", String::from_utf8_lossy(body));
    }

    /// Clients that ask again as soon as they are answered.
    pub(crate) async fn closed(&self, clients: usize, seconds: f64) -> Load {
        let mut running = JoinSet::new();
        let begun = Instant::now();
        let end = begun + Duration::from_secs_f64(seconds);
        for _ in 0..clients {
            let target = self.clone();
            running.spawn(async move {
                let mut latency = histogram();
                let mut connection = Connection::open(target.address).await.unwrap();
                while Instant::now() < end {
                    let asked = Instant::now();
                    target.ask(&mut connection).await;
                    record(&mut latency, asked.elapsed());
                }
                latency
            });
        }
        gather(running, begun).await
    }

    /// Requests at a steady rate, whether or not answers keep up. A request that waits for a free
    /// connection waits on the server's account.
    pub(crate) async fn open(&self, clients: usize, rate: f64, seconds: f64) -> Load {
        let mut running = JoinSet::new();
        let begun = Instant::now();
        let pause = Duration::from_secs_f64(clients as f64 / rate);
        let end = begun + Duration::from_secs_f64(seconds);
        for client in 0..clients {
            let target = self.clone();
            running.spawn(async move {
                let mut latency = histogram();
                let mut connection = Connection::open(target.address).await.unwrap();
                let mut due = begun + pause.mul_f64(client as f64 / clients as f64);
                while due < end {
                    let is_early = Instant::now() < due;
                    tokio::time::sleep_until(due.into()).await;
                    // A timer's slack is the generator's fault, not the server's.
                    let asked = if is_early { Instant::now() } else { due };
                    target.ask(&mut connection).await;
                    record(&mut latency, asked.elapsed());
                    due += pause;
                }
                latency
            });
        }
        gather(running, begun).await
    }
}

async fn gather(mut running: JoinSet<Histogram<u64>>, begun: Instant) -> Load {
    let mut latency = histogram();
    while let Some(one) = running.join_next().await {
        latency.add(one.expect("a client goes on")).unwrap();
    }
    Load { rate: latency.len() as f64 / begun.elapsed().as_secs_f64(), latency }
}
