//! Processes under measurement: the program's release binary, and peers that are this executable
//! in another role. Killed when dropped.

use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddr};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::load::Connection;
use crate::stage::{CONNECTIONS, ISSUER, Stage};

/// How long a process may take to be ready.
const PATIENCE: Duration = Duration::from_secs(30);

/// For load by a few people, whom the limits would stop. Only development takes that; it serves the
/// same otherwise.
const LOADED: [(&str, &str); 2] = [("MUSUBI_ENV", "development"), ("MUSUBI_RATE_LIMITS", "off")];

/// Production takes payments; nobody is asked for any here.
const PRODUCTION: [(&str, &str); 5] = [
    ("MUSUBI_ENV", "production"),
    ("STRIPE_SECRET_KEY", "sk_test_bench"),
    ("STRIPE_PUBLISHABLE_KEY", "pk_test_bench"),
    ("STRIPE_WEBHOOK_SECRET", "whsec_bench"),
    ("STRIPE_API_BASE", "http://127.0.0.1:9"),
];

/// A running server.
pub(crate) struct Process {
    child: Child,
    /// Where it listens.
    pub(crate) address: SocketAddr,
}

impl Process {
    /// Starts the program for load and waits until it is ready.
    pub(crate) async fn musubi(stage: &Stage, models: &str) -> Self {
        let process = Self::launch_with(stage, models, &LOADED);
        process.ready().await;
        process
    }

    /// Starts the program as in production.
    pub(crate) fn launch(stage: &Stage, models: &str) -> Self {
        Self::launch_with(stage, models, &PRODUCTION)
    }

    fn launch_with(stage: &Stage, models: &str, settings: &[(&str, &str)]) -> Self {
        let free = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = free.local_addr().unwrap();
        drop(free);
        let key = |byte: u8| STANDARD.encode([byte; 32]);
        let child = Command::new(env!("CARGO_BIN_EXE_musubi"))
            .arg("serve")
            .env_clear()
            .envs(settings.iter().copied())
            .env("MUSUBI_HOST", "127.0.0.1")
            .env("PORT", address.port().to_string())
            .env("DATABASE_URL", &stage.url)
            .env("DATABASE_CONNECTIONS", CONNECTIONS.to_string())
            .env("PUBLIC_URL", ISSUER)
            .env("JWT_KEYS", format!("jwt1:{}", key(1)))
            .env("ENCRYPTION_KEYS", format!("enc1:{}", key(2)))
            .env("INDEX_KEY", key(3))
            .env("EMAIL_SERVER", "smtp://127.0.0.1:9")
            .env("EMAIL_FROM", "no-reply@musubi.test")
            .env("OPENAI_BASE_URL", models)
            .env("OPENAI_API_KEY", "bench-key")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("the program starts");
        Self { child, address }
    }

    /// Starts a peer, which prints where it listens as its first line.
    pub(crate) async fn peer(role: &str, arguments: &[&str]) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.arg(format!("role:{role}")).args(arguments).stdout(Stdio::piped());
        let mut child = command.spawn().expect("the peer starts");
        let mut out = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        let read = tokio::task::spawn_blocking(move || out.read_line(&mut line).map(|_| line));
        let line = tokio::time::timeout(PATIENCE, read).await.expect("the peer is ready");
        let address = line.unwrap().unwrap().trim().parse().expect("the peer says where");
        Self { child, address }
    }

    /// Waits until readiness says 200; answers how long that took.
    pub(crate) async fn ready(&self) -> Duration {
        let begun = Instant::now();
        let request = format!("GET /health/ready HTTP/1.1\r\nhost: {}\r\n\r\n", self.address);
        while begun.elapsed() < PATIENCE {
            if let Ok(mut connection) = Connection::open(self.address).await
                && let Ok(status) = connection.ask(request.as_bytes()).await
                && status == 200
            {
                return begun.elapsed();
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        panic!("the program was not ready in time");
    }

    /// Memory that is resident now, in KiB.
    pub(crate) fn memory(&self) -> f64 {
        let path = format!("/proc/{}/smaps_rollup", self.child.id());
        let text = std::fs::read_to_string(path).expect("the process runs");
        let line = text.lines().find_map(|line| line.strip_prefix("Rss:")).expect("its memory");
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
