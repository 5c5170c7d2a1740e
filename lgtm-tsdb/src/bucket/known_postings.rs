//! Which series of a block pass some matchers, kept for the next query that asks so.
//!
//! Dashboards ask the same selectors again and again, and blocks do not change. A regular expression over the values of a large label is held against each
//! of them, in each block: with the answer kept this is done once.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use lgtm_core::cache::{Cache, CacheExt};
use lgtm_core::codec::{Reader, put_bytes, put_uvarint};
use lgtm_core::index::{MatchedSeries, matching_series};
use lgtm_core::model::{MatchOp, Matcher, TenantId};
use lgtm_core::{DecodeError, Result};
use roaring::RoaringBitmap;
use xxhash_rust::xxh3::xxh3_128;

use crate::block::BlockReader;

/// How long answers are kept in a cache that is given: Mimir's time.
const TTL: Duration = Duration::from_secs(7 * 86_400);
/// Larger answers are not kept: they are of most series of a large block, which is no use of a selector.
const MAX_BYTES: usize = 512 << 10;
/// Values of a label that are looked up, and not worth a key of their own.
const FEW_VALUES: usize = 8;

/// Answers to "which series pass these matchers", of blocks.
///
/// ```text
/// key:   tenant / block / hash of the matchers
/// value: matchers as text (length, bytes), number of those that are still to be checked and their numbers, references as a Roaring bitmap
/// ```
#[derive(Debug, Clone)]
pub(super) struct KnownPostings {
    cache: Arc<dyn Cache>,
}

impl KnownPostings {
    pub(super) fn new(cache: Arc<dyn Cache>) -> Self {
        Self { cache }
    }

    pub(super) fn cache(&self) -> &Arc<dyn Cache> {
        &self.cache
    }

    /// As [`matching_series`] of a tenant's block. Whatever is wrong with what was kept is a miss.
    ///
    /// # Errors
    /// Those of the index.
    pub(super) async fn matching(
        &self,
        tenant: &TenantId,
        reader: &BlockReader,
        matchers: &[Matcher],
    ) -> Result<MatchedSeries> {
        if !matchers.iter().any(is_laborious) {
            return matching_series(reader.index(), matchers).await;
        }
        let mut ordered: Vec<(String, &Matcher)> =
            matchers.iter().map(|m| (m.to_string(), m)).collect();
        ordered.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        let texts: Vec<&str> = ordered.iter().map(|(text, _)| text.as_str()).collect();
        let text = texts.join("\n");
        let ordered: Vec<&Matcher> = ordered.iter().map(|(_, m)| *m).collect();
        let block = reader.meta().ulid;
        let key = format!("{tenant}/{block}/{:032x}", xxh3_128(text.as_bytes()));
        if let Some(kept) = self.cache.get(&key).await
            && let Ok(Some(known)) = decode(&kept, &text, &ordered)
        {
            return Ok(known);
        }
        let found = matching_series(reader.index(), matchers).await?;
        if let Some(value) = encode(&found, &text, &ordered) {
            self.cache.set(&key, value, Some(TTL)).await;
        }
        Ok(found)
    }
}

/// Whether all values of a label have to be looked at.
fn is_laborious(m: &Matcher) -> bool {
    match m.op() {
        MatchOp::Equal => m.value().is_empty(),
        MatchOp::NotEqual | MatchOp::NotRegex => true,
        MatchOp::Regex => m.literal_values().is_none_or(|v| v.len() > FEW_VALUES),
    }
}

fn encode(found: &MatchedSeries, text: &str, ordered: &[&Matcher]) -> Option<Bytes> {
    let mut out = Vec::new();
    put_bytes(&mut out, text.as_bytes());
    put_uvarint(&mut out, found.pending.len() as u64);
    for pending in &found.pending {
        let number = ordered.iter().position(|m| *m == pending)?;
        put_uvarint(&mut out, number as u64);
    }
    let refs = RoaringBitmap::from_sorted_iter(found.refs.iter().copied()).ok()?;
    if out.len() + refs.serialized_size() > MAX_BYTES {
        return None;
    }
    refs.serialize_into(&mut out).ok()?;
    Some(out.into())
}

/// `None` for the answer to other matchers of the same hash.
fn decode(
    bytes: &[u8],
    text: &str,
    ordered: &[&Matcher],
) -> Result<Option<MatchedSeries>, DecodeError> {
    let mut r = Reader::new("kept postings", bytes);
    if r.bytes()? != text.as_bytes() {
        return Ok(None);
    }
    let mut pending = Vec::new();
    for _ in 0..r.uvarint()? {
        let number = usize::try_from(r.uvarint()?).unwrap_or(usize::MAX);
        let matcher = ordered.get(number).copied();
        pending.push(
            matcher
                .ok_or_else(|| r.error(format!("matcher {number} of {}", ordered.len())))?
                .clone(),
        );
    }
    let rest = r.rest();
    let refs = RoaringBitmap::deserialize_from(rest)
        .map_err(|e| DecodeError::new("kept postings", 0, e.to_string()))?;
    Ok(Some(MatchedSeries {
        refs: refs.into_iter().collect(),
        pending,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn matchers() -> Vec<Matcher> {
        vec![
            Matcher::regex("pod", "a.*").unwrap(),
            Matcher::new(MatchOp::NotEqual, "job", "x").unwrap(),
            Matcher::equal("env", "prod"),
        ]
    }

    #[test]
    fn what_is_kept_is_what_was_found() {
        let all = matchers();
        let ordered: Vec<&Matcher> = all.iter().collect();
        for (refs, pending) in [
            (vec![], vec![]),
            (vec![1, 2, 3, 70_000, u32::MAX], vec![0, 2]),
            ((0..100_000).collect(), vec![1]),
        ] {
            let found = MatchedSeries {
                refs,
                pending: pending.iter().map(|n| all[*n].clone()).collect(),
            };
            let kept = encode(&found, "text", &ordered).unwrap();
            let known = decode(&kept, "text", &ordered).unwrap().unwrap();
            assert_eq!(known.refs, found.refs);
            assert_eq!(known.pending, found.pending);
            assert!(decode(&kept, "other", &ordered).unwrap().is_none());
            assert!(found.pending.is_empty() || decode(&kept, "text", &[]).is_err());
        }
        let most = MatchedSeries {
            refs: (0..20_000_000).step_by(3).collect(),
            pending: Vec::new(),
        };
        assert!(encode(&most, "text", &ordered).is_none(), "it is too large");
    }

    #[test]
    fn few_values_are_looked_up_and_not_kept() {
        let is = |m: Matcher| is_laborious(&m);
        assert!(!is(Matcher::equal("a", "b")) && is(Matcher::equal("a", "")));
        assert!(
            !is(Matcher::regex("a", "b|c").unwrap()) && is(Matcher::regex("a", "b.*").unwrap())
        );
        assert!(
            is(Matcher::new(MatchOp::NotEqual, "a", "b").unwrap())
                && is(Matcher::new(MatchOp::NotRegex, "a", "b").unwrap())
        );
    }

    proptest! {
        #[test]
        fn bytes_that_are_none_are_no_answer(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let all = matchers();
            let ordered: Vec<&Matcher> = all.iter().collect();
            let _ = decode(&bytes, "", &ordered);
            let mut with_text = vec![0, 1];
            with_text.extend(bytes);
            let _ = decode(&with_text, "", &ordered);
        }
    }
}
