//! Tokens that give every instance nearly the same share of the keys.
//!
//! The placement is deterministic: instance `k` of a zone works out where instances `0..k` put theirs, then takes a piece of the
//! longest ranges of whoever owns most. Rules: the format page `ring.md`; vectors: `golden/ring/spread_minimizing.json`.

use std::collections::{BinaryHeap, HashSet};

use lgtm_core::{Error, Result};

use crate::token::{Token, TokenGenerator};

/// Tokens of one instance.
pub const SPREAD_TOKENS: usize = 512;
const MAX_ZONES: usize = 8;
/// Tokens of zone `z` are congruent to `z` modulo this.
const STRIDE: u64 = MAX_ZONES as u64;
const CIRCLE: u64 = 1 << 32;
/// Placing instance `k` costs `k` times 512 heap operations: about 0.3 s at this bound.
const MAX_INDEX: usize = 9_999;

/// Computes tokens from an instance's name and zone.
///
/// The name ends in `-<index>`, as the pods of a stateful set do. Any two instances of a zone differ by less than 1 % in what they own
/// from 4 instances on. Cannot be combined with a tokens file.
#[derive(Debug, Clone)]
pub struct SpreadTokens {
    name_prefix: String,
    name: String,
    index: usize,
    zone_offset: u32,
    waits_for_predecessor: bool,
}

impl SpreadTokens {
    /// Tokens for `instance` in `zone`, one of `zones` (1 to 8, in any order, but the same everywhere and for ever).
    ///
    /// # Errors
    /// `InvalidInput` for a name without an index, an index above 9999, a number of zones out of bounds, or a zone not among them.
    pub fn new(instance: &str, zone: &str, zones: &[String]) -> Result<Self> {
        if zones.is_empty() || zones.len() > MAX_ZONES {
            return Err(Error::InvalidInput(format!(
                "number of zones {} is not correct: it must be greater than 0 and less or equal than {MAX_ZONES}",
                zones.len()
            )));
        }
        let mut sorted: Vec<&str> = zones.iter().map(String::as_str).collect();
        sorted.sort_unstable();
        let offset = sorted.iter().position(|z| *z == zone);
        let (name_prefix, index) = split_name(instance)?;
        let offset =
            offset.ok_or_else(|| Error::InvalidInput(format!("zone {zone} is not valid")))?;
        Ok(Self {
            name_prefix: name_prefix.to_owned(),
            name: instance.to_owned(),
            index,
            zone_offset: offset as u32,
            waits_for_predecessor: false,
        })
    }

    /// Whether instance `k` waits until `k - 1` has tokens, so that shares are even at every moment of a scale-up. Default: no.
    #[must_use]
    pub fn wait_for_predecessor(mut self, wait: bool) -> Self {
        self.waits_for_predecessor = wait;
        self
    }

    /// All 512 tokens, ascending.
    pub fn all(&self) -> Vec<Token> {
        let offset = self.zone_offset;
        let tokens = place(self.index).into_iter();
        tokens.map(|t| Token(t as u32 + offset)).collect()
    }
}

impl TokenGenerator for SpreadTokens {
    fn generate(&mut self, count: usize, taken: &HashSet<Token>) -> Result<Vec<Token>> {
        let mut tokens = self.all();
        tokens.retain(|t| !taken.contains(t));
        tokens.truncate(count);
        Ok(tokens)
    }

    fn can_join(&self, tokens_of: &dyn Fn(&str) -> Option<usize>) -> Result<()> {
        let Some(before) = self.index.checked_sub(1) else {
            return Ok(());
        };
        let predecessor = format!("{}{before}", self.name_prefix);
        if !self.waits_for_predecessor || tokens_of(&predecessor).is_some_and(|n| n > 0) {
            return Ok(());
        }
        tracing::debug!(instance = %self.name, %predecessor, "waits for its predecessor");
        Err(Error::Unavailable(format!(
            "the instance {predecessor:?} has not been registered to the ring or has no tokens yet"
        )))
    }

    fn is_deterministic(&self) -> bool {
        true
    }
}

/// `ingester-zone-a-7` is `ingester-zone-a-` and 7.
fn split_name(name: &str) -> Result<(&str, usize)> {
    let wrong = || Error::InvalidInput(format!("unable to extract instance id from {name:?}"));
    let dash = name.rfind('-').ok_or_else(wrong)?;
    let (prefix, digits) = name.split_at(dash + 1);
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err(wrong());
    }
    match digits.parse() {
        Ok(index) if index <= MAX_INDEX => Ok((prefix, index)),
        _ => Err(Error::InvalidInput(format!(
            "instance {name:?} has index {digits}, at most {MAX_INDEX} can be placed"
        ))),
    }
}

/// A token among those of one instance, ordered by what it owns, then by place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Owned {
    keys: u64,
    token: u64,
    previous: u64,
}

