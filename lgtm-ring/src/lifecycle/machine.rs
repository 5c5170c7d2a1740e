//! Which step is due.

use std::time::Duration;

use lgtm_core::{Error, Result};

use crate::instance::{InstanceState, RingDesc, Stamp};
use crate::lifecycle::forget::{Standstill, Steadiness};
use crate::lifecycle::{Identity, LifecyclerSettings, Membership, Role};
use crate::token::{Token, TokenGenerator};

/// How long a step that failed waits before it is tried again.
const RETRY_AFTER: Duration = Duration::from_secs(1);
/// How long an instance waits for its predecessor before it joins all the same.
const LONGEST_WAIT_TO_JOIN: Duration = Duration::from_secs(300);

/// One change of the ring that an instance makes about itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Enter the ring, or take over the record of a former life.
    Register,
    /// Get tokens and go on from PENDING.
    Join,
    /// Look whether tokens were lost to others.
    Verify,
    /// Say "I live".
    Heartbeat,
    /// Go to another state, as the component says.
    ChangeState(InstanceState),
    /// Take no more writes for shuffle shards, or take them again.
    SetReadOnly(bool),
    /// Begin the end.
    Leave,
    /// Remove the record.
    Unregister,
}

/// Where the machine stands beyond the state in the ring. Times are monotonic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    Unregistered {
        try_at: Duration,
    },
    WaitsToJoin {
        try_at: Duration,
        give_up_at: Duration,
    },
    Observes {
        check_at: Duration,
    },
    Settled,
    Gone,
}

/// Decides when an instance changes the ring, and how. Pure: time comes in, the ring comes in and goes out.
///
/// A driver calls [`Machine::due`]; for a step it gets, it reads the ring, lets [`Machine::plan`] change it, writes it, and then tells the
/// machine by [`Machine::written`], or by [`Machine::failed`]. After [`Machine::wake_at`] there may be more to do.
#[derive(Debug)]
pub struct Machine {
    pub(super) settings: LifecyclerSettings,
    pub(super) role: Role,
    pub(super) me: Membership,
    pub(super) phase: Phase,
    next_heartbeat: Duration,
    /// Tokens after the last step that generated some: fewer in the ring mean that others took them.
    pub(super) claimed: usize,
    pub(super) steadiness: Steadiness,
    /// Kept while the dead are to be forgotten.
    pub(super) still: Standstill,
    /// The stamp of the record as this machine last left it in the ring. A record with another address that is as new is another process's.
    pub(super) left: Option<Stamp>,
}

/// What a step does, to be told to the machine once the ring is written.
#[derive(Debug, Clone)]
pub struct Planned {
    pub(super) step: Step,
    pub(super) me: Membership,
    pub(super) writes: bool,
    /// The stamp of the own record in the ring, `None` when the record is not this process's.
    pub(super) left: Option<Stamp>,
    pub(super) forgotten: Vec<String>,
    /// The ring as it was found, when the heartbeats in it are to be remembered.
    pub(super) found: Option<RingDesc>,
}

impl Planned {
    /// Whether the ring changed and is to be written.
    pub fn writes(&self) -> bool {
        self.writes
    }

    /// Instances that were removed since they are long dead.
    pub fn forgotten(&self) -> &[String] {
        &self.forgotten
    }
}

impl Machine {
    /// A machine that begins at `now` (monotonic). `remembered` are the tokens of a former life, or none.
    ///
    /// # Errors
    /// `InvalidInput` for settings that are wrong, an empty id, or a state that a role cannot begin in.
    pub fn new(
        settings: LifecyclerSettings,
        role: Role,
        identity: Identity,
        remembered: Vec<Token>,
        now: Duration,
    ) -> Result<Self> {
        settings.validate()?;
        if identity.id.is_empty() {
            return Err(Error::InvalidInput("instance id is empty".into()));
        }
        if let Role::DoesWork { joins_as } = role
            && !matches!(joins_as, InstanceState::Joining | InstanceState::Active)
        {
            return Err(Error::InvalidInput(format!(
                "instance {} would join as {joins_as}, must be JOINING or ACTIVE",
                identity.id
            )));
        }
        Ok(Self {
            settings,
            role,
            me: Membership::new(identity, remembered),
            phase: Phase::Unregistered { try_at: now },
            next_heartbeat: now,
            claimed: 0,
            steadiness: Steadiness::default(),
            still: Standstill::default(),
            left: None,
        })
    }

    /// Gives it the tokens of a former life. Of no effect once it has registered.
    pub fn remember(&mut self, tokens: Vec<Token>) {
        if !self.is_registered() {
            self.me.tokens = tokens.into();
        }
    }

    /// The instance's record as it was last written or found.
    pub fn membership(&self) -> &Membership {
        &self.me
    }

    /// Whether tokens are settled: own ones are in the ring and nobody contests them.
    pub fn is_settled(&self) -> bool {
        self.phase == Phase::Settled
    }

    /// Whether a record of this instance may be in the ring.
    pub fn is_registered(&self) -> bool {
        !matches!(self.phase, Phase::Unregistered { .. } | Phase::Gone)
    }

    /// The step that is due at `now` (monotonic), if any.
    pub fn due(&self, now: Duration) -> Option<Step> {
        match self.phase {
            Phase::Unregistered { try_at } => return (now >= try_at).then_some(Step::Register),
            Phase::Gone => return None,
            Phase::WaitsToJoin { try_at, .. } if now >= try_at => return Some(Step::Join),
            Phase::Observes { check_at } if now >= check_at => return Some(Step::Verify),
            _ => {}
        }
        (now >= self.next_heartbeat).then_some(Step::Heartbeat)
    }

