//! A trace taken apart into the columns of a row group, value by value; there is no tree of rows in between.
//!
//! Levels are those of the Dremel paper: the repetition level of a value says in which list it begins a new element (0: a new row), the
//! definition level how much of its path is there.

use std::sync::Arc;

use lgtm_core::error::{Error, Result};

use crate::schema::any_json::push_json;
use crate::schema::column_buffer::ColumnBuffer;
use crate::schema::layout::KNOWN_RESOURCE;
use crate::schema::{
    AttributeLeaves, BlockVersion, DedicatedLeaves, DedicatedSlots, LeafIndex, Leaves,
};
use crate::trace::{
    Attribute, ColumnKind, ColumnScope, DedicatedColumn, Event, Link, NestedSet, ResourceSpans,
    ScopeSpans, Span, Trace, TraceId, TraceSummary, Value, Values,
};

/// Takes traces apart.
pub(crate) struct Shredder {
    version: BlockVersion,
    leaves: Arc<Leaves>,
    /// All leaves below each list, for lists that are empty.
    below: Below,
    resource_slots: DedicatedSlots,
    span_slots: DedicatedSlots,
    event_slots: DedicatedSlots,
    /// Of the resource, span or event at hand: which of its attributes lie in columns of their own, and where.
    taken: Taken,
    json: String,
}

/// Leaves below lists.
#[derive(Default)]
struct Below {
    stats: Vec<LeafIndex>,
    resources: Vec<LeafIndex>,
    scopes: Vec<LeafIndex>,
    spans: Vec<LeafIndex>,
    events: Vec<LeafIndex>,
    links: Vec<LeafIndex>,
}

/// Attributes that lie in columns of their own: the number of the attribute for each column.
#[derive(Default)]
struct Taken {
    slots: Vec<Option<usize>>,
    known: [Option<usize>; 8],
    http: [Option<usize>; 3],
    service: Option<usize>,
    /// Which of the first 64 attributes are among them.
    first: u64,
}

impl Taken {
    fn clear(&mut self, slots: usize) {
        self.slots.clear();
        self.slots.resize(slots, None);
        self.known = [None; 8];
        self.http = [None; 3];
        self.service = None;
        self.first = 0;
    }

    fn note(&mut self, n: usize) {
        if n < 64 {
            self.first |= 1 << n;
        }
    }

    #[inline]
    fn has(&self, n: usize) -> bool {
        if n < 64 {
            return self.first >> n & 1 == 1;
        }
        let at = Some(n);
        self.slots.contains(&at)
            || self.known.contains(&at)
            || self.http.contains(&at)
            || self.service == at
    }
}

/// What of a value goes into which column.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Shape {
    Text,
    Int,
    Double,
    Bool,
    Empty,
    Unsupported,
}

impl Shape {
    fn of(value: &Value<'_>) -> Self {
        match value {
            Value::Text(_) => Self::Text,
            Value::Int(_) => Self::Int,
            Value::Double(_) => Self::Double,
            Value::Bool(_) => Self::Bool,
            _ => Self::Unsupported,
        }
    }

    /// The shape that all elements have.
    fn of_elements(list: &[u8]) -> Self {
        let mut out = Self::Empty;
        for value in Values::new(list) {
            let shape = value.map_or(Self::Unsupported, |v| Self::of(&v));
            if shape == Self::Unsupported || (out != Self::Empty && out != shape) {
                return Self::Unsupported;
            }
            out = shape;
        }
        out
    }
}

/// Columns that are appended to. A leaf that the version does not have swallows what it is given.
struct Columns<'c>(&'c mut [ColumnBuffer]);

