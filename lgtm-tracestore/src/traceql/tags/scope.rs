//! Which names are asked for.

use super::super::error::QueryError;
use crate::select::AttributeScope;

/// Which names are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TagScope {
    /// Those of attributes of all scopes, and intrinsics where the API tells them without being asked.
    All,
    /// Those of traces: none.
    Trace,
    /// Those of one scope.
    Attributes(AttributeScope),
    /// Intrinsics.
    Intrinsic,
}

/// The intrinsics that are told, always all of them.
pub const INTRINSIC_TAGS: [&str; 25] = [
    "duration",
    "event:name",
    "event:timeSinceStart",
    "instrumentation:name",
    "instrumentation:version",
    "kind",
    "link:spanID",
    "link:traceID",
    "name",
    "rootName",
    "rootServiceName",
    "span:duration",
    "span:id",
    "span:kind",
    "span:name",
    "span:parentID",
    "span:status",
    "span:statusMessage",
    "status",
    "statusMessage",
    "trace:duration",
    "trace:id",
    "trace:rootName",
    "trace:rootService",
    "traceDuration",
];

impl TagScope {
    /// Reads the parameter `scope`.
    ///
    /// # Errors
    /// For a word that is no scope.
    pub fn parse(text: &str) -> Result<Self, QueryError> {
        match text {
            "" | "none" => Ok(Self::All),
            "trace" => Ok(Self::Trace),
            "intrinsic" => Ok(Self::Intrinsic),
            text => {
                let scope = AttributeScope::ALL.into_iter().find(|s| s.name() == text);
                let invalid = || QueryError::invalid(format!("invalid scope: {text}"));
                scope.map(Self::Attributes).ok_or_else(invalid)
            }
        }
    }

    /// Whether attributes of a scope are asked for.
    pub fn takes(self, scope: AttributeScope) -> bool {
        match self {
            Self::All => true,
            Self::Attributes(wanted) => wanted == scope,
            Self::Trace | Self::Intrinsic => false,
        }
    }
}
