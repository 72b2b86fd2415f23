//! Live events: in memory on one node, through Redis across nodes.
//!
//! Whoever watches subscribes first and reads the snapshot then; what the snapshot already holds
//! is told by its version. Events may be lost (a slow watcher, Redis away): [`Signal::Resync`] asks
//! for a fresh snapshot where we know of it, the re-read every 5 s finds the rest.

use std::any::Any;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use aws_lc_rs::hmac;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{Notify, broadcast, mpsc};
use tokio_util::sync::CancellationToken;
use tracing::{debug, error};
use uuid::Uuid;

use crate::config::Config;
use crate::db::{Bus, Txn};
use crate::external::redis::{Channel, Heard};
use crate::ids::{AccountId, AlertId, ExecutionId, PurchaseId, TenantId};
use crate::tasks::Tasks;

/// Events that a watcher may be behind before it must take a fresh snapshot.
const BEHIND_MAX: usize = 64;
/// Events that wait for Redis at most; more are dropped.
const OUTBOUND_MAX: usize = 10_000;

/// Something that watchers want to know.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Event {
    /// An account's balance changed.
    Balance(BalanceChanged),
    /// An execution went on.
    Execution(ExecutionChanged),
    /// Somebody asked an execution to end early; the node that runs it listens.
    CancelRequested(ExecutionId),
    /// An alert was raised. One without a tenant is the operators' and has no topic.
    Alert {
        /// The alert.
        alert: AlertId,
        /// Whom it concerns.
        tenant: Option<TenantId>,
    },
    /// A purchase went on.
    Purchase(PurchaseChanged),
    /// Packages, plans or prices changed.
    CatalogChanged,
    /// A session or an API key ended, named by its row; its sockets end with it.
    AccessEnded(Uuid),
    /// Sites, or the origins that may come, changed.
    SitesChanged,
    /// Documents were registered.
    DocumentsRegistered,
}

/// A balance after a change: all numbers, so that nobody reads it again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BalanceChanged {
    /// The account.
    pub account: AccountId,
    /// Its owner.
    pub tenant: TenantId,
    /// Credits, those on hold included.
    pub current: i64,
    /// Credits on hold.
    pub held: i64,
    /// Grows with every change; the highest wins.
    pub version: i64,
    /// When it changed.
    pub at: DateTime<Utc>,
}

/// An execution after a step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecutionChanged {
    /// The execution.
    pub execution: ExecutionId,
    /// Whose it is.
    pub tenant: TenantId,
    /// Whether no further step follows.
    pub is_finished: bool,
}

/// A purchase after a step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PurchaseChanged {
    /// The purchase.
    pub purchase: PurchaseId,
    /// Whose it is.
    pub tenant: TenantId,
    /// Grows with every change.
    pub version: i64,
}

/// What one can watch.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Topic {
    /// One account's balance.
    Balance(AccountId),
    /// One execution.
    Execution(ExecutionId),
    /// All requests to end an execution early.
    Cancels,
    /// One tenant's alerts.
    Alerts(TenantId),
    /// One purchase.
    Purchase(PurchaseId),
    /// What is for sale.
    Catalog,
    /// All ends of sessions and API keys.
    Access,
    /// The sites of all tenants.
    Sites,
    /// What browsers may run.
    Documents,
}

/// What a watcher receives.
#[derive(Clone, Debug, PartialEq)]
pub enum Signal {
    /// Something happened.
    Event(Arc<Event>),
    /// Something may have been missed: take a fresh snapshot.
    Resync,
}

/// Announced by `queue::push`: a commit left durable work for this node's worker.
pub(crate) struct WorkPushed;

impl Event {
    /// Where the event is told, if anybody can watch it.
    fn topic(&self) -> Option<Topic> {
        match self {
            Self::Balance(change) => Some(Topic::Balance(change.account)),
            Self::Execution(change) => Some(Topic::Execution(change.execution)),
            Self::CancelRequested(_) => Some(Topic::Cancels),
            Self::Alert { tenant, .. } => tenant.map(Topic::Alerts),
            Self::Purchase(change) => Some(Topic::Purchase(change.purchase)),
            Self::CatalogChanged => Some(Topic::Catalog),
            Self::AccessEnded(_) => Some(Topic::Access),
            Self::SitesChanged => Some(Topic::Sites),
            Self::DocumentsRegistered => Some(Topic::Documents),
        }
    }
}

