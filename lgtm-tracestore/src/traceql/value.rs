//! Values as answers tell them.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};

/// A value of an answer: of a span's attribute, a set's, a label's. Durations, kinds and status codes are texts here; where something is told to be missing,
/// that is the text `nil`. Floats are equal when their bits are.
#[derive(Debug, Clone)]
pub enum AnswerValue {
    /// A text.
    Text(String),
    /// An integer.
    Int(i64),
    /// A float.
    Float(f64),
    /// `true` or `false`.
    Bool(bool),
    /// Several, of one type.
    Array(Vec<AnswerValue>),
}

impl AnswerValue {
    /// What is told where there is nothing.
    pub fn nil() -> Self {
        Self::Text("nil".to_owned())
    }

    /// Bytes that it takes beside its own place, about.
    pub(super) fn size_bytes(&self) -> usize {
        match self {
            Self::Text(text) => text.len(),
            Self::Array(all) => all.iter().map(|v| size_of::<Self>() + v.size_bytes()).sum(),
            _ => 0,
        }
    }

    fn rank(&self) -> u8 {
        match self {
            Self::Text(_) => 0,
            Self::Int(_) => 1,
            Self::Float(_) => 2,
            Self::Bool(_) => 3,
            Self::Array(_) => 4,
        }
    }
}

impl PartialEq for AnswerValue {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for AnswerValue {}

impl PartialOrd for AnswerValue {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// By type, then by value.
impl Ord for AnswerValue {
    fn cmp(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Text(a), Self::Text(b)) => a.cmp(b),
            (Self::Int(a), Self::Int(b)) => a.cmp(b),
            (Self::Float(a), Self::Float(b)) => a.total_cmp(b),
            (Self::Bool(a), Self::Bool(b)) => a.cmp(b),
            (Self::Array(a), Self::Array(b)) => a.cmp(b),
            (a, b) => a.rank().cmp(&b.rank()),
        }
    }
}

impl Hash for AnswerValue {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.rank().hash(state);
        match self {
            Self::Text(v) => v.hash(state),
            Self::Int(v) => v.hash(state),
            Self::Float(v) => v.to_bits().hash(state),
            Self::Bool(v) => v.hash(state),
            Self::Array(v) => v.hash(state),
        }
    }
}

impl fmt::Display for AnswerValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(v) => f.write_str(v),
            Self::Int(v) => write!(f, "{v}"),
            Self::Float(v) => write!(f, "{v:?}"),
            Self::Bool(v) => write!(f, "{v}"),
            Self::Array(v) => f
                .debug_list()
                .entries(v.iter().map(ToString::to_string))
                .finish(),
        }
    }
}
