//! What one wants of the instances.

use crate::instance::InstanceState;

/// Which states can serve an operation, and which make the search go on for a replacement.
///
/// The four of the ingesters' ring are constants; components with other rules (store-gateways) make their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Operation {
    healthy: u8,
    extends: u8,
}

use InstanceState::{Active, Joining, Leaving, Left, Pending};

impl Operation {
    /// Writing data where instances come and go for good and no zone ever leaves as a whole: an instance that is not ACTIVE is replaced by the next, so that
    /// as many copies are made as ever.
    ///
    /// The quorum grows with each replacement, since reads must meet the writes of before: with replication factor 3 and one instance LEAVING, three of four
    /// must be found healthy. When two of a key's replicas leave at once, or all of a zone (a rollout zone by zone, a zone that is emptied), nobody can
    /// replace them and *every write fails* until they are gone. Choose [`Operation::WRITE_NO_EXTEND`] then.
    pub const WRITE: Self = Self::new(&[Active], &[Leaving, Pending, Joining, Left]);
    /// Writing data as Mimir's and Loki's distributors do, and the one to begin with: no replacement, a quorum of the replication factor. With factor 3, one
    /// replica of each key, or one whole zone, may be LEAVING, starting, silent or removed, and writes go on with the other two.
    ///
    /// While an instance is away, keys that are its have one copy less. So let instances keep their records over a restart
    /// (`unregister_on_shutdown: false`), restart one zone at a time, and let an instance that goes for good be read until what it holds is in the
    /// object store.
    pub const WRITE_NO_EXTEND: Self = Self::new(&[Active], &[]);
    /// Reading: ACTIVE, PENDING and LEAVING hold data. Those that are not ACTIVE or LEAVING were replaced by writers.
    pub const READ: Self = Self::new(&[Active, Pending, Leaving], &[Pending, Joining, Left]);
    /// Looking at everybody.
    pub const REPORTING: Self = Self::new(&InstanceState::ALL, &[]);

    /// An operation of one's own: `healthy` states serve it, an instance in one of the `extends` states makes the search go on.
    pub const fn new(healthy: &[InstanceState], extends: &[InstanceState]) -> Self {
        Self {
            healthy: mask(healthy),
            extends: mask(extends),
        }
    }

    /// Whether an instance in `state` can serve.
    #[inline]
    pub const fn is_healthy(self, state: InstanceState) -> bool {
        self.healthy >> state as u8 & 1 == 1
    }

    /// Whether an instance in `state` is replaced by one more.
    #[inline]
    pub const fn extends(self, state: InstanceState) -> bool {
        self.extends >> state as u8 & 1 == 1
    }
}

const fn mask(states: &[InstanceState]) -> u8 {
    let (mut mask, mut i) = (0, 0);
    while i < states.len() {
        mask |= 1 << states[i] as u8;
        i += 1;
    }
    mask
}
