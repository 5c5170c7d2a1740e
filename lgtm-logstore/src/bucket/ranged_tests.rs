//! Large chunks of which only parts are read give what the whole gives.

use std::collections::BTreeSet;
use std::sync::Arc;

use lgtm_core::codec::Compressor;
use lgtm_core::model::TimeRangeNs;
use lgtm_core::testing::StoreFault;

use super::tests::{SECOND, T0, World, all, labels, read, tenant};
use crate::chunk::{
    ChunkBuilder, ChunkCodec, ChunkEncoding, ChunkFormat, ChunkSettings, KeyForm, StreamChunk,
};
use crate::select::{SelectOrder, SelectRequest};

/// Half a megabyte and more of lines that nothing can compress, with the id of a trace in the metadata of each `every` lines.
fn large(app: &str, every: i64) -> StreamChunk {
    let settings = ChunkSettings {
        encoding: ChunkEncoding::Snappy,
        block_size_bytes: 16 << 10,
        target_size_bytes: 0,
        ..ChunkSettings::default()
    };
    let mut compressor = Compressor::default();
    let mut builder = ChunkBuilder::new(ChunkFormat::V4, Arc::new(settings));
    let mut state = 7u64;
    for n in 0..6000 {
        let mut line = String::new();
        while line.len() < 200 {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            line.push_str(&format!("{:08x}", state >> 32));
        }
        let id = id_of(app, n / every);
        builder
            .append(T0 + n * SECOND, line.as_bytes(), &[("trace_id", &id)])
            .unwrap();
        if builder.is_block_full() {
            builder.cut(&mut compressor).unwrap();
        }
    }
    let labels = labels(app);
    let mut codec = ChunkCodec::default();
    StreamChunk {
        tenant: tenant("t"),
        fingerprint: labels.stable_hash(),
        labels,
        chunk: builder.finish(&mut compressor, &mut codec).unwrap(),
    }
}

fn id_of(app: &str, n: i64) -> String {
    format!("{app}-{n:032}")
}

/// Asks for the lines of a trace, in the second half of the time.
fn of_trace(id: &str, order: SelectOrder) -> SelectRequest {
    let mut request = all().order(order);
    request.range = TimeRangeNs {
        min_ns: (T0 + 3000 * SECOND).into(),
        ..TimeRangeNs::ALL
    };
    request.hints.metadata_needles = vec![("trace_id".into(), id.into())];
    request
}

#[tokio::test(start_paused = true)]
async fn of_large_chunks_only_what_is_wanted_is_read() {
    // Symbols of 200 KiB, which are longer than what is read first, and some few.
    for (every, most_read) in [(1, 450 << 10), (1000, 100 << 10)] {
        let world = World::new();
        let put = ["a", "b", "c"].map(|app| large(app, every)).into();
        let keys = world.writer.put_chunks(put).await.unwrap();
        world.writer.write_index().await.unwrap();
        let name = keys[0].object_name(KeyForm::StreamFolders);
        let good = world.bucket.get(&name).await.unwrap();
        assert!(good.len() > 1 << 20);
        let order = SelectOrder::OldestFirst;

        let other = world.other().await;
        let (got, end) = read(&other, "t", &of_trace("nowhere", order))
            .await
            .unwrap();
        assert_eq!((got.len(), end.warnings.len()), (0, 0));
        let stats = other.stats();
        assert_eq!((stats.chunks_loaded, stats.chunks_loaded_in_part), (3, 3));
        let per_chunk = stats.chunk_bytes_loaded / 3;
        assert!(per_chunk < most_read, "{per_chunk} bytes of each chunk");

        // One chunk has it; the blocks of the time are read of that one only.
        let request = of_trace(&id_of("a", 5999 / every), order);
        let (got, _) = read(&other, "t", &request).await.unwrap();
        assert!(!got.is_empty() && got.iter().all(|(labels, ..)| labels.contains("\"a\"")));
        let half = other.stats().chunk_bytes_loaded - stats.chunk_bytes_loaded;
        assert!(half < 3 * most_read + good.len() as u64 * 6 / 10, "{half}");

        // What the store spoils on its way, or for good, is found, whichever part it is.
        let mut seen = BTreeSet::new();
        for request_number in 0..6 {
            let fresh = world.other().await;
            let at = world.store.all_requests() + request_number;
            world.store.fail_numbers(at..at + 1, StoreFault::FlippedBit);
            let (again, end) = read(&fresh, "t", &request).await.unwrap();
            assert_eq!((&again, end.warnings), (&got, vec![]), "{request_number}");
            seen.insert(fresh.stats().chunks_loaded_in_part);
            world.store.heal();
        }
        assert!(seen.len() > 1, "some loads became whole: {seen:?}");
        let mut bad = good.to_vec();
        let in_the_last_blocks = bad.len() - (32 << 10);
        bad[in_the_last_blocks] ^= 1;
        world.bucket.put(&name, bad).await.unwrap();
        let fresh = world.other().await;
        let (less, end) = read(&fresh, "t", &request).await.unwrap();
        assert!(less.len() < got.len() && less.is_subset(&got));
        assert!(end.warnings.iter().any(|w| w.contains(&name)), "{end:?}");
    }
}

/// Whatever is asked, parts give what the whole gives.
#[tokio::test(start_paused = true)]
async fn parts_tell_what_the_whole_tells() {
    let world = World::new();
    world.write(vec![large("a", 700)]).await;
    let whole = world.other().await;
    let parts = world.other().await;
    for n in [0, 3, 4, 5, 8, 9] {
        for order in [SelectOrder::OldestFirst, SelectOrder::NewestFirst] {
            let id = id_of("a", n);
            let request = of_trace(&id, order);
            let mut unhinted = request.clone();
            unhinted.hints.metadata_needles.clear();
            let (all_of_it, _) = read(&whole, "t", &unhinted).await.unwrap();
            let (some, _) = read(&parts, "t", &request).await.unwrap();
            let is_known = n < 9;
            assert_eq!(some, if is_known { all_of_it } else { BTreeSet::new() });
        }
    }
    assert_eq!(whole.stats().chunks_loaded_in_part, 0);
    let stats = parts.stats();
    assert_eq!(stats.chunks_loaded_in_part, stats.chunks_loaded);
}