impl Columns<'_> {
    #[inline]
    fn bytes(&mut self, leaf: Option<LeafIndex>, rep: i16, value: &[u8]) {
        if let Some(leaf) = leaf {
            self.0[leaf].put_bytes(rep, value);
        }
    }

    #[inline]
    fn int(&mut self, leaf: Option<LeafIndex>, rep: i16, value: i64) {
        if let Some(leaf) = leaf {
            self.0[leaf].put_int(rep, value);
        }
    }

    #[inline]
    fn null(&mut self, leaf: Option<LeafIndex>, rep: i16, def: i16) {
        if let Some(leaf) = leaf {
            self.0[leaf].put_null(rep, def);
        }
    }

    fn nothing(&mut self, leaves: &[LeafIndex], rep: i16, def: i16) {
        for &leaf in leaves {
            self.0[leaf].put_null(rep, def);
        }
    }
}

impl AttributeLeaves {
    fn all(&self) -> impl Iterator<Item = LeafIndex> {
        let leaves = [
            self.key,
            self.is_array,
            self.text,
            self.int,
            self.double,
            self.boolean,
            self.unsupported,
        ];
        leaves.into_iter().flatten()
    }
}

impl Shredder {
    /// For a version and its leaves.
    pub(crate) fn new(
        version: BlockVersion,
        paths: &[String],
        dedicated: &[DedicatedColumn],
    ) -> Self {
        let slots = |scope| DedicatedSlots::new(version, scope, dedicated);
        let short: Vec<_> = paths
            .iter()
            .map(|p| p.replace(".list.element", ""))
            .collect();
        let below = |prefix: &str| {
            let numbered = short.iter().enumerate();
            numbered
                .filter(|(_, p)| p.starts_with(prefix))
                .map(|(i, _)| i)
                .collect()
        };
        Self {
            version,
            leaves: Arc::new(Leaves::find(paths.iter().map(String::as_str))),
            below: Below {
                stats: below("ServiceStats."),
                resources: below("rs."),
                scopes: below("rs.ss."),
                spans: below("rs.ss.Spans."),
                events: below("rs.ss.Spans.Events."),
                links: below("rs.ss.Spans.Links."),
            },
            resource_slots: slots(ColumnScope::Resource),
            span_slots: slots(ColumnScope::Span),
            event_slots: slots(ColumnScope::Event),
            taken: Taken::default(),
            json: String::new(),
        }
    }

    /// Appends a trace as a row. Its size is an estimate, Tempo's: about a byte a value.
    ///
    /// # Errors
    /// `InvalidInput` for more spans than have numbers.
    pub(crate) fn row(
        &mut self,
        id: TraceId,
        trace: &Trace<'_>,
        numbers: &[NestedSet],
        columns: &mut [ColumnBuffer],
    ) -> Result<usize> {
        let mut columns = Columns(columns);
        let summary = TraceSummary::of(trace);
        let leaves = Arc::clone(&self.leaves);
        columns.bytes(leaves.trace_id, 0, id.as_bytes());
        columns.bytes(leaves.trace_id_text, 0, id.short_hex().as_bytes());
        columns.int(leaves.start, 0, summary.start_ns as i64);
        columns.int(leaves.end, 0, summary.end_ns as i64);
        columns.int(leaves.duration, 0, summary.duration_ns() as i64);
        columns.bytes(leaves.root_service, 0, summary.root_service_name);
        columns.bytes(leaves.root_span, 0, summary.root_span_name);
        let stats = trace.service_stats();
        if stats.is_empty() {
            columns.nothing(&self.below.stats, 0, 0);
        }
        for (n, (name, stats)) in stats.iter().enumerate() {
            let rep = i16::from(n > 0);
            columns.bytes(leaves.stats_service, rep, name);
            columns.int(leaves.stats_spans, rep, stats.span_count.into());
            columns.int(leaves.stats_errors, rep, stats.error_count.into());
        }
        if trace.resources.is_empty() {
            columns.nothing(&self.below.resources, 0, 0);
        }
        let mut estimate = 7 + 16;
        let mut numbers = numbers.iter();
        for (n, resource) in trace.resources.iter().enumerate() {
            let rep = i16::from(n > 0);
            estimate += self.resource(rep, resource, &mut numbers, &mut columns)?;
        }
        Ok(estimate)
    }

