//! One member of a ring.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use lgtm_core::Error;

use crate::token::Token;

/// Where an instance stands in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub enum InstanceState {
    /// Serves reads and writes. The zero of the wire form, so an empty record is ACTIVE.
    #[default]
    Active = 0,
    /// Serves reads, takes no writes, is about to go.
    Leaving = 1,
    /// Known, without tokens or not checked yet.
    Pending = 2,
    /// Has tokens, does not serve yet.
    Joining = 3,
    /// A tombstone. Only in merging back ends; readers never see it.
    Left = 4,
}

impl InstanceState {
    /// Every state.
    pub const ALL: [Self; 5] = [
        Self::Active,
        Self::Leaving,
        Self::Pending,
        Self::Joining,
        Self::Left,
    ];

    /// The state's name, as pages, metrics and logs write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Active => "ACTIVE",
            Self::Leaving => "LEAVING",
            Self::Pending => "PENDING",
            Self::Joining => "JOINING",
            Self::Left => "LEFT",
        }
    }

    /// Whether an instance may be told from outside to go from this state to `next`.
    pub fn may_become(self, next: Self) -> bool {
        use InstanceState::{Active, Joining, Leaving, Pending};
        matches!(
            (self, next),
            (Pending, Joining)
                | (Joining, Pending)
                | (Joining, Active)
                | (Pending, Active)
                | (Active, Leaving)
        )
    }
}

impl fmt::Display for InstanceState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl std::str::FromStr for InstanceState {
    type Err = Error;

    /// # Errors
    /// `InvalidInput`, naming the text.
    fn from_str(text: &str) -> Result<Self, Error> {
        let found = Self::ALL.into_iter().find(|s| s.as_str() == text);
        found.ok_or_else(|| Error::InvalidInput(format!("{text:?} is no instance state")))
    }
}

/// The record of one instance. Times are Unix seconds.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Instance {
    /// The instance's name, equal to its key in the ring.
    pub id: String,
    /// `host:port` that other members dial.
    pub addr: String,
    /// Availability zone; may be empty.
    pub zone: String,
    /// Where it stands in its life.
    pub state: InstanceState,
    /// The last heartbeat, by the clock of the instance.
    pub timestamp_s: i64,
    /// How often that clock was found to be behind a heartbeat of this record that it had written before. Ours; 0, which is what other systems' records
    /// have, while the clock only goes forward. See [`Instance::stamp`].
    pub clock_epoch: u64,
    /// When the id first entered the ring; 0 = unknown.
    pub registered_timestamp_s: i64,
    /// Left out of shuffle shards that are written to, still read.
    pub read_only: bool,
    /// The last change of `read_only`; 0 = never.
    pub read_only_updated_timestamp_s: i64,
    /// Ascending, each once.
    pub tokens: Arc<[Token]>,
    /// Versions by component, for the application.
    pub versions: BTreeMap<u64, u64>,
}

/// What tells the newer of two records of one instance: first how often the clock went back, then the heartbeat. So a record written after a clock was set
/// right is newer than one from the time when it ran ahead.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Stamp {
    /// [`Instance::clock_epoch`].
    pub clock_epoch: u64,
    /// [`Instance::timestamp_s`].
    pub timestamp_s: i64,
}

impl Stamp {
    /// The stamp of a record that replaces one of this stamp when the clock shows `now_s`: never beyond the clock. It is no newer than this one only
    /// within one second.
    #[must_use]
    pub fn next(self, now_s: i64) -> Self {
        Self {
            clock_epoch: self
                .clock_epoch
                .saturating_add(u64::from(now_s < self.timestamp_s)),
            timestamp_s: now_s,
        }
    }
}

impl Instance {
    /// What decides which of two records of this instance is newer.
    pub fn stamp(&self) -> Stamp {
        Stamp {
            clock_epoch: self.clock_epoch,
            timestamp_s: self.timestamp_s,
        }
    }

    /// Whether the last heartbeat is at most `timeout_s` old. One from the future (a clock that runs ahead) counts as fresh: only
    /// who follows the ring knows when it was heard, as [`Ring::updated_at`](crate::ring::Ring::updated_at) does.
    pub fn is_alive(&self, now_s: i64, timeout_s: i64) -> bool {
        now_s.saturating_sub(self.timestamp_s) <= timeout_s
    }
}
