//! Bounds and patience of the server.

use std::time::Duration;

/// Bounds and patience of the server. The defaults are for production; tests shorten them.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Connections at once, WebSockets included. More wait in the system's backlog.
    pub connections_max: usize,
    /// WebSockets at once; the next is closed with 1013. Below `connections_max`, so that requests
    /// and health checks always find a connection.
    pub sockets_max: usize,
    /// WebSockets at once of one signed-in user, and of all anonymous callers together; the next
    /// is closed with 1013. Two thirds of a node's, as a back end that opens sockets for its own
    /// visitors is one user too, and yet nobody must take all of them.
    pub sockets_per_user_max: usize,
    /// Queries that run at once; the next is refused with 503.
    pub queries_max: usize,
    /// Mutations that run at once; the next is refused with 503. Many more than queries: what
    /// people pay for goes on when reading is shed, and an `aiExecute` waits for its model.
    pub mutations_max: usize,
    /// How long the head of a request may take from its first byte, and a new connection may stay
    /// without any request.
    pub header_timeout: Duration,
    /// How long the body of a request may take.
    pub body_timeout: Duration,
    /// The longest body of a request, in bytes.
    pub body_bytes_max: usize,
    /// How long a query or a mutation may run. `aiExecute` alone waits up to 60 s.
    pub operation_timeout: Duration,
    /// Connections without a request for so long are closed. Longer than proxies keep idle ones
    /// (60 s in nginx), so that none sends a request to a connection that is being closed.
    pub idle_timeout: Duration,
    /// How long a WebSocket may wait before `connection_init`.
    pub init_timeout: Duration,
    /// The pause between pings to a WebSocket. A peer silent for two of them is dead.
    pub ping_pause: Duration,
    /// How long one message to a WebSocket may take to be written, and how long any peer may take
    /// no byte of what waits for it.
    pub write_timeout: Duration,
    /// Between readiness turning 503 and the end of accepting, for balancers to notice.
    pub drain_notice: Duration,
    /// How long a shutdown waits for requests, and then again for background work.
    pub drain_patience: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections_max: 10_000,
            sockets_max: 9_000,
            sockets_per_user_max: 6_000,
            queries_max: 512,
            mutations_max: 4_096,
            header_timeout: Duration::from_secs(10),
            body_timeout: Duration::from_secs(30),
            body_bytes_max: 1024 * 1024,
            operation_timeout: Duration::from_secs(75),
            idle_timeout: Duration::from_secs(75),
            init_timeout: Duration::from_secs(5),
            ping_pause: Duration::from_secs(12),
            write_timeout: Duration::from_secs(10),
            drain_notice: Duration::ZERO,
            drain_patience: Duration::from_secs(25),
        }
    }
}
