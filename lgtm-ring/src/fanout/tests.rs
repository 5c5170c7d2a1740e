use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use lgtm_core::{Error, ErrorKind, Result};
use parking_lot::Mutex;
use tokio::time::{Instant, sleep};

use crate::fanout::{ReadOptions, read_quorum, read_quorum_of_all};
use crate::instance::Instance;
use crate::ring::ReplicationSet;

/// `a1 a2 b1 …`: zone, then number.
fn set(names: &[&str], max_errors: usize, max_unavailable_zones: usize) -> ReplicationSet {
    let instance = |name: &&str| {
        Arc::new(Instance {
            id: (*name).to_owned(),
            zone: name[..1].to_owned(),
            ..Instance::default()
        })
    };
    ReplicationSet {
        instances: names.iter().map(instance).collect(),
        max_errors,
        max_unavailable_zones,
        zone_awareness_enabled: max_unavailable_zones > 0,
    }
}

fn everybody() -> ReadOptions {
    ReadOptions {
        minimize_requests: false,
        ..ReadOptions::default()
    }
}

fn zones_first(zones: &[&str]) -> ReadOptions {
    ReadOptions {
        preferred_zones: zones.iter().map(|z| (*z).to_owned()).collect(),
        ..ReadOptions::default()
    }
}

/// Instances that answer after some seconds or fail, and remember whom was asked and who was cancelled.
#[derive(Default)]
struct Cluster {
    slow: Vec<(&'static str, u64)>,
    broken: Vec<(&'static str, u64)>,
    asked: Mutex<Vec<String>>,
    cancelled: Mutex<BTreeSet<String>>,
}

struct Running<'a>(&'a Cluster, String, bool);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        if !self.2 {
            self.0.cancelled.lock().insert(self.1.clone());
        }
    }
}

impl Cluster {
    async fn call(&self, instance: Arc<Instance>) -> Result<String> {
        let id = instance.id.clone();
        self.asked.lock().push(id.clone());
        let mut running = Running(self, id.clone(), false);
        let after = |list: &[(&str, u64)]| list.iter().find(|e| e.0 == id).map(|e| e.1);
        sleep(Duration::from_secs(after(&self.slow).unwrap_or(1))).await;
        if let Some(seconds) = after(&self.broken) {
            sleep(Duration::from_secs(seconds)).await;
            running.2 = true;
            return Err(Error::Unavailable(format!("{id} is broken")));
        }
        running.2 = true;
        Ok(id)
    }

    async fn read(&self, set: &ReplicationSet, options: &ReadOptions) -> Result<Vec<String>> {
        read_quorum(set, options, |i| self.call(i)).await
    }
}

#[tokio::test(start_paused = true)]
async fn a_quorum_is_enough_and_the_slow_are_cancelled() {
    let cluster = Cluster {
        slow: vec![("b1", 60)],
        ..Cluster::default()
    };
    let began = Instant::now();
    let answers = cluster
        .read(&set(&["a1", "b1", "c1"], 1, 0), &everybody())
        .await;
    assert_eq!(answers.unwrap(), ["a1", "c1"]);
    assert_eq!(began.elapsed(), Duration::from_secs(1));
    assert!(cluster.cancelled.lock().contains("b1"));
}

#[tokio::test(start_paused = true)]
async fn more_failures_than_tolerated_are_the_last_ones_error() {
    let cluster = Cluster {
        broken: vec![("a1", 0), ("b1", 1)],
        slow: vec![("c1", 60)],
        ..Cluster::default()
    };
    let set = set(&["a1", "b1", "c1"], 1, 0);
    let error = cluster.read(&set, &everybody()).await.unwrap_err();
    assert_eq!(error.to_string(), "b1 is broken");
    assert!(cluster.cancelled.lock().contains("c1"));
}

#[tokio::test(start_paused = true)]
async fn only_whole_zones_count() {
    let cluster = Cluster {
        // a2 fails after a1 has answered; b1 is late.
        broken: vec![("a2", 1)],
        slow: vec![("b1", 5)],
        ..Cluster::default()
    };
    let set = set(&["a1", "a2", "b1", "b2", "c1", "c2"], 0, 1);
    let answers = cluster.read(&set, &everybody()).await.unwrap();
    assert_eq!(answers, ["b1", "b2", "c1", "c2"]);
    // A failure stops the rest of its zone.
    let cluster = Cluster {
        broken: vec![("a2", 0)],
        slow: vec![("a1", 60), ("b1", 5)],
        ..Cluster::default()
    };
    cluster.read(&set, &everybody()).await.unwrap();
    assert!(cluster.cancelled.lock().contains("a1"));
    // Two zones are too many.
    let cluster = Cluster {
        broken: vec![("a2", 0), ("c1", 2)],
        slow: vec![("b1", 60)],
        ..Cluster::default()
    };
    let error = cluster.read(&set, &everybody()).await.unwrap_err();
    assert_eq!(error.to_string(), "c1 is broken");
}

