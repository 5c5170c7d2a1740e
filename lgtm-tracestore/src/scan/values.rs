//! The values of a field by owner, borrowed from the decoded columns: texts stay numbers.

use std::borrow::Cow;
use std::ops::Range;

use lgtm_core::codec::{Allowance, DecodeFail};

use super::column_cache::KeyedList;
use super::decoded::{Decoded, bad, starts};
use super::field_plan::{FieldPlan, Need, Source};
use crate::schema::{AttributeLeaves, Column, ColumnValues, LeafIndex, Texts, parse_json};
use crate::select::alike;
use crate::trace::{NestedSets, ResourceSpans, ScopeSpans, Span, Trace, Value};

/// Stands for no text.
pub(super) const NO_TEXT: u32 = u32::MAX;

/// Values by owner. An owner has a value of one type at most.
#[derive(Debug, Default)]
pub(super) struct OwnerValues<'c> {
    pub(super) owners: usize,
    pub(super) texts: Option<TextValues<'c>>,
    pub(super) ints: Option<NumberValues<'c, i64>>,
    pub(super) floats: Option<NumberValues<'c, f64>>,
    pub(super) bools: Option<NumberValues<'c, bool>>,
    /// Arrays by owner.
    pub(super) arrays: Vec<(u32, Vec<Element<'c>>)>,
    /// Owners with a value that no query sees.
    pub(super) unseen: Vec<u32>,
    /// Owners that have something already; empty while there can be none.
    settled: Vec<bool>,
}

/// Texts as numbers into several dictionaries, one behind the other.
#[derive(Debug, Default)]
pub(super) struct TextValues<'c> {
    pub(super) dictionaries: Vec<&'c Texts>,
    /// By owner.
    pub(super) codes: Cow<'c, [u32]>,
    /// Entries of all dictionaries.
    len: u32,
}

/// Numbers by owner.
#[derive(Debug)]
pub(super) struct NumberValues<'c, T: Clone> {
    pub(super) values: Cow<'c, [T]>,
    /// Which owners have one; all if this is not there.
    pub(super) present: Option<Vec<bool>>,
}

/// An element of an array.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Element<'c> {
    Text(Cow<'c, [u8]>),
    Int(i64),
    Float(f64),
    Bool(bool),
}

impl<'c> TextValues<'c> {
    /// Adds a dictionary; what its numbers are moved by.
    fn add(&mut self, dictionary: &'c Texts) -> u32 {
        let base = self.len;
        self.dictionaries.push(dictionary);
        self.len = self.len.saturating_add(dictionary.len() as u32);
        base
    }

    /// Entries of all dictionaries.
    pub(super) fn len(&self) -> usize {
        self.len as usize
    }

    /// All entries, by number.
    pub(super) fn entries(&self) -> impl Iterator<Item = &'c [u8]> + use<'_, 'c> {
        self.dictionaries.iter().flat_map(|d| d.iter())
    }

    /// An entry.
    pub(super) fn entry(&self, code: u32) -> Option<&'c [u8]> {
        let mut code = code as usize;
        for dictionary in &self.dictionaries {
            if code < dictionary.len() {
                return Some(dictionary.get(code));
            }
            code -= dictionary.len();
        }
        None
    }
}

impl<T: Clone + Copy + Default> NumberValues<'_, T> {
    fn empty(owners: usize) -> Self {
        Self {
            values: vec![T::default(); owners].into(),
            present: Some(vec![false; owners]),
        }
    }

    fn set(&mut self, owner: usize, value: T) {
        let values = self.values.to_mut();
        if let (Some(to), Some(present)) = (values.get_mut(owner), &mut self.present) {
            *to = value;
            if let Some(present) = present.get_mut(owner) {
                *present = true;
            }
        }
    }
}

