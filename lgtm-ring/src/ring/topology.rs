//! Everything that follows from who is in the ring, and not from states and heartbeats.

use std::sync::{Arc, OnceLock};

use crate::instance::{Instance, InstanceState};
use crate::ring::circle::Circle;
use crate::ring::silence::News;

/// All instances of a ring, tombstones and excluded zones left out, by id. Shared by the ring and its shards, which index it.
#[derive(Debug)]
pub(super) struct Records {
    pub(super) instances: Box<[Arc<Instance>]>,
    /// What the inner loop of a lookup asks, side by side.
    pub(super) health: Box<[Health]>,
    /// When heartbeats were heard, if somebody follows the ring.
    pub(super) news: Option<News>,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Health {
    /// The last heartbeat; of one who follows the ring no later than when it was heard.
    pub(super) timestamp_s: i64,
    pub(super) state: InstanceState,
}

impl Records {
    /// The records as they are, with the times that they name.
    pub(super) fn new(instances: Vec<Arc<Instance>>, news: Option<News>) -> Self {
        let health = instances.iter().map(|i| Health {
            timestamp_s: i.timestamp_s,
            state: i.state,
        });
        Self {
            health: health.collect(),
            news,
            instances: instances.into(),
        }
    }

    /// The records that come after `before`, heard at `now_s`. A heartbeat from the future counts as of the moment when it was heard first: it ages like
    /// any other, and an instance whose clock runs ahead does not stay alive when it is gone.
    pub(super) fn heard_after(
        before: &Self,
        instances: Vec<Arc<Instance>>,
        now_s: i64,
        timeout_s: i64,
    ) -> Self {
        let news = News::after(before, &instances, now_s, timeout_s);
        let health = instances.iter().enumerate().map(|(n, i)| {
            let known = before.news.and(before.place_near(n, &i.id));
            let known = known.filter(|&place| before.instances[place].stamp() == i.stamp());
            Health {
                timestamp_s: match known {
                    Some(place) => before.health[place].timestamp_s,
                    None => i.timestamp_s.min(now_s),
                },
                state: i.state,
            }
        });
        Self {
            health: health.collect(),
            news,
            instances: instances.into(),
        }
    }

    /// The record of an instance; looked for at `place` first.
    pub(super) fn near(&self, place: usize, id: &str) -> Option<&Arc<Instance>> {
        let place = self.place_near(place, id)?;
        Some(&self.instances[place])
    }

    fn place_near(&self, place: usize, id: &str) -> Option<usize> {
        let is_there = self.instances.get(place).is_some_and(|i| i.id == id);
        if is_there {
            Some(place)
        } else {
            let search = self.instances.binary_search_by(|i| i.id.as_str().cmp(id));
            search.ok()
        }
    }
}

/// Zones of the whole ring.
#[derive(Debug)]
pub(super) struct Zones {
    /// Ascending. A zone's *slot* is its place here.
    pub(super) names: Box<[String]>,
    /// The slot of each record.
    pub(super) slot_of: Box<[u32]>,
}

impl Zones {
    fn of(instances: &[Arc<Instance>]) -> Self {
        let mut names: Vec<&str> = instances.iter().map(|i| i.zone.as_str()).collect();
        names.sort_unstable();
        names.dedup();
        let slot = |i: &Arc<Instance>| names.binary_search(&i.zone.as_str());
        let slots = instances.iter().map(|i| slot(i).unwrap_or(0) as u32);
        Self {
            slot_of: slots.collect(),
            names: names.iter().map(|&n| n.to_owned()).collect(),
        }
    }

    /// The zone without a name does not limit its instances.
    pub(super) fn is_unnamed(&self, slot: u32) -> bool {
        self.names[slot as usize].is_empty()
    }
}

/// The instances of a ring or a shard of it.
#[derive(Debug)]
pub(super) struct Topology {
    /// Places in the records, ascending.
    pub(super) members: Box<[u32]>,
    pub(super) zones: Arc<Zones>,
    /// Members by slot; 0 for a zone that only others are in.
    pub(super) zone_sizes: Box<[u32]>,
    /// Members by slot that have tokens, the only ones that a walk can find.
    pub(super) zone_owners: Box<[u32]>,
    pub(super) owners: usize,
    pub(super) circle: Circle,
    /// The circle of each slot, made when somebody asks.
    zone_circles: OnceLock<Box<[Circle]>>,
    /// 0 as soon as one is unknown, or there is nobody.
    pub(super) oldest_registered_s: i64,
    pub(super) has_read_only: bool,
}

impl Topology {
    /// Of all records.
    pub(super) fn whole(records: &Records) -> Self {
        let zones = Arc::new(Zones::of(&records.instances));
        let members = (0..records.instances.len() as u32).collect();
        Self::of(records, zones, members)
    }

    /// Of some records; `members` ascend.
    pub(super) fn of(records: &Records, zones: Arc<Zones>, members: Vec<u32>) -> Self {
        let mut zone_sizes = vec![0; zones.names.len()];
        let mut zone_owners = vec![0; zones.names.len()];
        for &member in &members {
            let slot = zones.slot_of[member as usize] as usize;
            zone_sizes[slot] += 1;
            zone_owners[slot] += u32::from(!records.instances[member as usize].tokens.is_empty());
        }
        let of_members = || members.iter().map(|&m| &records.instances[m as usize]);
        let registered = of_members().map(|i| i.registered_timestamp_s.max(0));
        Self {
            oldest_registered_s: registered.min().unwrap_or(0),
            has_read_only: of_members().any(|i| i.read_only),
            circle: Circle::of_instances(&records.instances, &members),
            zone_circles: OnceLock::new(),
            owners: zone_owners.iter().map(|&n| n as usize).sum(),
            zone_owners: zone_owners.into(),
            zone_sizes: zone_sizes.into(),
            members: members.into(),
            zones,
        }
    }

    /// Slots of the zones that have members, ascending by name.
    pub(super) fn zone_slots(&self) -> impl Iterator<Item = u32> + '_ {
        let sizes = self.zone_sizes.iter().enumerate();
        sizes
            .filter(|&(_, &size)| size > 0)
            .map(|(slot, _)| slot as u32)
    }

    pub(super) fn zone_count(&self) -> usize {
        self.zone_slots().count()
    }

    /// The tokens of one zone. The first call costs a pass over all tokens per zone.
    pub(super) fn zone_circle(&self, slot: u32) -> &Circle {
        let circles = self.zone_circles.get_or_init(|| {
            let slots = 0..self.zones.names.len() as u32;
            slots
                .map(|slot| {
                    let of_zone = |owner: u32| self.zones.slot_of[owner as usize] == slot;
                    self.circle.filtered(of_zone)
                })
                .collect()
        });
        &circles[slot as usize]
    }

    /// Bytes on the heap, without the tables that are made when asked for.
    pub(super) fn size_bytes(&self) -> usize {
        4 * (self.members.len() + 2 * self.zone_sizes.len()) + self.circle.size_bytes()
    }
}
