//! Label sets.

use std::cmp::Ordering;
use std::fmt;

use bytes::{BufMut, Bytes, BytesMut};
use serde::{Serialize, Serializer};
use xxhash_rust::xxh64::Xxh64;

use crate::codec::{Reader, put_bytes};
use crate::error::{Error, Result};

/// The label that holds a metric's name.
pub const METRIC_NAME: &str = "__name__";

/// An immutable label set: names sorted and unique, no empty value (but see [`Labels::from_sorted_keeping_empty`]).
///
/// One piece of memory holds all of it (length-prefixed name and value, in order), shared by clones and, in sets from a
/// [`LabelArena`], with its neighbours. Ordering is the index's: label by label, name bytes then value bytes, and a prefix comes
/// first.
#[derive(Clone, PartialEq, Eq, Hash, Default)]
pub struct Labels(Bytes);

impl Labels {
    /// The set without labels.
    pub fn empty() -> Self {
        Self::default()
    }

    /// Sorts `pairs` and drops empty values, which mean that the label is absent.
    ///
    /// # Errors
    /// `InvalidInput` when a name is empty or stands twice.
    pub fn from_pairs<N: AsRef<str>, V: AsRef<str>>(
        pairs: impl IntoIterator<Item = (N, V)>,
    ) -> Result<Self> {
        let mut builder = LabelBuilder::default();
        for (name, value) in pairs {
            builder.push(name.as_ref(), value.as_ref());
        }
        builder.build()
    }

    /// Takes labels that are sorted by name already, as decoders and indexes have them. Drops empty values.
    ///
    /// Costs two allocations in all, none per label; [`LabelArena`] makes many with fewer.
    ///
    /// # Errors
    /// `InvalidInput` when a name is empty, stands twice, or stands before its turn.
    pub fn from_sorted<'a>(labels: impl IntoIterator<Item = (&'a str, &'a str)>) -> Result<Self> {
        // Most sets fit; names and values of a usual series have 100 to 200 bytes.
        LabelArena::with_capacity(256).from_sorted(labels)
    }

    /// As [`Labels::from_sorted`], with labels of empty value kept: the answers of LogQL have some.
    ///
    /// # Errors
    /// As [`Labels::from_sorted`].
    pub fn from_sorted_keeping_empty<'a>(
        labels: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Result<Self> {
        LabelArena::with_capacity(256).collect(labels, true)
    }

    /// The same set in memory of its own: for one that outlives the others of its arena by far.
    #[must_use]
    pub fn detached(&self) -> Self {
        Self(Bytes::copy_from_slice(&self.0))
    }

    /// The labels in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> + Clone {
        LabelIter::of(&self.0)
    }

    /// The labels in order, as bytes: for those who only compare and copy them. They are UTF-8, which is not checked again.
    pub(crate) fn iter_bytes(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        let mut reader = self.reader();
        std::iter::from_fn(move || {
            let is_more = !reader.is_empty();
            is_more.then(|| (next_text(&mut reader), next_text(&mut reader)))
        })
    }

    /// The value of `name`.
    pub fn get(&self, name: &str) -> Option<&str> {
        let mut reader = self.reader();
        while !reader.is_empty() {
            let (n, v) = (next_text(&mut reader), next_text(&mut reader));
            if n == name.as_bytes() {
                return Some(std::str::from_utf8(v).expect(BROKEN));
            }
        }
        None
    }

    fn reader(&self) -> Reader<'_> {
        Reader::new("label set", &self.0)
    }

    /// The metric name, if there is one.
    pub fn metric_name(&self) -> Option<&str> {
        self.get(METRIC_NAME)
    }

    /// Number of labels.
    pub fn len(&self) -> usize {
        self.iter().count()
    }

    /// Whether there is no label.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Bytes of all names and values with their length prefixes: what the set costs in memory, its share of an arena's piece too.
    pub fn size_bytes(&self) -> usize {
        self.0.len()
    }

    /// xxHash64 over `name 0xFF value 0xFF` of every label: the hash by which Mimir shards series. Stable for ever.
    pub fn stable_hash(&self) -> u64 {
        stable_hash(self.iter())
    }
}