impl<'c> OwnerValues<'c> {
    /// The values of a field out of decoded columns, of which the needed types are there.
    pub(super) fn new(
        decoded: &'c Decoded,
        plan: &FieldPlan,
        need: Need,
        allowance: &mut Allowance<'_>,
    ) -> Result<Self, DecodeFail> {
        let mut out = Self {
            owners: decoded.count(plan.owner),
            ..Self::default()
        };
        let sources = plan.sources.iter();
        let sources: Vec<_> = sources
            .filter(|source| has_values(decoded, source, &plan.key))
            .collect();
        for (n, source) in sources.iter().enumerate() {
            if n + 1 < sources.len() && out.settled.is_empty() {
                allowance.take(out.owners)?;
                out.settled = vec![false; out.owners];
            }
            match source {
                Source::Flat(leaf) => out.add_flat(decoded.column(Some(*leaf)), plan)?,
                Source::Own(leaf) => out.add_own(decoded.column(Some(*leaf)), plan, allowance)?,
                Source::List(list) => out.add_list(decoded, list, plan, need, allowance)?,
                Source::ChildCount { id, parent, kind } => {
                    out.add_child_counts(decoded, [*id, *parent, *kind])?;
                }
                Source::EventTime { time, start } => out.add_event_times(decoded, *time, *start)?,
            }
        }
        Ok(out)
    }

    fn is_settled(&self, owner: usize) -> bool {
        self.settled.get(owner).copied().unwrap_or(false)
    }

    fn settle(&mut self, owner: usize) {
        if let Some(settled) = self.settled.get_mut(owner) {
            *settled = true;
        }
    }

    /// Text values to be set one by one, with another dictionary; what its numbers are moved by.
    fn own_texts(&mut self, dictionary: &'c Texts) -> u32 {
        let owners = self.owners;
        let texts = self.texts.get_or_insert_with(|| TextValues {
            codes: vec![NO_TEXT; owners].into(),
            ..TextValues::default()
        });
        texts.add(dictionary)
    }

    fn set_text(&mut self, owner: usize, code: u32) {
        if let Some(texts) = &mut self.texts
            && let Some(to) = texts.codes.to_mut().get_mut(owner)
        {
            *to = code;
        }
    }

    fn add_flat(&mut self, column: Option<&'c Column>, plan: &FieldPlan) -> Result<(), DecodeFail> {
        let Some(column) = column else {
            return Ok(());
        };
        if column.values.len() != self.owners {
            let (has, owners) = (column.values.len(), self.owners);
            return Err(bad(format!("a column has {has} values for {owners} owners")).into());
        }
        // Nothing before it has a value, and nothing is left out: as it lies there.
        let is_alone = self.settled.is_empty() && !plan.is_nil_when_empty;
        match &column.values {
            ColumnValues::Int64(values) if is_alone => {
                self.ints = Some(NumberValues {
                    values: values.as_slice().into(),
                    present: None,
                });
            }
            ColumnValues::Indices {
                dictionary,
                indices,
            } if is_alone => {
                let mut texts = TextValues {
                    codes: indices.as_slice().into(),
                    ..TextValues::default()
                };
                texts.add(dictionary);
                self.texts = Some(texts);
            }
            ColumnValues::Int64(_) | ColumnValues::Int32(_) => {
                let values = (0..column.values.len()).map(|n| column.values.int(n));
                self.ints = Some(NumberValues {
                    values: values.collect(),
                    present: None,
                });
            }
            ColumnValues::Texts(_) | ColumnValues::Indices { .. } => {
                let base = self.own_texts(dictionary_of(&column.values));
                for owner in 0..self.owners {
                    let is_nil = plan.is_nil_when_empty && column.values.text(owner).is_empty();
                    if !is_nil && !self.is_settled(owner) {
                        self.set_text(owner, base + code_of(&column.values, owner));
                    }
                }
            }
            ColumnValues::Double(_) | ColumnValues::Bool(_) => {}
        }
        Ok(())
    }

    /// A column of an attribute's own.
    fn add_own(
        &mut self,
        column: Option<&'c Column>,
        plan: &FieldPlan,
        allowance: &mut Allowance<'_>,
    ) -> Result<(), DecodeFail> {
        let Some(column) = column else {
            return Ok(());
        };
        if column.values.is_empty() {
            return Ok(());
        }
        let starts = starts(column, plan.owner.depth(), self.owners, allowance)?;
        let is_text = matches!(
            column.values,
            ColumnValues::Texts(_) | ColumnValues::Indices { .. }
        );
        let mut base = 0;
        if is_text {
            base = self.own_texts(dictionary_of(&column.values));
        } else {
            let owners = self.owners;
            self.ints.get_or_insert_with(|| NumberValues::empty(owners));
        }
        for (owner, bounds) in starts.windows(2).enumerate() {
            let range = bounds[0] as usize..bounds[1] as usize;
            if range.is_empty() || self.is_settled(owner) {
                continue;
            }
            if range.len() > 1 {
                let elements = range.map(|n| element(&column.values, n)).collect();
                self.arrays.push((owner as u32, elements));
            } else if is_text {
                self.set_text(owner, base + code_of(&column.values, range.start));
            } else if let Some(ints) = &mut self.ints {
                ints.set(owner, column.values.int(range.start));
            }
            self.settle(owner);
        }
        Ok(())
    }

