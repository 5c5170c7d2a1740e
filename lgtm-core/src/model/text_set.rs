//! A sorted set of short texts in one piece of memory: names and values of labels, of which there may be a million.

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

    /// The text of a number, in order.
    pub fn get(&self, i: usize) -> Option<&str> {
        let end = *self.ends.get(i)?;
        let start = i.checked_sub(1).map_or(0, |before| self.ends[before]);
        Some(&self.text[start..end])
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
        self.get(self.len().checked_sub(1)?)
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
        let mut out = TextSetBuilder::default();
        for text in texts {
            out.push(text.as_ref());
        }
        out.finish()
    }
}

/// Texts whose size tells that of the others.
const SAMPLE: usize = 64;
/// Bytes that are taken ahead, at most, whatever is expected: the first texts may be the longest by far.
const MOST_AHEAD: usize = 4 << 20;
/// Texts out of order that wait, at least, before they are put in order.
const STRAY: usize = 4096;

/// Makes a [`TextSet`] of texts that come in any order and as often as they like. Quickest in order: then nothing is sorted or moved. At most as
/// many texts wait for being sorted as there are distinct ones, or some thousand.
#[derive(Debug, Default)]
pub struct TextSetBuilder {
    set: TextSet,
    /// Texts one after the other as they came, and where each ends.
    stray: TextSet,
    expected: usize,
}

impl TextSetBuilder {
    /// For about so many texts: memory for them is taken at once, not by doubling.
    pub fn expecting(texts: usize) -> Self {
        Self {
            expected: texts,
            ..Self::default()
        }
    }

    /// Adds a text.
    pub fn push(&mut self, text: &str) {
        if self.set.len() == SAMPLE && self.expected > SAMPLE {
            let more = self.expected - SAMPLE;
            let bytes = self.set.text.len() / SAMPLE * more;
            self.set.ends.reserve(more.min(MOST_AHEAD / 8));
            self.set.text.reserve((bytes + bytes / 16).min(MOST_AHEAD));
            self.expected = 0;
        }
        if self.set.push(text).is_ok() {
            return;
        }
        self.stray.text.push_str(text);
        self.stray.ends.push(self.stray.text.len());
        if self.stray.len() >= STRAY.max(self.set.len()) {
            self.sort();
        }
    }

    /// Bytes of the texts that are held.
    pub fn text_bytes(&self) -> usize {
        self.set.text_bytes() + self.stray.text_bytes()
    }

    /// The set.
    pub fn finish(mut self) -> TextSet {
        if !self.stray.is_empty() {
            self.sort();
        }
        self.set
    }

    /// Takes in what came out of order.
    fn sort(&mut self) {
        let mut all: Vec<&str> = self.set.iter().chain(self.stray.iter()).collect();
        all.sort_unstable();
        all.dedup();
        let mut set = TextSet {
            text: String::with_capacity(all.iter().map(|t| t.len()).sum()),
            ends: Vec::with_capacity(all.len()),
        };
        for text in all {
            // It comes after those before.
            let _ = set.push(text);
        }
        self.set = set;
        self.stray = TextSet::new();
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn many_texts_out_of_order_are_a_set() {
        let text = |i: u64| format!("value-{}", i.wrapping_mul(0x9E37_79B9_7F4A_7C15) % 9000);
        let mut out = TextSetBuilder::expecting(9000);
        let mut most = 0;
        for i in 0..40_000 {
            out.push(&text(i));
            most = most.max(out.text_bytes());
        }
        let wanted: BTreeSet<String> = (0..40_000).map(text).collect();
        let out = out.finish();
        assert!(most <= 2 * out.text_bytes() + STRAY * "value-1234".len());
        assert!(out.iter().eq(wanted.iter().map(String::as_str)));
        assert_eq!(out.get(out.len()), None);
        assert_eq!(out.get(7), out.iter().nth(7));
    }

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