/// Keeps an event until the transaction's commit; a rollback forgets it.
pub fn announce(txn: &mut Txn, event: Event) {
    txn.announce(Box::new(event));
}

/// The live events of this node. Clones share them.
#[derive(Clone)]
pub struct Events(Arc<Inner>);

struct Inner {
    topics: Mutex<HashMap<Topic, Watched>>,
    /// Whether Redis is configured, even at an address that cannot be.
    has_redis: bool,
    remote: Option<Remote>,
    work: Notify,
    stopping: CancellationToken,
}

/// A topic that somebody watches.
struct Watched {
    sender: broadcast::Sender<Signal>,
    /// Counted here, under the map's lock: a receiver leaves the channel after its drop began.
    subscriptions: usize,
}

/// The way to the other nodes.
struct Remote {
    channel: Arc<Channel>,
    outbound: mpsc::Sender<Vec<u8>>,
    node: Uuid,
}

/// What travels between nodes.
#[derive(Serialize, Deserialize)]
struct Envelope<E> {
    node: Uuid,
    event: E,
}

impl Events {
    /// Starts the exchange with the other nodes if Redis is configured. Redis need not answer yet.
    pub fn start(config: &Config, node: Uuid, tasks: &Tasks) -> Self {
        let channel = config.redis_url.as_ref().and_then(|url| {
            Channel::new(url, channel_name(config))
                .inspect_err(|error| error!(%error, "REDIS_URL cannot be used: {error}"))
                .ok()
                .map(Arc::new)
        });
        let (outbound, queue) = mpsc::channel(OUTBOUND_MAX);
        let remote = channel.clone().map(|channel| Remote { channel, outbound, node });
        let events = Self(Arc::new(Inner {
            topics: Mutex::default(),
            has_redis: config.redis_url.is_some(),
            remote,
            work: Notify::new(),
            stopping: tasks.stopping(),
        }));
        if let Some(channel) = channel {
            let (speaker, stopping) = (Arc::clone(&channel), tasks.stopping());
            tasks.spawn(async move { speaker.speak(queue, stopping).await });
            let (listener, stopping) = (events.clone(), tasks.stopping());
            tasks.spawn(async move {
                channel.listen(stopping, |heard| listener.hear(node, heard)).await;
            });
        }
        events
    }

    /// Watches a topic, from before this returns: subscribe, then read the snapshot.
    pub fn subscribe(&self, topic: Topic) -> Subscription {
        let mut topics = self.topics();
        let watched = topics.entry(topic).or_insert_with(|| Watched {
            sender: broadcast::Sender::new(BEHIND_MAX),
            subscriptions: 0,
        });
        watched.subscriptions += 1;
        let receiver = watched.sender.subscribe();
        drop(topics);
        Subscription { topic, receiver, events: self.clone() }
    }

    /// Tells the watchers of all nodes. Never waits: what does not fit is dropped.
    pub fn publish(&self, event: Event) {
        if let Some(remote) = &self.0.remote {
            remote.send(&event);
        }
        self.publish_local(event);
    }

    /// Tells this node's watchers only.
    pub fn publish_local(&self, event: Event) {
        let Some(topic) = event.topic() else { return };
        let sender = self.topics().get(&topic).map(|watched| watched.sender.clone());
        if let Some(sender) = sender {
            // An error means that the last watcher has just left.
            let _ = sender.send(Signal::Event(Arc::new(event)));
        }
    }

    /// The accounts that somebody watches on this node.
    pub fn subscribed_accounts(&self) -> Vec<AccountId> {
        self.subscribed(|topic| match topic {
            Topic::Balance(account) => Some(*account),
            Topic::Execution(_)
            | Topic::Cancels
            | Topic::Alerts(_)
            | Topic::Purchase(_)
            | Topic::Catalog
            | Topic::Access
            | Topic::Sites
            | Topic::Documents => None,
        })
    }

