//! What survives the end of a process, wherever it comes.

use std::time::Duration;

use lgtm_core::testing::DiskOperation;
use lgtm_core::wal::SyncPolicy;

use super::*;

/// Pushes, checkpoints and finished chunks until the disk stops; gives what was acknowledged, and what was tried.
async fn work(s: &Store) -> (Vec<Row>, Vec<Row>) {
    let (mut acknowledged, mut tried) = (Vec::new(), Vec::new());
    let line = "words of some length that fill a block after a while ".repeat(3);
    for step in 0..12i64 {
        let lines: Vec<String> = (0..6).map(|n| format!("{line}{step} {n}")).collect();
        let mut rows: Vec<(&str, i64, &str, &str)> = Vec::new();
        for (n, l) in lines.iter().enumerate() {
            let stream = if n < 4 { "a" } else { "b" };
            // Backwards within a push.
            rows.push((
                stream,
                NOW + step * 100 - n as i64,
                l,
                if n % 2 == 0 { "" } else { "v" },
            ));
        }
        tried.extend(sorted(&rows));
        if s.push(&rows).await.is_ok() {
            acknowledged.extend(sorted(&rows));
        }
        match step {
            3 | 8 => drop(s.heads.checkpoint().await),
            5 => drop(s.heads.finish_all().await),
            _ => {}
        }
    }
    acknowledged.sort();
    tried.sort();
    (acknowledged, tried)
}

fn check(all: &[Row], acknowledged: &[Row], tried: &[Row], at: &str) {
    let missing = acknowledged.iter().find(|r| all.binary_search(r).is_err());
    assert_eq!(missing, None, "{at}: lost");
    let foreign = all.iter().find(|r| tried.binary_search(r).is_err());
    assert_eq!(foreign, None, "{at}: never pushed");
    assert!(all.windows(2).all(|w| w[0] != w[1]), "{at}: twice");
}

fn quick(sync: SyncPolicy) -> HeadSettings {
    let mut settings = small_settings();
    settings.wal.sync = sync;
    settings.wal.retry_interval = Duration::from_millis(1);
    settings
}

#[tokio::test]
async fn nothing_acknowledged_is_lost_wherever_the_process_dies() {
    let s = Store::new(quick(SyncPolicy::Os), limits());
    let (acknowledged, tried) = work(&s).await;
    assert_eq!(acknowledged, tried);
    assert_eq!(s.all(), tried);
    let operations = s.disk.operations();
    assert!(operations > 20, "{operations}");
    for point in 1..=operations {
        let clock = Arc::new(ManualClock::at_ms(NOW_S * 1000));
        let disk = CrashDisk::new(point);
        disk.stop_at(point);
        let settings = quick(SyncPolicy::Os);
        // A disk that stops while the store is opened leaves nothing to lose.
        let Ok((heads, report)) = open(&disk, &settings, &limits(), &clock) else {
            continue;
        };
        let mut s = Store {
            disk,
            clock,
            limits: limits(),
            settings,
            heads,
            report,
        };
        let (acknowledged, tried) = work(&s).await;
        for round in 0..2 {
            s.reopen(Crash::Process);
            let at = format!("operation {point}, round {round}");
            assert_eq!(s.report.remarks(), Vec::<String>::new(), "{at}");
            check(&s.all(), &acknowledged, &tried, &at);
        }
        s.heads.checkpoint().await.unwrap();
        s.reopen(Crash::Process);
        check(
            &s.all(),
            &acknowledged,
            &tried,
            &format!("operation {point}, checkpoint"),
        );
    }
}

#[tokio::test]
async fn with_every_batch_synced_a_power_loss_costs_nothing_either() {
    let s = Store::new(quick(SyncPolicy::EveryBatch), limits());
    work(&s).await;
    let operations = s.disk.operations();
    for point in (1..=operations).step_by(3) {
        for crash in [Crash::PowerStrict, Crash::Power(point)] {
            let clock = Arc::new(ManualClock::at_ms(NOW_S * 1000));
            let disk = CrashDisk::new(point);
            disk.stop_at(point);
            let settings = quick(SyncPolicy::EveryBatch);
            let Ok((heads, report)) = open(&disk, &settings, &limits(), &clock) else {
                continue;
            };
            let mut s = Store {
                disk,
                clock,
                limits: limits(),
                settings,
                heads,
                report,
            };
            let (acknowledged, tried) = work(&s).await;
            s.reopen(crash);
            check(
                &s.all(),
                &acknowledged,
                &tried,
                &format!("operation {point}, {crash:?}"),
            );
        }
    }
}

#[tokio::test]
async fn a_checkpoint_that_fails_loses_nothing_and_one_that_counts_is_not_replayed_twice() {
    let mut s = Store::new(quick(SyncPolicy::Os), limits());
    let (_, rows) = work(&s).await;
    s.disk
        .fail_next(DiskOperation::Rename, [std::io::ErrorKind::Other]);
    assert!(s.heads.checkpoint().await.is_err());
    let more = [
        ("a", NOW + 5000, "behind the cut", ""),
        ("c", NOW, "new", ""),
    ];
    s.put(&more).await;
    let mut all = [rows, sorted(&more)].concat();
    all.sort();
    s.reopen(Crash::Process);
    assert_eq!(s.all(), all);
    s.heads.checkpoint().await.unwrap();
    s.reopen(Crash::Process);
    assert_eq!((s.all(), s.report.entries), (all.clone(), 0));
    // Entries go on being numbered behind those of the checkpoint.
    s.put(&[("a", NOW + 6000, "later", "")]).await;
    s.reopen(Crash::Process);
    assert_eq!((s.report.entries, s.report.known_entries), (1, 0));
    assert_eq!(s.all().len(), all.len() + 1);
}