/// Makes many label sets in few allocations: sets that are made one after the other share pieces of memory, and a piece is freed
/// when the last of its sets is. Whoever keeps few of many sets for long [detaches](Labels::detached) them.
#[derive(Debug)]
pub struct LabelArena {
    bytes: BytesMut,
}

/// Size of a piece: some hundred sets.
const PIECE_BYTES: usize = 32 << 10;

impl Default for LabelArena {
    fn default() -> Self {
        Self::with_capacity(PIECE_BYTES)
    }
}

impl LabelArena {
    fn with_capacity(bytes: usize) -> Self {
        Self {
            bytes: BytesMut::with_capacity(bytes),
        }
    }

    /// As [`Labels::from_sorted`].
    ///
    /// # Errors
    /// As [`Labels::from_sorted`].
    #[allow(
        clippy::wrong_self_convention,
        reason = "it makes a set in `self`, as the function of that name makes one alone"
    )]
    pub fn from_sorted<'a>(
        &mut self,
        labels: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Result<Labels> {
        self.collect(labels, false)
    }

    fn collect<'a>(
        &mut self,
        labels: impl IntoIterator<Item = (&'a str, &'a str)>,
        keeps_empty: bool,
    ) -> Result<Labels> {
        self.bytes.clear();
        let mut last = "";
        for (name, value) in labels {
            if name <= last {
                return Err(out_of_order(last, name, value));
            }
            last = name;
            if keeps_empty || !value.is_empty() {
                self.put(name);
                self.put(value);
            }
        }
        Ok(Labels(self.bytes.split().freeze()))
    }

    #[inline]
    fn put(&mut self, text: &str) {
        let mut len = text.len();
        while len >= 0x80 {
            self.bytes.put_u8(len as u8 | 0x80);
            len >>= 7;
        }
        self.bytes.put_u8(len as u8);
        self.bytes.extend_from_slice(text.as_bytes());
    }
}

#[cold]
fn out_of_order(last: &str, name: &str, value: &str) -> Error {
    Error::InvalidInput(if name.is_empty() {
        format!("label with value {value:?} has no name")
    } else if name == last {
        format!("duplicate label name {name:?}")
    } else {
        format!("label name {name:?} stands after {last:?}, must be sorted")
    })
}

/// [`Labels::stable_hash`] of labels that are already sorted.
pub fn stable_hash<'a>(labels: impl Iterator<Item = (&'a str, &'a str)>) -> u64 {
    let mut hash = Xxh64::new(0);
    for (name, value) in labels {
        hash.update(name.as_bytes());
        hash.update(&[0xff]);
        hash.update(value.as_bytes());
        hash.update(&[0xff]);
    }
    hash.digest()
}

const BROKEN: &str = "label sets are encoded by their builder";

/// A name or a value, not looked at as text.
fn next_text<'a>(reader: &mut Reader<'a>) -> &'a [u8] {
    reader.bytes().expect(BROKEN)
}

/// From so many bytes on the length of a text takes three.
const LENGTHS_OF_THREE_BYTES: usize = 1 << 14;

