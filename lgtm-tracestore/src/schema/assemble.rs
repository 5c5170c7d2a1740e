//! Rows become traces again: protobuf, written while the columns are walked, with nothing in between.
//!
//! Attributes of a resource, span or event come back with those first that lie in no column of their own, and `service.name` last.

use std::sync::Arc;

use lgtm_core::codec::protobuf::{
    fixed64_tag, put_bytes_field, put_message, put_varint_field, varint_tag,
};
use lgtm_core::codec::{Allowance, put_uvarint};
use lgtm_core::otlp::submessages;

use crate::schema::any_json::parse_json;
use crate::schema::cursor::Cursors;
use crate::schema::layout::KNOWN_RESOURCE;
use crate::schema::row_lists::{List, RowLists};
use crate::schema::{
    AttributeLeaves, BlockFile, ColumnValues, DedicatedLeaves, DedicatedSlots, LeafIndex, Leaves,
};
use crate::trace::{ColumnKind, TraceId};

/// Which leaves lie in which list, and which columns hold which attributes.
#[derive(Debug)]
pub(crate) struct RowShape {
    leaves: Leaves,
    below: Arc<RowLists>,
    pub(crate) resource_slots: DedicatedSlots,
    pub(crate) span_slots: DedicatedSlots,
    pub(crate) event_slots: DedicatedSlots,
}

impl RowShape {
    pub(crate) fn new(
        file: &BlockFile,
        [resource_slots, span_slots, event_slots]: [DedicatedSlots; 3],
    ) -> Self {
        Self {
            leaves: file.positions.clone(),
            below: Arc::clone(&file.lists),
            resource_slots,
            span_slots,
            event_slots,
        }
    }
}

/// Writes rows as traces.
pub(crate) struct Assembler<'a, 'g> {
    shape: Arc<RowShape>,
    cursors: &'a mut Cursors,
    allowance: &'a mut Allowance<'g>,
    /// Bytes of the output that were asked for.
    asked: usize,
    scratch: Vec<u8>,
    json: Vec<u8>,
}

impl<'a, 'g> Assembler<'a, 'g> {
    pub(crate) fn new(
        shape: Arc<RowShape>,
        cursors: &'a mut Cursors,
        allowance: &'a mut Allowance<'g>,
    ) -> Self {
        Self {
            shape,
            cursors,
            allowance,
            asked: 0,
            scratch: Vec::new(),
            json: Vec::new(),
        }
    }

    /// Appends the next row; its id.
    pub(crate) fn row(&mut self, out: &mut Vec<u8>) -> TraceId {
        let shape = Arc::clone(&self.shape);
        self.asked = out.len();
        let id = self.cursors.text(shape.leaves.trace_id);
        let id = TraceId::from_short(id.unwrap_or_default()).unwrap_or_default();
        self.list(&shape.below.resources, |this| {
            put_message(out, 1, |out| this.resource(id, out));
        });
        id
    }

    /// Calls `each` for every element of a list, which takes one entry of each of its leaves; passes them where it is empty.
    fn list(&mut self, list: &List, mut each: impl FnMut(&mut Self)) {
        let guide = list.guide;
        if !self.cursors.has(guide) || self.cursors.next_def(guide) < list.depth {
            for leaf in &list.leaves {
                self.cursors.take(Some(*leaf));
            }
            return;
        }
        loop {
            each(self);
            if self.cursors.has_failed() || self.cursors.next_rep(guide) != list.depth {
                return;
            }
        }
    }

    fn resource(&mut self, id: TraceId, out: &mut Vec<u8>) {
        let shape = Arc::clone(&self.shape);
        let leaves = &shape.leaves;
        put_message(out, 1, |out| {
            let list = &shape.below.resource_attributes;
            self.attributes(list, &leaves.resource_attributes, 1, out);
            let (own, slots) = (&leaves.resource_dedicated, &shape.resource_slots);
            self.dedicated(own, slots, 1, 1, out);
            for (leaf, (_, key)) in leaves.resource_known.iter().zip(KNOWN_RESOURCE) {
                if let Some(text) = self.cursors.text(*leaf) {
                    put_text_attribute(out, 1, key, text);
                }
            }
            match self.cursors.text(leaves.service_name) {
                Some(b"") | None => {}
                Some(name) => put_text_attribute(out, 1, b"service.name", name),
            }
            put_number(out, 2, self.cursors.int(leaves.resource_dropped));
        });
        self.list(&shape.below.scopes, |this| {
            put_message(out, 2, |out| this.scope(id, out));
        });
    }

