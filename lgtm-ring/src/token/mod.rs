//! Tokens: points on the circle of 2^32 keys.
//!
//! An instance with token `t` owns the keys from the previous token up to `t - 1`. [`RandomTokens`] draws them, [`SpreadTokens`] computes
//! them so that every instance owns nearly the same share; [`TokensFile`] remembers them over a restart.

mod file;
mod generator;
mod random;
mod spread;
mod token;

pub use file::{MAX_TOKENS, TokensFile};
pub use generator::TokenGenerator;
pub use random::RandomTokens;
pub use spread::{SPREAD_TOKENS, SpreadTokens};
pub use token::Token;
