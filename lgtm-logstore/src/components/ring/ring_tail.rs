//! Entries as they come in at the ingesters of a ring.

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::future::BoxFuture;
use futures::stream::{FuturesUnordered, StreamExt};
use lgtm_core::limits::Overrides;
use lgtm_core::model::TenantId;
use lgtm_core::{Error, Result};
use lgtm_ring::replicas::{Replicas, is_terminal};
use lgtm_ring::ring::{Operation, ReplicationSet};
use tokio::time::Instant;

use crate::components::clients::{IngesterClient, TailFeed, TailFrame, TailRequest};
use crate::limits::Limits;
use crate::logql::QueryError;

/// How often it is seen whether ingesters have come, as in Loki.
const LOOK_INTERVAL: Duration = Duration::from_secs(10);
/// How long a begin waits for ingesters beyond those that it needs; they are followed when they answer.
const STRAGGLER_WAIT: Duration = Duration::from_secs(1);

/// Whom to follow, and for what.
#[derive(Debug)]
pub(super) struct TailParts {
    pub(super) replicas: Arc<Replicas<dyn IngesterClient>>,
    pub(super) limits: Overrides<Limits>,
    pub(super) tenant: TenantId,
    pub(super) request: TailRequest,
}

type Opened = (String, Result<Box<dyn TailFeed>, QueryError>);

/// The feeds of the ingesters of a ring. Entries come from each replica that has them: whoever joins feeds shows them once. An ingester that goes away is
/// followed again when it is back, and a new one is found within ten seconds; as long as so many are followed that a quorum of each stream is among them,
/// no entry is missed. With fewer the feed ends.
pub(super) struct RingTail {
    parts: TailParts,
    /// By address.
    feeds: Vec<(String, Box<dyn TailFeed>)>,
    opening: FuturesUnordered<BoxFuture<'static, Opened>>,
    opened: HashSet<String>,
    set: ReplicationSet,
    next_look: Instant,
}

impl fmt::Debug for RingTail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RingTail")
            .field("feeds", &self.feeds.len())
            .field("opening", &self.opening.len())
            .finish_non_exhaustive()
    }
}

impl TailParts {
    fn set(&self) -> Result<ReplicationSet> {
        let now_s = self.replicas.now_s();
        let size = self.limits.for_tenant(&self.tenant);
        let size = size.ingestion_tenant_shard_size;
        let ring = self.replicas.readers(&self.tenant, size, now_s);
        ring.replication_set(Operation::READ, now_s)
    }
}

/// Whether those of a set that are known by their addresses are enough for a quorum of every key.
fn is_enough(set: &ReplicationSet, is_known: impl Fn(&str) -> bool) -> bool {
    let missing = set.instances.iter().filter(|i| !is_known(&i.addr));
    if set.zone_awareness_enabled || set.max_unavailable_zones > 0 {
        let zones: HashSet<&str> = missing.map(|i| i.zone.as_str()).collect();
        zones.len() <= set.max_unavailable_zones
    } else {
        missing.count() <= set.max_errors
    }
}

impl RingTail {
    /// Follows as many ingesters as a quorum of every stream needs, and the others as soon as they answer.
    ///
    /// # Errors
    /// `Unavailable` when too few can be followed; what every ingester would answer.
    pub(super) async fn begin(parts: TailParts) -> Result<Self, QueryError> {
        let mut this = Self {
            set: parts.set()?,
            parts,
            feeds: Vec::new(),
            opening: FuturesUnordered::new(),
            opened: HashSet::new(),
            next_look: Instant::now() + LOOK_INTERVAL,
        };
        this.open_all();
        while !is_enough(&this.set, |a| this.is_followed(a)) {
            let Some((address, opened)) = this.opening.next().await else {
                return Err(too_few(&this.set).into());
            };
            if let Err(error) = this.take(address, opened) {
                let is_sure = matches!(&error, QueryError::Source(e) if !is_terminal(e));
                if !is_sure {
                    return Err(error);
                }
                let known = |a: &str| this.opened.contains(a);
                if !is_enough(&this.set, known) {
                    return Err(error);
                }
            }
        }
        let rest = async {
            while let Some((address, opened)) = this.opening.next().await {
                // They are asked again at the next look.
                let _ = this.take(address, opened);
            }
        };
        let _ = tokio::time::timeout(STRAGGLER_WAIT, rest).await;
        Ok(this)
    }

    fn is_followed(&self, address: &str) -> bool {
        self.feeds.iter().any(|(a, _)| a == address)
    }

    /// Begins to follow all that are not followed yet.
    fn open_all(&mut self) {
        for instance in &self.set.instances {
            if !self.opened.insert(instance.addr.clone()) {
                continue;
            }
            let client = self.parts.replicas.client(instance);
            let (tenant, request) = (self.parts.tenant.clone(), self.parts.request.clone());
            let address = instance.addr.clone();
            self.opening.push(Box::pin(async move {
                let opened = match client {
                    Ok(client) => client.tail(&tenant, &request).await,
                    Err(e) => Err(e.into()),
                };
                (address, opened)
            }));
        }
    }

    fn take(
        &mut self,
        address: String,
        opened: Result<Box<dyn TailFeed>, QueryError>,
    ) -> Result<(), QueryError> {
        match opened {
            Ok(feed) => {
                self.feeds.push((address, feed));
                Ok(())
            }
            Err(error) => {
                tracing::debug!(address, %error, "an ingester cannot be followed");
                self.opened.remove(&address);
                Err(error)
            }
        }
    }

    /// Looks who is in the ring.
    fn look(&mut self) {
        self.next_look = Instant::now() + LOOK_INTERVAL;
        if let Ok(set) = self.parts.set() {
            self.set = set;
        }
        self.open_all();
    }

    fn check(&self) -> Result<()> {
        if is_enough(&self.set, |a| self.opened.contains(a)) {
            Ok(())
        } else {
            Err(too_few(&self.set))
        }
    }
}

fn too_few(set: &ReplicationSet) -> Error {
    Error::Unavailable(format!(
        "too few of {} ingesters can be followed for entries to be complete",
        set.instances.len()
    ))
}

/// What happened first.
enum Event {
    Frame(usize, Result<Option<TailFrame>>),
    Opened(Opened),
    Look,
}

#[async_trait]
impl TailFeed for RingTail {
    async fn next_frame(&mut self) -> Result<Option<TailFrame>> {
        loop {
            self.check()?;
            if !self.feeds.is_empty() {
                // The first is asked first: a busy one must not keep the others waiting.
                self.feeds.rotate_left(1);
            }
            let event = {
                let frames = self.feeds.iter_mut().map(|(_, feed)| feed.next_frame());
                let frames: Vec<_> = frames.collect();
                let any = async {
                    if frames.is_empty() {
                        std::future::pending().await
                    } else {
                        futures::future::select_all(frames).await
                    }
                };
                tokio::select! {
                    biased;
                    (frame, place, _) = any => Event::Frame(place, frame),
                    Some(opened) = self.opening.next() => Event::Opened(opened),
                    () = tokio::time::sleep_until(self.next_look) => Event::Look,
                }
            };
            match event {
                Event::Frame(_, Ok(Some(frame))) => return Ok(Some(frame)),
                Event::Frame(place, ended) => {
                    let (address, _) = self.feeds.swap_remove(place);
                    let error = ended.err().map(|e| e.to_string());
                    tracing::debug!(address, error, "an ingester that is followed went away");
                    self.opened.remove(&address);
                }
                Event::Opened((address, opened)) => drop(self.take(address, opened)),
                Event::Look => self.look(),
            }
        }
    }
}
