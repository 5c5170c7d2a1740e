//! A member with its own copy of the ring, driven by hand.

use std::sync::Arc;
use std::time::Duration;

use lgtm_core::{Error, Result};

use crate::instance::RingDesc;
use crate::kv::MergeKind;
use crate::lifecycle::{Identity, LifecyclerSettings, Machine, Membership, Role, Step};
use crate::token::{RandomTokens, Token, TokenGenerator};

/// A member of a simulated cluster: the lifecycle machine and a replica of the ring that merges as a gossip store does.
///
/// `tick` and `receive` yield what is to be sent to others; how it travels is the simulation's business. Nothing here reads a clock.
#[derive(Debug)]
pub struct RingNode {
    settings: LifecyclerSettings,
    role: Role,
    identity: Identity,
    machine: Machine,
    generator: RandomTokens,
    replica: RingDesc,
    /// What a tokens file would hold.
    on_disk: Arc<[Token]>,
}

/// What a node that restarts still has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Disk {
    /// Its tokens file.
    Kept,
    /// Nothing.
    Lost,
}

impl RingNode {
    /// A node that begins at `now` (monotonic) with an empty replica.
    ///
    /// # Errors
    /// As [`Machine::new`].
    pub fn new(
        settings: LifecyclerSettings,
        role: Role,
        identity: Identity,
        seed: i64,
        now: Duration,
    ) -> Result<Self> {
        let machine = Machine::new(settings.clone(), role, identity.clone(), Vec::new(), now)?;
        Ok(Self {
            settings,
            role,
            identity,
            machine,
            generator: RandomTokens::seeded(seed),
            replica: RingDesc::new(),
            on_disk: Arc::default(),
        })
    }

    /// Its name.
    pub fn id(&self) -> &str {
        &self.identity.id
    }

    /// Its copy of the ring, tombstones too.
    pub fn replica(&self) -> &RingDesc {
        &self.replica
    }

    /// What it knows of itself.
    pub fn membership(&self) -> &Membership {
        self.machine.membership()
    }

    /// Whether its tokens are settled.
    pub fn is_settled(&self) -> bool {
        self.machine.is_settled()
    }

    /// Does all that is due, and yields the changes for the others.
    pub fn tick(&mut self, now_s: i64, now: Duration) -> Vec<RingDesc> {
        let mut changes = Vec::new();
        while let Some(step) = self.machine.due(now) {
            match self.take(step, now_s, now) {
                Ok(change) => changes.extend(change),
                Err(_) => self.machine.failed(step, now),
            }
        }
        changes
    }

    /// Does one step, e.g. [`Step::Leave`] or [`Step::Unregister`].
    ///
    /// # Errors
    /// As [`Machine::plan`]; `Conflict` for a second change within the second that stamps have.
    pub fn take(&mut self, step: Step, now_s: i64, now: Duration) -> Result<Option<RingDesc>> {
        let mut ring = self.replica.without_tombstones();
        let generator: &mut dyn TokenGenerator = &mut self.generator;
        let planned = self.machine.plan(step, &mut ring, generator, now_s, now)?;
        let mut change = None;
        if planned.writes() || !planned.forgotten().is_empty() {
            change = self.replica.merge(&ring, MergeKind::Local, now_s);
            if change.is_none() {
                return Err(Error::Conflict(format!(
                    "{step:?} is the second change of {} within a second",
                    self.identity.id
                )));
            }
        }
        self.machine.written(planned, now);
        self.on_disk = Arc::clone(&self.machine.membership().tokens);
        Ok(change)
    }

    /// Merges what another sent, and yields what is news and to be sent on.
    pub fn receive(&mut self, change: &RingDesc, now_s: i64) -> Option<RingDesc> {
        self.replica.merge(change, MergeKind::Remote, now_s)
    }

    /// As [`RingNode::receive`] with another merge, to see a simulation catch a wrong one.
    pub fn receive_with(&mut self, merge: impl FnOnce(&mut RingDesc)) {
        merge(&mut self.replica);
    }

    /// Removes another member, as an operator does.
    pub fn forget(&mut self, id: &str, now_s: i64) -> Option<RingDesc> {
        let mut ring = self.replica.without_tombstones();
        ring.remove(id)?;
        self.replica.merge(&ring, MergeKind::Local, now_s)
    }

    /// Drops tombstones whose time is before `limit_s`, as a store does now and then.
    pub fn remove_tombstones(&mut self, limit_s: i64) {
        self.replica.remove_tombstones(Some(limit_s));
    }

    /// Dies and begins again with an empty replica.
    ///
    /// # Errors
    /// As [`Machine::new`].
    pub fn restart(&mut self, disk: Disk, now: Duration) -> Result<()> {
        let tokens = match disk {
            Disk::Kept => self.on_disk.to_vec(),
            Disk::Lost => Vec::new(),
        };
        let identity = self.identity.clone();
        self.machine = Machine::new(self.settings.clone(), self.role, identity, tokens, now)?;
        self.replica = RingDesc::new();
        Ok(())
    }
}
