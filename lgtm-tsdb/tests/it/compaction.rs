//! Blocks merged: against what queries say of the inputs, and against what Prometheus makes of the same blocks.

use crate::shared;
use crate::stored;

use std::path::Path;
use std::sync::Arc;

use crate::stored::{all_samples, new_id, some_series, tenant, write};
use lgtm_core::exec::{CancelToken, Executor};
use lgtm_core::model::{TimeRange, TimestampMs};
use lgtm_core::storage::{Bucket, DataKind, Layout};
use lgtm_core::testing::Dice;
use lgtm_core::units::ByteSize;
use lgtm_tsdb::block::{BlockMeta, BlockReader, BlockReaderSettings};
use lgtm_tsdb::chunk::SampleValue;
use lgtm_tsdb::compact::{
    BlockMerge, CompactionJob, CompactionRules, CompactionStage, MergeError, MergeReport,
    MergeSettings, MergeTask, plan,
};
use object_store::memory::InMemory;
use tokio::runtime::Handle;

fn bucket() -> Bucket {
    Layout::single_bucket(InMemory::new()).bucket(DataKind::MetricBlocks)
}

fn settings() -> MergeSettings {
    MergeSettings {
        max_read_memory: ByteSize::mib(1),
        max_symbols_memory: ByteSize::mib(1),
        max_postings_memory: ByteSize::mib(1),
        folder: None,
    }
}

async fn merge(
    bucket: &Bucket,
    metas: &[BlockMeta],
    shard_count: u32,
    settings: MergeSettings,
) -> Result<MergeReport, MergeError> {
    let job = CompactionJob {
        stage: match shard_count {
            0 => CompactionStage::Merge,
            _ => CompactionStage::Split,
        },
        shard: String::new(),
        range: TimeRange::new(0, i64::MAX),
        inputs: metas.iter().cloned().map(Arc::new).collect(),
    };
    let task = MergeTask {
        tenant: &tenant(),
        job: &job,
        shard_count,
    };
    let merge = BlockMerge::new(
        bucket.clone(),
        Executor::inline(Handle::current()),
        settings,
    );
    merge.run(task, &new_id, &CancelToken::new()).await
}

const RANGE: i64 = 600_000;

/// Blocks of three ranges, two of each, so that some overlap.
async fn some_blocks(bucket: &Bucket, seed: u64, series: u64) -> Vec<BlockMeta> {
    let mut dice = Dice::seeded(seed);
    let mut metas = Vec::new();
    for n in 0..6 {
        let start = n / 2 * RANGE;
        let range = TimeRange::new(start, start + RANGE);
        metas.push(write(bucket, range, &some_series(&mut dice, range, series)).await);
    }
    metas
}

#[tokio::test]
async fn queries_find_in_the_new_block_what_they_found_in_the_old_ones() {
    for seed in 0..8 {
        let bucket = bucket();
        let metas = some_blocks(&bucket, seed, 40).await;
        let want = all_samples(&bucket, &metas).await;
        assert!(want.len() > 100, "{}", want.len());
        let report = merge(&bucket, &metas, 0, settings()).await.unwrap();
        assert!(report.decoded_chunks > 0 && report.passed_chunks > report.decoded_chunks);
        let [made] = &report.blocks[..] else {
            panic!("{report:?}")
        };
        assert_eq!((made.min_ms.get(), made.max_ms.get()), (0, 3 * RANGE));
        assert_eq!(made.compaction.level, 2);
        assert_eq!(made.stats.num_series, want.len() as u64);
        let samples: usize = want.values().map(Vec::len).sum();
        assert_eq!(made.stats.num_samples, samples as u64);
        assert_eq!(all_samples(&bucket, &report.blocks).await, want, "{seed}");
        // Once more, with others beside it.
        let both = [metas[0].clone(), made.clone()];
        let want = all_samples(&bucket, &both).await;
        let again = merge(&bucket, &both, 0, settings()).await.unwrap();
        assert_eq!(all_samples(&bucket, &again.blocks).await, want, "{seed}");
    }
}

#[tokio::test]
async fn shards_have_the_series_of_their_hash_and_no_symbol_more() {
    let bucket = bucket();
    let metas = some_blocks(&bucket, 1, 60).await;
    let want = all_samples(&bucket, &metas).await;
    let report = merge(&bucket, &metas, 3, settings()).await.unwrap();
    assert_eq!(report.blocks.len(), 3);
    assert_eq!(all_samples(&bucket, &report.blocks).await, want);
    for (n, made) in report.blocks.iter().enumerate() {
        assert_eq!(made.shard_id(), format!("{}_of_3", n + 1));
        let found = all_samples(&bucket, std::slice::from_ref(made)).await;
        assert!(found.len() > 10 && found.keys().all(|l| l.stable_hash() % 3 == n as u64));
        let folder = format!("t/{}", made.ulid);
        let open = BlockReader::open_object(&bucket, &folder, BlockReaderSettings::default());
        let table = open.await.unwrap().index().symbol_table().await.unwrap();
        let mut used: Vec<&str> = found
            .keys()
            .flat_map(|l| l.iter())
            .flat_map(|(n, v)| [n, v])
            .collect();
        used.push("");
        used.sort_unstable();
        used.dedup();
        assert!(table.iter().eq(used));
    }
    let range = TimeRange::new(0, RANGE);
    let one = write(&bucket, range, &some_series(&mut Dice::seeded(1), range, 1)).await;
    let few = merge(&bucket, &[one], 3, settings()).await.unwrap();
    assert_eq!(few.blocks.len(), 1, "a shard without series is no block");
}

