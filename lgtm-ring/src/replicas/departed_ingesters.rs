//! Which ingesters have gone for good.

use std::collections::{BTreeSet, VecDeque};

use parking_lot::Mutex;

use crate::ring::Ring;
use crate::watch::RingHandle;

/// Departures that are told. More than these at once do not come about while any data is left.
const MAX_TOLD: usize = 32;

/// The ingesters that were in a ring and are not any more: flushed and out of it, or forgotten. What they wrote into the object store last, its readers elsewhere
/// may not know; what they have not written is only with the other replicas.
///
/// Who begins does not know who went before. So its own begin counts as a departure, too.
#[derive(Debug)]
pub struct DepartedIngesters {
    ring: RingHandle,
    seen: Mutex<SeenIngesters>,
}

#[derive(Debug)]
struct SeenIngesters {
    /// The ring when it was looked at last.
    ring: Option<Ring>,
    /// Each by its name and since when it is registered: one that comes again is another one.
    present: BTreeSet<(String, i64)>,
    departed: VecDeque<String>,
}

impl DepartedIngesters {
    /// Those of `ring`. `begin` is a name for this begin, which nobody else has and that has not been used before.
    pub fn new(ring: RingHandle, begin: String) -> Self {
        Self {
            ring,
            seen: Mutex::new(SeenIngesters {
                ring: None,
                present: BTreeSet::new(),
                departed: [begin].into(),
            }),
        }
    }

    /// The latest of them, a few dozen at most, each by a name that no other one ever bears.
    pub fn departed(&self) -> Vec<String> {
        let mut seen = self.seen.lock();
        seen.look(self.ring.current());
        seen.departed.iter().cloned().collect()
    }
}

impl SeenIngesters {
    fn look(&mut self, ring: Ring) {
        let known = self.ring.as_ref();
        if known.is_some_and(|known| ring.shares_tables_with(known)) {
            return;
        }
        let present = ring.instances();
        let present = present.map(|i| (i.id.clone(), i.registered_timestamp_s));
        let present: BTreeSet<_> = present.collect();
        for (id, since_s) in self.present.difference(&present) {
            self.departed.push_back(format!("{id}@{since_s}"));
        }
        while self.departed.len() > MAX_TOLD {
            self.departed.pop_front();
        }
        (self.present, self.ring) = (present, Some(ring));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::instance::{Instance, InstanceState, RingDesc};
    use crate::ring::RingSettings;
    use crate::token::Token;

    fn ring(present: &[(&str, i64)]) -> Ring {
        let instance = |(n, (id, since_s)): (usize, &(&str, i64))| Instance {
            id: (*id).to_owned(),
            addr: (*id).to_owned(),
            state: InstanceState::Active,
            timestamp_s: 100,
            registered_timestamp_s: *since_s,
            tokens: Arc::from([Token(n as u32)]),
            ..Instance::default()
        };
        let desc: RingDesc = present.iter().enumerate().map(instance).collect();
        Ring::new(RingSettings::default(), &desc)
    }

    #[test]
    fn who_leaves_the_ring_is_told_and_who_comes_again_is_another_one() {
        let own = DepartedIngesters::new(ring(&[("a", 1), ("b", 2)]).into(), "q@0".into());
        assert_eq!(own.departed(), ["q@0"]);
        let mut seen = own.seen.lock();
        let mut look = |present: &[(&str, i64)]| {
            seen.look(ring(present));
            Vec::from(seen.departed.clone())
        };
        assert_eq!(look(&[("a", 1), ("b", 2), ("c", 3)]), ["q@0"]);
        assert_eq!(look(&[("a", 1), ("c", 3)]), ["q@0", "b@2"]);
        assert_eq!(look(&[("a", 9), ("b", 9), ("c", 3)]), ["q@0", "b@2", "a@1"]);
        for n in 0..100 {
            look(&[("x", n)]);
        }
        let told = look(&[("x", 100)]);
        assert_eq!((told.len(), told.last().unwrap().as_str()), (32, "x@99"));
    }
}