    /// The next moment (monotonic) at which a step may be due. Far away once the instance is gone.
    pub fn wake_at(&self) -> Duration {
        match self.phase {
            Phase::Unregistered { try_at } => try_at,
            Phase::WaitsToJoin { try_at, .. } => try_at.min(self.next_heartbeat),
            Phase::Observes { check_at } => check_at.min(self.next_heartbeat),
            Phase::Settled => self.next_heartbeat,
            Phase::Gone => Duration::MAX,
        }
    }

    /// Applies a step to the ring. May be called again for a newer ring before one of them is written.
    ///
    /// `now_s` is the wall clock, `now` the monotonic one.
    ///
    /// # Errors
    /// `InvalidInput` for a change of state that is not allowed; `Unavailable` while another must join first; those of the generator.
    pub fn plan(
        &self,
        step: Step,
        ring: &mut RingDesc,
        generator: &mut dyn TokenGenerator,
        now_s: i64,
        now: Duration,
    ) -> Result<Planned> {
        let waited = match self.phase {
            Phase::WaitsToJoin { give_up_at, .. } => now >= give_up_at,
            _ => false,
        };
        let remembers = matches!(step, Step::Register | Step::Heartbeat);
        let found = (remembers && !self.settings.forget_after.is_zero()).then(|| ring.clone());
        let mut planned = match step {
            Step::Register => self.register(ring, generator, now_s),
            Step::Join => self.join(ring, generator, waited, now_s),
            Step::Verify => self.verify(ring, generator, now_s),
            Step::Heartbeat => self.heartbeat(ring, generator, now_s),
            Step::ChangeState(to) => self.change_state(ring, to, now_s),
            Step::SetReadOnly(read_only) => Ok(self.set_read_only(ring, read_only, now_s)),
            Step::Leave => Ok(self.leave(ring, now_s)),
            Step::Unregister => Ok(self.unregister(ring)),
        }?;
        planned.found = found;
        if step == Step::Heartbeat {
            planned.forgotten = self.forget(ring, now_s, now);
        }
        Ok(planned)
    }

    /// Takes over what was planned, once the ring is written (or needed no write).
    pub fn written(&mut self, planned: Planned, now: Duration) {
        let step = planned.step;
        self.me = planned.me;
        if let Some(found) = &planned.found {
            self.still.note(found, now);
        }
        let claims = matches!(step, Step::Register | Step::Join | Step::Verify)
            || step == Step::Heartbeat && self.is_settled();
        if claims {
            self.claimed = self.me.tokens.len();
        }
        let beats = planned.writes && step != Step::Unregister;
        if beats {
            self.steadiness.beat(now, self.settings.heartbeat_timeout);
        }
        if beats || step == Step::Heartbeat {
            self.next_heartbeat = now + self.settings.heartbeat_period;
        }
        self.left = planned.left.or(self.left);
        self.phase = match step {
            Step::Register => self.phase_after_registering(now),
            Step::Join if self.me.state == InstanceState::Joining => Phase::Observes {
                check_at: now + self.settings.observe_period,
            },
            // A verification that wrote something is repeated.
            Step::Verify if planned.writes && self.is_observing_still() => Phase::Observes {
                check_at: now + self.settings.observe_period,
            },
            Step::Join | Step::Verify => Phase::Settled,
            Step::ChangeState(InstanceState::Active) | Step::Leave => Phase::Settled,
            Step::ChangeState(InstanceState::Pending) => self.waits_to_join(now),
            Step::Unregister => Phase::Gone,
            Step::ChangeState(_) | Step::Heartbeat | Step::SetReadOnly(_) => self.phase,
        };
        self.me.settled = self.is_settled();
    }

    /// Notes that a step did not get into the ring; it is due again later. Heartbeats wait for their next turn. That the instance leaves is
    /// said by its next heartbeat then: writers must not go on sending to one that flushes.
    pub fn failed(&mut self, step: Step, now: Duration) {
        if step == Step::Leave && self.is_registered() {
            self.me.state = InstanceState::Leaving;
            self.phase = Phase::Settled;
        }
        let again = now + RETRY_AFTER;
        match (&mut self.phase, step) {
            (Phase::Unregistered { try_at }, Step::Register) => *try_at = again,
            (Phase::WaitsToJoin { try_at, .. }, Step::Join) => *try_at = again,
            (Phase::Observes { check_at }, Step::Verify) => *check_at = again,
            (_, Step::Heartbeat) => self.next_heartbeat = now + self.settings.heartbeat_period,
            _ => {}
        }
    }

    fn phase_after_registering(&self, now: Duration) -> Phase {
        match (self.role, self.me.state) {
            (Role::HoldsData, InstanceState::Pending) => self.waits_to_join(now),
            (Role::DoesWork { .. }, _) if !self.settings.observe_period.is_zero() => {
                Phase::Observes {
                    check_at: now + self.settings.observe_period,
                }
            }
            _ => Phase::Settled,
        }
    }

    fn waits_to_join(&self, now: Duration) -> Phase {
        let try_at = now + self.settings.join_after;
        Phase::WaitsToJoin {
            try_at,
            give_up_at: try_at + LONGEST_WAIT_TO_JOIN,
        }
    }

    /// Whether the last verification found something missing; if all was well, the state says so for who holds data.
    fn is_observing_still(&self) -> bool {
        !(self.role == Role::HoldsData && self.me.state == InstanceState::Active)
    }
}