    fn resource(
        &mut self,
        rep: i16,
        resource: &ResourceSpans<'_>,
        numbers: &mut std::slice::Iter<'_, NestedSet>,
        columns: &mut Columns<'_>,
    ) -> Result<usize> {
        let mut estimate = 21 + 10;
        let attributes = &resource.attributes;
        self.take_resource(attributes);
        let service = self
            .taken
            .service
            .and_then(|n| attributes[n].value.as_text());
        columns.bytes(self.leaves.service_name, rep, service.unwrap_or_default());
        let dropped = resource.dropped_attributes_count as i32;
        columns.int(self.leaves.resource_dropped, rep, dropped.into());
        for (leaf, taken) in self.leaves.resource_known.iter().zip(self.taken.known) {
            match taken.and_then(|n| attributes[n].value.as_text()) {
                Some(text) => columns.bytes(*leaf, rep, text),
                None => columns.null(*leaf, rep, 1),
            }
        }
        let leaves = Arc::clone(&self.leaves);
        let (own, slots) = (&leaves.resource_dedicated, &self.resource_slots);
        dedicated(
            self.version,
            own,
            slots,
            &self.taken,
            attributes,
            (rep, 1),
            columns,
        );
        let list = &leaves.resource_attributes;
        estimate += self.attributes(list, attributes, rep, 1, columns);
        if resource.scopes.is_empty() {
            columns.nothing(&self.below.scopes, rep, 1);
        }
        for (n, scope) in resource.scopes.iter().enumerate() {
            let rep = if n > 0 { 2 } else { rep };
            estimate += self.scope(rep, scope, numbers, columns)?;
        }
        Ok(estimate)
    }

    fn scope(
        &mut self,
        rep: i16,
        scope: &ScopeSpans<'_>,
        numbers: &mut std::slice::Iter<'_, NestedSet>,
        columns: &mut Columns<'_>,
    ) -> Result<usize> {
        let mut estimate = 6;
        self.taken.clear(0);
        columns.bytes(self.leaves.scope_name, rep, scope.name);
        columns.bytes(self.leaves.scope_version, rep, scope.version);
        let dropped = scope.dropped_attributes_count as i32;
        columns.int(self.leaves.scope_dropped, rep, dropped.into());
        columns.int(self.leaves.scope_span_count, rep, scope.spans.len() as i64);
        let leaves = Arc::clone(&self.leaves);
        let list = &leaves.scope_attributes;
        estimate += self.attributes(list, &scope.attributes, rep, 2, columns);
        if scope.spans.is_empty() {
            columns.nothing(&self.below.spans, rep, 2);
        }
        for (n, span) in scope.spans.iter().enumerate() {
            let rep = if n > 0 { 3 } else { rep };
            let Some(number) = numbers.next() else {
                return Err(Error::InvalidInput(
                    "a trace has more spans than numbers of its tree".into(),
                ));
            };
            estimate += self.span(rep, span, *number, columns);
        }
        Ok(estimate)
    }

