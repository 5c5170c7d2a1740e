//! What the index encoder writes, the reader finds again; what is damaged, it refuses; what is too large, it names.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use lgtm_core::codec::{crc32c, put_bytes, put_svarint, put_uvarint};
use lgtm_core::index::SymbolTable;
use lgtm_core::model::{Labels, TimestampMs};
use lgtm_core::storage::{MemoryFile, ReadAt, ReadPlan};
use lgtm_core::{Error, ErrorKind, Result};
use lgtm_tsdb::index::{
    ChunkRefMeta, IndexEncoder, IndexEncoderSettings, IndexReader, IndexReaderSettings,
};
use proptest::prelude::*;

type Model = BTreeMap<Labels, Vec<ChunkRefMeta>>;

fn block_on<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    runtime.unwrap().block_on(future)
}

fn write(model: &Model) -> Vec<u8> {
    let mut symbols = BTreeSet::from([""]);
    for labels in model.keys() {
        symbols.extend(labels.iter().flat_map(|(n, v)| [n, v]));
    }
    let symbols = SymbolTable::from_sorted(symbols).unwrap();
    let ordinal = |s: &str| symbols.ordinal(s).unwrap();
    let mut encoder = IndexEncoder::new(symbols.clone(), IndexEncoderSettings::default()).unwrap();
    for (labels, chunks) in model {
        let labels: Vec<_> = labels
            .iter()
            .map(|(n, v)| (ordinal(n), ordinal(v)))
            .collect();
        encoder.add_series(&labels, chunks).unwrap();
    }
    encoder.finish_to_vec().unwrap().0
}

async fn open(bytes: Vec<u8>, settings: IndexReaderSettings) -> Result<IndexReader> {
    IndexReader::open(Arc::new(MemoryFile::new("index", bytes)), settings).await
}

/// Everything that an index can be asked.
#[derive(Debug, PartialEq)]
struct Everything {
    names: Vec<String>,
    values: Vec<(String, String, Vec<u32>)>,
    /// The same lists, each asked for by itself.
    one_by_one: Vec<Vec<u32>>,
    all: Vec<u32>,
    series: Vec<(Labels, Vec<ChunkRefMeta>)>,
    symbols: Vec<String>,
}

async fn read_everything(index: &IndexReader) -> Result<Everything> {
    let names: Vec<String> = index.label_names().map(str::to_owned).collect();
    let (mut values, mut one_by_one) = (Vec::new(), Vec::new());
    for name in &names {
        let of_name = index.label_values(name).await?;
        let lists = index.postings_for_values(name, &mut |_| true).await?;
        for (value, list) in of_name.iter().zip(lists) {
            one_by_one.push(index.postings(name, value).await?);
            values.push((name.clone(), value.to_owned(), list));
        }
    }
    let all = index.postings_all().await?;
    let series = index.series(&all).await?;
    let symbols = index.symbol_table().await?;
    Ok(Everything {
        names,
        values,
        one_by_one,
        all,
        series: series.into_iter().map(|s| (s.labels, s.chunks)).collect(),
        symbols: symbols.iter().map(str::to_owned).collect(),
    })
}

fn check(model: &Model, found: &Everything) {
    assert!(found.series.iter().map(|(l, c)| (l, c)).eq(model.iter()));
    let refs: BTreeMap<&Labels, u32> = model.keys().zip(found.all.iter().copied()).collect();
    let mut lists: BTreeMap<(&str, &str), Vec<u32>> = BTreeMap::new();
    for labels in model.keys() {
        for pair in labels.iter() {
            lists.entry(pair).or_default().push(refs[labels]);
        }
    }
    let expected = lists.iter().map(|((n, v), list)| (*n, *v, list));
    assert!(
        found
            .values
            .iter()
            .map(|(n, v, l)| (n.as_str(), v.as_str(), l))
            .eq(expected)
    );
    assert!(
        found
            .one_by_one
            .iter()
            .eq(found.values.iter().map(|(_, _, l)| l))
    );
    let names: BTreeSet<_> = lists.keys().map(|(n, _)| *n).collect();
    assert!(found.names.iter().map(String::as_str).eq(names));
}

fn labels() -> impl Strategy<Value = Labels> {
    proptest::collection::vec(("[a-d]{1,2}", "[a-z0-9é]{1,3}"), 0..6).prop_map(|pairs| {
        let unique: BTreeMap<_, _> = pairs.into_iter().collect();
        Labels::from_pairs(unique).unwrap()
    })
}

