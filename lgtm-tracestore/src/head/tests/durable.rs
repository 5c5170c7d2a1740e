//! What survives the end of a process, wherever it comes.

use lgtm_core::testing::DiskOperation;
use lgtm_core::wal::SyncPolicy;

use super::*;

/// What the store has beside the heads: blocks, and the spans of each.
type Blocks = BTreeMap<BlockId, Vec<Row>>;

/// A flush as an ingester does it; `blocks` are the object store.
async fn flush(s: &Store, id: BlockId, blocks: &mut Blocks) -> Result<()> {
    s.heads.pack_live(None).await?;
    let Some(leaving) = s.heads.begin_flush(&tenant(), id) else {
        return Ok(());
    };
    s.heads.checkpoint().await?;
    let (mut merge, mut rows, mut bytes) = (leaving.merge(), Vec::new(), Vec::new());
    while let Some(trace) = merge.next_trace(&mut bytes)? {
        rows_of(trace, &bytes, &mut rows);
        bytes.clear();
    }
    blocks.insert(id, rows);
    s.heads.give(leaving);
    s.heads.checkpoint().await?;
    Ok(())
}

/// Pushes, checkpoints and flushes until the disk stops; gives what was acknowledged, and what was tried.
async fn work(s: &Store, blocks: &mut Blocks) -> (Vec<Row>, Vec<Row>) {
    let (mut acknowledged, mut tried) = (Vec::new(), Vec::new());
    let name = "a name of some length that fills a batch after a while ".repeat(3);
    for step in 0..12u8 {
        let rows: Vec<Row> = (0..6)
            .map(|n| {
                let service = if n < 4 { "a" } else { "b" };
                row(
                    n + step % 3,
                    step * 10 + n,
                    service,
                    &format!("{name}{step}"),
                )
            })
            .collect();
        tried.extend(rows.clone());
        if s.push(&rows).await.is_ok() {
            acknowledged.extend(rows);
        }
        match step {
            3 | 8 => drop(s.heads.checkpoint().await),
            2 | 4 => {
                s.clock.advance(Duration::from_secs(6));
                let _ = s.heads.maintain().await;
            }
            5 | 10 => drop(flush(s, block(step), blocks).await),
            _ => {}
        }
    }
    (sorted(&acknowledged), sorted(&tried))
}

/// Looks up the blocks that batches were on their way into, as an ingester does after a start.
fn settle(s: &Store, blocks: &Blocks) {
    for (tenant, block) in s.heads.doubtful_blocks().into_keys() {
        (s.heads).settle_block(&tenant, block, blocks.contains_key(&block));
    }
}

fn check(s: &Store, blocks: &Blocks, (acknowledged, tried): (&[Row], &[Row]), at: &str) {
    let mut all = s.all();
    all.extend(blocks.values().flatten().cloned());
    all.sort();
    let missing = acknowledged.iter().find(|r| all.binary_search(r).is_err());
    assert_eq!(missing, None, "{at}: lost");
    let foreign = all.iter().find(|r| tried.binary_search(r).is_err());
    assert_eq!(foreign, None, "{at}: never pushed");
    let twice = all.windows(2).find(|w| w[0] == w[1]);
    assert_eq!(twice, None, "{at}: twice");
}

fn quick(sync: SyncPolicy) -> HeadSettings {
    let mut settings = small_settings();
    settings.wal.sync = sync;
    settings.wal.retry_interval = Duration::from_millis(1);
    settings
}

fn store_that_stops(point: u64, settings: HeadSettings) -> Option<Store> {
    let clock = Arc::new(ManualClock::at_ms(NOW_S * 1000));
    let disk = CrashDisk::new(point);
    disk.stop_at(point);
    // A disk that stops while the store is opened leaves nothing to lose.
    Store::on(disk, clock, settings, Limits::default()).ok()
}

#[tokio::test]
async fn nothing_acknowledged_is_lost_or_doubled_wherever_the_process_dies() {
    let s = Store::new(quick(SyncPolicy::Os), Limits::default());
    let mut blocks = Blocks::new();
    let (acknowledged, tried) = work(&s, &mut blocks).await;
    assert_eq!(acknowledged, tried);
    assert_eq!(blocks.len(), 2);
    check(&s, &blocks, (&tried, &tried), "without a crash");
    let operations = s.disk.operations();
    assert!(operations > 40, "{operations}");
    for point in 1..=operations {
        let Some(mut s) = store_that_stops(point, quick(SyncPolicy::Os)) else {
            continue;
        };
        let mut blocks = Blocks::new();
        let (acknowledged, tried) = work(&s, &mut blocks).await;
        for round in 0..2 {
            s.reopen(Crash::Process);
            settle(&s, &blocks);
            let at = format!("operation {point}, round {round}");
            assert_eq!(s.report.remarks(), Vec::<String>::new(), "{at}");
            check(&s, &blocks, (&acknowledged, &tried), &at);
        }
        s.heads.checkpoint().await.unwrap();
        s.reopen(Crash::Process);
        settle(&s, &blocks);
        let at = format!("operation {point}, checkpoint");
        check(&s, &blocks, (&acknowledged, &tried), &at);
        // What is left goes with the next flush.
        flush(&s, block(99), &mut blocks).await.unwrap();
        s.reopen(Crash::Process);
        settle(&s, &blocks);
        assert_eq!(s.all(), [], "{at}");
        check(&s, &blocks, (&acknowledged, &tried), &at);
    }
}