    fn add_list(
        &mut self,
        decoded: &'c Decoded,
        leaves: &AttributeLeaves,
        plan: &FieldPlan,
        need: Need,
        allowance: &mut Allowance<'_>,
    ) -> Result<(), DecodeFail> {
        let Some(keys) = decoded.column(leaves.key) else {
            return Ok(());
        };
        let Some(KeyedList { found, texts }) = decoded.keyed(leaves, &plan.key) else {
            return Ok(());
        };
        if found.is_empty() {
            return Ok(());
        }
        if self.settled.is_empty() {
            // Keys may occur twice.
            allowance.take(self.owners)?;
            self.settled = vec![false; self.owners];
        }
        if need == Need::PRESENCE {
            // The superset of those that have a value is enough.
            let owners = self.owners;
            let bools = self
                .bools
                .get_or_insert_with(|| NumberValues::empty(owners));
            for (_, owner) in found.iter() {
                bools.set(owner, true);
            }
            return Ok(());
        }
        let columns = ListColumns {
            texts: decoded.column(leaves.text),
            ints: decoded.column(leaves.int),
            doubles: decoded.column(leaves.double),
            bools: decoded.column(leaves.boolean),
            is_array: decoded.column(leaves.is_array).map(|c| &c.values),
            json: [leaves.unsupported, leaves.map_json, leaves.array_json]
                .map(|leaf| decoded.column(leaf)),
        };
        // Others may have looked for texts where they are not wanted now.
        let texts = texts.as_deref().filter(|_| columns.texts.is_some());
        let mut places = |column: Option<&Column>| {
            let column = column.filter(|column| !column.values.is_empty());
            let places = column.map(|column| found.places(column, keys, allowance));
            places.transpose().map(Option::unwrap_or_default)
        };
        let of_numbers = [
            places(columns.ints)?,
            places(columns.doubles)?,
            places(columns.bools)?,
        ];
        let [a, b, c] = columns.json;
        let of_json = [places(a)?, places(b)?, places(c)?];
        let base = columns
            .texts
            .map(|column| self.own_texts(dictionary_of(&column.values)));
        let mut json = JsonValues::default();
        for (n, (attribute, owner)) in found.iter().enumerate() {
            if owner >= self.owners {
                return Err(bad("attributes of more owners than there are").into());
            }
            if self.is_settled(owner) {
                continue;
            }
            let of = |places: &Vec<Range<u32>>| match places.get(n) {
                Some(place) => place.start as usize..place.end as usize,
                None => 0..0,
            };
            let [ints, doubles, bools] = of_numbers.each_ref().map(of);
            let ranges = [texts.map_or(0..0, of), ints, doubles, bools];
            let is_array = matches!(columns.is_array, Some(ColumnValues::Bool(v)) if v.get(attribute) == Some(&true));
            // Who did not ask for it sees an array by its many elements; one alone passes a test as a value does.
            let is_many = !need.arrays && ranges.iter().any(|range| range.len() > 1);
            let is_array = is_array || is_many;
            if ranges.iter().all(Range::is_empty) && !is_array {
                let jsons = of_json.iter().zip(columns.json);
                let found = jsons.clone().find_map(|(places, column)| {
                    let range = of(places);
                    (!range.is_empty()).then_some((column?, range.start))
                });
                if let Some((column, n)) = found {
                    let elements = json.elements(column.values.text(n), allowance);
                    self.set_elements(owner, plan, elements);
                }
                continue;
            }
            if is_array {
                self.set_elements(owner, plan, columns.elements(ranges));
            } else {
                self.set_scalar(owner, plan, base, &columns, ranges);
            }
            self.settle(owner);
        }
        Ok(())
    }