fn model() -> impl Strategy<Value = Model> {
    let times = proptest::collection::btree_set(-1_000_000i64..1_000_000, 0..12);
    proptest::collection::btree_map(labels(), times, 0..120).prop_map(|series| {
        let mut reference = 8;
        let chunks = |times: BTreeSet<i64>| {
            let times: Vec<_> = times.into_iter().collect();
            let pairs = times.chunks_exact(2).map(|t| {
                reference += 150;
                ChunkRefMeta {
                    min_ms: TimestampMs::new(t[0]),
                    max_ms: TimestampMs::new(t[1] - 1),
                    reference,
                }
            });
            pairs.collect()
        };
        let mut chunks = chunks;
        series.into_iter().map(|(l, t)| (l, chunks(t))).collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn what_is_written_is_read(
        model in model(),
        max_resident_section_bytes in prop_oneof![Just(0u64), Just(1 << 20)],
        series_guess_bytes in 0u64..200,
        max_gap_bytes in 0u64..100,
        max_read_bytes in 1u64..1000,
    ) {
        let reads = ReadPlan { max_gap_bytes, max_read_bytes, ..ReadPlan::default() };
        let settings = IndexReaderSettings {
            max_resident_section_bytes, series_guess_bytes, reads, ..IndexReaderSettings::default()
        };
        block_on(async {
            let index = open(write(&model), settings).await.unwrap();
            check(&model, &read_everything(&index).await.unwrap());
            let mut wanted = |value: &str| value.starts_with('a');
            let all = index.label_values("a").await.unwrap();
            let some = index.postings_for_values("a", &mut wanted).await.unwrap();
            assert_eq!(some.len(), all.iter().filter(|v| v.starts_with('a')).count());
        });
    }

    /// Damage that repairs its checksums: whatever stands there, the reader must survive it.
    #[test]
    fn arbitrary_bytes_under_right_checksums_never_panic(
        model in model(),
        edits in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 1..8),
        keep: bool,
    ) {
        let mut bytes = write(&model);
        for (at, byte) in edits {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        repair(&mut bytes);
        let max_resident_section_bytes = if keep { 1 << 20 } else { 0 };
        let settings = IndexReaderSettings { max_resident_section_bytes, ..IndexReaderSettings::default() };
        block_on(async {
            if let Ok(index) = open(bytes, settings).await {
                let _ = read_everything(&index).await;
                let _ = index.series(&[0, 1, u32::MAX]).await;
            }
        });
    }

    #[test]
    fn arbitrary_bytes_never_panic(mut bytes: Vec<u8>) {
        block_on(async {
            assert!(open(bytes.clone(), IndexReaderSettings::default()).await.is_err());
            bytes.splice(..0, [0xBA, 0xAA, 0xD7, 0x00, 2]);
            bytes.extend([0; 60]);
            repair(&mut bytes);
            assert!(open(bytes, IndexReaderSettings::default()).await.is_err());
        });
    }
}

/// Recomputes the checksums of TOC, symbols and offset table where their bounds make sense.
fn repair(bytes: &mut [u8]) {
    let Some(toc) = bytes.len().checked_sub(52) else {
        return;
    };
    let crc = crc32c(&bytes[toc..toc + 48]);
    bytes[toc + 48..].copy_from_slice(&crc.to_be_bytes());
    for field in [0, 5] {
        let at = toc + 8 * field;
        let start = u64::from_be_bytes(bytes[at..at + 8].try_into().unwrap());
        let Some(start) = usize::try_from(start).ok().filter(|&s| s < toc) else {
            continue;
        };
        let Some(len) = bytes.get(start..start + 4) else {
            continue;
        };
        let end = start + 4 + u32::from_be_bytes(len.try_into().unwrap()) as usize;
        if end + 4 <= toc {
            let crc = crc32c(&bytes[start + 4..end]);
            bytes[end..end + 4].copy_from_slice(&crc.to_be_bytes());
        }
    }
}

fn small_model() -> Model {
    let series = [("a", 0), ("b", 1), ("c", 2)].map(|(value, i)| {
        let labels = Labels::from_pairs([("job", value), ("zone", "eu")]).unwrap();
        let chunk = ChunkRefMeta {
            min_ms: TimestampMs::new(5),
            max_ms: TimestampMs::new(9),
            reference: 8 + 100 * i,
        };
        (labels, vec![chunk])
    });
    series.into_iter().collect()
}

#[test]
fn every_flipped_bit_is_an_error_or_touches_only_padding() {
    let bytes = write(&small_model());
    block_on(async {
        for max_resident_section_bytes in [0, 1 << 20] {
            let settings = IndexReaderSettings {
                max_resident_section_bytes,
                ..IndexReaderSettings::default()
            };
            let index = open(bytes.clone(), settings).await.unwrap();
            let toc = *index.toc();
            let right = read_everything(&index).await.unwrap();
            let mut in_padding = 0;
            for bit in 0..bytes.len() * 8 {
                let mut damaged = bytes.clone();
                damaged[bit / 8] ^= 1 << (bit % 8);
                let read = match open(damaged, settings).await {
                    Ok(index) => read_everything(&index).await,
                    Err(e) => Err(e),
                };
                match read {
                    Err(e) => assert_eq!(e.kind(), ErrorKind::Corrupt, "bit {bit}: {e}"),
                    Ok(found) => {
                        assert_eq!(found, right, "bit {bit}");
                        assert_eq!(bytes[bit / 8], 0);
                        assert!((toc.series..toc.postings_table).contains(&(bit as u64 / 8)));
                        in_padding += 1;
                    }
                }
            }
            assert!(
                in_padding < 8 * 16 * 4,
                "{in_padding} bits are not protected"
            );
        }
    });
}

#[test]
fn every_truncation_is_an_error() {
    let bytes = write(&small_model());
    block_on(async {
        for cut in 0..bytes.len() {
            let opened = open(bytes[..cut].to_vec(), IndexReaderSettings::default()).await;
            assert_eq!(opened.unwrap_err().kind(), ErrorKind::Corrupt, "cut {cut}");
        }
    });
}

/// Series with so many values that nothing fits where it should not.
fn large_model() -> Model {
    let series = (0..5000).map(|i| {
        let id = format!("{i:06}-some-longer-text");
        let labels = Labels::from_pairs([("id", id.as_str()), ("job", "x")]).unwrap();
        (
            labels,
            vec![ChunkRefMeta {
                min_ms: TimestampMs::EPOCH,
                max_ms: TimestampMs::new(1),
                reference: 8 + i,
            }],
        )
    });
    series.collect()
}

#[test]
fn an_index_over_the_memory_bound_names_it_and_sampling_stays_far_below_it() {
    let model = large_model();
    let bytes = write(&model);
    block_on(async {
        let sampled = IndexReaderSettings {
            max_resident_section_bytes: 0,
            ..IndexReaderSettings::default()
        };
        let index = open(bytes.clone(), sampled).await.unwrap();
        let needed = index.memory_bytes();
        assert!(
            needed * 10 < bytes.len() as u64,
            "{needed} of {}",
            bytes.len()
        );
        check(&model, &read_everything(&index).await.unwrap());
        let tight = IndexReaderSettings {
            max_memory_bytes: needed,
            ..sampled
        };
        assert!(open(bytes.clone(), tight).await.is_ok());
        let tighter = IndexReaderSettings {
            max_memory_bytes: needed - 1,
            ..sampled
        };
        let error = open(bytes.clone(), tighter).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::LimitExceeded);
        assert!(error.to_string().contains("max_memory_bytes"), "{error}");

        let mut small_items = sampled;
        small_items.reads.max_item_bytes = 1000;
        let index = open(bytes, small_items).await.unwrap();
        for error in [
            index.postings("job", "x").await.unwrap_err(),
            index.postings_all().await.unwrap_err(),
            index.symbol_table().await.unwrap_err(),
        ] {
            assert!(
                error.to_string().contains("max_item_bytes = 1000"),
                "{error}"
            );
        }
        assert_eq!(
            index
                .postings("id", "000007-some-longer-text")
                .await
                .unwrap()
                .len(),
            1
        );
    });
}

/// Counts the reads of a file.
#[derive(Debug)]
struct Counting(MemoryFile, std::sync::atomic::AtomicUsize);

#[async_trait::async_trait]
impl ReadAt for Counting {
    async fn read(&self, range: std::ops::Range<u64>) -> Result<bytes::Bytes> {
        self.1.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        self.0.read(range).await
    }
    fn size(&self) -> u64 {
        self.0.size()
    }
    fn place(&self) -> &str {
        self.0.place()
    }
}

#[test]
fn reads_are_few() {
    block_on(async {
        let file = MemoryFile::new("index", write(&large_model()));
        let file = Arc::new(Counting(file, Default::default()));
        let reads = || file.1.swap(0, std::sync::atomic::Ordering::Relaxed);
        let index = IndexReader::open(Arc::clone(&file) as _, IndexReaderSettings::default())
            .await
            .unwrap();
        assert!(reads() <= 5);
        let all = index.postings_all().await.unwrap();
        assert_eq!(reads(), 1);
        assert_eq!(index.series(&all).await.unwrap().len(), 5000);
        assert_eq!(reads(), 1);
        let lists = index
            .postings_for_values("id", &mut |v| v.starts_with("00"))
            .await
            .unwrap();
        assert_eq!((lists.len(), reads()), (5000, 1));
        assert!(index.postings("id", "none").await.unwrap().is_empty());
        assert_eq!(reads(), 0);
    });
}

#[test]
fn the_futures_of_a_reader_may_change_threads() {
    fn is_send<T: Send>(value: T) -> T {
        value
    }
    block_on(async {
        let index = is_send(open(write(&small_model()), IndexReaderSettings::default()))
            .await
            .unwrap();
        let all = is_send(index.postings_all()).await.unwrap();
        assert_eq!(is_send(index.series(&all)).await.unwrap().len(), 3);
        assert_eq!(is_send(index.postings("job", "a")).await.unwrap().len(), 1);
        let mut any = |_: &str| true;
        assert_eq!(
            is_send(index.postings_for_values("job", &mut any))
                .await
                .unwrap()
                .len(),
            3
        );
    });
}

#[test]
fn references_must_ascend_and_lead_to_series() {
    block_on(async {
        let index = open(write(&small_model()), IndexReaderSettings::default())
            .await
            .unwrap();
        let all = index.postings_all().await.unwrap();
        let swapped = index.series(&[all[1], all[0]]).await.unwrap_err();
        assert!(matches!(swapped, Error::InvalidInput(_)));
        for bad in [0, all[2] + 1, u32::MAX] {
            let error = index.series(&[bad]).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Corrupt, "{bad}: {error}");
        }
    });
}