#[tokio::test]
async fn memory_that_is_too_small_is_named() {
    let bucket = bucket();
    let metas = some_blocks(&bucket, 2, 400).await;
    let objects = bucket.list_sorted("").await.unwrap().len();
    let refuse = async |settings, name: &str| {
        let refused = merge(&bucket, &metas, 0, settings).await.unwrap_err();
        assert!(refused.error.to_string().contains(name), "{refused:?}");
        assert_eq!(bucket.list_sorted("").await.unwrap().len(), objects);
    };
    let small = ByteSize::kib(16);
    let symbols = MergeSettings {
        max_symbols_memory: ByteSize::kib(4),
        ..settings()
    };
    refuse(symbols, "max_symbols_memory").await;
    let postings = MergeSettings {
        max_postings_memory: small,
        ..settings()
    };
    refuse(postings.clone(), "max_postings_memory").await;
    let folder = tempfile::tempdir().unwrap();
    let spilled = MergeSettings {
        folder: Some(folder.path().to_owned()),
        max_read_memory: small,
        ..postings
    };
    let want = all_samples(&bucket, &metas).await;
    let report = merge(&bucket, &metas, 0, spilled).await.unwrap();
    assert_eq!(all_samples(&bucket, &report.blocks).await, want);
}

#[tokio::test]
async fn damage_is_told_with_its_block_and_leaves_nothing() {
    let bucket = bucket();
    let metas = some_blocks(&bucket, 3, 40).await;
    let objects = bucket.list_sorted("").await.unwrap();
    let bad = &metas[3];
    for name in ["index", "chunks/000001", "meta.json"] {
        let path = format!("t/{}/{name}", bad.ulid);
        let whole = bucket.get(&path).await.unwrap();
        let mut bytes = whole.to_vec();
        // Of the index the symbols; postings of single labels are not read.
        let at = if name == "index" { 20 } else { bytes.len() / 2 };
        bytes[at] ^= 1;
        if name == "meta.json" {
            bytes = whole.to_vec();
            let text = String::from_utf8(bytes).unwrap();
            bytes = text
                .replace("\"maxTime\": 1", "\"maxTime\": 3")
                .into_bytes();
        }
        bucket.put(&path, bytes).await.unwrap();
        let refused = merge(&bucket, &metas, 0, settings()).await.unwrap_err();
        assert_eq!(refused.input, Some(bad.ulid), "{name}: {refused:?}");
        bucket.put(&path, whole).await.unwrap();
        assert_eq!(bucket.list_sorted("").await.unwrap().len(), objects.len());
    }
    assert!(merge(&bucket, &metas, 0, settings()).await.is_ok());
}

/// Puts the blocks of a folder into the bucket.
async fn upload(bucket: &Bucket, folder: &Path) -> Vec<BlockMeta> {
    let mut metas = Vec::new();
    let mut folders: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|e| e.unwrap().path())
        .collect();
    folders.sort();
    for block in folders {
        let name = block.file_name().unwrap().to_str().unwrap().to_owned();
        let mut files = vec!["index".to_owned(), "meta.json".into(), "tombstones".into()];
        for chunks in std::fs::read_dir(block.join("chunks")).unwrap() {
            let file = chunks.unwrap().file_name();
            files.push(format!("chunks/{}", file.to_str().unwrap()));
        }
        for file in files {
            if let Ok(bytes) = std::fs::read(block.join(&file)) {
                bucket
                    .put(&format!("t/{name}/{file}"), bytes)
                    .await
                    .unwrap();
            }
        }
        let meta = std::fs::read(block.join("meta.json")).unwrap();
        metas.push(BlockMeta::decode(&meta).unwrap());
    }
    metas
}

#[tokio::test]
async fn blocks_of_prometheus_become_what_it_makes_of_them() {
    let Some(golden) = shared::folder("golden/tsdb/blocks") else {
        return;
    };
    let cases = [
        ("three_2h_with_tombstones", "compacted_6h"),
        ("ooo_overlapping", "ooo_vertically_compacted"),
    ];
    for (inputs, output) in cases {
        let bucket = bucket();
        let metas = upload(&bucket, &golden.join(inputs)).await;
        let expected = upload(&bucket, &golden.join(output)).await;
        let rules = CompactionRules {
            ranges_ms: vec![2 * 3_600_000, 6 * 3_600_000],
            shard_count: 0,
            split_groups: 1,
        };
        let blocks: Vec<_> = metas.iter().cloned().map(Arc::new).collect();
        let jobs = plan(&blocks, &rules, TimestampMs::MAX);
        assert_eq!(jobs.len(), 1, "{inputs}");
        assert_eq!(jobs[0].inputs.len(), metas.len());
        let report = merge(&bucket, &metas, 0, settings()).await.unwrap();
        let [made] = &report.blocks[..] else {
            panic!("{report:?}")
        };
        assert_eq!(made.stats, expected[0].stats, "{inputs}");
        assert_eq!(made.compaction.sources, expected[0].compaction.sources);
        assert_eq!(made.compaction.parents, expected[0].compaction.parents);
        let (found, want) = (
            all_samples(&bucket, &report.blocks).await,
            all_samples(&bucket, &expected).await,
        );
        assert_eq!(found, want, "{inputs}");
        for file in ["index", "chunks/000001"] {
            let ours = bucket
                .get(&format!("t/{}/{file}", made.ulid))
                .await
                .unwrap();
            let theirs = bucket
                .get(&format!("t/{}/{file}", expected[0].ulid))
                .await
                .unwrap();
            println!(
                "{inputs} {file}: {} bytes, equal: {}",
                ours.len(),
                ours == theirs
            );
        }
    }
}

