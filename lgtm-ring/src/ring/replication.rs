//! How many must answer.

use std::fmt::Write;
use std::sync::Arc;

use lgtm_core::{Error, Result};
use serde::{Deserialize, Serialize};

use crate::instance::Instance;

/// How many replicas of one key must answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReplicationStrategy {
    /// More than half of those that were found, healthy or not: what was written to a quorum is seen by a quorum.
    Quorum,
    /// Any one that is healthy: for work that can be done anywhere. A silent one is not replaced until it is forgotten
    /// (`forget_after`), so with replication factor 1 its keys have no owner for as long.
    IgnoreUnhealthy,
}

impl ReplicationStrategy {
    /// How many of `healthy` replicas may fail, when `walked` were found for a replication factor.
    ///
    /// # Errors
    /// `Unavailable` when there are too few; `unhealthy` are the addresses of the others.
    pub(super) fn max_errors<'a>(
        self,
        replication_factor: usize,
        walked: usize,
        healthy: usize,
        zone_aware: bool,
        unhealthy: impl Iterator<Item = &'a str>,
    ) -> Result<usize> {
        match self {
            Self::Quorum => {
                // Of those walked, not of those healthy: a read must meet a write that saw other ones healthy.
                let min_success = replication_factor.max(walked) / 2 + 1;
                healthy.checked_sub(min_success).ok_or_else(|| {
                    let zones = if zone_aware { " across different availability zones" } else { "" };
                    let text = format!(
                        "at least {min_success} live replicas required{zones}, could only find {healthy}"
                    );
                    unavailable(text, unhealthy)
                })
            }
            Self::IgnoreUnhealthy => healthy.checked_sub(1).ok_or_else(|| {
                let text = "at least 1 healthy replica required, could only find 0".to_owned();
                unavailable(text, unhealthy)
            }),
        }
    }
}

fn unavailable<'a>(mut text: String, unhealthy: impl Iterator<Item = &'a str>) -> Error {
    for (i, addr) in unhealthy.enumerate() {
        let before = if i == 0 {
            " - unhealthy instances: "
        } else {
            ","
        };
        let _ = write!(text, "{before}{addr}");
    }
    Error::Unavailable(text)
}

/// Instances that are asked together, and how many of them may fail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplicationSet {
    /// Whom to ask.
    pub instances: Vec<Arc<Instance>>,
    /// How many may fail. Not looked at when `max_unavailable_zones` is meant.
    pub max_errors: usize,
    /// How many zones may fail, each by any one of its instances.
    pub max_unavailable_zones: usize,
    /// Whether zones count, not instances.
    pub zone_awareness_enabled: bool,
}

impl ReplicationSet {
    /// How many instances must answer, where zones do not count.
    pub fn min_success(&self) -> usize {
        self.instances.len().saturating_sub(self.max_errors)
    }

    /// Names of the zones, ascending.
    pub fn zones(&self) -> Vec<&str> {
        let mut zones: Vec<_> = self.instances.iter().map(|i| i.zone.as_str()).collect();
        zones.sort_unstable();
        zones.dedup();
        zones
    }
}