#[tokio::test]
async fn with_every_batch_synced_a_power_loss_costs_nothing_either() {
    let s = Store::new(quick(SyncPolicy::EveryBatch), Limits::default());
    work(&s, &mut Blocks::new()).await;
    let operations = s.disk.operations();
    for point in (1..=operations).step_by(3) {
        for crash in [Crash::PowerStrict, Crash::Power(point)] {
            let Some(mut s) = store_that_stops(point, quick(SyncPolicy::EveryBatch)) else {
                continue;
            };
            let mut blocks = Blocks::new();
            let (acknowledged, tried) = work(&s, &mut blocks).await;
            s.reopen(crash);
            settle(&s, &blocks);
            let at = format!("operation {point}, {crash:?}");
            check(&s, &blocks, (&acknowledged, &tried), &at);
        }
    }
}

#[tokio::test]
async fn what_was_flushed_stays_for_readers_elsewhere_over_a_restart_and_goes_in_time() {
    let settings = HeadSettings {
        retain_flushed: Duration::from_secs(60),
        ..quick(SyncPolicy::Os)
    };
    let mut s = Store::new(settings, Limits::default());
    let rows: Vec<Row> = (0..12).map(|t| row(t, 1, "a", "x")).collect();
    s.put(&rows).await;
    s.heads.pack_live(None).await.unwrap();
    let leaving = s.heads.begin_flush(&tenant(), block(1)).unwrap();
    s.heads.checkpoint().await.unwrap();
    s.heads.give(leaving);
    s.heads.checkpoint().await.unwrap();
    for _ in 0..2 {
        s.clock.advance(Duration::from_secs(40));
        s.reopen(Crash::Process);
        assert_eq!(
            s.all(),
            sorted(&rows),
            "until it is known to be in the store"
        );
        assert!(s.heads.flush_parts().is_empty(), "it is on its way");
        s.heads.settle_block(&tenant(), block(1), true);
        s.clock.advance(Duration::from_secs(40));
        s.heads.maintain().await.unwrap();
        assert_eq!(s.all(), sorted(&rows), "it stays as long again");
        assert!(s.heads.flush_parts().is_empty(), "it never goes again");
        s.heads.checkpoint().await.unwrap();
    }
    // Readers who follow each other do not keep it.
    let reader = s.heads.reader();
    s.clock.advance(Duration::from_secs(21));
    s.heads.maintain().await.unwrap();
    assert_eq!(s.all(), []);
    drop(reader);
    s.heads.maintain().await.unwrap();
    s.heads.checkpoint().await.unwrap();
    assert_eq!(s.heads.batch_file_bytes(), 0);
    s.reopen(Crash::Process);
    assert_eq!(s.all(), []);
}

#[tokio::test]
async fn an_upload_that_failed_goes_again_once_it_is_known_where_it_stands() {
    let s = Store::new(quick(SyncPolicy::Os), Limits::default());
    let rows = [row(1, 1, "a", "x")];
    s.put(&rows).await;
    s.heads.pack_live(None).await.unwrap();
    drop(s.heads.begin_flush(&tenant(), block(1)).unwrap());
    assert!(s.heads.begin_flush(&tenant(), block(2)).is_none());
    assert_eq!(s.heads.doubtful_blocks().len(), 1);
    assert_eq!(s.all(), rows);
    s.heads.settle_block(&tenant(), block(1), false);
    drop(s.heads.begin_flush(&tenant(), block(2)).unwrap());
    // The answer was lost, but not the block.
    s.heads.settle_block(&tenant(), block(2), true);
    assert_eq!(s.all(), []);
}

