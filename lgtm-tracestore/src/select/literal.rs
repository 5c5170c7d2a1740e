//! Values as queries write them.

use crate::trace::{SpanKind, StatusCode};

/// A value that a query names.
#[derive(Debug, Clone, PartialEq)]
pub enum Literal {
    /// Nothing.
    Nil,
    /// An integer.
    Int(i64),
    /// A float.
    Float(f64),
    /// A text.
    Text(String),
    /// `true` or `false`.
    Bool(bool),
    /// Nanoseconds.
    Duration(i64),
    /// How a span ended.
    Status(StatusCode),
    /// Which side of a call a span is.
    Kind(SpanKind),
}

impl StatusCode {
    /// As queries write it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Unset => "unset",
            Self::Ok => "ok",
            Self::Error => "error",
        }
    }

    /// The code of that word.
    pub fn of_word(word: &str) -> Option<Self> {
        [Self::Unset, Self::Ok, Self::Error]
            .into_iter()
            .find(|code| code.word() == word)
    }
}

impl SpanKind {
    /// As queries write it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Unspecified => "unspecified",
            Self::Internal => "internal",
            Self::Server => "server",
            Self::Client => "client",
            Self::Producer => "producer",
            Self::Consumer => "consumer",
        }
    }

    /// The kind of that word.
    pub fn of_word(word: &str) -> Option<Self> {
        (0..6)
            .filter_map(Self::of_number)
            .find(|kind| kind.word() == word)
    }
}
