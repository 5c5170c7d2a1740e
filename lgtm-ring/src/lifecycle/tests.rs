use std::time::Duration;

use lgtm_core::{ErrorKind, Result};

use crate::instance::{Instance, InstanceState, RingDesc};
use crate::lifecycle::{Identity, LifecyclerSettings, Machine, Membership, Readiness, Role, Step};
use crate::token::{RandomTokens, Token};

pub(super) const NOW_S: i64 = 1_800_000_000;
const WORKER: Role = Role::DoesWork {
    joins_as: InstanceState::Joining,
};

pub(super) fn identity(id: &str) -> Identity {
    Identity {
        id: id.to_owned(),
        addr: format!("{id}:9095"),
        zone: "zone-a".to_owned(),
    }
}

pub(super) fn settings() -> LifecyclerSettings {
    LifecyclerSettings {
        num_tokens: 8,
        ..LifecyclerSettings::default()
    }
}

pub(super) fn secs(s: u64) -> Duration {
    Duration::from_secs(s)
}

/// A machine with the ring it writes to.
struct Lone {
    machine: Machine,
    ring: RingDesc,
    generator: RandomTokens,
}

impl Lone {
    fn new(settings: LifecyclerSettings, role: Role, remembered: &[u32], ring: RingDesc) -> Self {
        let remembered = remembered.iter().map(|&t| Token(t)).collect();
        let machine = Machine::new(settings, role, identity("a"), remembered, secs(0)).unwrap();
        Self {
            machine,
            ring,
            generator: RandomTokens::seeded(1),
        }
    }

    fn take(&mut self, step: Step, at_s: u64) -> Result<()> {
        let now_s = NOW_S + at_s as i64;
        let plan = &mut self.ring.clone();
        let planned = self
            .machine
            .plan(step, plan, &mut self.generator, now_s, secs(at_s))?;
        self.ring = plan.clone();
        self.machine.written(planned, secs(at_s));
        Ok(())
    }

    /// Does all that is due at a moment, and names it.
    fn tick(&mut self, at_s: u64) -> Vec<Step> {
        let mut done = Vec::new();
        while let Some(step) = self.machine.due(secs(at_s)) {
            match self.take(step, at_s) {
                Ok(()) => done.push(step),
                Err(_) => self.machine.failed(step, secs(at_s)),
            }
        }
        done
    }

    fn own(&self) -> &Instance {
        self.ring.get("a").unwrap()
    }
}

fn former(state: InstanceState, tokens: &[u32]) -> RingDesc {
    let instance = Instance {
        id: "a".into(),
        addr: "old:1".into(),
        zone: "zone-a".into(),
        state,
        timestamp_s: NOW_S - 1000,
        registered_timestamp_s: NOW_S - 5000,
        read_only: true,
        read_only_updated_timestamp_s: NOW_S - 2000,
        tokens: tokens.iter().map(|&t| Token(t)).collect(),
        ..Instance::default()
    };
    [instance].into_iter().collect()
}

#[test]
fn a_newcomer_goes_from_pending_to_active() {
    let mut node = Lone::new(settings(), Role::HoldsData, &[], RingDesc::new());
    assert_eq!(node.tick(0), [Step::Register, Step::Join]);
    let own = node.own();
    assert_eq!((own.state, own.tokens.len()), (InstanceState::Active, 8));
    assert_eq!(own.registered_timestamp_s, NOW_S);
    assert!(node.tick(14).is_empty());
    assert_eq!(node.tick(15), [Step::Heartbeat]);
    assert_eq!(node.own().timestamp_s, NOW_S + 15);
}

#[test]
fn with_an_observe_period_it_joins_and_looks_before_it_is_active() {
    let settings = LifecyclerSettings {
        join_after: secs(10),
        observe_period: secs(5),
        ..settings()
    };
    let mut node = Lone::new(settings, Role::HoldsData, &[], RingDesc::new());
    assert_eq!(node.tick(0), [Step::Register]);
    assert_eq!(node.own().state, InstanceState::Pending);
    assert_eq!(node.tick(10), [Step::Join]);
    assert_eq!(node.own().state, InstanceState::Joining);
    // Another instance took two of the tokens meanwhile.
    let own = node.ring.get_mut("a").unwrap();
    own.tokens = own.tokens[2..].into();
    assert_eq!(node.tick(15), [Step::Verify]);
    assert_eq!(
        (node.own().state, node.own().tokens.len()),
        (InstanceState::Joining, 8)
    );
    assert!(!node.machine.is_settled());
    assert_eq!(node.tick(20), [Step::Verify]);
    assert_eq!(node.own().state, InstanceState::Active);
    assert!(node.machine.is_settled());
}