/// An instance among all, ordered by what it owns, then by index.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Share {
    keys: u64,
    instance: usize,
}

/// Tokens of instance `index` in zone 0, ascending.
fn place(index: usize) -> Vec<u64> {
    let step = CIRCLE / SPREAD_TOKENS as u64 / STRIDE * STRIDE;
    let first: Vec<u64> = (0..SPREAD_TOKENS as u64).map(|i| i * step).collect();
    if index == 0 {
        return first;
    }
    let last = first[SPREAD_TOKENS - 1];
    let before = std::iter::once(last).chain(first.iter().copied());
    let owned = first.iter().zip(before).map(|(&token, previous)| Owned {
        keys: distance(previous, token),
        token,
        previous,
    });
    let mut tokens: Vec<BinaryHeap<Owned>> = vec![owned.collect()];
    let mut shares = BinaryHeap::from([Share {
        keys: CIRCLE,
        instance: 0,
    }]);
    for instance in 1..=index {
        let (added, keys) = take_from_the_richest(instance, &mut tokens, &mut shares);
        tokens.push(added);
        shares.push(Share { keys, instance });
    }
    let mut placed: Vec<u64> = tokens[index].iter().map(|t| t.token).collect();
    placed.sort_unstable();
    placed
}

/// Cuts 512 pieces out of the longest ranges of those who own most.
fn take_from_the_richest(
    instance: usize,
    tokens: &mut [BinaryHeap<Owned>],
    shares: &mut BinaryHeap<Share>,
) -> (BinaryHeap<Owned>, u64) {
    let target = CIRCLE as f64 / (instance + 1) as f64;
    let mut added = Vec::with_capacity(SPREAD_TOKENS);
    let mut own = 0u64;
    // Instances whose longest range is too short to give; they come back for the next newcomer.
    let mut too_fine = Vec::new();
    while added.len() < SPREAD_TOKENS {
        let missing = (target - own as f64).max(0.0) as u32;
        let want = u64::from(missing) / (SPREAD_TOKENS - added.len()) as u64 / STRIDE * STRIDE;
        let Some(mut donor) = shares.pop() else { break };
        let heap = &mut tokens[donor.instance];
        let Some(longest) = heap.peek().copied().filter(|longest| longest.keys > want) else {
            too_fine.push(donor);
            continue;
        };
        heap.pop();
        let token = point_after(longest.previous, want);
        added.push(Owned {
            keys: distance(longest.previous, token),
            token,
            previous: longest.previous,
        });
        let keys = distance(token, longest.token);
        let given = longest.keys - keys;
        heap.push(Owned {
            keys,
            token: longest.token,
            previous: token,
        });
        own += given;
        donor.keys -= given;
        shares.push(donor);
    }
    shares.extend(too_fine);
    (added.into(), own)
}

/// The point `by` keys after `from`. A wrap skips the last 8 values of the circle.
fn point_after(from: u64, by: u64) -> u64 {
    let to_end = CIRCLE - STRIDE - from;
    if to_end < by { by - to_end } else { from + by }
}

fn distance(from: u64, to: u64) -> u64 {
    Token(from as u32).distance(Token(to as u32))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn zones() -> Vec<String> {
        ["a", "b", "c"].map(String::from).to_vec()
    }

    #[test]
    fn zones_never_clash_and_follow_each_other() {
        let of = |zone: &str| SpreadTokens::new("x-7", zone, &zones()).unwrap().all();
        let (a, b) = (of("a"), of("b"));
        assert!(a.iter().zip(&b).all(|(a, b)| a.0 + 1 == b.0));
        assert!(a.iter().all(|t| t.0 % 8 == 0));
    }

    #[test]
    fn shares_of_a_zone_differ_by_less_than_one_percent() {
        for count in [4usize, 10, 57] {
            let mut all: Vec<(u64, usize)> = (0..count)
                .flat_map(|i| place(i).into_iter().map(move |t| (t, i)))
                .collect();
            all.sort_unstable();
            let mut keys = vec![0u64; count];
            let mut previous = all[all.len() - 1].0;
            for (token, instance) in all {
                keys[instance] += distance(previous, token);
                previous = token;
            }
            let (min, max) = (keys.iter().min().unwrap(), keys.iter().max().unwrap());
            let spread = (max - min) as f64 / *max as f64;
            assert!(spread <= 0.01, "{count} instances: {spread}");
        }
    }

    #[test]
    fn an_index_out_of_bounds_is_refused_by_name() {
        let error = SpreadTokens::new("x-10000", "a", &zones()).unwrap_err();
        assert!(error.to_string().contains("x-10000") && error.to_string().contains("9999"));
        assert!(SpreadTokens::new("x-99999999999999999999999", "a", &zones()).is_err());
    }
}