    fn scope(&mut self, id: TraceId, out: &mut Vec<u8>) {
        let shape = Arc::clone(&self.shape);
        let leaves = &shape.leaves;
        put_message(out, 1, |out| {
            put_text(out, 1, self.cursors.text(leaves.scope_name));
            put_text(out, 2, self.cursors.text(leaves.scope_version));
            let list = &shape.below.scope_attributes;
            self.attributes(list, &leaves.scope_attributes, 3, out);
            put_number(out, 4, self.cursors.int(leaves.scope_dropped));
        });
        self.list(&shape.below.spans, |this| {
            put_message(out, 2, |out| this.span(&shape, id, out));
            this.ask(out.len());
        });
    }

    fn span(&mut self, shape: &RowShape, id: TraceId, out: &mut Vec<u8>) {
        let leaves = &shape.leaves.span;
        put_text(out, 1, Some(id.as_bytes()));
        put_text(out, 2, self.cursors.text(leaves.span_id));
        put_text(out, 3, self.cursors.text(leaves.trace_state));
        put_text(out, 4, self.cursors.text(leaves.parent_span_id));
        put_text(out, 5, self.cursors.text(leaves.name));
        put_enum(out, 6, self.cursors.int(leaves.kind));
        let start = self.cursors.int(leaves.start).unwrap_or_default() as u64;
        let duration = self.cursors.int(leaves.duration).unwrap_or_default() as u64;
        put_fixed64(out, 7, start);
        put_fixed64(out, 8, start.wrapping_add(duration));
        self.attributes(&shape.below.span_attributes, &leaves.attributes, 9, out);
        self.dedicated(&leaves.dedicated, &shape.span_slots, 9, 3, out);
        for (leaf, key) in [
            (leaves.http_method, &b"http.method"[..]),
            (leaves.http_url, b"http.url"),
        ] {
            if let Some(text) = self.cursors.text(leaf) {
                put_text_attribute(out, 9, key, text);
            }
        }
        if let Some(code) = self.cursors.int(leaves.http_status_code) {
            put_attribute(out, 9, b"http.status_code", |out| {
                put_varint_field(out, 3, code as u64);
            });
        }
        put_number(out, 10, self.cursors.int(leaves.dropped_attributes));
        self.list(&shape.below.events, |this| {
            put_message(out, 11, |out| this.event(shape, start, out));
            this.ask(out.len());
        });
        put_number(out, 12, self.cursors.int(leaves.dropped_events));
        if leaves.links.encoded.is_some() {
            self.encoded_links(leaves.links.encoded, out);
        } else {
            self.list(&shape.below.links, |this| {
                put_message(out, 13, |out| this.link(shape, out));
                this.ask(out.len());
            });
        }
        put_number(out, 14, self.cursors.int(leaves.dropped_links));
        put_message(out, 15, |out| {
            put_text(out, 2, self.cursors.text(leaves.status_message));
            put_enum(out, 3, self.cursors.int(leaves.status_code));
        });
    }

    fn event(&mut self, shape: &RowShape, start_ns: u64, out: &mut Vec<u8>) {
        let leaves = &shape.leaves.span.events;
        let time = match self.cursors.int(leaves.since_start) {
            Some(since) => start_ns.wrapping_add(since as u64),
            None => self.cursors.int(leaves.time).unwrap_or_default() as u64,
        };
        put_fixed64(out, 1, time);
        put_text(out, 2, self.cursors.text(leaves.name));
        let list = &shape.below.event_attributes;
        if leaves.attributes.int.is_none() && leaves.attributes.is_array.is_none() {
            self.encoded_attributes(list, &leaves.attributes, out);
        } else {
            self.attributes(list, &leaves.attributes, 3, out);
        }
        self.dedicated(&leaves.dedicated, &shape.event_slots, 3, 4, out);
        put_number(out, 4, self.cursors.int(leaves.dropped));
    }

    fn link(&mut self, shape: &RowShape, out: &mut Vec<u8>) {
        let leaves = &shape.leaves.span.links;
        put_text(out, 1, self.cursors.text(leaves.trace_id));
        put_text(out, 2, self.cursors.text(leaves.span_id));
        put_text(out, 3, self.cursors.text(leaves.trace_state));
        let list = &shape.below.link_attributes;
        self.attributes(list, &leaves.attributes, 4, out);
        put_number(out, 5, self.cursors.int(leaves.dropped));
    }

