//! The ring's merges and bytes as the reference implementation has them.

use crate::shared::record::{NOW_S, instance, ring, tokens};
use crate::shared::{documents, unhex};
use lgtm_ring::instance::{Instance, RING_CODEC_ID, RingCodec, RingDesc};
use lgtm_ring::kv::{MergeKind, MergeTime, ValueCodec};
use lgtm_ring::token::TokensFile;
use serde_json::Value;

#[test]
fn rings_merge_as_in_the_reference() {
    for (_, document) in documents("golden/ring", "ring_merge") {
        for case in document["ring_merge"].as_array().unwrap() {
            let name = case["name"].as_str().unwrap();
            let kind = if case["local_cas"].as_bool().unwrap() {
                MergeKind::Local
            } else {
                MergeKind::Remote
            };
            let (mut local, incoming) = (ring(&case["local"]), ring(&case["incoming"]));
            let encoded = [&local, &incoming].map(|r| RingCodec::encode(r).unwrap());
            let change = local.merge(&incoming, kind, NOW_S);
            let expected = (!case["change"].is_null()).then(|| ring(&case["change"]));
            assert_eq!(change, expected, "{name}: change");
            assert_eq!(local, ring(&case["result"]), "{name}: result");

            let time = MergeTime {
                now_unix_s: NOW_S,
                max_ahead_s: 3600,
            };
            let merged = RingCodec.merge(Some(&encoded[0]), &encoded[1], kind, time);
            let merged = merged.unwrap();
            assert_eq!(RingCodec::decode(&merged.value).unwrap(), local, "{name}");
            let change = merged
                .outcome
                .change
                .map(|c| RingCodec::decode(&c).unwrap());
            assert_eq!(change, expected, "{name}: bytes");
        }
    }
}

/// `a ACTIVE@50, b LEFT@100`
fn entries(text: &str) -> RingDesc {
    let entry = |entry: &str| {
        let (id, rest) = entry.trim().split_once(' ').unwrap();
        let (state, time) = rest.split_once('@').unwrap();
        Instance {
            id: id.to_owned(),
            state: state.parse().unwrap(),
            timestamp_s: time.parse().unwrap(),
            ..Instance::default()
        }
    };
    text.split(',').map(entry).collect()
}

#[test]
fn tombstones_go_as_in_the_reference() {
    for (_, document) in documents("golden/ring", "remove_tombstones") {
        for case in document["remove_tombstones"].as_array().unwrap() {
            let mut ring = entries(case["entries"].as_str().unwrap());
            // There, the zero time stands for no limit.
            let limit = case["limit"].as_i64().filter(|&limit| limit != 0);
            let bytes = RingCodec::encode(&ring).unwrap();
            let by_bytes = RingCodec.remove_tombstones(&bytes, limit).unwrap();
            let done = ring.remove_tombstones(limit);
            let ids: Vec<Value> = ring.iter().map(|i| i.id.as_str().into()).collect();
            assert_eq!(Value::from(ids), case["ids_after"]);
            assert_eq!(
                Some(done.left as u64),
                case["remaining_tombstones"].as_u64()
            );
            assert_eq!(Some(done.removed as u64), case["removed"].as_u64());
            assert_eq!((by_bytes.left, by_bytes.removed), (done.left, done.removed));
            assert_eq!(RingCodec::decode(&by_bytes.value).unwrap(), ring);
        }
    }
}

#[test]
fn ring_bytes_are_those_of_the_reference() {
    for (_, document) in documents("golden/ring", "ring_desc_hex") {
        let hex = |key: &str| unhex(document[key].as_str().unwrap());
        let record = instance(&document["instance"]);
        let ring: RingDesc = [record.clone()].into_iter().collect();

        let mut encoded = Vec::new();
        record.encode(&mut encoded);
        assert_eq!(encoded, hex("instance_desc_hex"));
        assert_eq!(Instance::decode(&encoded).unwrap(), record);
        assert_eq!(ring.encode(), hex("ring_desc_hex"));
        assert_eq!(RingDesc::decode(&hex("ring_desc_hex")).unwrap(), ring);
        assert_eq!(
            RingCodec::decode(&hex("ring_desc_snappy_hex")).unwrap(),
            ring
        );
        assert!(
            RingCodec::decode(&hex("empty_snappy_hex"))
                .unwrap()
                .is_empty()
        );
        assert!(RingCodec::decode(&[]).unwrap().is_empty());
        assert_eq!(Some(RING_CODEC_ID), document["ring_codec_id"].as_str());
        assert_eq!(RingCodec.id(), RING_CODEC_ID);

        // Every cut of the compressed bytes and every flipped bit of them is an error or another ring, never a panic.
        let compressed = hex("ring_desc_snappy_hex");
        for at in 0..compressed.len() {
            assert!(at == 0 || RingCodec::decode(&compressed[..at]).is_err());
            for bit in 0..8 {
                let mut flipped = compressed.clone();
                flipped[at] ^= 1 << bit;
                let _ = RingCodec::decode(&flipped);
            }
        }
    }
}

#[test]
fn tokens_files_are_those_of_the_reference() {
    let mut seen = 0;
    for (_, document) in documents("golden/ring", "ring_codec_id") {
        for (key, content) in document.as_object().unwrap() {
            let Some(listed) = key.strip_prefix("tokens_file_for_") else {
                continue;
            };
            let listed: Vec<u64> = listed.split('_').map(|t| t.parse().unwrap()).collect();
            let mut listed = tokens(&listed.into());
            let content = content.as_str().unwrap().as_bytes();
            assert_eq!(TokensFile::encode(&listed), content);
            listed.sort_unstable();
            assert_eq!(TokensFile::decode(content).unwrap(), listed);
            seen += 1;
        }
        assert!(seen > 0, "no tokens file");
    }
}