/// Labels one by one.
#[derive(Clone)]
enum LabelIter<'a> {
    /// The rest of a set whose lengths all take one byte, so that the whole of it is UTF-8 and was looked at once.
    Text(&'a str),
    Bytes(Reader<'a>),
}

impl<'a> LabelIter<'a> {
    fn of(set: &'a [u8]) -> Self {
        // A length of two bytes begins with one above 0x7f and ends with one below 0x80, which no text has; one of three may be a text.
        match std::str::from_utf8(set) {
            Ok(text) if text.len() < LENGTHS_OF_THREE_BYTES => Self::Text(text),
            _ => Self::Bytes(Reader::new("label set", set)),
        }
    }
}

/// The name or value at the front of a text; what is behind it.
fn split_text(text: &str) -> (&str, &str) {
    let len = usize::from(text.as_bytes()[0]);
    text[1..].split_at(len)
}

impl<'a> Iterator for LabelIter<'a> {
    type Item = (&'a str, &'a str);

    fn next(&mut self) -> Option<Self::Item> {
        match self {
            Self::Text("") => None,
            Self::Text(rest) => {
                let (name, behind) = split_text(rest);
                let (value, behind) = split_text(behind);
                *rest = behind;
                Some((name, value))
            }
            Self::Bytes(reader) if reader.is_empty() => None,
            Self::Bytes(reader) => {
                let mut text = || reader.str().expect(BROKEN);
                Some((text(), text()))
            }
        }
    }
}

impl Ord for Labels {
    fn cmp(&self, other: &Self) -> Ordering {
        let (a, b) = (self.0.as_ref(), other.0.as_ref());
        let differs = first_difference(a, b);
        if differs == a.len().min(b.len()) {
            return a.len().cmp(&b.len());
        }
        // Both are laid out alike up to the text with the difference. The order of UTF-8 is that of its bytes.
        let mut at = 0;
        loop {
            let text = text_at(a, at);
            if differs < text.start {
                return a[text].cmp(&b[text_at(b, at)]);
            }
            if differs < text.end {
                return a[differs].cmp(&b[differs]);
            }
            at = text.end;
        }
    }
}

/// Where `a` and `b` begin to differ; the length of the shorter one if they do not before.
fn first_difference(a: &[u8], b: &[u8]) -> usize {
    let words = a.as_chunks::<8>().0.iter().zip(b.as_chunks::<8>().0);
    let mut at = 0;
    for (x, y) in words {
        let differs = u64::from_le_bytes(*x) ^ u64::from_le_bytes(*y);
        if differs != 0 {
            return at + differs.trailing_zeros() as usize / 8;
        }
        at += 8;
    }
    let rest = a[at..].iter().zip(&b[at..]);
    at + rest.take_while(|(x, y)| x == y).count()
}

/// Where the text stands whose length stands at `at`.
fn text_at(bytes: &[u8], at: usize) -> std::ops::Range<usize> {
    let short = usize::from(bytes[at]);
    if short < 0x80 {
        return at + 1..at + 1 + short;
    }
    let mut reader = Reader::new("label set", &bytes[at..]);
    let len = reader.length().expect(BROKEN);
    let start = at + reader.position();
    start..start + len
}

impl PartialOrd for Labels {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for Labels {
    /// As PromQL writes it: `{a="b", c="d"}`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("{")?;
        for (i, (name, value)) in self.iter().enumerate() {
            if i > 0 {
                f.write_str(", ")?;
            }
            write!(f, "{name}={value:?}")?;
        }
        f.write_str("}")
    }
}

impl fmt::Debug for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Labels({self})")
    }
}

/// As the query APIs write it: a map of names and values, in order.
impl Serialize for Labels {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_map(self.iter())
    }
}

/// Collects labels in any order.
#[derive(Debug, Clone, Default)]
pub struct LabelBuilder {
    pairs: Vec<(String, String)>,
}

impl LabelBuilder {
    /// A builder that starts with the labels of `base`.
    pub fn from_labels(base: &Labels) -> Self {
        Self {
            pairs: base
                .iter()
                .map(|(n, v)| (n.to_owned(), v.to_owned()))
                .collect(),
        }
    }