    fn span(
        &mut self,
        rep: i16,
        span: &Span<'_>,
        number: NestedSet,
        columns: &mut Columns<'_>,
    ) -> usize {
        let mut estimate = 45 + span.span_id.len() + span.parent_span_id.len();
        self.take_span(&span.attributes);
        let all = Arc::clone(&self.leaves);
        let leaves = &all.span;
        columns.bytes(leaves.span_id, rep, span.span_id);
        columns.bytes(leaves.parent_span_id, rep, span.parent_span_id);
        columns.int(leaves.parent, rep, number.parent.into());
        columns.int(leaves.nested_left, rep, number.left.into());
        columns.int(leaves.nested_right, rep, number.right.into());
        columns.int(leaves.child_count, rep, number.child_count.into());
        columns.bytes(leaves.name, rep, span.name);
        columns.int(leaves.kind, rep, span.kind.into());
        columns.bytes(leaves.trace_state, rep, span.trace_state);
        columns.int(leaves.start, rep, span.start_ns as i64);
        let duration = span.end_ns.wrapping_sub(span.start_ns);
        columns.int(leaves.duration, rep, duration as i64);
        columns.int(leaves.status_code, rep, span.status_code.into());
        columns.bytes(leaves.status_message, rep, span.status_message);
        let dropped = |count: u32| i64::from(count as i32);
        let count = dropped(span.dropped_attributes_count);
        columns.int(leaves.dropped_attributes, rep, count);
        columns.int(
            leaves.dropped_events,
            rep,
            dropped(span.dropped_events_count),
        );
        columns.int(leaves.dropped_links, rep, dropped(span.dropped_links_count));
        for (leaf, seconds) in leaves.start_rounded.iter().zip([15, 60, 300, 3600]) {
            // Intervals have their end in them, not their start.
            let rounded = span.start_ns.saturating_sub(1) / (seconds * 1_000_000_000);
            columns.int(*leaf, rep, i64::from(rounded as u32 as i32));
        }
        let texts = [leaves.http_method, leaves.http_url].into_iter();
        for (leaf, taken) in texts.zip(self.taken.http) {
            match taken.and_then(|n| span.attributes[n].value.as_text()) {
                Some(text) => columns.bytes(leaf, rep, text),
                None => columns.null(leaf, rep, 3),
            }
        }
        match self.taken.http[2].map(|n| span.attributes[n].value) {
            Some(Value::Int(code)) => columns.int(leaves.http_status_code, rep, code),
            _ => columns.null(leaves.http_status_code, rep, 3),
        }
        let (own, slots) = (&leaves.dedicated, &self.span_slots);
        let at = (rep, 3);
        dedicated(
            self.version,
            own,
            slots,
            &self.taken,
            &span.attributes,
            at,
            columns,
        );
        let list = &leaves.attributes;
        estimate += self.attributes(list, &span.attributes, rep, 3, columns);
        if span.events.is_empty() {
            columns.nothing(&self.below.events, rep, 3);
        }
        for (n, event) in span.events.iter().enumerate() {
            let rep = if n > 0 { 4 } else { rep };
            estimate += self.event(rep, event, span.start_ns, columns);
        }
        if span.links.is_empty() {
            columns.nothing(&self.below.links, rep, 3);
        }
        for (n, link) in span.links.iter().enumerate() {
            let rep = if n > 0 { 4 } else { rep };
            estimate += self.link(rep, link, columns);
        }
        estimate
    }

    fn event(
        &mut self,
        rep: i16,
        event: &Event<'_>,
        start_ns: u64,
        columns: &mut Columns<'_>,
    ) -> usize {
        let all = Arc::clone(&self.leaves);
        let leaves = &all.span.events;
        let since = event.time_ns.wrapping_sub(start_ns);
        columns.int(leaves.since_start, rep, since as i64);
        columns.bytes(leaves.name, rep, event.name);
        let dropped = event.dropped_attributes_count as i32;
        columns.int(leaves.dropped, rep, dropped.into());
        self.taken.clear(self.event_slots.as_slice().len());
        take_slots(
            self.version,
            &self.event_slots,
            &event.attributes,
            &mut self.taken,
        );
        let (own, slots) = (&leaves.dedicated, &self.event_slots);
        let at = (rep, 4);
        dedicated(
            self.version,
            own,
            slots,
            &self.taken,
            &event.attributes,
            at,
            columns,
        );
        14 + self.attributes(&leaves.attributes, &event.attributes, rep, 4, columns)
    }