#[tokio::test]
async fn a_checkpoint_that_fails_loses_nothing_and_one_that_counts_is_not_replayed_twice() {
    let mut s = Store::new(quick(SyncPolicy::Os), Limits::default());
    let rows: Vec<Row> = (0..9).map(|t| row(t, 1, "a", "x")).collect();
    s.put(&rows).await;
    s.disk
        .fail_next(DiskOperation::Rename, [std::io::ErrorKind::Other]);
    assert!(s.heads.checkpoint().await.is_err());
    let more = [row(1, 2, "a", "behind the cut"), row(30, 1, "c", "new")];
    s.put(&more).await;
    let all = sorted(&[rows, more.to_vec()].concat());
    s.reopen(Crash::Process);
    assert_eq!(s.all(), all);
    s.heads.checkpoint().await.unwrap();
    s.reopen(Crash::Process);
    assert_eq!(s.all(), all);
    // Records go on being numbered behind those of the checkpoint.
    s.put(&[row(1, 3, "a", "later")]).await;
    s.reopen(Crash::Process);
    assert_eq!((s.report.known_records, s.all().len()), (0, all.len() + 1));
}

#[tokio::test]
async fn a_missing_file_of_batches_costs_these_and_nothing_else() {
    let mut s = Store::new(quick(SyncPolicy::Os), Limits::default());
    s.put(&[row(1, 1, "a", "packed")]).await;
    s.heads.pack_live(None).await.unwrap();
    s.put(&[row(2, 1, "a", "live")]).await;
    s.heads.checkpoint().await.unwrap();
    s.disk = s.disk.crash(Crash::Process);
    lgtm_core::disk::Disk::remove(&s.disk, "traces/batches/00000001").unwrap();
    let opened = open(&s.disk, &s.settings, &s.limits, &s.clock);
    (s.heads, s.report) = opened.unwrap();
    assert_eq!(
        (s.report.lost_batches, s.report.undecodable_records),
        (1, 0)
    );
    assert_eq!(s.all(), [row(2, 1, "a", "live")]);
    s.put(&[row(3, 1, "a", "goes on")]).await;
}

#[tokio::test]
async fn a_damaged_batch_is_told_and_the_rest_is_read() {
    let s = Store::new(quick(SyncPolicy::Os), Limits::default());
    s.put(&[row(1, 1, "a", "packed")]).await;
    s.heads.pack_live(None).await.unwrap();
    s.put(&[row(2, 1, "a", "live")]).await;
    s.heads.parts.files.flush().unwrap();
    let path = "traces/batches/00000001";
    let mut bytes = s.disk.read(path).unwrap();
    let at = bytes.len() / 2;
    bytes[at] ^= 1;
    s.disk.write(path, &bytes);
    let reader = s.heads.reader();
    let mut traces = s.heads.traces(&tenant(), &reader).unwrap();
    let (mut found, mut out) = (Vec::new(), Vec::new());
    while let Some(id) = traces.next_trace((0, u64::MAX), &mut out) {
        rows_of(id, &out, &mut found);
        out.clear();
    }
    assert_eq!(found, [row(2, 1, "a", "live")]);
    let warnings = traces.warnings();
    assert!(
        warnings.len() == 1 && warnings[0].contains("checksum"),
        "{warnings:?}"
    );
    assert_eq!(s.heads.damaged_batches(), 1);
}

#[tokio::test]
async fn while_the_disk_is_full_pushes_are_refused_and_later_taken() {
    let mut settings = quick(SyncPolicy::Os);
    settings.wal.max_buffered = ByteSize::kib(64);
    let mut s = Store::new(settings, Limits::default());
    s.put(&[row(1, 1, "a", "before")]).await;
    s.disk.set_capacity(Some(0));
    let rows = [row(1, 2, "a", "while it is full")];
    let refused = s.push(&rows).await.unwrap_err();
    assert_eq!(refused.kind(), lgtm_core::ErrorKind::Unavailable);
    s.disk.set_capacity(None);
    let mut tries = 0;
    while s.push(&rows).await.is_err() {
        tries += 1;
        assert!(tries < 10_000);
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    s.reopen(Crash::Process);
    // A sender that tries again may bring a span twice; combining makes one of them.
    let mut all = s.all();
    all.dedup();
    assert_eq!(all, [row(1, 1, "a", "before"), rows[0].clone()]);
}

#[tokio::test]
async fn a_folder_has_one_owner() {
    let s = Store::new(HeadSettings::default(), Limits::default());
    let second = open(&s.disk, &s.settings, &s.limits, &s.clock).unwrap_err();
    assert_eq!(second.kind(), lgtm_core::ErrorKind::Conflict);
    s.heads.close();
    open(&s.disk, &s.settings, &s.limits, &s.clock).unwrap();
    let late = s.push(&[row(1, 1, "a", "x")]).await.unwrap_err();
    assert_eq!(late.kind(), lgtm_core::ErrorKind::Unavailable);
}
