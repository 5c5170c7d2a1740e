//! The labels of one entry on its way through a pipeline.

use std::hash::{BuildHasher, RandomState};
use std::ops::Range;

use hashbrown::HashTable;
use lgtm_core::model::Labels;

/// Why a stage could not do its work, as the label `__error__` has it.
pub(crate) const ERROR: &str = "__error__";
/// The same in words.
pub(crate) const ERROR_DETAILS: &str = "__error_details__";

/// The labels of a stream, split once.
#[derive(Debug, Clone)]
pub(crate) struct StreamLabels {
    labels: Labels,
    pairs: Vec<(Box<str>, Box<str>)>,
}

impl StreamLabels {
    pub(crate) fn new(labels: &Labels) -> Self {
        Self {
            labels: labels.clone(),
            pairs: labels.iter().map(|(n, v)| (n.into(), v.into())).collect(),
        }
    }

    pub(crate) fn labels(&self) -> &Labels {
        &self.labels
    }

    fn position(&self, name: &str) -> Option<usize> {
        self.pairs.iter().position(|(n, _)| **n == *name)
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.position(name).is_some()
    }
}

/// Where a label comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FieldSource {
    /// Stored with the entry.
    Metadata,
    /// Made by the pipeline.
    Parsed,
}

/// Labels up to which a name is looked for one by one, which is faster for few.
const FEW: usize = 32;

/// A label, its texts in the arena.
#[derive(Debug, Clone)]
struct Field {
    name: Range<usize>,
    value: Range<usize>,
    source: FieldSource,
    /// Whether it was taken out again.
    is_gone: bool,
}

/// The labels of one entry. Emptied and filled for each; allocates only while its buffers grow.
///
/// A line may have tens of thousands of labels: beyond a few, names are found by hash.
#[derive(Debug, Default)]
pub(crate) struct EntryLabels {
    /// Stream labels that were dropped or taken over, by place.
    removed: Vec<bool>,
    any_removed: bool,
    fields: Vec<Field>,
    /// Fields by their names, those that are gone among them; empty while there are few.
    by_name: HashTable<u32>,
    hasher: RandomState,
    /// Names that were compared so far.
    #[cfg(test)]
    compared: std::cell::Cell<u64>,
    arena: String,
    error: Option<&'static str>,
    details: String,
}

/// What adding a label came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Added {
    /// It is there.
    New,
    /// An earlier one has the name.
    Known,
}

impl EntryLabels {
    /// Empties it for an entry of a stream.
    pub(crate) fn reset(&mut self, stream: &StreamLabels) {
        if self.any_removed || self.removed.len() != stream.pairs.len() {
            self.removed.clear();
            self.removed.resize(stream.pairs.len(), false);
            self.any_removed = false;
        }
        self.fields.clear();
        self.by_name.clear();
        self.arena.clear();
        self.error = None;
        self.details.clear();
    }

    fn text(&self, range: &Range<usize>) -> &str {
        &self.arena[range.clone()]
    }

    fn push_text(&mut self, text: &str) -> Range<usize> {
        let start = self.arena.len();
        self.arena.push_str(text);
        start..self.arena.len()
    }

    fn is_named(&self, field: &Field, name: &str) -> bool {
        #[cfg(test)]
        self.compared.set(self.compared.get() + 1);
        !field.is_gone && field.name.len() == name.len() && self.text(&field.name) == name
    }

    /// The first field of a name, of those that pass.
    fn find(&self, name: &str, passes: impl Fn(&Field) -> bool) -> Option<usize> {
        let is_it = |f: &Field| self.is_named(f, name) && passes(f);
        if self.by_name.is_empty() {
            return self.fields.iter().position(is_it);
        }
        let hash = self.hasher.hash_one(name);
        let places = self.by_name.iter_hash(hash).map(|at| *at as usize);
        places.filter(|at| is_it(&self.fields[*at])).min()
    }

    fn position(&self, name: &str) -> Option<usize> {
        self.find(name, |_| true)
    }

