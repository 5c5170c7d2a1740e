//! The view itself.

use std::fmt;
use std::sync::Arc;

use crate::instance::{Instance, InstanceState, RingDesc};
use crate::ring::shard_cache::ShardCache;
use crate::ring::topology::{Records, Topology};
use crate::ring::{ReplicationStrategy, RingSettings};
use crate::token::Token;

/// An immutable view of a ring, or of a tenant's shard of it. Cloning copies pointers.
///
/// ```
/// use lgtm_ring::instance::{Instance, RingDesc};
/// use lgtm_ring::ring::{LookupBuffer, Operation, Ring, RingSettings};
/// use lgtm_ring::token::Token;
///
/// let now_s = 1_800_000_000;
/// let instance = |id: &str, token| Instance {
///     id: id.into(),
///     addr: format!("{id}:9095"),
///     timestamp_s: now_s,
///     tokens: [Token(token)].into(),
///     ..Instance::default()
/// };
/// let desc: RingDesc = [instance("a", 100), instance("b", 200), instance("c", 300)].into_iter().collect();
/// let ring = Ring::new(RingSettings::default(), &desc);
///
/// let mut buffer = LookupBuffer::default(); // keep one per thread: then a lookup allocates nothing
/// let replicas = ring.lookup(Token(150), Operation::WRITE, now_s, &mut buffer)?;
/// let ids: Vec<_> = replicas.iter().map(|i| i.id.as_str()).collect();
/// assert_eq!(ids, ["b", "c", "a"]);
/// assert_eq!(replicas.max_errors(), 1);
/// # Ok::<(), lgtm_core::Error>(())
/// ```
#[derive(Clone)]
pub struct Ring {
    pub(super) settings: Arc<RingSettings>,
    pub(super) records: Arc<Records>,
    pub(super) topology: Arc<Topology>,
    /// A shard has none: shards of shards are not worth keeping.
    pub(super) shards: Option<Arc<ShardCache>>,
}

impl Ring {
    /// The view of `desc`. Costs a sort of all tokens.
    pub fn new(settings: RingSettings, desc: &RingDesc) -> Self {
        let settings = Arc::new(settings);
        let records = Arc::new(Records::new(visible(&settings, desc), None));
        Self::build(settings, records)
    }

    fn build(settings: Arc<RingSettings>, records: Arc<Records>) -> Self {
        let cache = ShardCache::new(settings.shard_cache_size.as_usize());
        Self {
            topology: Arc::new(Topology::whole(&records)),
            shards: Some(Arc::new(cache)),
            settings,
            records,
        }
    }

    /// A ring of one instance, for a process that is the whole cluster: it owns every key and never expires.
    pub fn standalone(id: &str) -> Self {
        let instance = Instance {
            id: id.to_owned(),
            addr: id.to_owned(),
            state: InstanceState::Active,
            timestamp_s: i64::MAX,
            tokens: [Token(0)].into(),
            ..Instance::default()
        };
        let settings = RingSettings {
            replication_factor: 1,
            ..RingSettings::default()
        };
        Self::new(settings, &[instance].into_iter().collect())
    }

    /// The view of a newer value. When nothing but states and heartbeats differs, tables and cached shards are shared with this view,
    /// and the cost is that of comparing the records; else as [`Ring::new`].
    #[must_use]
    pub fn updated(&self, desc: &RingDesc) -> Self {
        self.next(desc, None)
    }

    /// As [`Ring::updated`], for one who follows a store and got the value at `now_s`: when no heartbeat comes for longer than the heartbeat timeout, this
    /// view and those after it go on as [`RingSettings::serve_while_silent`] says. A heartbeat from the future, of an instance whose clock runs ahead, counts
    /// as of the moment when it was heard, so that it ages: without following, such an instance counts as alive until the time it names.
    #[must_use]
    pub fn updated_at(&self, desc: &RingDesc, now_s: i64) -> Self {
        self.next(desc, Some(now_s))
    }

    fn next(&self, desc: &RingDesc, now_s: Option<i64>) -> Self {
        let instances = visible(&self.settings, desc);
        let before = &self.records.instances;
        let same_places = instances.len() == before.len()
            && before.iter().zip(&instances).all(|(a, b)| same_place(a, b));
        let timeout_s = self.settings.heartbeat_timeout_s();
        let records = Arc::new(match now_s {
            Some(now_s) => Records::heard_after(&self.records, instances, now_s, timeout_s),
            None => Records::new(instances, self.records.news),
        });
        if !same_places {
            return Self::build(Arc::clone(&self.settings), records);
        }
        Self {
            records,
            ..self.clone()
        }
    }