#[tokio::test(start_paused = true)]
async fn minimizing_asks_the_quorum_and_a_failure_brings_in_another() {
    let set = set(&["a1", "a2", "b1", "b2", "c1", "c2"], 0, 1);
    let cluster = Cluster::default();
    let answers = cluster.read(&set, &zones_first(&["c", "a"])).await.unwrap();
    assert_eq!(answers, ["a1", "a2", "c1", "c2"]);
    assert_eq!(cluster.asked.lock().len(), 4, "zone b was left alone");
    let cluster = Cluster {
        broken: vec![("c2", 0)],
        ..Cluster::default()
    };
    let answers = cluster.read(&set, &zones_first(&["c", "a"])).await.unwrap();
    assert_eq!(answers, ["a1", "a2", "b1", "b2"]);
    assert_eq!(cluster.asked.lock().len(), 6);
}

#[tokio::test(start_paused = true)]
async fn hedging_asks_one_more_after_each_delay() {
    let names = ["a1", "b1", "c1", "d1", "e1"];
    let set = set(&names, 2, 0);
    let cluster = Cluster {
        slow: names.iter().map(|n| (*n, 10)).collect(),
        ..Cluster::default()
    };
    let options = ReadOptions {
        hedging_delay: Some(Duration::from_secs(3)),
        ..zones_first(&["a", "b", "c", "d", "e"])
    };
    let read = cluster.read(&set, &options);
    let watch = async {
        for (seconds, asked) in [(1, 3), (3, 4), (3, 5), (3, 5)] {
            sleep(Duration::from_secs(seconds)).await;
            assert_eq!(cluster.asked.lock().len(), asked);
        }
    };
    let (answers, ()) = tokio::join!(read, watch);
    assert_eq!(answers.unwrap(), ["a1", "b1", "c1"]);
    assert_eq!(cluster.cancelled.lock().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn chance_spreads_the_reads_that_minimize() {
    let set = set(&["a1", "b1", "c1"], 1, 0);
    let mut asked = BTreeSet::new();
    for seed in 0..20 {
        let cluster = Cluster::default();
        let options = ReadOptions {
            seed,
            ..ReadOptions::default()
        };
        assert_eq!(cluster.read(&set, &options).await.unwrap().len(), 2);
        let mut two = cluster.asked.lock().clone();
        two.sort();
        asked.insert(two);
    }
    assert_eq!(asked.len(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_terminal_error_ends_the_read_at_once() {
    let options = ReadOptions {
        is_terminal: |e| e.kind() == ErrorKind::Unavailable,
        ..everybody()
    };
    let cluster = Cluster {
        broken: vec![("a1", 0)],
        slow: vec![("b1", 60)],
        ..Cluster::default()
    };
    let error = cluster
        .read(&set(&["a1", "b1", "c1"], 1, 0), &options)
        .await;
    assert_eq!(error.unwrap_err().to_string(), "a1 is broken");
    let none = cluster.read(&set(&[], 0, 0), &options).await;
    assert_eq!(none.unwrap_err().kind(), ErrorKind::Internal);
}

#[tokio::test(start_paused = true)]
async fn many_sets_are_read_at_once_and_fail_together() {
    let sets = [set(&["a1", "b1"], 1, 0), set(&["c1", "d1"], 1, 0)];
    let cluster = Cluster::default();
    let options = everybody();
    let answers = read_quorum_of_all(&sets, &options, |i| cluster.call(i)).await;
    assert_eq!(answers.unwrap().len(), 2);
    let cluster = Cluster {
        broken: vec![("c1", 0), ("d1", 0)],
        slow: vec![("a1", 60), ("b1", 60)],
        ..Cluster::default()
    };
    let failed = read_quorum_of_all(&sets, &options, |i| cluster.call(i)).await;
    assert!(failed.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_set_that_tolerates_the_failure_of_all_still_needs_an_answer() {
    for (names, max_errors, zones, asked) in [
        (&["a1", "a2", "a3"][..], 0, 1, 3),
        (&["a1", "a2", "a3"], 0, 2, 3),
        (&["a1", "b1"], 0, 5, 1),
        (&["a1", "a2", "a3"], 3, 0, 1),
        (&["a1"], 9, 0, 1),
    ] {
        let cluster = Cluster::default();
        let set = set(names, max_errors, zones);
        let read = read_quorum(&set, &ReadOptions::default(), |i| cluster.call(i)).await;
        assert_eq!(read.unwrap().len(), asked, "{names:?}");
        assert_eq!(cluster.asked.lock().len(), asked, "{names:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn by_default_a_zone_that_hangs_holds_no_read_up() {
    let cluster = Cluster {
        slow: vec![("a1", 1_000_000)],
        ..Cluster::default()
    };
    let set = set(&["a1", "b1", "c1"], 0, 1);
    let options = zones_first(&["a", "b", "c"]);
    let begin = Instant::now();
    let read = read_quorum(&set, &options, |i| cluster.call(i)).await;
    assert_eq!(read.unwrap(), ["b1", "c1"]);
    assert_eq!(begin.elapsed(), Duration::from_secs(4));
}
