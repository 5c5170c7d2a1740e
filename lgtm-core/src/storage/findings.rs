//! What a check of stored data has found.

use std::fmt;

use serde::Serialize;

use crate::error::{Error, ErrorKind, Result};

/// What is wrong with an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Fault {
    /// Something names it, and it is not there.
    Missing,
    /// Its bytes do not follow their format, or a checksum does not fit.
    Damaged,
    /// It has another size than what names it says.
    WrongSize,
    /// It says that it is another one than its place says.
    WrongPlace,
    /// It has another number of something than is told.
    WrongCount,
    /// It has data outside of the times that are told, or is told to have times that it has not.
    WrongTimeRange,
    /// Its parts do not stand in the order that readers rely on.
    WrongOrder,
    /// What it refers to is not there, or is another thing.
    Dangling,
    /// A lookup by it misses what is there, or finds what is not: postings, filters, statistics.
    WrongLookup,
    /// Two places that say the same thing say different things.
    Disagreement,
    /// It is beyond a bound or in a format that is not known, and was not looked into.
    Unchecked,
    /// It is there and nothing names it: written lately, or left behind.
    Unlisted,
    /// It is what an upload or a deletion that did not end has left.
    Leftover,
}

impl Fault {
    /// All faults.
    pub const ALL: [Self; 13] = [
        Self::Missing,
        Self::Damaged,
        Self::WrongSize,
        Self::WrongPlace,
        Self::WrongCount,
        Self::WrongTimeRange,
        Self::WrongOrder,
        Self::Dangling,
        Self::WrongLookup,
        Self::Disagreement,
        Self::Unchecked,
        Self::Unlisted,
        Self::Leftover,
    ];

    /// The fault in a word or two.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Damaged => "damaged",
            Self::WrongSize => "wrong size",
            Self::WrongPlace => "wrong place",
            Self::WrongCount => "wrong count",
            Self::WrongTimeRange => "wrong time range",
            Self::WrongOrder => "wrong order",
            Self::Dangling => "dangling",
            Self::WrongLookup => "wrong lookup",
            Self::Disagreement => "disagreement",
            Self::Unchecked => "unchecked",
            Self::Unlisted => "unlisted",
            Self::Leftover => "leftover",
        }
    }

    /// Whether data may be lost or answers wrong. The others come up in any bucket that is in use: an upload under way, an object
    /// written since a list was made.
    pub fn is_damage(self) -> bool {
        !matches!(self, Self::Unlisted | Self::Leftover)
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One thing that was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The object, as a path in its bucket.
    pub object: String,
    /// What is wrong with it.
    pub fault: Fault,
    /// What exactly, for people: what is there, and what is told.
    pub detail: String,
}

/// What was found so far. Beyond a bound findings are counted and not kept.
#[derive(Debug, Clone, Default)]
pub struct Findings {
    kept: Vec<Finding>,
    max_kept: usize,
    damage_count: u64,
    notice_count: u64,
}

impl Findings {
    /// None yet; at most `max_kept` will be kept.
    pub fn new(max_kept: usize) -> Self {
        Self {
            max_kept,
            ..Self::default()
        }
    }

    /// Adds one.
    pub fn add(&mut self, object: impl Into<String>, fault: Fault, detail: impl Into<String>) {
        if fault.is_damage() {
            self.damage_count += 1;
        } else {
            self.notice_count += 1;
        }
        if self.kept.len() < self.max_kept {
            self.kept.push(Finding {
                object: object.into(),
                fault,
                detail: detail.into(),
            });
        }
    }

    /// Adds what `error` says of an object, if it says something of it.
    ///
    /// # Errors
    /// Those that say nothing of the object: a store that does not answer, a fault of this program.
    pub fn add_error(&mut self, object: &str, error: Error) -> Result<()> {
        let fault = match error.kind() {
            ErrorKind::NotFound => Fault::Missing,
            ErrorKind::Corrupt => Fault::Damaged,
            ErrorKind::LimitExceeded | ErrorKind::InvalidInput => Fault::Unchecked,
            _ => return Err(error),
        };
        self.add(object, fault, error.to_string());
        Ok(())
    }

    /// The value, or `None` after adding what the error says of `object`.
    ///
    /// # Errors
    /// As [`Findings::add_error`].
    pub fn good<T>(&mut self, object: &str, outcome: Result<T>) -> Result<Option<T>> {
        match outcome {
            Ok(value) => Ok(Some(value)),
            Err(error) => self.add_error(object, error).map(|()| None),
        }
    }

    /// Adds a finding when two numbers differ that should be one.
    pub fn compare(&mut self, object: &str, fault: Fault, what: &str, found: u64, told: u64) {
        if found != told {
            self.add(object, fault, format!("{found} {what}, {told} are told"));
        }
    }

    /// Those that were kept, in the order in which they came.
    pub fn kept(&self) -> &[Finding] {
        &self.kept
    }

    /// Takes those that were kept; their number stays.
    pub fn take_kept(&mut self) -> Vec<Finding> {
        std::mem::take(&mut self.kept)
    }

    /// Findings that are damage, those that were not kept too.
    pub fn damage_count(&self) -> u64 {
        self.damage_count
    }

    /// The others, those that were not kept too.
    pub fn notice_count(&self) -> u64 {
        self.notice_count
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::DecodeError;

    #[test]
    fn errors_of_the_object_are_findings_and_others_are_errors() {
        let mut found = Findings::new(2);
        let corrupt = Error::corrupt("t/x", DecodeError::new("x", 1, "bad"));
        found.add_error("t/x", corrupt).unwrap();
        found
            .add_error("t/y", Error::NotFound("t/y".into()))
            .unwrap();
        found
            .add_error("t/z", Error::LimitExceeded("max = 1".into()))
            .unwrap();
        let away = found.add_error("t/x", Error::Unavailable("away".into()));
        assert_eq!(away.unwrap_err().kind(), ErrorKind::Unavailable);
        let faults: Vec<_> = found.kept().iter().map(|f| f.fault).collect();
        assert_eq!(faults, [Fault::Damaged, Fault::Missing]);
        assert_eq!((found.damage_count(), found.notice_count()), (3, 0));
        found.add("t/w", Fault::Leftover, "");
        assert_eq!((found.damage_count(), found.notice_count()), (3, 1));
    }

    #[test]
    fn names_are_distinct() {
        let mut names: Vec<_> = Fault::ALL.iter().map(|f| f.as_str()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Fault::ALL.len());
    }
}