#[test]
fn the_tokens_file_makes_a_newcomer_active_at_once() {
    let remembered = [1, 2, 3, 4, 5, 6, 7, 8];
    let mut node = Lone::new(settings(), Role::HoldsData, &remembered, RingDesc::new());
    assert_eq!(node.tick(0), [Step::Register]);
    assert_eq!(node.own().state, InstanceState::Active);
    assert_eq!(node.own().tokens.first(), Some(&Token(1)));
    // Too few are topped up.
    let mut node = Lone::new(settings(), Role::HoldsData, &[7], RingDesc::new());
    assert_eq!(node.tick(0), [Step::Register, Step::Join]);
    assert!(node.own().tokens.contains(&Token(7)) && node.own().tokens.len() == 8);
}

#[test]
fn tokens_of_the_file_that_another_holds_are_not_taken_up() {
    // A volume was copied: the new instance finds the file of another that lives, in a store that merges nothing.
    let mut ring = RingDesc::new();
    ring.insert(Instance {
        id: "b".into(),
        timestamp_s: NOW_S,
        tokens: (1..=8).map(Token).collect(),
        ..Instance::default()
    });
    for role in [Role::HoldsData, WORKER] {
        let remembered = [1, 2, 3, 4, 5, 6, 7, 8, 900];
        let mut node = Lone::new(settings(), role, &remembered, ring.clone());
        node.tick(0);
        assert_eq!(node.own().tokens.len(), 8);
        assert!(node.own().tokens.contains(&Token(900)));
        assert!(node.own().tokens.iter().all(|t| t.0 > 8), "{role:?}");
    }
}

#[test]
fn a_record_of_a_former_life_is_taken_over() {
    let eight = [10, 20, 30, 40, 50, 60, 70, 80];
    for (state, tokens, expected) in [
        (InstanceState::Leaving, &eight[..], &eight[..]),
        (InstanceState::Active, &eight[..], &eight[..]),
        (InstanceState::Joining, &eight[..], &eight[..]),
        (InstanceState::Pending, &[][..], &[][..]),
        (InstanceState::Leaving, &eight[..3], &eight[..3]),
    ] {
        let mut node = Lone::new(settings(), Role::HoldsData, &[1], former(state, tokens));
        node.tick(0);
        let own = node.own();
        assert_eq!(
            (own.state, own.tokens.len()),
            (InstanceState::Active, 8),
            "{state}"
        );
        assert!(
            expected.iter().all(|&t| own.tokens.contains(&Token(t))),
            "{state}"
        );
        assert_eq!(own.registered_timestamp_s, NOW_S - 5000);
        assert!(own.read_only && own.read_only_updated_timestamp_s == NOW_S - 2000);
        assert_eq!(
            (own.addr.as_str(), own.timestamp_s >= NOW_S),
            ("a:9095", true)
        );
    }
    // Too many are thinned out.
    let many: Vec<u32> = (0..20).collect();
    let mut node = Lone::new(
        settings(),
        Role::HoldsData,
        &[],
        former(InstanceState::Leaving, &many),
    );
    node.tick(0);
    assert_eq!(node.own().tokens.len(), 8);
}

#[test]
fn a_crashed_joiner_begins_again() {
    let settings = LifecyclerSettings {
        join_after: secs(30),
        ..settings()
    };
    let ring = former(InstanceState::Joining, &[1, 2]);
    let mut node = Lone::new(settings, Role::HoldsData, &[], ring);
    assert_eq!(node.tick(0), [Step::Register]);
    assert_eq!(node.own().state, InstanceState::Pending);
}

#[test]
fn who_was_forgotten_and_lives_registers_anew() {
    let mut node = Lone::new(settings(), Role::HoldsData, &[], RingDesc::new());
    node.tick(0);
    let tokens = node.own().tokens.clone();
    node.ring.remove("a");
    assert_eq!(node.tick(15), [Step::Heartbeat]);
    assert_eq!(node.own().tokens, tokens);
    assert_eq!(node.own().registered_timestamp_s, NOW_S + 15);
    assert_eq!(node.own().state, InstanceState::Active);
}

