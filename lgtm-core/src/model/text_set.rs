//! A sorted set of short texts in one piece of memory: names and values of labels, of which there may be a million.

use std::collections::BTreeSet;

/// Distinct texts in order, one after the other in memory, with a number each for its end.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TextSet {
    text: String,
    ends: Vec<usize>,
}

impl TextSet {
    /// The set without texts.
    pub fn new() -> Self {
        Self::default()
    }

    /// Number of texts.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Bytes of all texts.
    pub fn text_bytes(&self) -> usize {
        self.text.len()
    }

    /// The texts in order.
    pub fn iter(&self) -> impl Iterator<Item = &str> + Clone {
        let mut start = 0;
        self.ends.iter().map(move |&end| {
            let text = &self.text[start..end];
            start = end;
            text
        })
    }

    /// Keeps the first `len` texts.
    pub fn truncate(&mut self, len: usize) {
        self.ends.truncate(len);
        self.text.truncate(self.ends.last().copied().unwrap_or(0));
    }

    fn last(&self) -> Option<&str> {
        let end = self.ends.len().checked_sub(1)?;
        let start = end.checked_sub(1).map_or(0, |i| self.ends[i]);
        Some(&self.text[start..])
    }

    /// Adds a text that comes after all that are there; gives it back as an error if it does not. The last one again is fine.
    ///
    /// # Errors
    /// The text, out of order.
    pub fn push<'a>(&mut self, text: &'a str) -> Result<(), &'a str> {
        match self.last() {
            Some(last) if last == text => return Ok(()),
            Some(last) if last > text => return Err(text),
            _ => {}
        }
        self.text.push_str(text);
        self.ends.push(self.text.len());
        Ok(())
    }

    /// Adds the texts of another set. Costs a comparison of memory if they are equal, as those of neighbouring blocks often are, else one pass.
    pub fn unite(&mut self, part: Self) {
        *self = std::mem::take(self).union(part);
    }

    /// The texts of both; costs as [`TextSet::unite`].
    #[must_use]
    pub fn union(self, other: Self) -> Self {
        if other.is_empty() || self == other {
            return self;
        }
        if self.is_empty() {
            return other;
        }
        let mut out = Self {
            text: String::with_capacity(self.text.len().max(other.text.len())),
            ends: Vec::with_capacity(self.len().max(other.len())),
        };
        let (mut a, mut b) = (self.iter().peekable(), other.iter().peekable());
        loop {
            let next = match (a.peek(), b.peek()) {
                (Some(x), Some(y)) if y < x => b.next(),
                (Some(_), _) => a.next(),
                (None, _) => b.next(),
            };
            let Some(next) = next else { return out };
            // Each is the least of what is left.
            let _ = out.push(next);
        }
    }
}

impl<S: AsRef<str>> FromIterator<S> for TextSet {
    /// Takes texts in any order and as often as they come.
    fn from_iter<I: IntoIterator<Item = S>>(texts: I) -> Self {
        let mut out = Self::default();
        let mut stray: BTreeSet<String> = BTreeSet::new();
        for text in texts {
            if let Err(text) = out.push(text.as_ref())
                && !stray.contains(text)
            {
                stray.insert(text.to_owned());
            }
        }
        if stray.is_empty() {
            return out;
        }
        let mut rest = Self::default();
        for text in &stray {
            let _ = rest.push(text);
        }
        out.union(rest)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_is_a_set_in_order(
            a in proptest::collection::vec("[a-cä]{0,3}", 0..20),
            b in proptest::collection::vec("[a-cä]{0,3}", 0..20),
        ) {
            let set = |texts: &[String]| texts.iter().cloned().collect::<BTreeSet<_>>();
            let texts = |set: &TextSet| set.iter().map(str::to_owned).collect::<Vec<_>>();
            let (x, y): (TextSet, TextSet) = (a.iter().collect(), b.iter().collect());
            prop_assert_eq!(texts(&x), set(&a).into_iter().collect::<Vec<_>>());
            prop_assert_eq!(x.len(), set(&a).len());
            let both: Vec<_> = set(&a).union(&set(&b)).cloned().collect();
            prop_assert_eq!(texts(&x.clone().union(y)), both);
            prop_assert_eq!(x.clone().union(x.clone()), x.clone());
            let mut cut = x.clone();
            cut.truncate(3);
            prop_assert_eq!(texts(&cut), texts(&x).into_iter().take(3).collect::<Vec<_>>());
        }
    }
}
