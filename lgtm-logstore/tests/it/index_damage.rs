//! Index files that are cut off, flipped, random or large: errors, never other answers.

use std::sync::Arc;

use lgtm_core::index::SymbolTable;
use lgtm_core::model::{Labels, TimeRange, TimestampMs};
use lgtm_core::storage::MemoryFile;
use lgtm_core::{ErrorKind, Result};
use lgtm_logstore::index::{
    ChunkMeta, FingerprintRange, IndexEncoder, IndexEncoderSettings, IndexReader,
    IndexReaderSettings, IndexStats, IndexVersion, SeriesFilter, SeriesMeta,
};
use proptest::prelude::*;

fn symbols(series: u32) -> SymbolTable {
    let mut texts: Vec<String> = (0..series).map(|n| format!("value-{n:06}")).collect();
    texts.extend(["app", "pod"].map(str::to_owned));
    texts.sort();
    SymbolTable::from_sorted(texts).unwrap()
}

fn encode(
    version: IndexVersion,
    series: u32,
    chunks: u32,
    settings: IndexEncoderSettings,
) -> Result<(Vec<u8>, IndexStats)> {
    let symbols = symbols(series);
    let ordinal = |text: &str| symbols.ordinal(text).unwrap();
    let (app, pod) = (ordinal("app"), ordinal("pod"));
    let value = |n: u32| ordinal(&format!("value-{n:06}"));
    let mut encoder = IndexEncoder::new(version, symbols.clone(), settings);
    for n in 0..series {
        let chunk = |c: u32| ChunkMeta {
            min_ms: TimestampMs::new(1000 * i64::from(c) + 1),
            max_ms: TimestampMs::new(1000 * i64::from(c) + 1500),
            kb: c,
            entries: n,
            checksum: n * 7 + c,
            ingested_day: (version == IndexVersion::V4 && c == 1).then_some(-3),
        };
        let chunks: Vec<_> = (0..chunks).map(chunk).collect();
        let fingerprint = u64::from(n) << 48;
        encoder.add_series(
            fingerprint,
            &[(app, value(n % 5)), (pod, value(n))],
            &chunks,
        )?;
    }
    encoder.finish_to_vec()
}

/// Everything that an index answers.
async fn answers(bytes: &[u8], settings: IndexReaderSettings) -> Result<Vec<SeriesMeta>> {
    let file = MemoryFile::new("index", bytes.to_vec());
    let index = IndexReader::open(Arc::new(file), settings).await?;
    let all = index.postings_all().await?;
    let mut out = index.series(&all, &SeriesFilter::ALL).await?;
    let filter = SeriesFilter {
        time: Some(TimeRange::new(2000, 3000)),
        fingerprints: FingerprintRange::of_shard(0, 2)?,
    };
    out.extend(
        index
            .series(index.narrow(&all, filter.fingerprints), &filter)
            .await?,
    );
    let names: Vec<String> = index.label_names().map(str::to_owned).collect();
    for name in names {
        for value in index.label_values(&name).await?.iter() {
            let references = index.postings(&name, value).await?;
            let labels = Labels::from_pairs([(name.as_str(), value)])?;
            out.extend(references.into_iter().map(|reference| SeriesMeta {
                reference,
                fingerprint: 0,
                labels: labels.clone(),
                chunks: Vec::new(),
            }));
        }
    }
    Ok(out)
}

fn tight() -> IndexReaderSettings {
    IndexReaderSettings {
        max_resident_section_bytes: 0,
        series_guess_bytes: 16,
        ..IndexReaderSettings::default()
    }
}

#[tokio::test]
async fn every_truncation_is_an_error_and_no_flipped_bit_gives_other_answers() {
    for version in [IndexVersion::V2, IndexVersion::V3, IndexVersion::V4] {
        let (mut bytes, _) = encode(version, 4, 3, IndexEncoderSettings::default()).unwrap();
        let good = answers(&bytes, tight()).await.unwrap();
        assert_eq!(
            good,
            answers(&bytes, IndexReaderSettings::default())
                .await
                .unwrap()
        );
        for cut in 0..bytes.len() {
            assert!(answers(&bytes[..cut], tight()).await.is_err(), "{cut}");
        }
        for bit in 0..bytes.len() * 8 {
            bytes[bit / 8] ^= 1 << (bit % 8);
            match answers(&bytes, tight()).await {
                // Padding and the sections that nobody reads.
                Ok(same) => assert_eq!(same, good, "bit {bit}"),
                Err(e) => assert_eq!(e.kind(), ErrorKind::Corrupt, "bit {bit}: {e}"),
            }
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
    }
}

#[tokio::test]
async fn many_chunks_and_series_are_found_with_little_memory() {
    let (bytes, stats) =
        encode(IndexVersion::V4, 3000, 70, IndexEncoderSettings::default()).unwrap();
    assert_eq!((stats.series_count, stats.chunk_count), (3000, 210_000));
    let small = IndexReaderSettings {
        max_memory_bytes: 64 << 10,
        ..tight()
    };
    let sampled = answers(&bytes, small).await.unwrap();
    assert!(
        sampled
            == answers(&bytes, IndexReaderSettings::default())
                .await
                .unwrap()
    );
    let starved = IndexReaderSettings {
        max_memory_bytes: 1 << 10,
        ..tight()
    };
    let refused = answers(&bytes, starved).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::LimitExceeded);
    assert!(
        refused.to_string().contains("max_memory_bytes"),
        "{refused}"
    );
}

#[test]
fn postings_spilled_to_disk_give_the_same_bytes() {
    let (whole, _) = encode(IndexVersion::V3, 2000, 1, IndexEncoderSettings::default()).unwrap();
    let scratch = tempfile::tempdir().unwrap();
    let mut settings = IndexEncoderSettings {
        max_postings_memory_bytes: 4 << 10,
        scratch_dir: Some(scratch.path().to_owned()),
    };
    let (spilled, _) = encode(IndexVersion::V3, 2000, 1, settings.clone()).unwrap();
    assert!(whole == spilled);
    settings.scratch_dir = None;
    let refused = encode(IndexVersion::V3, 2000, 1, settings).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::LimitExceeded);
}

proptest! {
    #[test]
    fn arbitrary_and_damaged_bytes_never_panic(
        random in proptest::collection::vec(any::<u8>(), 0..400), changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let (mut bytes, _) = encode(IndexVersion::V3, 3, 2, IndexEncoderSettings::default()).unwrap();
        let end = bytes.split_off(bytes.len() - 76);
        let mixed = [&bytes[..5], &random, &end].concat();
        bytes.extend(end);
        for (at, with) in changes {
            let at = at.index(bytes.len());
            bytes[at] = with;
        }
        for bytes in [&random, &bytes, &mixed] {
            let _ = runtime.block_on(answers(bytes, tight()));
            let _ = runtime.block_on(answers(bytes, IndexReaderSettings::default()));
        }
    }
}