#[test]
fn who_lost_tokens_to_another_gets_new_ones() {
    let mut node = Lone::new(settings(), Role::HoldsData, &[], RingDesc::new());
    node.tick(0);
    let kept = node.own().tokens[6..].to_vec();
    node.ring.get_mut("a").unwrap().tokens = kept.clone().into();
    node.tick(15);
    assert_eq!(node.own().tokens.len(), 8);
    assert!(kept.iter().all(|t| node.own().tokens.contains(t)));
    // Who is leaving needs none.
    node.take(Step::Leave, 16).unwrap();
    node.ring.get_mut("a").unwrap().tokens = kept.clone().into();
    node.tick(40);
    assert_eq!(*node.own().tokens, *kept);
}

/// Two processes with one id on one ring; `b` is the one at another address.
fn twins() -> (Lone, Lone) {
    let mut a = Lone::new(settings(), Role::HoldsData, &[], RingDesc::new());
    a.tick(0);
    let mut b = Lone::new(settings(), Role::HoldsData, &[], a.ring.clone());
    b.machine.me.identity.addr = "other:9095".to_owned();
    b.tick(5);
    (a, b)
}

#[test]
fn two_live_processes_with_one_id_notice_each_other() {
    let (mut a, mut b) = twins();
    assert_eq!(b.machine.membership().rival, None, "may be a restart");
    for at in [15, 30] {
        a.ring = b.ring.clone();
        a.tick(at);
        let rival = a.machine.membership().rival.as_deref();
        assert_eq!(rival, Some("other:9095"));
        b.ring = a.ring.clone();
        b.tick(at + 5);
        assert_eq!(b.machine.membership().rival.as_deref(), Some("a:9095"));
    }
    // The one is gone: the other is alone with its next heartbeat but one.
    a.ring = b.ring.clone();
    a.tick(45);
    a.tick(60);
    assert_eq!(a.machine.membership().rival, None);
    assert_eq!(a.own().addr, "a:9095");
}

#[test]
fn who_leaves_lets_the_other_of_its_id_have_the_record() {
    let (mut a, b) = twins();
    a.ring = b.ring.clone();
    a.take(Step::Leave, 6).unwrap();
    assert_eq!(a.tick(22), [Step::Heartbeat]);
    a.take(Step::Unregister, 23).unwrap();
    assert_eq!(a.ring, b.ring, "untouched");
    assert!(a.tick(1000).is_empty());
    // It would not be the leaver's alone either if the other wrote in between.
    let (mut a, mut b) = twins();
    a.take(Step::Leave, 6).unwrap();
    b.ring = a.ring.clone();
    b.tick(21);
    a.ring = b.ring.clone();
    a.take(Step::Unregister, 22).unwrap();
    assert_eq!(a.own().addr, "other:9095");
}

#[test]
fn no_write_is_stamped_beyond_the_clock_and_each_is_newer_even_when_the_clock_went_back() {
    let mut ring = former(InstanceState::Active, &[1, 2]);
    let own = ring.get_mut("a").unwrap();
    own.timestamp_s = NOW_S + 100;
    own.registered_timestamp_s = NOW_S + 50;
    own.read_only_updated_timestamp_s = NOW_S + 60;
    let found = own.stamp();
    let mut node = Lone::new(settings(), Role::HoldsData, &[], ring);
    node.tick(0);
    let own = node.own();
    assert!(own.stamp() > found);
    assert_eq!(own.timestamp_s, NOW_S);
    assert_eq!(own.registered_timestamp_s, NOW_S);
    assert_eq!(own.read_only_updated_timestamp_s, NOW_S);
    let registered = own.stamp();
    node.take(Step::ChangeState(InstanceState::Leaving), 1)
        .unwrap();
    assert!(node.own().stamp() > registered);
    assert_eq!(node.own().timestamp_s, NOW_S + 1);
    node.tick(300);
    assert_eq!(node.own().timestamp_s, NOW_S + 300);
    assert_eq!(node.own().clock_epoch, 1);
}

#[test]
fn many_changes_in_a_moment_move_no_heartbeat_ahead() {
    let mut node = Lone::new(settings(), Role::HoldsData, &[], RingDesc::new());
    node.tick(0);
    for n in 0..500 {
        node.take(Step::SetReadOnly(n % 2 == 0), 1).unwrap();
    }
    let own = node.own();
    assert_eq!((own.timestamp_s, own.clock_epoch), (NOW_S + 1, 0));
    assert!(!own.read_only);
}

