//! What ingesters have flushed is in every answer, also where readers of blocks do not know the blocks yet and the ingesters have begun anew.

use crate::cluster::{Ports, alone, member, push, questions, same_answers, wait_for_ring};
use crate::host::{Host, now_ms};

/// How the process of a group is started again and again.
struct Group<'a> {
    dir: &'a std::path::Path,
    ports: Vec<Ports>,
}

impl Group<'_> {
    fn start(&self, n: usize, target: &str, flags: &[&str]) -> Host {
        let target_flag = format!("-target={target}");
        // Blocks of others are looked for once, at the start.
        let shared = [
            target_flag.as_str(),
            "-metrics.store-gateway.sync-interval=1h",
            "-ring.lifecycler.join-after=0s",
        ];
        let flags: Vec<&str> = shared.into_iter().chain(flags.iter().copied()).collect();
        let (own, seeds) = (self.ports[n], &self.ports[..n]);
        member(self.dir, &format!("{target}-{n}"), own, seeds, &flags)
    }
}

#[test]
fn what_was_flushed_is_in_the_answers_after_the_ingester_began_anew() {
    let dir = tempfile::tempdir().unwrap();
    let alone = alone(dir.path());
    let group = Group {
        dir: dir.path(),
        ports: (0..3).map(|_| Ports::free()).collect(),
    };
    let once = ["-ring.replication-factor=1"];
    let backend = group.start(0, "backend", &once);
    let mut write = group.start(1, "write", &once);
    let read = group.start(2, "read", &once);
    for path in ["/ingester/ring", "/store-gateway/ring"] {
        wait_for_ring(&read, path, 1);
    }
    wait_for_ring(&write, "/ingester/ring", 1);
    let begin_ms = now_ms() - 600_000;
    let questions = questions(begin_ms + 200_000);
    for round in 0..3 {
        for n in 0..5 {
            let t_ms = begin_ms + (round * 5 + n) * 10_000;
            assert_eq!(push(&write, t_ms, n as f64), 200);
            assert_eq!(push(&alone, t_ms, n as f64), 200);
        }
        assert_eq!(write.post("/flush", &[], b"").status, 200);
        same_answers("flushed", &read, &alone, &questions);
        if round % 2 == 0 {
            write.kill_9();
            drop(write);
        } else {
            assert!(write.terminate());
        }
        write = group.start(1, "write", &once);
        wait_for_ring(&read, "/ingester/ring", 1);
        same_answers("begun anew", &read, &alone, &questions);
    }
    drop(backend);
}

#[test]
fn what_an_ingester_had_that_left_for_good_is_in_the_answers() {
    let dir = tempfile::tempdir().unwrap();
    let alone = alone(dir.path());
    let group = Group {
        dir: dir.path(),
        ports: (0..4).map(|_| Ports::free()).collect(),
    };
    let once = ["-ring.replication-factor=1"];
    let leaves = [
        once[0],
        "-metrics.ingester.flush-on-shutdown=true",
        "-ring.lifecycler.unregister-on-shutdown=true",
    ];
    let backend = group.start(0, "backend", &once);
    let stays = group.start(1, "write", &once);
    let goes = group.start(2, "write", &leaves);
    let read = group.start(3, "read", &once);
    for host in [&read, &stays, &goes] {
        wait_for_ring(host, "/ingester/ring", 2);
    }
    wait_for_ring(&read, "/store-gateway/ring", 1);
    let begin_ms = now_ms() - 600_000;
    let questions = questions(begin_ms + 200_000);
    for n in 0..10 {
        let t_ms = begin_ms + n * 10_000;
        assert_eq!(push(&stays, t_ms, n as f64), 200);
        assert_eq!(push(&alone, t_ms, n as f64), 200);
    }
    same_answers("both", &read, &alone, &questions);
    // Each has a part of the series. One goes; nobody knows its blocks.
    assert!(goes.terminate());
    wait_for_ring(&read, "/ingester/ring", 1);
    same_answers("one has left", &read, &alone, &questions);
    drop((backend, stays));
}