    /// An array, or what no query sees.
    fn set_elements(&mut self, owner: usize, plan: &FieldPlan, elements: Option<Vec<Element<'c>>>) {
        if plan.is_always_text {
            self.set_empty_text(owner);
        } else if let Some(elements) = elements {
            self.arrays.push((owner as u32, elements));
        } else {
            self.unseen.push(owner as u32);
        }
        self.settle(owner);
    }

    fn set_scalar(
        &mut self,
        owner: usize,
        plan: &FieldPlan,
        base: Option<u32>,
        columns: &ListColumns<'c>,
        [texts, ints, doubles, bools]: [Range<usize>; 4],
    ) {
        let owners = self.owners;
        // Of several the last one counts, as in protobuf.
        if let (Some(n), Some(ColumnValues::Bool(v))) =
            (last_of(&bools), columns.bools.map(|c| &c.values))
        {
            if plan.is_always_text {
                return self.set_empty_text(owner);
            }
            let bools = self
                .bools
                .get_or_insert_with(|| NumberValues::empty(owners));
            bools.set(owner, v.get(n).copied().unwrap_or_default());
        } else if let (Some(n), Some(ColumnValues::Double(v))) =
            (last_of(&doubles), columns.doubles.map(|c| &c.values))
        {
            if plan.is_always_text {
                return self.set_empty_text(owner);
            }
            let floats = self
                .floats
                .get_or_insert_with(|| NumberValues::empty(owners));
            floats.set(owner, v.get(n).copied().unwrap_or_default());
        } else if let (Some(n), Some(column)) = (last_of(&ints), columns.ints) {
            if plan.is_always_text {
                return self.set_empty_text(owner);
            }
            let ints = self.ints.get_or_insert_with(|| NumberValues::empty(owners));
            ints.set(owner, column.values.int(n));
        } else if let (Some(n), Some(column), Some(base)) = (last_of(&texts), columns.texts, base) {
            self.set_text(owner, base + code_of(&column.values, n));
        }
    }

    fn set_empty_text(&mut self, owner: usize) {
        let base = self.own_texts(Texts::one_empty());
        self.set_text(owner, base);
    }

    /// Numbers trees of spans that have nothing but what the numbers come of.
    fn add_child_counts(
        &mut self,
        decoded: &Decoded,
        leaves: [LeafIndex; 3],
    ) -> Result<(), DecodeFail> {
        let [Some(ids), Some(parents), Some(kinds)] = leaves.map(|leaf| decoded.column(Some(leaf)))
        else {
            return Ok(());
        };
        if [ids, parents, kinds]
            .iter()
            .any(|c| c.values.len() != self.owners)
        {
            return Err(bad("identifiers of other spans than there are").into());
        }
        let mut counts = Vec::with_capacity(self.owners);
        let mut numbers = NestedSets::default();
        for row in 0..decoded.spans().rows() {
            let spans = decoded.spans().spans_of_row(row).map(|n| Span {
                span_id: ids.values.text(n),
                parent_span_id: parents.values.text(n),
                kind: kinds.values.int(n) as i32,
                ..Span::default()
            });
            let scope = ScopeSpans {
                spans: spans.collect(),
                ..ScopeSpans::default()
            };
            let trace = Trace {
                resources: vec![ResourceSpans {
                    scopes: vec![scope],
                    ..ResourceSpans::default()
                }],
            };
            counts.extend(
                numbers
                    .number(&trace)
                    .iter()
                    .map(|set| i64::from(set.child_count)),
            );
        }
        counts.resize(self.owners, 0);
        self.ints = Some(NumberValues {
            values: counts.into(),
            present: None,
        });
        Ok(())
    }

