//! Stream selectors that calls take beside queries.

use lgtm_core::exec::move_if_heavy;
use lgtm_core::model::Matcher;

use super::error::ApiError;
use crate::logql::{ParseError, QueryError, parse_selector};

/// What a selector may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SelectorRule {
    /// Any, `{}` too: all streams.
    Any,
    /// At least one matcher must not accept the empty text, as in queries.
    Selective,
}

/// The matchers of a selector; one that takes long to parse is parsed in the pool.
pub(super) async fn selector(text: &str, rule: SelectorRule) -> Result<Vec<Matcher>, ApiError> {
    move_if_heavy(text).await;
    let matchers = parse_selector(text).map_err(QueryError::from)?;
    if rule == SelectorRule::Selective && matchers.iter().all(Matcher::matches_empty) {
        return Err(QueryError::from(ParseError::not_selective()).into());
    }
    Ok(matchers)
}

/// The matchers of a parameter that may be absent: then all streams are meant.
pub(super) async fn optional_selector(
    text: Option<&str>,
    rule: SelectorRule,
) -> Result<Vec<Matcher>, ApiError> {
    match text {
        Some(text) => selector(text, rule).await,
        None => Ok(Vec::new()),
    }
}
