//! Regular expressions as Go has them (RE2): every pattern that a user writes, in whichever language, goes through here.
//!
//! ```text
//! pattern text -> dialect (RE2 to regex-syntax) -> expression (HIR, bounds) -> expand (what needs no engine) -> Re2
//!                                                                          \-> groups -> template
//! ```
//!
//! [`Re2`] answers whether a text matches, [`Re2Groups`] what its groups are, and a [`Template`] is filled with them.

mod alternatives;
mod dialect;
mod expand;
mod expression;
mod groups;
mod re2;
mod template;

pub use expression::{Anchoring, Dot, Refused};
pub use groups::{FoundGroups, Re2Groups};
pub use re2::Re2;
pub use template::Template;