    /// Adds a field, whatever there is.
    fn add(&mut self, field: Field) {
        self.fields.push(field);
        let known = if self.by_name.is_empty() {
            0
        } else {
            self.fields.len() - 1
        };
        if self.fields.len() <= FEW {
            return;
        }
        let (fields, arena, hasher) = (&self.fields, &self.arena, &self.hasher);
        let hash = |at: &u32| hasher.hash_one(&arena[fields[*at as usize].name.clone()]);
        for at in known..fields.len() {
            // A line has no more bytes.
            let at = u32::try_from(at).unwrap_or(u32::MAX);
            self.by_name.insert_unique(hash(&at), at, hash);
        }
    }

    /// Takes a field out.
    fn take_out(&mut self, at: usize) {
        if self.by_name.is_empty() {
            self.fields.remove(at);
        } else {
            self.fields[at].is_gone = true;
        }
    }

    fn live(&self) -> impl Iterator<Item = &Field> {
        self.fields.iter().filter(|f| !f.is_gone)
    }

    /// Adds structured metadata of the entry; one that has the name of a stream label goes by `<name>_extracted`.
    pub(crate) fn add_metadata(&mut self, stream: &StreamLabels, name: &str, value: &str) {
        let start = self.arena.len();
        self.arena.push_str(name);
        if stream.has(name) {
            self.arena.push_str("_extracted");
        }
        let name = start..self.arena.len();
        let value = self.push_text(value);
        self.add(Field {
            name,
            value,
            source: FieldSource::Metadata,
            is_gone: false,
        });
    }

    /// Whether stream or metadata have the name, so that what is parsed must go by another.
    pub(crate) fn is_taken(&self, stream: &StreamLabels, name: &str) -> bool {
        let is_metadata = |f: &Field| f.source == FieldSource::Metadata;
        stream.has(name) || self.find(name, is_metadata).is_some()
    }

    /// Adds a label that a parser found, whose final name this is; the first of a name stays. Metadata of that name give way.
    pub(crate) fn add_parsed(&mut self, name: &str, value: &str) -> Added {
        if let Some(at) = self.position(name) {
            if self.fields[at].source == FieldSource::Parsed {
                return Added::Known;
            }
            self.take_out(at);
        }
        self.push(name, value);
        Added::New
    }

    /// Whether a parser or format has made the label.
    pub(crate) fn has_parsed(&self, name: &str) -> bool {
        self.position(name)
            .is_some_and(|at| self.fields[at].source == FieldSource::Parsed)
    }

    fn push(&mut self, name: &str, value: &str) {
        let name = self.push_text(name);
        let value = self.push_text(value);
        self.add(Field {
            name,
            value,
            source: FieldSource::Parsed,
            is_gone: false,
        });
    }

    /// Sets a label that a parser found, over an earlier one.
    pub(crate) fn set_parsed(&mut self, name: &str, value: &str) {
        if let Some(at) = self.position(name) {
            self.take_out(at);
        }
        self.push(name, value);
    }

    /// Sets a label, whatever had the name before.
    pub(crate) fn set(&mut self, stream: &StreamLabels, name: &str, value: &str) {
        self.remove(stream, name);
        self.push(name, value);
    }

    /// Removes a label.
    pub(crate) fn remove(&mut self, stream: &StreamLabels, name: &str) {
        match name {
            ERROR => self.error = None,
            ERROR_DETAILS => self.details.clear(),
            _ => {}
        }
        if let Some(at) = stream.position(name) {
            self.removed[at] = true;
            self.any_removed = true;
        }
        if let Some(at) = self.position(name) {
            self.take_out(at);
        }
    }

    /// The value of a label, errors included.
    pub(crate) fn get<'s>(&'s self, stream: &'s StreamLabels, name: &str) -> Option<&'s str> {
        if let Some(at) = self.position(name) {
            return Some(self.text(&self.fields[at].value));
        }
        if let Some(at) = stream.position(name) {
            return (!self.removed[at]).then(|| &*stream.pairs[at].1);
        }
        match name {
            ERROR => self.error,
            ERROR_DETAILS => (!self.details.is_empty()).then_some(&*self.details),
            _ => None,
        }
    }

    /// Sets the error.
    pub(crate) fn set_error(&mut self, error: &'static str, details: impl AsRef<str>) {
        self.error = Some(error);
        self.details.clear();
        self.details.push_str(details.as_ref());
    }