/// Version 1, after the published description: symbols and series by byte offset, values of the offset table in any order.
fn write_version_1() -> Vec<u8> {
    fn section(out: &mut Vec<u8>, body: &[u8]) {
        out.extend((body.len() as u32).to_be_bytes());
        out.extend(body);
        out.extend(crc32c(body).to_be_bytes());
    }
    let mut out = vec![0xBA, 0xAA, 0xD7, 0x00, 1];
    let mut body = 4u32.to_be_bytes().to_vec();
    let mut symbol_at = BTreeMap::new();
    for symbol in ["a", "b", "job", "zone"] {
        symbol_at.insert(symbol, 5 + 4 + body.len() as u64);
        put_bytes(&mut body, symbol.as_bytes());
    }
    section(&mut out, &body);
    let series_start = out.len() as u64;
    let mut refs = Vec::new();
    for (value, min_ms) in [("a", 10i64), ("b", 20)] {
        refs.push(out.len() as u32);
        let mut body = Vec::new();
        put_uvarint(&mut body, 1);
        put_uvarint(&mut body, symbol_at["job"]);
        put_uvarint(&mut body, symbol_at[value]);
        put_uvarint(&mut body, 1);
        put_svarint(&mut body, min_ms);
        put_uvarint(&mut body, 5);
        put_uvarint(&mut body, 8);
        put_uvarint(&mut out, body.len() as u64);
        out.extend(&body);
        out.extend(crc32c(&body).to_be_bytes());
    }
    let postings_start = out.len() as u64;
    let mut table = Vec::new();
    let lists = [
        ("", "", refs.clone()),
        ("job", "b", vec![refs[1]]),
        ("job", "a", vec![refs[0]]),
    ];
    for (name, value, list) in &lists {
        put_uvarint(&mut table, 2);
        put_bytes(&mut table, name.as_bytes());
        put_bytes(&mut table, value.as_bytes());
        put_uvarint(&mut table, out.len() as u64);
        let mut body = (list.len() as u32).to_be_bytes().to_vec();
        body.extend(list.iter().flat_map(|r| r.to_be_bytes()));
        section(&mut out, &body);
    }
    let table_start = out.len() as u64;
    table.splice(..0, (lists.len() as u32).to_be_bytes());
    section(&mut out, &table);
    let toc = out.len();
    for offset in [
        5,
        series_start,
        postings_start,
        table_start,
        postings_start,
        table_start,
    ] {
        out.extend(offset.to_be_bytes());
    }
    let crc = crc32c(&out[toc..]);
    out.extend(crc.to_be_bytes());
    out
}

