use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::bloom::BloomShard;

#[test]
fn an_empty_block_has_a_shape_too() {
    let shape = BloomShape::for_traces(0, BloomOptions::default());
    assert_eq!((shape.shards, shape.bits, shape.hashes), (1, 819_200, 7));
    for false_positive_rate in [f64::NAN, 0.0, -1.0, 1.0, 2.0] {
        let options = BloomOptions {
            false_positive_rate,
            ..BloomOptions::default()
        };
        assert_eq!(BloomShape::for_traces(0, options), shape);
    }
    let most = BloomShape::for_traces(u64::MAX, BloomOptions::default());
    assert_eq!(most.shards, 1000);
}

#[test]
fn few_ids_that_are_not_there_pass() {
    let options = BloomOptions {
        shard_size_bytes: 1000,
        ..BloomOptions::default()
    };
    let mut filters = BloomBuilder::new(BloomShape::for_traces(10_000, options));
    let id = |n: u64| {
        let spread = 0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835;
        TraceId::new(u128::from(n).wrapping_mul(spread).to_be_bytes())
    };
    (0..10_000).for_each(|n| filters.insert(id(n)));
    let mut files = vec![Vec::new(); filters.shape().shards as usize];
    for (n, file) in files.iter_mut().enumerate() {
        filters.encode_shard(n as u32, file);
    }
    let may_contain = |n| {
        let file = &files[shard_of(id(n), files.len() as u32) as usize];
        BloomShard::open(file).unwrap().may_contain(id(n))
    };
    assert!((0..10_000).all(may_contain));
    let passed = (10_000..30_000).filter(|n| may_contain(*n)).count();
    assert!((50..400).contains(&passed), "{passed} of 20000");
}

/// The bits of filters, one by one, from locations as the format describes them.
fn plainly(ids: &[TraceId], bits: u64, hashes: u64) -> Vec<bool> {
    let mut out = vec![false; bits as usize];
    for id in ids {
        let mut key = id.as_bytes().to_vec();
        let (h0, h1) = murmur3_128(&key);
        key.push(1);
        let (h2, h3) = murmur3_128(&key);
        for i in 0..hashes {
            let even = if i % 2 == 0 { h0 } else { h1 };
            let step = if i % 4 == 1 || i % 4 == 2 { h3 } else { h2 };
            out[(even.wrapping_add(i.wrapping_mul(step)) % bits) as usize] = true;
        }
    }
    out
}

proptest! {
    #[test]
    fn files_hold_the_bits_and_damage_never_panics(
        ids in vec(any::<[u8; 16]>(), 1..40),
        other in any::<[u8; 16]>(),
        size in 8u32..200,
        noise in vec(any::<u8>(), 0..64),
        at in any::<prop::sample::Index>(),
    ) {
        let ids: Vec<_> = ids.into_iter().map(TraceId::new).collect();
        let shape = BloomShape { shards: 1, bits: u64::from(size) * 8, hashes: 7 };
        let mut filters = BloomBuilder::new(shape);
        ids.iter().for_each(|id| filters.insert(*id));
        let mut file = Vec::new();
        filters.encode_shard(0, &mut file);
        let shard = BloomShard::open(&file).unwrap();
        let bits = plainly(&ids, shape.bits, shape.hashes);
        for id in ids.iter().copied().chain([TraceId::new(other)]) {
            let of_id = plainly(&[id], shape.bits, shape.hashes);
            let expected = of_id.iter().zip(&bits).all(|(wanted, set)| !wanted || *set);
            prop_assert_eq!(shard.may_contain(id), expected);
        }
        for end in 0..file.len() {
            prop_assert!(BloomShard::open(&file[..end]).is_err());
        }
        let _ = BloomShard::open(&noise).map(|s| s.may_contain(ids[0]));
        let place = at.index(24);
        file[place] ^= 1 << (at.index(64) % 8);
        let _ = BloomShard::open(&file).map(|s| s.may_contain(ids[0]));
    }
}

/// Keys of any length, so that each tail of the hash is seen.
#[test]
fn locations_of_short_keys_are_tempos() {
    let root = std::env::var_os("LGTM_SHARED").map_or_else(
        || std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared"),
        std::path::PathBuf::from,
    );
    let Ok(text) = std::fs::read_to_string(root.join("golden/tempo/vectors/bloom.jsonl")) else {
        assert!(std::env::var_os("CI").is_none(), "the vectors are missing");
        return println!("skipped: no vectors; set LGTM_SHARED");
    };
    let mut count = 0;
    for line in text.lines() {
        let vector: serde_json::Value = serde_json::from_str(line).unwrap();
        if vector["kind"] != "raw_locations" {
            continue;
        }
        let hex = vector["bytes"].as_str().unwrap();
        let digits = |i| u8::from_str_radix(&hex[i..i + 2], 16).unwrap();
        let key: Vec<u8> = (0..hex.len()).step_by(2).map(digits).collect();
        let locations = Locations::of_both(&key, &[&key[..], &[1]].concat());
        for (i, expected) in vector["locations_k7"]
            .as_array()
            .unwrap()
            .iter()
            .enumerate()
        {
            assert_eq!(*expected, locations.at(i as u64).to_string(), "{hex} {i}");
        }
        count += 1;
    }
    assert!(count > 0);
}