    pub(crate) fn has_error(&self) -> bool {
        self.error.is_some()
    }

    /// Whether nothing but the stream's own labels is there.
    pub(crate) fn are_the_stream_s(&self) -> bool {
        self.live().next().is_none()
            && !self.any_removed
            && self.error.is_none()
            && self.details.is_empty()
    }

    /// All labels: name, value, and where they come from if not from the stream. In no order.
    pub(crate) fn iter<'s>(
        &'s self,
        stream: &'s StreamLabels,
    ) -> impl Iterator<Item = (&'s str, &'s str, Option<FieldSource>)> {
        let kept = stream.pairs.iter().zip(&self.removed);
        let own = kept.filter(|(_, removed)| !**removed);
        let own = own.map(|((n, v), _)| (&**n, &**v, None));
        let fields = self.live();
        let fields = fields.map(|f| (self.text(&f.name), self.text(&f.value), Some(f.source)));
        let error = self.error.map(|e| (ERROR, e, Some(FieldSource::Parsed)));
        let details = (!self.details.is_empty())
            .then(|| (ERROR_DETAILS, &*self.details, Some(FieldSource::Parsed)));
        own.chain(fields).chain(error).chain(details)
    }

    /// Writes what tells the label set, without those of which `hidden` is true, from others of the same stream: equal sets may give
    /// different bytes, different sets never equal ones.
    pub(crate) fn key(&self, hidden: impl Fn(&str) -> bool, out: &mut Vec<u8>) {
        fn put(out: &mut Vec<u8>, text: &str) {
            out.extend_from_slice(&(text.len() as u32).to_le_bytes());
            out.extend_from_slice(text.as_bytes());
        }
        for f in self.live() {
            let name = self.text(&f.name);
            if !hidden(name) {
                out.push(f.source as u8);
                put(out, name);
                put(out, self.text(&f.value));
            }
        }
        if self.error.is_some() || !self.details.is_empty() {
            out.push(u8::MAX);
            put(out, self.error.unwrap_or(""));
            put(out, &self.details);
        }
        if self.any_removed {
            out.push(u8::MAX - 1);
            out.extend(self.removed.iter().map(|r| u8::from(*r)));
        }
    }

    /// The label set, sorted, without those of which `hidden` is true.
    pub(crate) fn to_labels(
        &self,
        stream: &StreamLabels,
        hidden: impl Fn(&str, Option<FieldSource>) -> bool,
    ) -> Labels {
        let mut pairs: Vec<(&str, &str)> = self
            .iter(stream)
            .filter(|(name, _, source)| !name.is_empty() && !hidden(name, *source))
            .map(|(name, value, _)| (name, value))
            .collect();
        pairs.sort_by_key(|p| p.0);
        pairs.dedup_by_key(|p| p.0);
        Labels::from_sorted_keeping_empty(pairs).unwrap_or_default()
    }
}