    /// The executions that somebody watches on this node.
    pub fn subscribed_executions(&self) -> Vec<ExecutionId> {
        self.subscribed(|topic| match topic {
            Topic::Execution(execution) => Some(*execution),
            Topic::Balance(_)
            | Topic::Cancels
            | Topic::Alerts(_)
            | Topic::Purchase(_)
            | Topic::Catalog
            | Topic::Access
            | Topic::Sites
            | Topic::Documents => None,
        })
    }

    /// Whether the other nodes are heard; none without Redis.
    pub fn is_connected(&self) -> Option<bool> {
        let is_connected = || self.0.remote.as_ref().is_some_and(|it| it.channel.is_connected());
        self.0.has_redis.then(is_connected)
    }

    /// Completes when a commit of this node left durable work, also one since the last call.
    pub(crate) async fn work_pushed(&self) {
        self.0.work.notified().await;
    }

    fn hear(&self, own: Uuid, heard: Heard<'_>) {
        match heard {
            Heard::Connected => self.resync_all(),
            Heard::Message(bytes) => match serde_json::from_slice::<Envelope<Event>>(bytes) {
                Ok(envelope) if envelope.node == own => {}
                Ok(envelope) => self.publish_local(envelope.event),
                // A newer release may say what we do not know yet.
                Err(error) => debug!(%error, "An event of another node is not understood"),
            },
        }
    }

    fn resync_all(&self) {
        let senders: Vec<_> = self.topics().values().map(|it| it.sender.clone()).collect();
        for sender in senders {
            let _ = sender.send(Signal::Resync);
        }
    }

    fn subscribed<I>(&self, id: impl Fn(&Topic) -> Option<I>) -> Vec<I> {
        self.topics().keys().filter_map(id).collect()
    }

    fn topics(&self) -> MutexGuard<'_, HashMap<Topic, Watched>> {
        self.0.topics.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Bus for Events {
    fn publish(&self, announcement: Box<dyn Any + Send + Sync>) {
        match announcement.downcast::<Event>() {
            Ok(event) => Self::publish(self, *event),
            Err(other) if other.is::<WorkPushed>() => self.0.work.notify_one(),
            Err(_) => error!("Something was announced that is no event"),
        }
    }
}

impl Remote {
    fn send(&self, event: &Event) {
        match serde_json::to_vec(&Envelope { node: self.node, event }) {
            // A full queue means that Redis is away, which the speaker has logged.
            Ok(bytes) => drop(self.outbound.try_send(bytes)),
            Err(error) => error!(%error, "An event has no JSON: {error}"),
        }
    }
}

/// A watched topic. Dropping it stops watching.
pub struct Subscription {
    topic: Topic,
    receiver: broadcast::Receiver<Signal>,
    events: Events,
}

impl Subscription {
    /// The next signal; none once shutdown has begun. Cancelling the wait loses nothing.
    pub async fn next(&mut self) -> Option<Signal> {
        let stopping = &self.events.0.stopping;
        let received = tokio::select! {
            biased;
            () = stopping.cancelled() => return None,
            received = self.receiver.recv() => received,
        };
        match received {
            Ok(signal) => Some(signal),
            Err(RecvError::Lagged(_)) => {
                // The fresh snapshot holds all that is still waiting here.
                self.receiver = self.receiver.resubscribe();
                Some(Signal::Resync)
            }
            Err(RecvError::Closed) => None,
        }
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        let mut topics = self.events.topics();
        if let Some(watched) = topics.get_mut(&self.topic) {
            watched.subscriptions -= 1;
            if watched.subscriptions == 0 {
                topics.remove(&self.topic);
            }
        }
    }
}

/// The channel of this installation: two on one Redis do not hear each other, and the name tells
/// nothing of the key.
fn channel_name(config: &Config) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, &config.index_key);
    let digest = hmac::sign(&key, b"musubi live events");
    let hex: String = digest.as_ref().iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    format!("musubi:{hex}")
}
