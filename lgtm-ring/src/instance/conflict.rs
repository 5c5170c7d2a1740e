//! A token that two instances hold belongs to one of them.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::instance::{Instance, InstanceState};
use crate::token::Token;

/// Takes every token that two instances hold from all but one: who is leaving loses to who is not, then the smaller id wins.
///
/// `suspects` are the instances whose tokens are new. A ring is free of conflicts after each merge, so only their tokens can be held
/// twice. One pass over all tokens with a filter of 8 KB before the search.
pub(super) fn resolve(instances: &mut BTreeMap<String, Arc<Instance>>, suspects: &[String]) {
    let mut held: Vec<Token> = suspects
        .iter()
        .filter_map(|id| instances.get(id))
        .flat_map(|i| i.tokens.iter().copied())
        .collect();
    if held.is_empty() {
        return;
    }
    held.sort_unstable();
    let filter = TokenFilter::of(&held);
    let alive = || {
        let alive = instances.values();
        alive.filter(|i| i.state != InstanceState::Left)
    };
    let mut claims: Vec<(Token, bool, &str)> = Vec::with_capacity(held.len());
    for instance in alive() {
        let leaving = instance.state == InstanceState::Leaving;
        for &token in instance.tokens.iter() {
            if filter.may_hold(token) && held.binary_search(&token).is_ok() {
                claims.push((token, leaving, &instance.id));
            }
        }
    }
    // The best claim to a token comes first.
    claims.sort_unstable();
    let mut lost: BTreeMap<String, Vec<Token>> = BTreeMap::new();
    for pair in claims.windows(2) {
        let ((token, ..), (same, _, loser)) = (pair[0], pair[1]);
        if token == same {
            lost.entry(loser.to_owned()).or_default().push(token);
        }
    }
    for (loser, tokens) in lost {
        if let Some(instance) = instances.get_mut(&loser) {
            let kept = instance.tokens.iter().copied();
            // `tokens` ascend since the claims did.
            let kept = kept.filter(|t| tokens.binary_search(t).is_err()).collect();
            Arc::make_mut(instance).tokens = kept;
        }
    }
}

/// One bit for each value of a token's upper half.
struct TokenFilter(Box<[u64; 1024]>);

impl TokenFilter {
    fn of(tokens: &[Token]) -> Self {
        let mut bits = Box::new([0u64; 1024]);
        for token in tokens {
            bits[(token.0 >> 22) as usize] |= 1 << (token.0 >> 16 & 63);
        }
        Self(bits)
    }

    #[inline]
    fn may_hold(&self, token: Token) -> bool {
        self.0[(token.0 >> 22) as usize] >> (token.0 >> 16 & 63) & 1 == 1
    }
}
