//! What old heartbeats mean when there are no new ones.
//!
//! One old heartbeat among fresh ones is a sick instance. When no heartbeat of anybody comes any more, the store is down, or this process is cut off from it. That
//! says nothing about the instances, and to take all of them for dead would turn a fault of the store into an outage of everything. So a silent ring
//! is judged as it was a [`patience`] after it was last heard of; and when heartbeats come again, whoever was healthy before the silence has as long as the
//! heartbeat timeout to say that it still is, since they do not all write in the same second.
//!
//! Silence is measured by the reader's clock alone: an instance whose clock runs ahead neither hides one nor feigns one.

use std::sync::Arc;

use crate::instance::Instance;
use crate::ring::topology::Records;

/// When heartbeats were heard. Unix seconds of the reader's clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct News {
    /// The last.
    heard_s: i64,
    /// The last two between which there was silence for longer than the [`patience`].
    silence: Option<(i64, i64)>,
}

/// How long nobody may be heard of before that counts as silence: more than two heartbeats of everybody, where four fit into the timeout. Less than the
/// timeout itself, as before the last heartbeat of all others have written theirs: they would be too old by then.
fn patience(timeout_s: i64) -> i64 {
    timeout_s / 3 * 2
}

impl News {
    /// After looking, at `now_s`, at records that came after `before`.
    pub(super) fn after(
        before: &Records,
        instances: &[Arc<Instance>],
        now_s: i64,
        timeout_s: i64,
    ) -> Option<Self> {
        let has_news = instances.iter().enumerate().any(|(n, instance)| {
            let known = before.near(n, &instance.id);
            known.is_none_or(|known| known.stamp() != instance.stamp())
        });
        if !has_news {
            return before.news;
        }
        let silence = before.news.and_then(|news| {
            let was_silent = now_s.saturating_sub(news.heard_s) > patience(timeout_s);
            if was_silent {
                Some((news.heard_s, now_s))
            } else {
                news.silence
            }
        });
        Some(Self {
            heard_s: now_s,
            silence,
        })
    }

    /// The oldest heartbeat that counts as fresh at `now_s`.
    pub(super) fn oldest_fresh_s(&self, now_s: i64, timeout_s: i64) -> i64 {
        // The clock stands still in a silence.
        let oldest = |heard_s: i64| {
            let judged_s = now_s.min(heard_s.saturating_add(patience(timeout_s)));
            judged_s.saturating_sub(timeout_s)
        };
        let usual = oldest(self.heard_s);
        match self.silence {
            Some((began_s, ended_s)) if now_s.saturating_sub(timeout_s) <= ended_s => {
                usual.min(oldest(began_s))
            }
            _ => usual,
        }
    }
}