#[tokio::test]
async fn a_stream_that_was_forgotten_and_comes_again_is_replayed_whole() {
    let mut s = Store::new(quick(SyncPolicy::Os), limits());
    let rows: Vec<String> = (0..5).map(|n| format!("line {n}")).collect();
    for (n, line) in rows.iter().enumerate() {
        s.put(&[("a", NOW + n as i64, line, "")]).await;
    }
    s.heads.checkpoint().await.unwrap();
    // As a flush would: the object store has them.
    let head = s.heads.get(&tenant()).unwrap();
    {
        let (_, stream) = head.streams().remove(0);
        let mut state = stream.lock();
        let before = state.open_bytes();
        state.open = None;
        s.heads.parts.capacity.open_bytes_changed(before, 0);
    }
    s.clock.advance(Duration::from_secs(2 * 3600));
    s.heads.maintain().await.unwrap();
    assert_eq!(s.heads.stream_count(), 0);
    drop(head);
    let t = NOW + 7200 * SECOND;
    s.put(&[("a", t, "again", ""), ("a", t + 1, "and again", "")])
        .await;
    s.reopen(Crash::Process);
    let lines: Vec<String> = s.all().into_iter().map(|r| r.2).collect();
    assert!(lines.contains(&"again".to_owned()) && lines.contains(&"and again".to_owned()));
}

#[tokio::test]
async fn damage_in_the_log_costs_the_damaged_frame_and_is_told() {
    let mut s = Store::new(quick(SyncPolicy::Os), limits());
    for n in 0..5 {
        s.put(&[("a", NOW + n, &format!("line {n} {}", "x".repeat(100)), "")])
            .await;
    }
    let path = "logs/wal/00000001";
    let mut bytes = s.disk.read(path).unwrap();
    let place = bytes.windows(6).position(|w| w == b"line 2").unwrap();
    bytes[place] ^= 1;
    let disk = s.disk.crash(Crash::Process);
    disk.write(path, &bytes);
    s.disk = disk;
    let opened = open(&s.disk, &s.settings, &s.limits, &s.clock);
    (s.heads, s.report) = opened.unwrap();
    let lines: Vec<String> = s.all().iter().map(|r| r.2[..6].to_owned()).collect();
    assert_eq!(lines, ["line 0", "line 1", "line 3", "line 4"]);
    assert!(!s.report.is_whole());
    let remarks = s.report.remarks();
    assert!(
        remarks.len() == 1 && remarks[0].contains("set aside"),
        "{remarks:?}"
    );
}

#[tokio::test]
async fn a_missing_chunk_file_costs_its_chunks_and_nothing_else() {
    let mut s = Store::new(quick(SyncPolicy::Os), limits());
    let (_, rows) = work(&s).await;
    s.heads.checkpoint().await.unwrap();
    s.disk = s.disk.crash(Crash::Process);
    lgtm_core::disk::Disk::remove(&s.disk, "logs/chunks_head/00000001").unwrap();
    let opened = open(&s.disk, &s.settings, &s.limits, &s.clock);
    (s.heads, s.report) = opened.unwrap();
    assert!(s.report.lost_chunks > 0 && s.report.undecodable_records == 0);
    let all = s.all();
    assert!(!all.is_empty() && all.len() < rows.len());
    check(&all, &[], &rows, "without a chunk file");
    s.put(&[("a", NOW + 9000, "goes on", "")]).await;
}

#[tokio::test]
async fn while_the_disk_is_full_pushes_are_refused_and_later_taken_once() {
    let mut settings = quick(SyncPolicy::Os);
    settings.wal.max_buffered = ByteSize::kib(64);
    let mut s = Store::new(settings, limits());
    s.put(&[("a", NOW, "before", "")]).await;
    s.disk.set_capacity(Some(0));
    let rows = [("a", NOW + 1, "while it is full", "")];
    let refused = s.push(&rows).await.unwrap_err();
    assert_eq!(refused.kind(), lgtm_core::ErrorKind::Unavailable);
    s.disk.set_capacity(None);
    // The sender tries again until it is taken.
    let mut tries = 0;
    while s.push(&rows).await.is_err() {
        tries += 1;
        assert!(tries < 10_000);
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    s.reopen(Crash::Process);
    let all = [("a", NOW, "before", ""), rows[0]];
    assert_eq!(s.all(), sorted(&all));
}

#[tokio::test]
async fn a_folder_has_one_owner() {
    let s = Store::new(HeadSettings::default(), limits());
    let second = open(&s.disk, &s.settings, &s.limits, &s.clock).unwrap_err();
    assert_eq!(second.kind(), lgtm_core::ErrorKind::Conflict);
    s.heads.close();
    open(&s.disk, &s.settings, &s.limits, &s.clock).unwrap();
    let late = s.push(&[("a", NOW, "x", "")]).await.unwrap_err();
    assert_eq!(late.kind(), lgtm_core::ErrorKind::Unavailable);
}
