//! The labels of one entry on its way through a pipeline.

use std::ops::Range;

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

/// A label, its texts in the arena.
#[derive(Debug, Clone)]
struct Field {
    name: Range<usize>,
    value: Range<usize>,
    source: FieldSource,
}

/// The labels of one entry. Emptied and filled for each; allocates only while its buffers grow.
#[derive(Debug, Default)]
pub(crate) struct EntryLabels {
    /// Stream labels that were dropped or taken over, by place.
    removed: Vec<bool>,
    any_removed: bool,
    fields: Vec<Field>,
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

    fn position(&self, name: &str) -> Option<usize> {
        self.fields
            .iter()
            .position(|f| f.name.len() == name.len() && self.text(&f.name) == name)
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
        self.fields.push(Field {
            name,
            value,
            source: FieldSource::Metadata,
        });
    }

    /// Whether stream or metadata have the name, so that what is parsed must go by another.
    pub(crate) fn is_taken(&self, stream: &StreamLabels, name: &str) -> bool {
        stream.has(name)
            || self.fields.iter().any(|f| {
                f.source == FieldSource::Metadata
                    && f.name.len() == name.len()
                    && self.text(&f.name) == name
            })
    }

    /// Adds a label that a parser found, whose final name this is; the first of a name stays. Metadata of that name give way.
    pub(crate) fn add_parsed(&mut self, name: &str, value: &str) -> Added {
        if let Some(at) = self.position(name) {
            if self.fields[at].source == FieldSource::Parsed {
                return Added::Known;
            }
            self.fields.remove(at);
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
        self.fields.push(Field {
            name,
            value,
            source: FieldSource::Parsed,
        });
    }

    /// Sets a label that a parser found, over an earlier one.
    pub(crate) fn set_parsed(&mut self, name: &str, value: &str) {
        if let Some(at) = self.position(name) {
            self.fields.remove(at);
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
            self.fields.remove(at);
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
        self.fields.is_empty()
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
        let fields = self.fields.iter();
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
        for f in &self.fields {
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