    fn link(&mut self, rep: i16, link: &Link<'_>, columns: &mut Columns<'_>) -> usize {
        let all = Arc::clone(&self.leaves);
        let leaves = &all.span.links;
        columns.bytes(leaves.trace_id, rep, link.trace_id);
        columns.bytes(leaves.span_id, rep, link.span_id);
        columns.bytes(leaves.trace_state, rep, link.trace_state);
        let dropped = link.dropped_attributes_count as i32;
        columns.int(leaves.dropped, rep, dropped.into());
        self.taken.clear(0);
        let ids = link.trace_id.len() + link.span_id.len();
        5 + ids + self.attributes(&leaves.attributes, &link.attributes, rep, 4, columns)
    }

    /// Appends the attributes that lie in no column of their own; `def` is the level of what they belong to.
    fn attributes(
        &mut self,
        leaves: &AttributeLeaves,
        attributes: &[Attribute<'_>],
        rep: i16,
        def: i16,
        columns: &mut Columns<'_>,
    ) -> usize {
        let mut estimate = 0;
        let mut next_rep = rep;
        for (n, attribute) in attributes.iter().enumerate() {
            if self.taken.has(n) {
                continue;
            }
            estimate += self.attribute(leaves, attribute, next_rep, def + 1, columns);
            // The first element of a list begins what the list is in, the others begin an element of the list.
            next_rep = def + 1;
        }
        if estimate == 0 {
            for leaf in leaves.all() {
                columns.0[leaf].put_null(rep, def);
            }
        }
        estimate
    }

    fn attribute(
        &mut self,
        leaves: &AttributeLeaves,
        attribute: &Attribute<'_>,
        rep: i16,
        def: i16,
        columns: &mut Columns<'_>,
    ) -> usize {
        let (shape, list) = match attribute.value {
            Value::List(list) => (Shape::of_elements(list), Some(list)),
            value => (Shape::of(&value), None),
        };
        columns.bytes(leaves.key, rep, attribute.key);
        let is_array = list.is_some() && shape != Shape::Unsupported;
        if let Some(leaf) = leaves.is_array {
            columns.0[leaf].put_bool(rep, is_array);
        }
        if shape == Shape::Unsupported {
            self.json.clear();
            push_json(&mut self.json, &attribute.value);
            columns.bytes(leaves.unsupported, rep, self.json.as_bytes());
        } else {
            columns.null(leaves.unsupported, rep, def);
        }
        for (leaf, holds) in [
            (leaves.text, Shape::Text),
            (leaves.int, Shape::Int),
            (leaves.double, Shape::Double),
            (leaves.boolean, Shape::Bool),
        ] {
            if holds != shape {
                columns.null(leaf, rep, def);
            }
        }
        let mut count = 0;
        let mut put = |value: &Value<'_>| {
            let rep = if count > 0 { def + 1 } else { rep };
            count += 1;
            put_value(leaves, value, rep, columns);
        };
        match list {
            Some(list) if is_array => Values::new(list).flatten().for_each(|v| put(&v)),
            Some(_) => {}
            None => put(&attribute.value),
        }
        7 + count.max(1) - 1
    }

