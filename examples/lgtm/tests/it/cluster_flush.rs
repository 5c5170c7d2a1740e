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

/// Records that ingesters of a process have written to their logs.
fn taken(host: &Host) -> String {
    let metrics = host.get("/metrics").text();
    let taken = |line: &&str| line.starts_with("lgtm_wal_records_total");
    let lines: Vec<&str> = metrics.lines().filter(taken).collect();
    assert!(!lines.is_empty());
    lines.join("\n")
}

#[test]
fn an_ingester_is_told_beforehand_that_it_goes_for_good() {
    let dir = tempfile::tempdir().unwrap();
    let alone = alone(dir.path());
    let group = Group {
        dir: dir.path(),
        ports: (0..4).map(|_| Ports::free()).collect(),
    };
    let once = ["-ring.replication-factor=1"];
    // Neither flushes nor leaves the ring unless it is told.
    let stays_known = [once[0], "-ring.lifecycler.unregister-on-shutdown=false"];
    let backend = group.start(0, "backend", &once);
    let stays = group.start(1, "write", &once);
    let mut goes = group.start(2, "write", &stays_known);
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
    let page = "/ingester/prepare-shutdown";
    assert_eq!(read.get(page).status, 404);
    assert_eq!(goes.get(page).text(), "unset\n");
    let unregister = "/ingester/unregister-on-shutdown";
    assert_eq!(goes.get(unregister).text(), r#"{"unregister":false}"#);
    let put = |body: &[u8]| goes.try_request("PUT", unregister, &[], body).unwrap();
    assert_eq!(
        put(b"{\"unregister\":true}").text(),
        r#"{"unregister":true}"#
    );
    assert_eq!(put(b"yes").status, 400);
    let reset = goes.try_request("DELETE", unregister, &[], b"").unwrap();
    assert_eq!(reset.text(), r#"{"unregister":false}"#);
    assert_eq!(goes.post(page, &[], b"").status, 204);
    assert_eq!(
        goes.get("/metrics/ingester/prepare-shutdown").text(),
        "set\n"
    );
    // That is remembered.
    goes.kill_9();
    drop(goes);
    goes = group.start(2, "write", &stays_known);
    wait_for_ring(&read, "/ingester/ring", 2);
    let told = |path: &str| goes.get(path).text();
    assert_eq!(told("/logs/ingester/prepare_shutdown"), "set\n");
    let metrics = "/metrics/ingester/prepare-shutdown";
    let undone = goes.try_request("DELETE", metrics, &[], b"").unwrap();
    assert_eq!((undone.status, told(metrics)), (204, "unset\n".into()));
    assert_eq!(told(page), "unset\n");
    assert_eq!(goes.post(metrics, &[], b"").status, 204);
    assert_eq!(told(page), "set\n");
    // Not the first of what it is told: it takes no new series first.
    let downscale = "/ingester/prepare-instance-ring-downscale";
    assert_eq!(goes.get(downscale).text(), r#"{"timestamp":0}"#);
    let since = goes.post(downscale, &[], b"");
    assert!(!since.text().contains(":0}"), "{}", since.text());
    let shown = [("Accept", "application/json")];
    let is_read_only = || {
        let page = stays.try_request("GET", "/ingester/ring", &shown, b"");
        page.unwrap().text().contains("\"read_only\":true")
    };
    while !is_read_only() {
        std::thread::park_timeout(std::time::Duration::from_millis(10));
    }
    let before = taken(&goes);
    for n in 10..20 {
        let t_ms = begin_ms + n * 10_000;
        assert_eq!(push(&stays, t_ms, n as f64), 200);
        assert_eq!(push(&alone, t_ms, n as f64), 200);
    }
    assert_eq!(taken(&goes), before);
    same_answers("one is read-only", &read, &alone, &questions);
    assert!(goes.terminate());
    wait_for_ring(&read, "/ingester/ring", 1);
    same_answers("one has left", &read, &alone, &questions);
    // When it comes again it is one as any other.
    let again = group.start(2, "write", &stays_known);
    wait_for_ring(&read, "/ingester/ring", 2);
    assert_eq!(again.get(page).text(), "unset\n");
    assert_eq!(again.get(downscale).text(), r#"{"timestamp":0}"#);
    drop((backend, stays));
}