#[test]
fn version_1_is_read() {
    block_on(async {
        for max_resident_section_bytes in [0, 1 << 20] {
            let settings = IndexReaderSettings {
                max_resident_section_bytes,
                ..IndexReaderSettings::default()
            };
            let index = open(write_version_1(), settings).await.unwrap();
            assert_eq!(index.version(), 1);
            let found = read_everything(&index).await.unwrap();
            assert_eq!(found.names, ["job"]);
            let (a, b) = (found.all[0], found.all[1]);
            let value = |v: &str, r| ("job".to_owned(), v.to_owned(), vec![r]);
            assert_eq!(found.values, [value("a", a), value("b", b)]);
            let labels: Vec<_> = found.series.iter().map(|(l, _)| l.to_string()).collect();
            assert_eq!(labels, [r#"{job="a"}"#, r#"{job="b"}"#]);
            assert_eq!(
                found.series[1].1,
                [ChunkRefMeta {
                    min_ms: TimestampMs::new(20),
                    max_ms: TimestampMs::new(25),
                    reference: 8
                }]
            );
            let entries = index.series_entries(&found.all).await.unwrap();
            let labels = entries.iter().nth(1).unwrap().labels;
            assert_eq!(labels, [(2, 1)], "symbols come as ordinals");
        }
    });
}
