//! Who is left when a replica breaks off.

use std::sync::Arc;

use lgtm_core::{Error, ErrorKind};

use crate::instance::Instance;
use crate::ring::ReplicationSet;

/// Errors that another holder would answer with, too.
pub fn is_terminal(e: &Error) -> bool {
    matches!(e.kind(), ErrorKind::InvalidInput | ErrorKind::LimitExceeded)
}

/// Who of `set` is left beside those who have answered: each instance, or each zone none of whose instances has.
pub(super) fn groups_left(
    set: &ReplicationSet,
    answered: &[Arc<Instance>],
) -> Vec<Vec<Arc<Instance>>> {
    let by_zones = set.zone_awareness_enabled || set.max_unavailable_zones > 0;
    let is_left = |i: &&Arc<Instance>| {
        !answered.iter().any(|a| {
            if by_zones {
                a.zone == i.zone
            } else {
                a.id == i.id
            }
        })
    };
    let left: Vec<_> = set.instances.iter().filter(is_left).cloned().collect();
    if !by_zones {
        return left.into_iter().map(|i| vec![i]).collect();
    }
    let of_zone = |zone: &str| left.iter().filter(|i| i.zone == zone).cloned().collect();
    let zones = set.zones().into_iter().map(of_zone);
    zones.filter(|group: &Vec<_>| !group.is_empty()).collect()
}
