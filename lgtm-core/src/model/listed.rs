//! Answers that say how whole they are.

use crate::model::TextSet;

/// Different warnings that one answer carries; the others are counted.
const MAX_WARNINGS: usize = 10;

/// Adds the warnings that are not there yet. Of more than ten the last one says so.
pub fn merge_warnings(into: &mut Vec<String>, more: Vec<String>) {
    const MORE: &str = "further warnings were left out";
    for warning in more {
        if into.contains(&warning) {
            continue;
        }
        if into.len() >= MAX_WARNINGS {
            if into.last().is_some_and(|last| last != MORE) {
                into.push(MORE.to_owned());
            }
            return;
        }
        into.push(warning);
    }
}

/// A list that says how whole it is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Listed<T> {
    /// The entries, in order.
    pub items: T,
    /// Whether the limit of the request left entries out.
    pub is_cut: bool,
    /// What is missing beside that, and why; none: nothing.
    pub warnings: Vec<String>,
}

impl<T> Listed<T> {
    /// All there is.
    pub fn whole(items: T) -> Self {
        Self {
            items,
            is_cut: false,
            warnings: Vec::new(),
        }
    }

    /// The first `limit` of a list in order (0: all of it).
    pub fn first(items: T, limit: usize) -> Self
    where
        T: TruncatedList,
    {
        Self::whole(items).cut(limit)
    }

    /// The same without the entries beyond the first `limit` (0: none).
    #[must_use]
    pub fn cut(mut self, limit: usize) -> Self
    where
        T: TruncatedList,
    {
        if limit > 0 && self.items.len() > limit {
            self.items.truncate(limit);
            self.is_cut = true;
        }
        self
    }

    /// Says that something is missing.
    pub fn warn(&mut self, warnings: Vec<String>) {
        merge_warnings(&mut self.warnings, warnings);
    }

    /// Adds what another holder says; `join` adds its entries.
    pub fn merge(&mut self, other: Self, join: impl FnOnce(&mut T, T)) {
        join(&mut self.items, other.items);
        self.is_cut |= other.is_cut;
        merge_warnings(&mut self.warnings, other.warnings);
    }

    /// The same with other entries.
    pub fn map<U>(self, change: impl FnOnce(T) -> U) -> Listed<U> {
        Listed {
            items: change(self.items),
            is_cut: self.is_cut,
            warnings: self.warnings,
        }
    }
}

/// A list in order that can be cut short.
pub trait TruncatedList {
    /// Number of entries.
    fn len(&self) -> usize;
    /// Whether there is none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// Keeps the first `limit` entries.
    fn truncate(&mut self, limit: usize);
}

impl<T> TruncatedList for Vec<T> {
    fn len(&self) -> usize {
        Self::len(self)
    }

    fn truncate(&mut self, limit: usize) {
        Self::truncate(self, limit);
    }
}

impl TruncatedList for TextSet {
    fn len(&self) -> usize {
        Self::len(self)
    }

    fn truncate(&mut self, limit: usize) {
        Self::truncate(self, limit);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn warnings_are_told_once_and_not_without_end() {
        let mut warnings = Vec::new();
        for n in 0..30 {
            merge_warnings(&mut warnings, vec![format!("block {}", n % 15)]);
        }
        assert_eq!(warnings.len(), MAX_WARNINGS + 1);
        assert_eq!(warnings[0], "block 0");
        assert_eq!(warnings[MAX_WARNINGS], "further warnings were left out");
    }
}
