//! When an instance may say that it is ready.

use std::time::Duration;

use lgtm_core::{Error, Result};

use crate::instance::{Instance, InstanceState, RingDesc};
use crate::lifecycle::{LifecyclerSettings, Membership};

/// Remembers since when the checks pass. Once ready, always ready: a later illness of others is no reason to take traffic away.
#[derive(Debug, Clone, Default)]
pub struct Readiness {
    passing_since: Option<Duration>,
    ready: bool,
}

impl Readiness {
    /// Checks the instance `me` in `ring`. `now` is monotonic, `now_s` the wall clock.
    ///
    /// # Errors
    /// `Unavailable`, saying who is not healthy or how long is to be waited.
    pub fn check(
        &mut self,
        settings: &LifecyclerSettings,
        ring: &RingDesc,
        me: &Membership,
        now_s: i64,
        now: Duration,
    ) -> Result<()> {
        if self.ready {
            return Ok(());
        }
        if let Err(why) = examine(settings, ring, me, now_s) {
            self.passing_since = None;
            return Err(Error::Unavailable(why));
        }
        let since = *self.passing_since.get_or_insert(now);
        let left = settings
            .min_ready_duration
            .saturating_sub(now.saturating_sub(since));
        if !left.is_zero() {
            return Err(Error::Unavailable(format!(
                "waiting for {left:?} after being ready"
            )));
        }
        self.ready = true;
        Ok(())
    }
}

fn examine(
    settings: &LifecyclerSettings,
    ring: &RingDesc,
    me: &Membership,
    now_s: i64,
) -> Result<(), String> {
    let id = &me.identity.id;
    if let Some(rival) = &me.rival {
        return Err(format!("another process at {rival} goes by the id {id}"));
    }
    let own = ring
        .get(id)
        .ok_or_else(|| format!("instance {id} is not in the ring"))?;
    if own.tokens.is_empty() {
        return Err(format!("instance {id} owns no tokens"));
    }
    let all = settings.readiness_check_ring_health;
    let examined = ring.iter().filter(|i| all || i.id == *id);
    let timeout_s = i64::try_from(settings.heartbeat_timeout.as_secs()).unwrap_or(i64::MAX);
    let sick = |i: &&std::sync::Arc<Instance>| {
        i.state != InstanceState::Active || !i.is_alive(now_s, timeout_s)
    };
    match examined.into_iter().find(sick) {
        None => Ok(()),
        Some(i) if i.state != InstanceState::Active => {
            Err(format!("instance {} is in state {}", i.id, i.state))
        }
        Some(i) => Err(format!(
            "instance {} was last heard of {} s ago",
            i.id,
            now_s.saturating_sub(i.timestamp_s)
        )),
    }
}
