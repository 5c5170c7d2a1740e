//! The label set of a point: put together from attributes, resource and scope, sorted, and written as the batch spells labels.
//!
//! All text stands in one buffer that is kept from point to point; a label is two ranges of it. What belongs to the resource and
//! the scope is written once and stays while their points come by.

use std::ops::Range;

use lgtm_core::Result;
use lgtm_core::codec::{Allowance, DecodeFail};
use lgtm_core::model::METRIC_NAME;
use lgtm_core::otlp::Attribute;

use super::names::TranslationStrategy;
use crate::wire::label_bounds::{LabelBounds, over};
use crate::wire::raw_labels::RawLabelsBuilder;

/// Bytes that a label takes besides its name and value: three tags, three lengths.
const LABEL_OVERHEAD: usize = 3 + 3 * 5;

/// What a label comes from; where two have one name, the greater wins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum LabelSource {
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
    source: LabelSource,
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
    settled: Settled,
}

/// What is known of the settled labels without looking at them again.
#[derive(Debug, Clone, Copy, Default)]
struct Settled {
    /// Labels with a value.
    count: usize,
    /// Most bytes that they take when they are written.
    bytes: usize,
    /// Whether names or values are too long.
    too_long: bool,
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
        source: LabelSource,
        strategy: TranslationStrategy,
        allowance: &mut Allowance<'_>,
    ) -> std::result::Result<(), DecodeFail> {
        // The key, and the name: as long, perhaps with `key_` before it.
        allowance.reserve_text(&mut self.text, 2 * attribute.key.len() + 4)?;
        let from = self.text.len() as u32;
        self.text.push_str(attribute.key);
        let key = from..self.text.len() as u32;
        strategy.push_label_name(attribute.key, &mut self.text);
        let name = key.end..self.text.len() as u32;
        attribute.push_text(&mut self.text, allowance)?;
        let value = name.end..self.text.len() as u32;
        let label = Label {
            name,
            value,
            source,
            key,
        };
        Ok(allowance.push(&mut self.labels, label)?)
    }

    /// Adds a label under a name that needs no translation.
    pub(super) fn push(
        &mut self,
        name: &str,
        value: &str,
        source: LabelSource,
        allowance: &mut Allowance<'_>,
    ) -> Result<()> {
        allowance.reserve_text(&mut self.text, name.len() + value.len())?;
        let from = self.text.len() as u32;
        self.text.push_str(name);
        let middle = self.text.len() as u32;
        self.text.push_str(value);
        let to = self.text.len() as u32;
        let label = Label {
            name: from..middle,
            value: middle..to,
            source,
            key: from..from,
        };
        allowance.push(&mut self.labels, label)
    }

    /// Sorts the labels and settles who wins; to be called before [`PointLabels::write`].
    ///
    /// Attributes whose translated names are the same are joined with `;` in the order of their keys.
    pub(super) fn settle(
        &mut self,
        bounds: &LabelBounds,
        allowance: &mut Allowance<'_>,
    ) -> Result<()> {
        let Self {
            text,
            labels,
            order,
            sorted,
            settled,
            ..
        } = self;
        order.clear();
        allowance.reserve(order, labels.len())?;
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
        allowance.reserve(sorted, labels.len())?;
        let same_name =
            |a: &usize, b: &usize| at(text, &labels[*a].name) == at(text, &labels[*b].name);
        let mut joins = Vec::new();
        for group in order.chunk_by(same_name) {
            let first = &labels[group[0]];
            let winners = group.iter().filter(|l| labels[**l].source == first.source);
            if winners.clone().count() > 1 && first.source == LabelSource::Attribute {
                // A range each, and what a list of them takes.
                allowance.scratch(labels.len() * 48)?;
                let values = winners.map(|l| labels[*l].value.clone());
                joins.push((sorted.len(), values.collect::<Vec<_>>()));
            }
            sorted.push((first.name.clone(), first.value.clone()));
        }
        for (place, values) in joins {
            let joined = values.iter().map(|v| v.len() + 1).sum();
            allowance.reserve_text(text, joined)?;
            let from = text.len() as u32;
            for value in values {
                // An empty value in front is no value.
                if text.len() as u32 > from {
                    text.push(';');
                }
                text.extend_from_within(value.start as usize..value.end as usize);
            }
            sorted[place].1 = from..text.len() as u32;
        }
        *settled = Settled::default();
        for (name, value) in sorted.iter().filter(|(_, value)| !value.is_empty()) {
            settled.count += 1;
            settled.bytes += name.len() + value.len() + LABEL_OVERHEAD;
            settled.too_long |= over(name.len(), bounds.max_name_bytes)
                || over(value.len(), bounds.max_value_bytes);
        }
        Ok(())
    }

    /// Calls `f` with the settled labels in order, with the metric name and perhaps one label more; those two win over others of their
    /// names. Empty values are left out.
    fn each<'t>(
        &'t self,
        name: &'t str,
        more: Option<(&'t str, &'t str)>,
        mut f: impl FnMut(&'t str, &'t str),
    ) {
        let mut extra = [Some((METRIC_NAME, name)), more];
        extra.sort_unstable_by_key(|e| e.map(|(n, _)| n));
        let mut extra = extra.into_iter().flatten().peekable();
        for (label, value) in &self.sorted {
            let label = at(&self.text, label);
            while let Some((n, v)) = extra.next_if(|(n, _)| *n < label) {
                f(n, v);
            }
            let value = at(&self.text, value);
            if extra.peek().is_none_or(|(n, _)| *n != label) && !value.is_empty() {
                f(label, value);
            }
        }
        extra.for_each(|(n, v)| f(n, v));
    }

    /// The rule that the settled labels break, with name and label as in [`PointLabels::write`]. Costs nothing when they are far from all
    /// bounds.
    pub(super) fn broken(
        &self,
        name: &str,
        more: Option<(&str, &str)>,
        bounds: &LabelBounds,
    ) -> Option<&'static str> {
        let Settled {
            count, too_long, ..
        } = self.settled;
        if !too_long
            && !over(name.len(), bounds.max_value_bytes)
            && !over(count + 2, bounds.max_names)
        {
            return None;
        }
        bounds.broken(self.all(name, more).into_iter())
    }

    /// What of the labels breaks a rule, in words.
    pub(super) fn fault(
        &self,
        name: &str,
        more: Option<(&str, &str)>,
        bounds: &LabelBounds,
    ) -> String {
        match bounds.check(self.all(name, more).into_iter()) {
            Err(fault) => fault.message,
            Ok(()) => "its labels are out of bounds".to_owned(),
        }
    }

    fn all<'t>(
        &'t self,
        name: &'t str,
        more: Option<(&'t str, &'t str)>,
    ) -> Vec<(&'t str, &'t str)> {
        let mut all = Vec::new();
        self.each(name, more, |n, v| all.push((n, v)));
        all
    }

    /// Appends the settled labels to `out` in the spelling of the batch, with the metric name and perhaps one label more.
    pub(super) fn write(
        &self,
        name: &str,
        more: Option<(&str, &str)>,
        out: &mut Vec<u8>,
        allowance: &mut Allowance<'_>,
    ) -> Result<()> {
        let more_bytes = more.map_or(0, |(n, v)| n.len() + v.len());
        let extra = METRIC_NAME.len() + name.len() + more_bytes + 2 * LABEL_OVERHEAD;
        allowance.reserve(out, self.settled.bytes + extra)?;
        self.each(name, more, |n, v| RawLabelsBuilder::push(n, v, out));
        Ok(())
    }
}

fn at<'t>(text: &'t str, r: &Range<u32>) -> &'t str {
    &text[r.start as usize..r.end as usize]
}
