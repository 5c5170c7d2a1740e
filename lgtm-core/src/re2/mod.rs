//! Regular expressions as Go has them (RE2): every pattern that a user writes, in whichever language, goes through here.
//!
//! ```text
//! pattern text -> dialect (RE2 to regex-syntax) -> HIR -> expand (what needs no engine) -> Re2
//! ```

mod dialect;
mod expand;
mod re2;

pub use re2::{Anchoring, Dot, Re2, Refused};
