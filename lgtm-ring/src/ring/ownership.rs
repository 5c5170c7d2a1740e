//! Which keys an instance owns, for pages and for those who keep data by ranges.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::Arc;

use lgtm_core::{Error, Result};

use crate::instance::Instance;
use crate::ring::Ring;
use crate::ring::circle::Circle;
use crate::token::Token;

/// Ranges of keys, inclusive, ascending, apart from each other.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TokenRanges(Vec<RangeInclusive<u32>>);

impl TokenRanges {
    /// The ranges.
    pub fn ranges(&self) -> &[RangeInclusive<u32>] {
        &self.0
    }

    /// Whether a key is in one of them. A binary search.
    pub fn contains(&self, key: Token) -> bool {
        let after = self.0.partition_point(|r| *r.end() < key.0);
        self.0.get(after).is_some_and(|r| r.contains(&key.0))
    }
}

impl Ring {
    /// How many keys each instance owns in its zone, by id. All keys of a zone are 2^32.
    pub fn owned_keys(&self) -> BTreeMap<&str, u64> {
        let mut owned: BTreeMap<&str, u64> = self.instances().map(|i| (i.id.as_str(), 0)).collect();
        for circle in self.ownership_circles() {
            let Some((last, _)) = circle.iter().last() else {
                continue;
            };
            let mut previous = last;
            for (i, (token, owner)) in circle.iter().enumerate() {
                // A token that two hold owns nothing the second time; a lone token owns the circle.
                if i == 0 || token != previous {
                    *owned.entry(&self.record(owner).id).or_default() += previous.distance(token);
                }
                previous = token;
            }
        }
        owned
    }

    fn ownership_circles(&self) -> Vec<&Circle> {
        let slots = self.topology.zone_slots();
        slots.map(|slot| self.topology.zone_circle(slot)).collect()
    }

    /// The keys whose replica in its zone is the instance `id`.
    ///
    /// # Errors
    /// `NotFound` for an id that is not in the ring, `InvalidInput` for an instance without a zone and for a ring that is not zone aware
    /// or has not as many zones as replicas: only then does each zone hold each key once.
    pub fn token_ranges(&self, id: &str) -> Result<TokenRanges> {
        let instance = self
            .instance(id)
            .ok_or_else(|| Error::NotFound(format!("instance {id} in the ring")))?;
        if instance.zone.is_empty() {
            return Err(Error::InvalidInput("zone not set".into()));
        }
        let zones = self.topology.zone_count();
        let replicas = self.settings.replication_factor;
        if !self.settings.zone_awareness_enabled || zones != replicas {
            let text = "can't use ring configuration for computing token ranges";
            return Err(Error::InvalidInput(text.into()));
        }
        Ok(self.ranges_of(instance))
    }

    fn ranges_of(&self, instance: &Arc<Instance>) -> TokenRanges {
        let names = &self.topology.zones.names;
        let Ok(slot) = names.binary_search(&instance.zone) else {
            return TokenRanges::default();
        };
        let circle = self.topology.zone_circle(slot as u32);
        let mut ranges: Vec<RangeInclusive<u32>> = Vec::new();
        let mut previous: Option<Token> = None;
        let mut wraps = false;
        for (token, owner) in circle.iter() {
            let own = self.record(owner).id == instance.id;
            match previous {
                // What lies below the first token belongs to its owner, as does what lies above the last.
                None => {
                    wraps = own;
                    if own && token.0 > 0 {
                        ranges.push(0..=token.0 - 1);
                    }
                }
                Some(previous) if own && token > previous => {
                    extend(&mut ranges, previous, token.0 - 1)
                }
                Some(_) => {}
            }
            previous = Some(token);
        }
        if let Some(last) = previous.filter(|_| wraps) {
            extend(&mut ranges, last, u32::MAX);
        }
        TokenRanges(ranges)
    }
}

/// Adds `from..=to`, joined to the last range when they touch.
fn extend(ranges: &mut Vec<RangeInclusive<u32>>, from: Token, to: u32) {
    match ranges.last_mut() {
        Some(last) if last.end().checked_add(1) == Some(from.0) => *last = *last.start()..=to,
        _ => ranges.push(from.0..=to),
    }
}