    fn add_event_times(
        &mut self,
        decoded: &Decoded,
        time: LeafIndex,
        start: LeafIndex,
    ) -> Result<(), DecodeFail> {
        let (Some(time), Some(start)) = (decoded.column(Some(time)), decoded.column(Some(start)))
        else {
            return Ok(());
        };
        if time.values.len() != self.owners {
            return Err(bad("times of other events than there are").into());
        }
        let mut values = Vec::with_capacity(self.owners);
        let bounds = decoded.below(super::field_plan::Owner::Event).windows(2);
        for (span, bounds) in bounds.enumerate() {
            let start = start.values.int(span);
            let events = bounds[0] as usize..bounds[1] as usize;
            values.extend(events.map(|n| time.values.int(n).wrapping_sub(start)));
        }
        values.resize(self.owners, 0);
        self.ints = Some(NumberValues {
            values: values.into(),
            present: None,
        });
        Ok(())
    }
}

/// Whether some owner may have a value there.
fn has_values(decoded: &Decoded, source: &Source, key: &[u8]) -> bool {
    match source {
        Source::List(list) => decoded.may_have_key(list, key),
        Source::Own(leaf) => decoded
            .column(Some(*leaf))
            .is_some_and(|column| !column.values.is_empty()),
        Source::Flat(_) | Source::ChildCount { .. } | Source::EventTime { .. } => true,
    }
}

/// The last number of a range.
fn last_of(range: &Range<usize>) -> Option<usize> {
    range.end.checked_sub(1).filter(|last| range.start <= *last)
}

/// The columns of a list of attributes.
struct ListColumns<'c> {
    texts: Option<&'c Column>,
    ints: Option<&'c Column>,
    doubles: Option<&'c Column>,
    bools: Option<&'c Column>,
    is_array: Option<&'c ColumnValues>,
    json: [Option<&'c Column>; 3],
}

impl<'c> ListColumns<'c> {
    /// The elements of an array; `None` when they are of several types, or there are none.
    fn elements(&self, ranges: [Range<usize>; 4]) -> Option<Vec<Element<'c>>> {
        if ranges.iter().filter(|range| !range.is_empty()).count() != 1 {
            return None;
        }
        let columns = [self.texts, self.ints, self.doubles, self.bools];
        let of = |(column, range): (Option<&'c Column>, Range<usize>)| {
            let values = &column?.values;
            Some(range.map(|n| element(values, n)).collect::<Vec<_>>())
        };
        let mut lists = columns
            .into_iter()
            .zip(ranges)
            .filter(|(_, r)| !r.is_empty());
        lists.next().and_then(of)
    }
}

/// Values that lie in a column as JSON.
#[derive(Default)]
struct JsonValues {
    value: Vec<u8>,
    scratch: Vec<u8>,
}

impl JsonValues {
    /// The elements of an array of one type; `None` of anything else.
    fn elements(
        &mut self,
        json: &[u8],
        allowance: &mut Allowance<'_>,
    ) -> Option<Vec<Element<'static>>> {
        parse_json(json, &mut self.value, &mut self.scratch, allowance).ok()?;
        let Ok(Value::List(list)) = Value::decode(&self.value) else {
            return None;
        };
        let items = alike(list)?.into_iter().map(|item| match item {
            Value::Text(text) => Some(Element::Text(text.to_vec().into())),
            Value::Int(v) => Some(Element::Int(v)),
            Value::Double(v) => Some(Element::Float(v)),
            Value::Bool(v) => Some(Element::Bool(v)),
            _ => None,
        });
        items.collect()
    }
}

fn element(values: &ColumnValues, n: usize) -> Element<'_> {
    match values {
        ColumnValues::Texts(_) | ColumnValues::Indices { .. } => {
            Element::Text(values.text(n).into())
        }
        ColumnValues::Int32(_) | ColumnValues::Int64(_) => Element::Int(values.int(n)),
        ColumnValues::Double(v) => Element::Float(v.get(n).copied().unwrap_or_default()),
        ColumnValues::Bool(v) => Element::Bool(v.get(n).copied().unwrap_or_default()),
    }
}

/// What texts are numbers of; texts without a dictionary are one themselves.
fn dictionary_of(values: &ColumnValues) -> &Texts {
    match values {
        ColumnValues::Texts(texts) => texts,
        ColumnValues::Indices { dictionary, .. } => dictionary,
        _ => Texts::one_empty(),
    }
}

fn code_of(values: &ColumnValues, n: usize) -> u32 {
    match values {
        ColumnValues::Indices { indices, .. } => indices.get(n).copied().unwrap_or(NO_TEXT),
        _ => n as u32,
    }
}
