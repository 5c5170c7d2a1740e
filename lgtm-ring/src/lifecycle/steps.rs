//! What each step does to the ring.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use lgtm_core::{Error, Result};

use crate::instance::{Instance, InstanceState, RingDesc, Stamp};
use crate::lifecycle::forget;
use crate::lifecycle::machine::{Machine, Planned, Step};
use crate::lifecycle::membership::{Membership, Role};
use crate::token::{Token, TokenGenerator};

impl Machine {
    pub(super) fn register(
        &self,
        ring: &mut RingDesc,
        generator: &mut dyn TokenGenerator,
        now_s: i64,
    ) -> Result<Planned> {
        let mut me = self.me.clone();
        let before = alive(ring, &me.identity.id);
        me.tokens = not_taken(&me.tokens, ring, &me.identity.id);
        match &before {
            None => {
                me.registered_timestamp_s = now_s;
                let enough = me.tokens.len() >= self.settings.num_tokens;
                me.state = if enough {
                    InstanceState::Active
                } else {
                    InstanceState::Pending
                };
            }
            Some(before) => {
                me.registered_timestamp_s = before.registered_timestamp_s.min(now_s);
                me.read_only = before.read_only;
                me.read_only_updated_timestamp_s = before.read_only_updated_timestamp_s.min(now_s);
                me.state = before.state;
                if !before.tokens.is_empty() || self.role == Role::HoldsData {
                    me.tokens = Arc::clone(&before.tokens);
                }
            }
        }
        match self.role {
            Role::DoesWork { joins_as } => {
                me.state = joins_as;
                self.top_up(&mut me, ring, generator, self.settings.num_tokens)?;
            }
            // It crashed while it joined: from the beginning.
            Role::HoldsData if me.state == InstanceState::Joining => {
                me.state = InstanceState::Pending;
            }
            Role::HoldsData if me.state == InstanceState::Active && me.tokens.is_empty() => {
                me.state = InstanceState::Pending;
            }
            // It kept its record over a restart, crashed in its shutdown, or crashed while it served; the settings may have changed meanwhile.
            Role::HoldsData
                if matches!(me.state, InstanceState::Leaving | InstanceState::Active) =>
            {
                self.top_up(&mut me, ring, generator, self.settings.num_tokens)?;
                me.state = InstanceState::Active;
            }
            Role::HoldsData => {}
        }
        let always = matches!(self.role, Role::DoesWork { .. });
        Ok(put(Step::Register, me, ring, before, always, now_s))
    }

    pub(super) fn join(
        &self,
        ring: &mut RingDesc,
        generator: &mut dyn TokenGenerator,
        has_waited: bool,
        now_s: i64,
    ) -> Result<Planned> {
        if !has_waited {
            generator.can_join(&|id| ring.get(id).map(|i| i.tokens.len()))?;
        }
        let (mut me, before) = self.found(ring, now_s);
        self.top_up(&mut me, ring, generator, self.settings.num_tokens)?;
        me.state = if self.settings.observe_period.is_zero() {
            InstanceState::Active
        } else {
            InstanceState::Joining
        };
        Ok(put(Step::Join, me, ring, before, true, now_s))
    }

    /// Nothing lost: who holds data becomes ACTIVE. Else new tokens, and another look later.
    pub(super) fn verify(
        &self,
        ring: &mut RingDesc,
        generator: &mut dyn TokenGenerator,
        now_s: i64,
    ) -> Result<Planned> {
        let own = ring.get(&self.me.identity.id);
        let lost =
            own.is_none_or(|own| own.tokens != self.me.tokens || own.tokens.len() < self.claimed);
        let (mut me, before) = self.found(ring, now_s);
        if lost {
            self.top_up(&mut me, ring, generator, self.settings.num_tokens)?;
        } else if self.role == Role::HoldsData {
            me.state = InstanceState::Active;
        }
        let changes = lost || self.role == Role::HoldsData;
        Ok(put(Step::Verify, me, ring, before, changes, now_s))
    }

