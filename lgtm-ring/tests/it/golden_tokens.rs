//! Tokens, seeds and hashes as the reference implementation gives them.

use std::collections::HashSet;

use crate::shared::{documents, unhex};
use lgtm_ring::hash::{
    Fnv1, Fnv1a, block_token, bloom_token, compaction_job_token, fnv1_64, metadata_token,
    rule_group_token, series_token, stream_token, tenant_token, trace_token,
};
use lgtm_ring::prng::GoRand;
use lgtm_ring::token::{RandomTokens, SPREAD_TOKENS, SpreadTokens, Token, TokenGenerator};
use serde_json::Value;
use sha2::{Digest, Sha256};

fn text(v: &Value) -> &str {
    v.as_str().unwrap()
}

fn token(v: &Value) -> Token {
    Token(u32::try_from(v.as_u64().unwrap()).unwrap())
}

fn tokens(v: &Value) -> Vec<Token> {
    v.as_array().unwrap().iter().map(token).collect()
}

fn strings(v: &Value) -> Vec<String> {
    let strings = v.as_array().unwrap().iter();
    strings.map(|s| text(s).to_owned()).collect()
}

fn list<'a>(v: &'a Value, key: &str) -> &'a [Value] {
    v[key].as_array().unwrap()
}

#[test]
fn the_generator_gives_the_sequences_of_go() {
    for (_, document) in documents("golden/ring", "sequences") {
        for case in list(&document, "sequences") {
            let seed = text(&case["seed"]).parse().unwrap();
            let mut numbers = GoRand::from_seed(seed);
            let expected = tokens(&case["uint32"]);
            for expected in &expected {
                assert_eq!(numbers.next_u32(), expected.0, "seed {seed}");
            }
            let thousandth = (expected.len()..1000).map(|_| numbers.next_u32()).last();
            assert_eq!(thousandth.map(Token), Some(token(&case["uint32_at_1000"])));
            let mut numbers = GoRand::from_seed(seed);
            for expected in list(case, "int63") {
                assert_eq!(numbers.next_i63().to_string(), text(expected));
            }
        }
    }
}

#[test]
fn random_tokens_are_those_of_the_seed() {
    for (_, document) in documents("golden/ring", "random_token_generator") {
        for case in list(&document, "random_token_generator") {
            let mut generator = RandomTokens::seeded(text(&case["seed"]).parse().unwrap());
            let first = tokens(&case["first_8"]);
            assert_eq!(
                generator.generate(first.len(), &HashSet::new()).unwrap(),
                first
            );
            let next = tokens(&case["next_8"]);
            let taken = first.into_iter().collect();
            assert_eq!(generator.generate(next.len(), &taken).unwrap(), next);
        }
    }
}

fn sha256_of(tokens: &[Token]) -> String {
    let bytes: Vec<u8> = tokens.iter().flat_map(|t| t.0.to_be_bytes()).collect();
    let digest = Sha256::digest(&bytes);
    digest.iter().map(|b| format!("{b:02x}")).collect()
}

fn check_spread(case: &Value, generated: &[Token]) {
    assert_eq!(generated.len() as u64, case["count"].as_u64().unwrap());
    let (first, last) = (tokens(&case["first_8"]), tokens(&case["last_8"]));
    assert_eq!(generated[..first.len()], first[..], "{case}");
    assert_eq!(generated[generated.len() - last.len()..], last[..]);
    assert_eq!(
        sha256_of(generated),
        text(&case["sha256_of_big_endian_tokens"])
    );
    if let Some(all) = case.get("tokens") {
        assert_eq!(generated, tokens(all));
    }
}

#[test]
fn spread_tokens_are_those_of_the_reference() {
    for (_, document) in documents("golden/ring", "generators") {
        for case in list(&document, "generators") {
            let (instance, zone) = (text(&case["instance"]), text(&case["zone"]));
            let zones = strings(&case["zones_config"]);
            check_spread(
                case,
                &SpreadTokens::new(instance, zone, &zones).unwrap().all(),
            );
        }
        // The tokens of a partition are those of the instance of its number in the first zone.
        for case in list(&document, "partition_tokens") {
            let name = format!("x-{}", case["partition"]);
            let generator = SpreadTokens::new(&name, "a", &["a".to_owned()]).unwrap();
            check_spread(case, &generator.all());
        }
    }
}

#[test]
fn spread_tokens_leave_out_what_is_taken() {
    for (_, document) in documents("golden/ring", "partial") {
        // The document does not say whose tokens these are: the generator among its own whose first ones they are.
        let untouched = list(&document, "partial").iter();
        let untouched = untouched.map(|c| tokens(&c["tokens"])[0]).min().unwrap();
        let whole = list(&document, "generators").iter();
        let whole = whole
            .clone()
            .find(|g| tokens(&g["first_8"])[0] == untouched)
            .unwrap();
        let zones = strings(&whole["zones_config"]);
        let mut generator =
            SpreadTokens::new(text(&whole["instance"]), text(&whole["zone"]), &zones).unwrap();
        for case in list(&document, "partial") {
            let requested = case["requested"].as_u64().unwrap() as usize;
            let taken = tokens(&case["taken"]).into_iter().collect();
            assert_eq!(
                generator.generate(requested, &taken).unwrap(),
                tokens(&case["tokens"])
            );
        }
        let all = generator.generate(600, &HashSet::new()).unwrap();
        assert_eq!(
            Some(all.len() as u64),
            document["requested_600_returns"].as_u64()
        );
        assert_eq!(all.len(), SPREAD_TOKENS);
    }
}