#[tokio::test]
async fn all_golden_blocks_can_be_merged_with_each_other() {
    let Some(golden) = shared::folder("golden/tsdb/blocks") else {
        return;
    };
    let bucket = bucket();
    let mut metas = Vec::new();
    for set in std::fs::read_dir(&golden)
        .unwrap()
        .map(|e| e.unwrap().path())
    {
        if set.is_dir() {
            metas.extend(upload(&bucket, &set).await);
        }
    }
    metas.sort_by_key(|m| (m.min_ms, m.ulid));
    assert!(metas.len() > 10);
    let want = all_samples(&bucket, &metas).await;
    let report = merge(&bucket, &metas, 0, settings()).await.unwrap();
    let found = all_samples(&bucket, &report.blocks).await;
    // As text, since there are values among them that are no numbers and equal nothing.
    let lines = |all: stored::SeriesMap| -> Vec<String> {
        all.iter().map(|series| format!("{series:?}")).collect()
    };
    assert_eq!(lines(found), lines(want));
}

/// The lines that promtool prints, sorted; `None` where there is no promtool.
fn promtool(args: &[&str]) -> Option<Vec<String>> {
    let out = match std::process::Command::new("promtool").args(args).output() {
        Ok(out) => out,
        Err(e) => {
            println!("skipped: promtool: {e}");
            return None;
        }
    };
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(
        out.status.success(),
        "promtool {args:?}: {}",
        text(&out.stderr)
    );
    let mut lines: Vec<String> = text(&out.stdout).lines().map(str::to_owned).collect();
    lines.sort_unstable();
    Some(lines)
}

/// Puts blocks of the bucket into a folder that promtool takes for a database.
async fn download(bucket: &Bucket, metas: &[BlockMeta], folder: &Path) {
    // It wants to see a log.
    std::fs::create_dir_all(folder.join("wal")).unwrap();
    for meta in metas {
        for object in bucket
            .list_sorted(&format!("t/{}", meta.ulid))
            .await
            .unwrap()
        {
            let path = folder.join(object.path.strip_prefix("t/").unwrap());
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, bucket.get(&object.path).await.unwrap()).unwrap();
        }
    }
}

#[tokio::test]
async fn promtool_finds_in_the_new_block_what_it_found_in_the_old_ones() {
    let bucket = bucket();
    let mut dice = Dice::seeded(1);
    let mut metas = Vec::new();
    for n in 0..6 {
        let start = n / 2 * RANGE;
        let range = TimeRange::new(start, start + RANGE);
        let mut series = some_series(&mut dice, range, 40);
        for (labels, samples) in &mut series {
            let is_float = labels
                .get("number")
                .unwrap()
                .ends_with(['1', '3', '5', '7', '9']);
            for (at, value) in samples {
                // Encodings that keep starts are newer than Debian's promtool.
                at.start_ms = TimestampMs::EPOCH;
                // One value for one time, whichever block it is in.
                *value = if is_float {
                    SampleValue::Float(at.t_ms.get() as f64)
                } else {
                    stored::histogram(at.t_ms.get() as u64)
                };
            }
        }
        metas.push(write(&bucket, range, &series).await);
    }
    let report = merge(&bucket, &metas, 0, settings()).await.unwrap();
    let [old, new] = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    download(&bucket, &metas, old.path()).await;
    download(&bucket, &report.blocks, new.path()).await;
    let (old, new) = (old.path().to_str().unwrap(), new.path().to_str().unwrap());
    let id = report.blocks[0].ulid.to_string();
    let Some(analysis) = promtool(&["tsdb", "analyze", new, &id]) else {
        return;
    };
    let series = format!("Series: {}", report.blocks[0].stats.num_series);
    assert!(
        analysis.iter().any(|l| l.contains(&series)),
        "{series}: {analysis:?}"
    );
    // It prints floats only.
    let floats = "{number=~\".*[13579]\"}";
    let found = promtool(&["tsdb", "dump", "--match", floats, new]).unwrap();
    assert!(found.len() > 10_000, "{}", found.len());
    assert_eq!(
        found,
        promtool(&["tsdb", "dump", "--match", floats, old]).unwrap()
    );
}