    /// Tokens that were lost to others since the last look are replaced by new ones: two sides of a parted network may have given out the
    /// same, and who lost them all would own nothing for ever.
    pub(super) fn heartbeat(
        &self,
        ring: &mut RingDesc,
        generator: &mut dyn TokenGenerator,
        now_s: i64,
    ) -> Result<Planned> {
        let (mut me, before) = self.found(ring, now_s);
        if me.state == InstanceState::Leaving && me.rival.is_some() {
            return Ok(yielding(Step::Heartbeat, me));
        }
        let stays = me.state != InstanceState::Leaving && self.is_settled();
        if stays && me.tokens.len() < self.claimed {
            self.top_up(&mut me, ring, generator, self.claimed)?;
        }
        Ok(put(Step::Heartbeat, me, ring, before, true, now_s))
    }

    pub(super) fn change_state(
        &self,
        ring: &mut RingDesc,
        to: InstanceState,
        now_s: i64,
    ) -> Result<Planned> {
        let from = self.me.state;
        if !from.may_become(to) {
            return Err(Error::InvalidInput(format!(
                "instance {} cannot go from {from} to {to}",
                self.me.identity.id
            )));
        }
        let (mut me, before) = self.found(ring, now_s);
        me.state = to;
        Ok(put(Step::ChangeState(to), me, ring, before, true, now_s))
    }

    pub(super) fn set_read_only(
        &self,
        ring: &mut RingDesc,
        read_only: bool,
        now_s: i64,
    ) -> Planned {
        let (mut me, before) = self.found(ring, now_s);
        if me.read_only != read_only {
            me.read_only = read_only;
            me.read_only_updated_timestamp_s = now_s;
        }
        put(Step::SetReadOnly(read_only), me, ring, before, false, now_s)
    }

    pub(super) fn leave(&self, ring: &mut RingDesc, now_s: i64) -> Planned {
        let (mut me, before) = self.found(ring, now_s);
        me.state = InstanceState::Leaving;
        if me.rival.is_some() {
            return yielding(Step::Leave, me);
        }
        put(Step::Leave, me, ring, before, true, now_s)
    }

    pub(super) fn unregister(&self, ring: &mut RingDesc) -> Planned {
        let id = &self.me.identity.id;
        let mut planned = yielding(Step::Unregister, self.me.clone());
        planned.me.rival = self.rival(ring.get(id).map(Arc::as_ref));
        if planned.me.rival.is_none() {
            planned.writes = ring.remove(id).is_some();
        }
        planned
    }

    /// Removes those who are long dead, if the settings and the instance's own steadiness allow.
    pub(super) fn forget(&self, ring: &mut RingDesc, now_s: i64, now: Duration) -> Vec<String> {
        let (after, gap) = (self.settings.forget_after, self.settings.heartbeat_timeout);
        if after.is_zero() || !self.steadiness.has_lasted(after, now, gap) {
            return Vec::new();
        }
        let own = &self.me.identity.id;
        forget::remove_dead(ring, own, after, &self.still, (now_s, now))
    }

    /// What is known of this instance, with the tokens that the ring says it has.
    ///
    /// If its record is gone (the store lost it, or somebody forgot the instance), it registers anew, now: readers that look back in shuffle
    /// shards must know that it was away.
    fn found(&self, ring: &RingDesc, now_s: i64) -> (Membership, Option<Arc<Instance>>) {
        let mut me = self.me.clone();
        let before = alive(ring, &me.identity.id);
        me.rival = self.rival(before.as_deref());
        match &before {
            Some(before) => me.tokens = Arc::clone(&before.tokens),
            None => me.registered_timestamp_s = now_s,
        }
        // Times that a clock wrote while it ran ahead are set right with it.
        me.registered_timestamp_s = me.registered_timestamp_s.min(now_s);
        me.read_only_updated_timestamp_s = me.read_only_updated_timestamp_s.min(now_s);
        (me, before)
    }

