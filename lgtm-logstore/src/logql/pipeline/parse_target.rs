//! Where parsers put what they find, and what of it is wanted.

use super::label_filter::Condition;
use super::labels::{Added, EntryLabels, StreamLabels, push_sanitized};

/// The labels that anybody will look at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Needed {
    /// All of them.
    All,
    /// These, sorted.
    Names(Vec<String>),
}

impl Needed {
    /// Whether none is.
    pub(crate) fn is_none(&self) -> bool {
        matches!(self, Self::Names(names) if names.is_empty())
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        match self {
            Self::All => true,
            Self::Names(names) => names.binary_search_by(|n| n.as_str().cmp(name)).is_ok(),
        }
    }

    /// Whether a name that begins like this may be needed.
    pub(crate) fn may_begin(&self, prefix: &str) -> bool {
        match self {
            Self::All => true,
            Self::Names(names) => {
                let first = names.partition_point(|n| n.as_str() < prefix);
                names.get(first).is_some_and(|n| n.starts_with(prefix))
            }
        }
    }
}

/// What a parser should do after it offered a label.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Offer {
    /// Go on.
    Continue,
    /// All that is needed was found.
    Enough,
    /// The entry cannot pass any more.
    Refused,
}

/// Where a parser puts what it finds in one line.
pub(crate) struct ParseTarget<'a> {
    pub(super) stream: &'a StreamLabels,
    pub(super) labels: &'a mut EntryLabels,
    pub(super) needed: &'a Needed,
    /// Filters that stand behind the parser, asked as soon as their label is found.
    pub(super) early: &'a [Condition],
    pub(super) found: usize,
    pub(super) name: &'a mut String,
}

impl ParseTarget<'_> {
    /// The final name of a label: in `self.name`, with `_extracted` where stream or metadata have it.
    fn finish_name(&mut self) {
        if self.labels.is_taken(self.stream, self.name) {
            self.name.push_str("_extracted");
        }
    }

    /// Whether a label of this (raw) name is wanted. Its final name is then in `self.name`.
    pub(super) fn wants(&mut self, raw: &str) -> bool {
        self.name.clear();
        push_sanitized(self.name, raw, true) && self.wants_name()
    }

    /// The same for a name that stands in `self.name` already.
    pub(super) fn wants_name(&mut self) -> bool {
        if !self.needed.may_begin(self.name) {
            return false;
        }
        self.finish_name();
        self.needed.has(self.name)
    }

    /// Adds the label whose name [`ParseTarget::wants`] left, unless there is one.
    pub(super) fn add(&mut self, value: &str) -> Offer {
        if self.labels.add_parsed(self.name, value) == Added::Known {
            return Offer::Continue;
        }
        self.judge(value)
    }

    /// Sets the label, over one that there is.
    pub(super) fn set(&mut self, value: &str) -> Offer {
        self.labels.set_parsed(self.name, value);
        self.judge(value)
    }

    fn judge(&mut self, value: &str) -> Offer {
        let name = self.name.as_str();
        let mut asked = self.early.iter().filter(|c| c.label() == Some(name));
        let has_error = self.labels.has_error();
        if asked.any(|c| c.refuses(value, has_error)) {
            return Offer::Refused;
        }
        self.found += 1;
        match self.needed {
            Needed::Names(names) if self.found >= names.len() => Offer::Enough,
            _ => Offer::Continue,
        }
    }

    /// Sets the error.
    pub(super) fn fail(&mut self, error: &'static str, details: impl AsRef<str>) {
        self.labels.set_error(error, details);
    }
}

/// Bytes of a value as text: what is no UTF-8 becomes spaces.
pub(super) fn spaced<'a>(value: &'a [u8], scratch: &'a mut String) -> &'a str {
    if let Ok(text) = std::str::from_utf8(value) {
        return text;
    }
    scratch.clear();
    for chunk in value.utf8_chunks() {
        scratch.push_str(chunk.valid());
        if !chunk.invalid().is_empty() {
            scratch.push(' ');
        }
    }
    scratch
}