    /// Version 3: the links of a span are a message.
    fn encoded_links(&mut self, leaf: Option<LeafIndex>, out: &mut Vec<u8>) {
        let bytes = self.cursors.text(leaf).unwrap_or_default();
        let mut failed = None;
        for link in submessages("links", bytes, 1) {
            match link {
                Ok(link) => put_bytes_field(out, 13, link),
                Err(e) => failed = Some(e),
            }
        }
        if let Some(e) = failed {
            self.cursors.fail(e);
        }
    }

    /// Version 3: values of events' attributes are messages, in very old files JSON.
    fn encoded_attributes(&mut self, list: &List, leaves: &AttributeLeaves, out: &mut Vec<u8>) {
        let mut value = std::mem::take(&mut self.scratch);
        self.list(list, |this| {
            let key = this.cursors.text(leaves.key).unwrap_or_default().to_vec();
            let encoded = this.cursors.text(leaves.text).unwrap_or_default();
            if encoded.first() == Some(&b'{') {
                let encoded = encoded.to_vec();
                if parse_json(&encoded, &mut value, &mut this.json, this.allowance).is_err() {
                    value.clear();
                }
            } else {
                value.clear();
                value.extend_from_slice(encoded);
            }
            put_attribute(out, 3, &key, |out| out.extend_from_slice(&value));
        });
        self.scratch = value;
    }

    /// Appends attributes out of their list as field `field`.
    fn attributes(&mut self, list: &List, leaves: &AttributeLeaves, field: u64, out: &mut Vec<u8>) {
        self.list(list, |this| {
            this.attribute(list.depth, leaves, field, out);
            this.ask(out.len());
        });
    }

    fn attribute(&mut self, rep: u8, leaves: &AttributeLeaves, field: u64, out: &mut Vec<u8>) {
        let key = self.cursors.take(leaves.key);
        let is_array = self.cursors.boolean(leaves.is_array);
        let texts = self.cursors.take_all(leaves.text, rep);
        let ints = self.cursors.take_all(leaves.int, rep);
        let doubles = self.cursors.take_all(leaves.double, rep);
        let booleans = self.cursors.take_all(leaves.boolean, rep);
        let mut json = None;
        for leaf in [leaves.unsupported, leaves.map_json, leaves.array_json] {
            let n = self.cursors.take(leaf);
            json = json.or(n.map(|n| (leaf, n)));
        }
        let is_nothing = |n: &std::ops::Range<usize>| n.is_empty();
        let has_values = ![&texts, &ints, &doubles, &booleans]
            .into_iter()
            .all(is_nothing);
        if let Some((leaf, n)) = json
            && !has_values
        {
            return self.json_attribute((leaves.key, key), leaf, n, field, out);
        }
        if !has_values && !is_array || !self.may_take(leaves.text, &texts) {
            return;
        }
        let cursors = &self.cursors;
        let text_of = |leaf, n| cursors.values(leaf).map_or(&b""[..], |v| v.text(n));
        let key = key.map_or(&b""[..], |n| text_of(leaves.key, n));
        let put_all = |out: &mut Vec<u8>| {
            let put = |out: &mut Vec<u8>, one: &dyn Fn(&mut Vec<u8>)| {
                if is_array {
                    put_message(out, 1, one);
                } else {
                    one(out);
                }
            };
            for n in texts {
                put(out, &|out| put_bytes_field(out, 1, text_of(leaves.text, n)));
            }
            for n in ints {
                let int = cursors.values(leaves.int).map_or(0, |v| v.int(n));
                put(out, &|out| put_varint_field(out, 3, int as u64));
            }
            if let Some(ColumnValues::Double(values)) = cursors.values(leaves.double) {
                for v in values.get(doubles).unwrap_or_default() {
                    put(out, &|out| put_double(out, *v));
                }
            }
            if let Some(ColumnValues::Bool(values)) = cursors.values(leaves.boolean) {
                for v in values.get(booleans).unwrap_or_default() {
                    put(out, &|out| put_varint_field(out, 2, (*v).into()));
                }
            }
        };
        put_attribute(out, field, key, |out| {
            if is_array {
                put_message(out, 5, put_all);
            } else {
                put_all(out);
            }
        });
    }