    /// The address of another process that wrote this instance's record since this one did. A record that was only found at the start is no sign: it may
    /// be that of a former life at another address.
    fn rival(&self, before: Option<&Instance>) -> Option<String> {
        let (before, left) = (before?, self.left?);
        let is_others = before.stamp() >= left && before.addr != self.me.identity.addr;
        is_others.then(|| before.addr.clone())
    }

    /// Generates what is missing to `wanted` tokens, and drops what is too much.
    fn top_up(
        &self,
        me: &mut Membership,
        ring: &RingDesc,
        generator: &mut dyn TokenGenerator,
        wanted: usize,
    ) -> Result<()> {
        let mut tokens = me.tokens.to_vec();
        if tokens.len() < wanted {
            let mut taken = ring.taken_tokens();
            taken.extend(tokens.iter().copied());
            tokens.extend(generator.generate(wanted - tokens.len(), &taken)?);
            tokens.sort_unstable();
        } else {
            drop_surplus(&mut tokens, wanted);
        }
        me.tokens = tokens.into();
        Ok(())
    }
}

/// The record of an instance; a tombstone, which stores hide, is none.
fn alive(ring: &RingDesc, id: &str) -> Option<Arc<Instance>> {
    let record = ring.get(id).cloned();
    record.filter(|i| i.state != InstanceState::Left)
}

/// The tokens of a former life that nobody else has taken since. Stores that merge take them from one of the two; in the others both would keep
/// them for ever, e.g. after a volume with a tokens file was copied.
fn not_taken(tokens: &Arc<[Token]>, ring: &RingDesc, own: &str) -> Arc<[Token]> {
    if tokens.is_empty() {
        return Arc::clone(tokens);
    }
    let others = ring
        .iter()
        .filter(|i| i.id != own && i.state != InstanceState::Left);
    let taken: HashSet<Token> = others.flat_map(|i| i.tokens.iter().copied()).collect();
    tokens
        .iter()
        .copied()
        .filter(|t| !taken.contains(t))
        .collect()
}

/// Keeps `wanted` tokens, evenly picked: as good as by chance, and the same every time.
fn drop_surplus(tokens: &mut Vec<Token>, wanted: usize) {
    let all = tokens.len();
    let mut at = 0;
    tokens.retain(|_| {
        let keep = (at + 1) * wanted / all != at * wanted / all;
        at += 1;
        keep
    });
}

/// Leaves the record to the other process that goes by this id.
fn yielding(step: Step, me: Membership) -> Planned {
    Planned {
        step,
        me,
        writes: false,
        left: None,
        forgotten: Vec::new(),
        found: None,
    }
}

/// Puts the record into the ring, if it differs from the one before or `always` says so.
fn put(
    step: Step,
    me: Membership,
    ring: &mut RingDesc,
    before: Option<Arc<Instance>>,
    always: bool,
    now_s: i64,
) -> Planned {
    // Never beyond the own clock: what a clock wrote that was wrong must not bind the one that is right. A store that merges takes a second change within
    // a second only in the next one, when it asks again.
    let first = Stamp {
        clock_epoch: 0,
        timestamp_s: now_s,
    };
    let stamp = before
        .as_ref()
        .map_or(first, |before| before.stamp().next(now_s));
    let record = me.record(before.as_deref(), stamp);
    let same = before.filter(|before| {
        let Stamp {
            clock_epoch,
            timestamp_s,
        } = before.stamp();
        **before
            == Instance {
                clock_epoch,
                timestamp_s,
                ..record.clone()
            }
    });
    let kept = same.filter(|_| !always);
    if kept.is_none() {
        ring.insert(record);
    }
    Planned {
        step,
        me,
        writes: kept.is_none(),
        left: Some(kept.map_or(stamp, |kept| kept.stamp())),
        forgotten: Vec::new(),
        found: None,
    }
}
