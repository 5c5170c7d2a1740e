//! Tokens by chance.

use std::collections::HashSet;

use lgtm_core::{Error, Result};

use crate::prng::GoRand;
use crate::token::{Token, TokenGenerator};

/// Draws tokens from a seeded generator.
///
/// With 128 tokens each, the fullest of 100 instances owns about a quarter more than the mean; see [`SpreadTokens`](super::SpreadTokens).
#[derive(Debug)]
pub struct RandomTokens(GoRand);

impl RandomTokens {
    /// Tokens that follow from `seed`. Processes need different seeds; a clock's reading mixed with the instance's name will do.
    pub fn seeded(seed: i64) -> Self {
        Self(GoRand::from_seed(seed))
    }
}

impl TokenGenerator for RandomTokens {
    fn generate(&mut self, count: usize, taken: &HashSet<Token>) -> Result<Vec<Token>> {
        // Past half of the circle drawing would take long; no ring comes near.
        if (count as u64).saturating_add(taken.len() as u64) > 1 << 31 {
            return Err(Error::LimitExceeded(format!(
                "{count} tokens beside {} taken ones do not fit, at most {} in a ring",
                taken.len(),
                1u64 << 31
            )));
        }
        let mut drawn = HashSet::with_capacity(count);
        while drawn.len() < count {
            let token = Token(self.0.next_u32());
            if !taken.contains(&token) {
                drawn.insert(token);
            }
        }
        let mut tokens: Vec<_> = drawn.into_iter().collect();
        tokens.sort_unstable();
        Ok(tokens)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_ascending_and_never_taken() {
        let mut generator = RandomTokens::seeded(7);
        let first = generator.generate(512, &HashSet::new()).unwrap();
        let taken: HashSet<_> = RandomTokens::seeded(7)
            .generate(512, &HashSet::new())
            .unwrap()
            .into_iter()
            .collect();
        let second = RandomTokens::seeded(7).generate(512, &taken).unwrap();
        assert!(first.windows(2).all(|w| w[0] < w[1]));
        assert!(second.iter().all(|t| !taken.contains(t)));
    }

    #[test]
    fn a_count_that_cannot_fit_is_refused() {
        let error = RandomTokens::seeded(1)
            .generate(usize::MAX, &HashSet::new())
            .unwrap_err();
        assert!(error.to_string().contains("do not fit"));
    }
}