    /// Appends an attribute whose value is JSON. One that cannot be read has no value.
    fn json_attribute(
        &mut self,
        (key_leaf, key): (Option<LeafIndex>, Option<usize>),
        leaf: Option<LeafIndex>,
        n: usize,
        field: u64,
        out: &mut Vec<u8>,
    ) {
        let json = self.cursors.values(leaf).map_or(&b""[..], |v| v.text(n));
        let mut value = std::mem::take(&mut self.scratch);
        if parse_json(json, &mut value, &mut self.json, self.allowance).is_err() {
            value.clear();
        }
        let values = self.cursors.values(key_leaf);
        let key = key.and_then(|n| values.map(|v| v.text(n)));
        put_attribute(out, field, key.unwrap_or_default(), |out| {
            out.extend_from_slice(&value);
        });
        self.scratch = value;
    }

    /// Appends attributes out of columns of their own. Several values are a list.
    fn dedicated(
        &mut self,
        leaves: &DedicatedLeaves,
        slots: &DedicatedSlots,
        field: u64,
        rep: u8,
        out: &mut Vec<u8>,
    ) {
        for slot in slots.as_slice() {
            let of_kind = match slot.kind {
                ColumnKind::String => &leaves.text,
                ColumnKind::Int => &leaves.int,
            };
            let leaf = of_kind.get(slot.number).copied().flatten();
            let values = self.cursors.take_all(leaf, rep);
            if !self.may_take(leaf, &values) {
                return;
            }
            let Some(column) = self.cursors.values(leaf).filter(|_| !values.is_empty()) else {
                continue;
            };
            let put = |out: &mut Vec<u8>, n| match slot.kind {
                ColumnKind::String => put_bytes_field(out, 1, column.text(n)),
                ColumnKind::Int => put_varint_field(out, 3, column.int(n) as u64),
            };
            put_attribute(out, field, &slot.key, |out| {
                if values.len() == 1 {
                    put(out, values.start);
                } else {
                    put_message(out, 5, |out| {
                        for n in values {
                            put_message(out, 1, |out| put(out, n));
                        }
                    });
                }
            });
        }
    }

    /// Asks for the texts of a list before they are written.
    fn may_take(&mut self, leaf: Option<LeafIndex>, texts: &std::ops::Range<usize>) -> bool {
        if texts.len() < 2 {
            return true;
        }
        let values = self.cursors.values(leaf);
        let len = |n| values.map_or(0, |v| v.text(n).len());
        let bytes = texts.clone().map(len).fold(0, usize::saturating_add);
        let asked = self.allowance.scratch(bytes);
        asked.map_err(|e| self.cursors.fail(e)).is_ok()
    }

    /// Asks for what the output grew by: few entries of a dictionary can become many bytes.
    fn ask(&mut self, len: usize) {
        if len > self.asked {
            if let Err(e) = self.allowance.take(len - self.asked) {
                self.cursors.fail(e);
            }
            self.asked = len;
        }
    }
}

fn put_attribute(out: &mut Vec<u8>, field: u64, key: &[u8], value: impl FnOnce(&mut Vec<u8>)) {
    put_message(out, field, |out| {
        put_text(out, 1, Some(key));
        put_message(out, 2, value);
    });
}

fn put_text_attribute(out: &mut Vec<u8>, field: u64, key: &[u8], text: &[u8]) {
    put_attribute(out, field, key, |out| put_bytes_field(out, 1, text));
}

fn put_text(out: &mut Vec<u8>, field: u64, text: Option<&[u8]>) {
    match text {
        Some(b"") | None => {}
        Some(text) => put_bytes_field(out, field, text),
    }
}

fn put_number(out: &mut Vec<u8>, field: u64, number: Option<i64>) {
    match number.unwrap_or_default() as u32 {
        0 => {}
        number => put_varint_field(out, field, number.into()),
    }
}

fn put_enum(out: &mut Vec<u8>, field: u64, number: Option<i64>) {
    match number.unwrap_or_default() {
        0 => {}
        number => {
            put_uvarint(out, varint_tag(field));
            put_uvarint(out, number as u64);
        }
    }
}

fn put_fixed64(out: &mut Vec<u8>, field: u64, number: u64) {
    if number != 0 {
        put_uvarint(out, fixed64_tag(field));
        out.extend_from_slice(&number.to_le_bytes());
    }
}

fn put_double(out: &mut Vec<u8>, v: f64) {
    put_uvarint(out, fixed64_tag(4));
    out.extend_from_slice(&v.to_bits().to_le_bytes());
}