#[test]
fn another_number_of_tokens_holds_after_a_crash_as_after_a_stop() {
    for state in [
        InstanceState::Active,
        InstanceState::Leaving,
        InstanceState::Joining,
        InstanceState::Pending,
    ] {
        for num_tokens in [3, 8, 20] {
            let settings = LifecyclerSettings {
                num_tokens,
                ..settings()
            };
            let eight = [10, 20, 30, 40, 50, 60, 70, 80];
            let ring = former(state, &eight);
            let mut node = Lone::new(settings, Role::HoldsData, &[], ring);
            node.tick(0);
            node.tick(20);
            let own = node.own();
            assert_eq!(
                (own.state, own.tokens.len()),
                (InstanceState::Active, num_tokens),
                "{state}"
            );
            let kept = own.tokens.iter().filter(|t| eight.contains(&t.0)).count();
            assert_eq!(kept, num_tokens.min(8), "{state}");
        }
    }
}

#[test]
fn only_the_allowed_changes_of_state_are_made() {
    let mut node = Lone::new(settings(), Role::HoldsData, &[], RingDesc::new());
    node.tick(0);
    for to in [
        InstanceState::Pending,
        InstanceState::Joining,
        InstanceState::Left,
    ] {
        let error = node.take(Step::ChangeState(to), 1).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(error.to_string().contains("from ACTIVE to"), "{error}");
    }
    node.take(Step::SetReadOnly(true), 2).unwrap();
    assert!(node.own().read_only && node.own().read_only_updated_timestamp_s == NOW_S + 2);
    node.take(Step::SetReadOnly(true), 3).unwrap();
    assert_eq!(node.own().read_only_updated_timestamp_s, NOW_S + 2);
    node.take(Step::Leave, 4).unwrap();
    assert_eq!(node.own().state, InstanceState::Leaving);
    assert_eq!(node.tick(30), [Step::Heartbeat]);
    node.take(Step::Unregister, 31).unwrap();
    assert!(node.ring.is_empty() && node.tick(1000).is_empty());
}

#[test]
fn a_worker_registers_and_its_component_says_when_it_is_active() {
    let mut node = Lone::new(settings(), WORKER, &[], RingDesc::new());
    assert_eq!(node.tick(0), [Step::Register]);
    assert_eq!(
        (node.own().state, node.own().tokens.len()),
        (InstanceState::Joining, 8)
    );
    node.take(Step::ChangeState(InstanceState::Active), 1)
        .unwrap();
    assert_eq!(node.own().state, InstanceState::Active);
    // After a crash it joins again, with the tokens it had.
    let tokens = node.own().tokens.clone();
    let mut again = Lone::new(settings(), WORKER, &[], node.ring);
    again.tick(0);
    assert_eq!(
        (again.own().state, &again.own().tokens),
        (InstanceState::Joining, &tokens)
    );
}

#[test]
fn the_long_dead_are_forgotten_but_not_after_an_outage_of_the_store() {
    let settings = LifecyclerSettings {
        forget_after: secs(600),
        ..settings()
    };
    let mut ring = RingDesc::new();
    for (id, seen) in [("dead", -700), ("slow", -100)] {
        ring.insert(Instance {
            id: id.into(),
            timestamp_s: NOW_S + seen,
            ..Instance::default()
        });
    }
    let mut node = Lone::new(settings, WORKER, &[], ring);
    for at in (0..600).step_by(15) {
        node.tick(at);
        assert!(node.ring.get("dead").is_some(), "too early at {at}");
        let slow = node.ring.get_mut("slow").unwrap();
        slow.timestamp_s = NOW_S + at as i64 - 100;
    }
    node.tick(600);
    assert!(node.ring.get("dead").is_none());
    assert!(node.ring.get("slow").is_some());
    // The store is gone for an hour. Nobody could write, and nobody is forgotten because of it.
    for at in (615..4200).step_by(15) {
        if let Some(step) = node.machine.due(secs(at)) {
            node.machine.failed(step, secs(at));
        }
    }
    for at in (4200..4800).step_by(15) {
        node.tick(at);
        assert!(node.ring.get("slow").is_some(), "forgotten at {at}");
    }
    node.tick(4800);
    assert!(node.ring.get("slow").is_none());
}

#[test]
fn nobody_whose_heartbeat_moves_is_forgotten_by_one_whose_clock_runs_ahead() {
    let settings = LifecyclerSettings {
        forget_after: secs(600),
        ..settings()
    };
    let record = |id: &str, timestamp_s| Instance {
        id: id.into(),
        timestamp_s,
        ..Instance::default()
    };
    // By this node's clock the others are a quarter of an hour behind.
    let ring = [record("dead", NOW_S - 900), record("alive", NOW_S - 900)];
    let mut node = Lone::new(settings, WORKER, &[], ring.into_iter().collect());
    for at in (0..2000).step_by(15) {
        node.ring.insert(record("alive", NOW_S - 900 + at as i64));
        node.tick(at);
        assert!(node.ring.get("alive").is_some(), "forgotten at {at}");
    }
    assert!(node.ring.get("dead").is_none());
}