/// A name as a label may have it: each character that is no letter, digit or `_` becomes one, a leading digit gets one before it.
/// Appends to `out`; false, and nothing is appended, for a blank name.
pub(crate) fn push_sanitized(out: &mut String, name: &str, is_first: bool) -> bool {
    let name = name.trim();
    if name.is_empty() {
        return false;
    }
    if is_first && name.as_bytes()[0].is_ascii_digit() {
        out.push('_');
    }
    if name.bytes().all(|b| b == b'_' || b.is_ascii_alphanumeric()) {
        out.push_str(name);
    } else {
        let is_fine = |c: &char| *c == '_' || c.is_ascii_alphanumeric();
        out.extend(name.chars().map(|c| if is_fine(&c) { c } else { '_' }));
    }
    true
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn sorted(labels: &EntryLabels, stream: &StreamLabels) -> Vec<(String, String)> {
        let all = labels.to_labels(stream, |_, _| false);
        let all = all.iter().map(|(n, v)| (n.to_owned(), v.to_owned()));
        all.collect()
    }

    /// Comparisons of names that a line of so many fields costs.
    fn compared(fields: usize) -> u64 {
        let stream = StreamLabels::new(&Labels::from_pairs([("app", "a")]).unwrap());
        let mut labels = EntryLabels::default();
        labels.reset(&stream);
        labels.add_metadata(&stream, "trace", "t");
        for n in 0..fields {
            let name = format!("field_{n}");
            assert!(!labels.is_taken(&stream, &name));
            assert_eq!(labels.add_parsed(&name, "v"), Added::New);
            assert_eq!(labels.add_parsed(&name, "w"), Added::Known);
            assert_eq!(labels.get(&stream, &name), Some("v"));
        }
        for n in 0..fields {
            labels.set(&stream, &format!("field_{n}"), "w");
        }
        labels.compared.get()
    }

    #[test]
    fn what_a_field_costs_does_not_go_by_how_many_there_are() {
        for fields in [100, 20_000] {
            let each = compared(fields) / fields as u64;
            // Each is looked for five times; the first few one by one.
            assert!(each < 50, "{fields}: {each} comparisons a field");
        }
    }

    #[derive(Debug, Clone)]
    enum Op {
        Metadata(u8),
        Parsed(u8),
        SetParsed(u8),
        Set(u8),
        Remove(u8),
    }

    proptest! {
        /// Few names and many, so that some have few labels and others many, with names that come again.
        #[test]
        fn labels_are_those_of_a_map(
            metadata in prop::collection::btree_set(0u8..80, 0..40),
            ops in prop::collection::vec(prop_oneof![
                (0u8..80).prop_map(Op::Parsed),
                (0u8..80).prop_map(Op::SetParsed),
                (0u8..80).prop_map(Op::Set),
                (0u8..80).prop_map(Op::Remove),
            ], 0..200),
        ) {
            let own = Labels::from_pairs([("n3", "own"), ("n77", "own")]).unwrap();
            let stream = StreamLabels::new(&own);
            let mut labels = EntryLabels::default();
            // What is left of the entry before must not show.
            for _ in 0..2 {
                labels.reset(&stream);
                let mut wanted: BTreeMap<String, (String, bool)> = BTreeMap::new();
                for (name, value) in own.iter() {
                    wanted.insert(name.to_owned(), (value.to_owned(), false));
                }
                let all = metadata.iter().map(|n| Op::Metadata(*n)).chain(ops.iter().cloned());
                for (value, op) in all.enumerate() {
                    let value = format!("v{value}");
                    match op {
                        Op::Metadata(n) => {
                            let name = format!("n{n}");
                            labels.add_metadata(&stream, &name, &value);
                            let taken = stream.has(&name);
                            let name = if taken { format!("{name}_extracted") } else { name };
                            wanted.insert(name, (value, false));
                        }
                        Op::Parsed(n) => {
                            let name = format!("n{n}");
                            if !stream.has(&name) {
                                let known = wanted.get(&name).is_some_and(|w| w.1);
                                let added = labels.add_parsed(&name, &value);
                                prop_assert_eq!(added == Added::Known, known);
                                if !known {
                                    wanted.insert(name, (value, true));
                                }
                            }
                        }
                        Op::SetParsed(n) => {
                            let name = format!("n{n}");
                            if !stream.has(&name) {
                                labels.set_parsed(&name, &value);
                                wanted.insert(name, (value, true));
                            }
                        }
                        Op::Set(n) => {
                            let name = format!("n{n}");
                            labels.set(&stream, &name, &value);
                            wanted.insert(name, (value, true));
                        }
                        Op::Remove(n) => {
                            let name = format!("n{n}");
                            labels.remove(&stream, &name);
                            wanted.remove(&name);
                        }
                    }
                }
                for n in 0..80 {
                    let name = format!("n{n}");
                    let got = labels.get(&stream, &name);
                    prop_assert_eq!(got, wanted.get(&name).map(|w| w.0.as_str()));
                    let is_parsed = wanted.get(&name).is_some_and(|w| w.1);
                    prop_assert_eq!(labels.has_parsed(&name), is_parsed);
                }
                let wanted = wanted.into_iter().map(|(n, (v, _))| (n, v));
                prop_assert_eq!(sorted(&labels, &stream), wanted.collect::<Vec<_>>());
            }
        }
    }
}