    /// Adds a label; doubles are found by [`LabelBuilder::build`].
    pub fn push(&mut self, name: &str, value: &str) -> &mut Self {
        self.pairs.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Sets a label, replacing an earlier value; an empty value removes it.
    pub fn set(&mut self, name: &str, value: &str) -> &mut Self {
        self.remove(name);
        self.push(name, value)
    }

    /// Removes a label.
    pub fn remove(&mut self, name: &str) -> &mut Self {
        self.pairs.retain(|(n, _)| n != name);
        self
    }

    /// The label set.
    ///
    /// # Errors
    /// `InvalidInput` when a name is empty or stands twice.
    pub fn build(&mut self) -> Result<Labels> {
        self.pairs.retain(|(_, v)| !v.is_empty());
        self.pairs.sort_unstable();
        let mut bytes =
            Vec::with_capacity(self.pairs.iter().map(|(n, v)| n.len() + v.len() + 4).sum());
        let mut last: Option<&str> = None;
        for (name, value) in &self.pairs {
            if name.is_empty() {
                return Err(Error::InvalidInput(format!(
                    "label with value {value:?} has no name"
                )));
            }
            if last == Some(name) {
                return Err(Error::InvalidInput(format!(
                    "duplicate label name {name:?}"
                )));
            }
            last = Some(name);
            put_bytes(&mut bytes, name.as_bytes());
            put_bytes(&mut bytes, value.as_bytes());
        }
        Ok(Labels(bytes.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_are_sorted_and_empty_values_dropped() {
        let l = Labels::from_pairs([("b", "2"), ("a", "1"), ("c", "")]).unwrap();
        assert_eq!(l.iter().collect::<Vec<_>>(), [("a", "1"), ("b", "2")]);
        assert_eq!(l.to_string(), r#"{a="1", b="2"}"#);
        assert_eq!(serde_json::to_string(&l).unwrap(), r#"{"a":"1","b":"2"}"#);
        assert!(Labels::from_pairs([("a", "1"), ("a", "2")]).is_err());
        assert!(Labels::from_pairs([("", "1")]).is_err());
    }

    #[test]
    fn sorted_labels_are_checked_and_not_sorted() {
        let sorted = Labels::from_sorted([("a", "1"), ("b", ""), ("c", "2")]).unwrap();
        assert_eq!(
            sorted,
            Labels::from_pairs([("c", "2"), ("a", "1")]).unwrap()
        );
        for (bad, wanted) in [
            ([("b", "1"), ("a", "2")], "must be sorted"),
            ([("a", "1"), ("a", "2")], "duplicate"),
            ([("", "1"), ("a", "2")], "no name"),
        ] {
            let error = Labels::from_sorted(bad).unwrap_err().to_string();
            assert!(error.contains(wanted), "{error}");
        }
        assert_eq!(Labels::from_sorted([]).unwrap(), Labels::empty());
    }

    #[test]
    fn the_stable_hash_is_the_published_one() {
        assert_eq!(Labels::empty().stable_hash(), 0xef46_db37_51d8_e999);
        let l = Labels::from_pairs([("hello", "world")]).unwrap();
        assert_eq!(l.stable_hash(), 0x347c_8ee7_a9e2_9708);
    }

    proptest::proptest! {
        #[test]
        fn sets_are_ordered_label_by_label(
            a in proptest::collection::vec(("[ab]{1,2}", "[a-c]{1,3}|é|x{126,130}"), 0..5),
            b in proptest::collection::vec(("[ab]{1,2}", "[a-c]{1,3}|é|x{126,130}"), 0..5),
        ) {
            let set = |pairs: Vec<(String, String)>| {
                let unique: std::collections::BTreeMap<_, _> = pairs.into_iter().collect();
                Labels::from_pairs(unique).unwrap()
            };
            let (a, b) = (set(a), set(b));
            proptest::prop_assert_eq!(a.cmp(&b), a.iter().cmp(b.iter()));
        }
    }

    #[test]
    fn labels_of_any_length_come_back() {
        // The length 21,699 is written as three bytes that are a text themselves.
        for len in [
            1, 126, 127, 128, 129, 255, 256, 16_383, 16_384, 21_699, 70_000,
        ] {
            for text in ["x".repeat(len), "é".repeat(len / 2 + 1)] {
                let pairs = [("a", "1"), (&*text, "v"), ("zz", &*text), ("zzz", "é")];
                let set = Labels::from_pairs(pairs).unwrap();
                let mut wanted = pairs;
                wanted.sort_unstable();
                assert!(set.iter().eq(wanted), "{len}");
            }
        }
    }

    #[test]
    fn a_prefix_sorts_first() {
        let short = Labels::from_pairs([("a", "1")]).unwrap();
        let long = Labels::from_pairs([("a", "1"), ("b", "1")]).unwrap();
        assert!(short < long && Labels::empty() < short);
    }
}