#[test]
fn the_dead_are_forgotten_whatever_time_their_heartbeat_names() {
    let settings = LifecyclerSettings {
        forget_after: secs(600),
        ..settings()
    };
    let record = |id: &str, timestamp_s| Instance {
        id: id.into(),
        timestamp_s,
        ..Instance::default()
    };
    let ahead_s = 10 * 365 * 86_400;
    let ring = [
        record("dead", NOW_S + ahead_s),
        record("alive", NOW_S + ahead_s),
    ];
    let mut node = Lone::new(settings, WORKER, &[], ring.into_iter().collect());
    for at in (0..=630).step_by(15) {
        node.ring
            .insert(record("alive", NOW_S + ahead_s + at as i64));
        node.tick(at);
        assert!(node.ring.get("alive").is_some(), "forgotten at {at}");
    }
    assert!(node.ring.get("dead").is_none());
}

#[test]
fn who_holds_data_is_never_forgotten_by_default() {
    assert!(LifecyclerSettings::default().forget_after.is_zero());
    let mut ring = RingDesc::new();
    ring.insert(Instance {
        id: "dead".into(),
        timestamp_s: 1,
        ..Instance::default()
    });
    let mut node = Lone::new(settings(), Role::HoldsData, &[], ring);
    for at in (0..20_000).step_by(15) {
        node.tick(at);
    }
    assert!(node.ring.get("dead").is_some());
}

#[test]
fn ready_comes_after_a_while_without_faults_and_stays() {
    let mut ring = former(InstanceState::Joining, &[1]);
    ring.insert(Instance {
        id: "stranger".into(),
        state: InstanceState::Leaving,
        ..Instance::default()
    });
    let own = |ring: &mut RingDesc, state, at_s: u64| {
        let own = ring.get_mut("a").unwrap();
        (own.state, own.timestamp_s) = (state, NOW_S + at_s as i64);
    };
    let mut readiness = Readiness::default();
    let settings = settings();
    let me = Membership::new(identity("a"), Vec::new());
    let mut at = |ring: &RingDesc, s: u64| {
        let checked = readiness.check(&settings, ring, &me, NOW_S + s as i64, secs(s));
        checked.map_err(|e| e.to_string())
    };
    assert!(at(&ring, 0).unwrap_err().contains("is in state JOINING"));
    own(&mut ring, InstanceState::Active, 1);
    assert!(at(&ring, 1).unwrap_err().contains("waiting for 15s"));
    assert!(at(&ring, 10).unwrap_err().contains("waiting for 6s"));
    own(&mut ring, InstanceState::Leaving, 11);
    assert!(at(&ring, 11).is_err());
    own(&mut ring, InstanceState::Active, 12);
    assert!(
        at(&ring, 12).unwrap_err().contains("waiting for 15s"),
        "counted anew"
    );
    assert!(at(&ring, 27).is_ok());
    own(&mut ring, InstanceState::Leaving, 28);
    assert!(at(&ring, 28).is_ok(), "once ready, always ready");

    let strict = LifecyclerSettings {
        readiness_check_ring_health: true,
        ..settings.clone()
    };
    own(&mut ring, InstanceState::Active, 28);
    let error = Readiness::default().check(&strict, &ring, &me, NOW_S + 28, secs(28));
    assert!(error.unwrap_err().to_string().contains("stranger"));
    let contested = Membership {
        rival: Some("10.0.0.9:9095".into()),
        ..me
    };
    let error = Readiness::default().check(&settings, &ring, &contested, NOW_S + 28, secs(28));
    assert!(error.unwrap_err().to_string().contains("10.0.0.9:9095"));
}

#[test]
fn bad_settings_are_all_named() {
    let settings = LifecyclerSettings {
        num_tokens: 0,
        heartbeat_period: secs(90),
        forget_after: secs(10),
        store_timeout: Duration::ZERO,
        ..LifecyclerSettings::default()
    };
    let error = settings.validate().unwrap_err().to_string();
    for name in [
        "num_tokens",
        "heartbeat_timeout",
        "forget_after",
        "store_timeout",
    ] {
        assert!(error.contains(name), "{error}");
    }
}