    /// Which attributes of a resource lie in columns of their own. What the columns named after attributes hold goes before the rest.
    fn take_resource(&mut self, attributes: &[Attribute<'_>]) {
        self.taken.clear(self.resource_slots.as_slice().len());
        let text = |key: &[u8]| {
            let is_it = |a: &Attribute<'_>| a.key == key && a.value.as_text().is_some();
            attributes.iter().position(is_it)
        };
        // The service is that of the first attribute of this name, if it is a text.
        self.taken.service = (attributes.iter().position(|a| a.key == b"service.name"))
            .filter(|&n| attributes[n].value.as_text().is_some());
        if self.version != BlockVersion::V5 {
            self.taken.known = KNOWN_RESOURCE.map(|(_, key)| text(key));
        }
        let named = self.taken.known.into_iter().chain([self.taken.service]);
        named.flatten().for_each(|n| self.taken.note(n));
        take_slots(
            self.version,
            &self.resource_slots,
            attributes,
            &mut self.taken,
        );
    }

    fn take_span(&mut self, attributes: &[Attribute<'_>]) {
        self.taken.clear(self.span_slots.as_slice().len());
        if self.version != BlockVersion::V5 {
            for (n, attribute) in attributes.iter().enumerate() {
                let column = match (attribute.key, attribute.value) {
                    (b"http.method", Value::Text(_)) => 0,
                    (b"http.url", Value::Text(_)) => 1,
                    (b"http.status_code", Value::Int(_)) => 2,
                    _ => continue,
                };
                if self.taken.http[column].is_none() {
                    self.taken.http[column] = Some(n);
                    self.taken.note(n);
                }
            }
        }
        take_slots(self.version, &self.span_slots, attributes, &mut self.taken);
    }
}

/// Finds attributes for columns. Of several with the same key the first that fits is taken; in version 5 lists of the type fit too.
fn take_slots(
    version: BlockVersion,
    slots: &DedicatedSlots,
    attributes: &[Attribute<'_>],
    taken: &mut Taken,
) {
    if slots.as_slice().is_empty() {
        return;
    }
    for (n, attribute) in attributes.iter().enumerate() {
        let shape = match attribute.value {
            Value::List(list) if version == BlockVersion::V5 => Shape::of_elements(list),
            value => Shape::of(&value),
        };
        let slot = match shape {
            Shape::Text => slots.find(attribute.key, ColumnKind::String),
            Shape::Int => slots.find(attribute.key, ColumnKind::Int),
            _ => None,
        };
        if let Some(slot) = slot
            && !taken.has(n)
            && taken.slots[slot].is_none()
        {
            taken.slots[slot] = Some(n);
            taken.note(n);
        }
    }
}

/// Appends to the columns of attributes that have their own.
fn dedicated(
    version: BlockVersion,
    leaves: &DedicatedLeaves,
    slots: &DedicatedSlots,
    taken: &Taken,
    attributes: &[Attribute<'_>],
    (rep, def): (i16, i16),
    columns: &mut Columns<'_>,
) {
    let mut filled = 0;
    for (slot, at) in slots.as_slice().iter().zip(&taken.slots) {
        let of_kind = match slot.kind {
            ColumnKind::String => &leaves.text,
            ColumnKind::Int => &leaves.int,
        };
        let leaf = of_kind.get(slot.number).copied().flatten();
        if slot.kind == ColumnKind::String {
            filled = filled.max(slot.number + 1);
        }
        match at.map(|n| attributes[n].value) {
            None => columns.null(leaf, rep, def),
            Some(Value::List(list)) => {
                for (n, value) in Values::new(list).flatten().enumerate() {
                    // Elements after the first begin an element of the column's own list.
                    let rep = if n > 0 { def + 1 } else { rep };
                    put_plain(leaf, &value, rep, columns);
                }
            }
            Some(value) => put_plain(leaf, &value, rep, columns),
        }
    }
    if version != BlockVersion::V5 {
        for leaf in leaves.text.iter().skip(filled) {
            columns.null(*leaf, rep, def);
        }
    }
}

fn put_plain(leaf: Option<LeafIndex>, value: &Value<'_>, rep: i16, columns: &mut Columns<'_>) {
    match *value {
        Value::Text(text) => columns.bytes(leaf, rep, text),
        Value::Int(v) => columns.int(leaf, rep, v),
        _ => {}
    }
}

fn put_value(leaves: &AttributeLeaves, value: &Value<'_>, rep: i16, columns: &mut Columns<'_>) {
    match *value {
        Value::Text(text) => columns.bytes(leaves.text, rep, text),
        Value::Int(v) => columns.int(leaves.int, rep, v),
        Value::Double(v) => {
            if let Some(leaf) = leaves.double {
                columns.0[leaf].put_double(rep, v);
            }
        }
        Value::Bool(v) => {
            if let Some(leaf) = leaves.boolean {
                columns.0[leaf].put_bool(rep, v);
            }
        }
        _ => {}
    }
}