    /// Whether this view has the tables of `other`: between the two only states and heartbeats changed.
    pub fn shares_tables_with(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.topology, &other.topology)
    }

    /// The settings it was made with.
    pub fn settings(&self) -> &RingSettings {
        &self.settings
    }

    /// How many must answer.
    pub fn strategy(&self) -> ReplicationStrategy {
        self.settings.strategy
    }

    /// All instances, by id.
    pub fn instances(&self) -> impl ExactSizeIterator<Item = &Arc<Instance>> {
        let members = self.topology.members.iter();
        members.map(|&m| &self.records.instances[m as usize])
    }

    /// All instances, by id, each with the time of its last heartbeat; to one who follows the ring that is never later than when it was heard.
    pub fn heartbeats(&self) -> impl ExactSizeIterator<Item = (&Arc<Instance>, i64)> {
        let members = self.topology.members.iter();
        members.map(|&m| {
            let health = self.records.health[m as usize];
            (&self.records.instances[m as usize], health.timestamp_s)
        })
    }

    /// An instance by id.
    pub fn instance(&self, id: &str) -> Option<&Arc<Instance>> {
        let records = &self.records.instances;
        let place = records.binary_search_by(|i| i.id.as_str().cmp(id)).ok()?;
        let is_member = self.topology.members.binary_search(&(place as u32)).is_ok();
        is_member.then(|| &records[place])
    }

    /// Instances.
    pub fn len(&self) -> usize {
        self.topology.members.len()
    }

    /// Whether there is no instance.
    pub fn is_empty(&self) -> bool {
        self.topology.members.is_empty()
    }

    /// Tokens of all instances, one that two hold twice.
    pub fn token_count(&self) -> usize {
        self.topology.circle.len()
    }

    /// Instances that have tokens.
    pub fn instances_with_tokens(&self) -> usize {
        self.instances().filter(|i| !i.tokens.is_empty()).count()
    }

    /// Instances that have tokens and are not read-only.
    pub fn writable_instances_with_tokens(&self) -> usize {
        let writable = |i: &&Arc<Instance>| !i.tokens.is_empty() && !i.read_only;
        self.instances().filter(writable).count()
    }

    /// Names of the zones that have instances, ascending; the one without a name is among them.
    pub fn zones(&self) -> impl Iterator<Item = &str> {
        let names = &self.topology.zones.names;
        let slots = self.topology.zone_slots();
        slots.map(|slot| names[slot as usize].as_str())
    }

    /// Instances whose heartbeat is fresh and whose state is in `states`, e.g. to divide a global limit by them.
    pub fn count_healthy(&self, operation: crate::ring::Operation, now_s: i64) -> usize {
        let oldest_s = self.oldest_fresh_s(now_s);
        let members = self.topology.members.iter();
        members
            .filter(|&&m| self.is_healthy(m, operation, oldest_s))
            .count()
    }

    /// The oldest heartbeat that counts as fresh at `now_s`.
    #[inline]
    pub(super) fn oldest_fresh_s(&self, now_s: i64) -> i64 {
        let timeout_s = self.settings.heartbeat_timeout_s();
        match self.records.news {
            Some(news) if self.settings.serve_while_silent => news.oldest_fresh_s(now_s, timeout_s),
            _ => now_s.saturating_sub(timeout_s),
        }
    }

    /// Whether a record can serve the operation when heartbeats from `oldest_s` on are fresh.
    #[inline]
    pub(super) fn is_healthy(
        &self,
        record: u32,
        operation: crate::ring::Operation,
        oldest_s: i64,
    ) -> bool {
        let health = self.records.health[record as usize];
        operation.is_healthy(health.state) && health.timestamp_s >= oldest_s
    }

    pub(super) fn record(&self, place: u32) -> &Arc<Instance> {
        &self.records.instances[place as usize]
    }
}

impl fmt::Debug for Ring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ring")
            .field("instances", &self.len())
            .field("tokens", &self.token_count())
            .field("zones", &self.zones().collect::<Vec<_>>())
            .finish_non_exhaustive()
    }
}

/// The instances that readers see, by id.
fn visible(settings: &RingSettings, desc: &RingDesc) -> Vec<Arc<Instance>> {
    let seen = |i: &&Arc<Instance>| {
        i.state != InstanceState::Left && !settings.excluded_zones.contains(&i.zone)
    };
    let mut instances: Vec<_> = desc.iter().filter(seen).cloned().collect();
    for instance in &mut instances {
        if !instance.tokens.is_sorted() {
            let mut sorted = instance.tokens.to_vec();
            sorted.sort_unstable();
            Arc::make_mut(instance).tokens = sorted.into();
        }
    }
    instances
}

/// Whether two records differ in nothing but state and heartbeat, so that what was derived from one serves the other.
fn same_place(a: &Arc<Instance>, b: &Arc<Instance>) -> bool {
    Arc::ptr_eq(a, b)
        || a.id == b.id
            && a.addr == b.addr
            && a.zone == b.zone
            && a.registered_timestamp_s == b.registered_timestamp_s
            && a.read_only == b.read_only
            && a.read_only_updated_timestamp_s == b.read_only_updated_timestamp_s
            && (Arc::ptr_eq(&a.tokens, &b.tokens) || a.tokens == b.tokens)
}