#[test]
fn names_and_zones_are_refused_with_the_words_of_the_reference() {
    for (_, document) in documents("golden/ring", "constructor") {
        for case in list(&document, "constructor") {
            let zones = strings(&case["zones"]);
            let made = SpreadTokens::new(text(&case["instance"]), text(&case["zone"]), &zones);
            assert_eq!(made.is_ok(), case["ok"].as_bool().unwrap(), "{case}");
            if let Err(error) = made {
                assert_eq!(error.to_string(), text(&case["error"]));
            }
        }
        for case in list(&document, "can_join") {
            let zones = ["zone-a".to_owned()];
            let generator = SpreadTokens::new(text(&case["instance"]), "zone-a", &zones).unwrap();
            let generator = generator.wait_for_predecessor(case["can_join_enabled"] == true);
            let counts = &case["ring_token_counts"];
            let joined = generator.can_join(&|id| Some(counts.get(id)?.as_u64()? as usize));
            assert_eq!(
                joined.is_ok(),
                case["can_join"].as_bool().unwrap(),
                "{case}"
            );
            if let Err(error) = joined {
                assert_eq!(error.to_string(), text(&case["error"]));
            }
        }
    }
}

#[test]
fn keys_of_the_three_signals_hash_as_in_the_reference() {
    for (_, document) in documents("golden/ring", "mimir_series") {
        for case in list(&document, "plain") {
            let input = text(&case["input"]);
            let (mut fnv1, mut fnv1a) = (Fnv1::new(), Fnv1a::new());
            fnv1.write(input.as_bytes());
            fnv1a.write(input.as_bytes());
            assert_eq!(fnv1.token(), token(&case["fnv1_32"]));
            assert_eq!(fnv1a.token(), token(&case["fnv1a_32"]));
            assert_eq!(tenant_token(input), fnv1a.token());
        }
        for case in list(&document, "mimir_series") {
            let pairs = list(case, "labels_in_order").iter();
            let pairs = pairs.map(|p| (text(&p[0]), text(&p[1])));
            let tenant = text(&case["tenant"]);
            assert_eq!(
                series_token(tenant, pairs),
                token(&case["series_token"]),
                "{case}"
            );
            let metadata = metadata_token(tenant, text(&case["metric_name"]));
            assert_eq!(metadata, token(&case["metadata_token"]));
        }
        for case in list(&document, "order_sensitivity") {
            for order in ["sorted", "reversed"] {
                let flat = strings(&case[format!("labels_flat_{order}")]);
                let pairs = flat.chunks(2).map(|p| (p[0].as_str(), p[1].as_str()));
                let hash = series_token(text(&case["tenant"]), pairs);
                assert_eq!(hash, token(&case[format!("token_{order}")]));
            }
        }
        for case in list(&document, "loki_streams") {
            let hash = stream_token(text(&case["tenant"]), text(&case["stream_labels"]));
            assert_eq!(hash, token(&case["token"]), "{case}");
        }
        for case in list(&document, "tempo_traces") {
            let id = unhex(text(&case["trace_id_hex"]));
            assert_eq!(
                trace_token(text(&case["tenant"]), &id),
                token(&case["ring_token"])
            );
            assert_eq!(bloom_token(&id), token(&case["bloom_token_no_tenant"]));
            let wide = format!("{:016x}", fnv1_64(&id));
            assert_eq!(wide, text(&case["hash64_no_tenant"]));
        }
    }
}

#[test]
fn keys_of_control_plane_work_hash_as_in_the_reference() {
    for (_, document) in documents("golden/ring", "rule_groups_fnv1a") {
        for case in list(&document, "rule_groups_fnv1a") {
            let [tenant, namespace, group] =
                ["tenant", "namespace", "group"].map(|k| text(&case[k]));
            let hash = rule_group_token(tenant, namespace, group);
            assert_eq!(hash, token(&case["token"]), "{case}");
        }
        for case in list(&document, "compactor_jobs_fnv1a") {
            let hash = compaction_job_token(text(&case["sharding_key"]));
            assert_eq!(hash, token(&case["token"]));
        }
        for case in list(&document, "block_ids_fnv1") {
            let ulid: [u8; 16] = unhex(text(&case["ulid_bytes_hex"])).try_into().unwrap();
            assert_eq!(block_token(&ulid), token(&case["token"]));
        }
    }
}
