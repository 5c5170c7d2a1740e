//! The label set of a point: put together from attributes, resource and scope, sorted, and written as the batch spells labels.
//!
//! All text stands in one buffer that is kept from point to point; a label is two ranges of it. What belongs to the resource and
//! the scope is written once and stays while their points come by.

use std::ops::Range;

use lgtm_core::DecodeError;
use lgtm_core::model::METRIC_NAME;

use super::attributes::Attribute;
use super::names::TranslationStrategy;
use crate::wire::raw_labels::RawLabelsBuilder;

/// What a label comes from; where two have one name, the greater wins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Source {
    /// A resource attribute that the settings promote.
    Promoted,
    Attribute,
    Scope,
    /// `job` and `instance`.
    Target,
}

#[derive(Debug, Clone)]
struct Label {
    name: Range<u32>,
    value: Range<u32>,
    source: Source,
    /// The attribute's own key: decides the order in which values of one name are joined.
    key: Range<u32>,
}

/// The labels of the point at hand.
#[derive(Debug, Default)]
pub(super) struct PointLabels {
    text: String,
    labels: Vec<Label>,
    /// Lengths of `text` and `labels` that belong to resource and scope.
    kept: (usize, usize),
    order: Vec<usize>,
    /// Names and values, settled.
    sorted: Vec<(Range<u32>, Range<u32>)>,
}

impl PointLabels {
    /// Forgets everything.
    pub(super) fn clear(&mut self) {
        self.text.clear();
        self.labels.clear();
        self.sorted.clear();
        self.kept = (0, 0);
    }

    /// Forgets what came after [`PointLabels::keep`].
    pub(super) fn begin_point(&mut self) {
        self.text.truncate(self.kept.0);
        self.labels.truncate(self.kept.1);
    }

    /// What is here now stays for the points to come.
    pub(super) fn keep(&mut self) {
        self.kept = (self.text.len(), self.labels.len());
    }

    /// Where the kept part ends, to be given to [`PointLabels::keep_only`].
    pub(super) fn kept(&self) -> (usize, usize) {
        self.kept
    }

    /// Goes back to an earlier kept part.
    pub(super) fn keep_only(&mut self, kept: (usize, usize)) {
        self.kept = kept;
        self.begin_point();
    }

    /// Adds an attribute under its translated name.
    pub(super) fn push_attribute(
        &mut self,
        attribute: &Attribute<'_>,
        source: Source,
        strategy: TranslationStrategy,
    ) -> Result<(), DecodeError> {
        let from = self.text.len() as u32;
        self.text.push_str(attribute.key);
        let key = from..self.text.len() as u32;
        strategy.push_label_name(attribute.key, &mut self.text);
        let name = key.end..self.text.len() as u32;
        attribute.push_text(&mut self.text)?;
        let value = name.end..self.text.len() as u32;
        self.labels.push(Label {
            name,
            value,
            source,
            key,
        });
        Ok(())
    }

    /// Adds a label under a name that needs no translation.
    pub(super) fn push(&mut self, name: &str, value: &str, source: Source) {
        let from = self.text.len() as u32;
        self.text.push_str(name);
        let middle = self.text.len() as u32;
        self.text.push_str(value);
        let to = self.text.len() as u32;
        self.labels.push(Label {
            name: from..middle,
            value: middle..to,
            source,
            key: from..from,
        });
    }

    /// Sorts the labels and settles who wins; to be called before [`PointLabels::write`].
    ///
    /// Attributes whose translated names are the same are joined with `;` in the order of their keys.
    pub(super) fn settle(&mut self) {
        let Self {
            text,
            labels,
            order,
            sorted,
            ..
        } = self;
        order.clear();
        order.extend(0..labels.len());
        order.sort_unstable_by(|a, b| {
            let (a, b) = (&labels[*a], &labels[*b]);
            let key = |l: &Label| (at(text, &l.name), at(text, &l.key));
            key(a)
                .0
                .cmp(key(b).0)
                .then(b.source.cmp(&a.source))
                .then(key(a).1.cmp(key(b).1))
        });
        sorted.clear();
        let same_name =
            |a: &usize, b: &usize| at(text, &labels[*a].name) == at(text, &labels[*b].name);
        let mut joins = Vec::new();
        for group in order.chunk_by(same_name) {
            let first = &labels[group[0]];
            let winners = group.iter().filter(|l| labels[**l].source == first.source);
            if winners.clone().count() > 1 && first.source == Source::Attribute {
                let values = winners.map(|l| labels[*l].value.clone());
                joins.push((sorted.len(), values.collect::<Vec<_>>()));
            }
            sorted.push((first.name.clone(), first.value.clone()));
        }
        for (place, values) in joins {
            let from = text.len() as u32;
            for (n, value) in values.into_iter().enumerate() {
                if n > 0 {
                    text.push(';');
                }
                text.extend_from_within(value.start as usize..value.end as usize);
            }
            sorted[place].1 = from..text.len() as u32;
        }
    }

    /// Appends the settled labels to `out` in the spelling of the batch, with the metric name (in two parts) and perhaps one label
    /// more; those two win over others of their names. Empty values are left out.
    pub(super) fn write(
        &self,
        name: &mut String,
        suffix: &str,
        more: Option<(&str, &str)>,
        out: &mut Vec<u8>,
    ) {
        let stem = name.len();
        name.push_str(suffix);
        let mut extra = [Some((METRIC_NAME, name.as_str())), more];
        extra.sort_unstable_by_key(|e| e.map(|(n, _)| n));
        let mut extra = extra.into_iter().flatten().peekable();
        for (label, value) in &self.sorted {
            let label = at(&self.text, label);
            while let Some((n, v)) = extra.next_if(|(n, _)| *n < label) {
                RawLabelsBuilder::push(n, v, out);
            }
            let value = at(&self.text, value);
            if extra.peek().is_none_or(|(n, _)| *n != label) && !value.is_empty() {
                RawLabelsBuilder::push(label, value, out);
            }
        }
        extra.for_each(|(n, v)| RawLabelsBuilder::push(n, v, out));
        name.truncate(stem);
    }
}

fn at<'t>(text: &'t str, r: &Range<u32>) -> &'t str {
    &text[r.start as usize..r.end as usize]
}
