//! The trait.

use std::collections::HashSet;
use std::fmt::Debug;

use lgtm_core::Result;

use crate::token::Token;

/// Where an instance's tokens come from.
pub trait TokenGenerator: Debug + Send + 'static {
    /// Up to `count` tokens, ascending, none of them in `taken`.
    ///
    /// # Errors
    /// `LimitExceeded` when the circle has too little room.
    fn generate(&mut self, count: usize, taken: &HashSet<Token>) -> Result<Vec<Token>>;

    /// Whether the instance may join now; `tokens_of` gives the number of tokens of an instance that is in the ring.
    ///
    /// # Errors
    /// `Unavailable`, saying who must come first.
    fn can_join(&self, tokens_of: &dyn Fn(&str) -> Option<usize>) -> Result<()> {
        let _ = tokens_of;
        Ok(())
    }

    /// Whether the tokens follow from the instance's name, so that a tokens file would only contradict them.
    fn is_deterministic(&self) -> bool {
        false
    }
}
