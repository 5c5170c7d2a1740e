//! From OTLP log records to entries.

use std::fmt::Write;

use lgtm_core::codec::protobuf::{bytes_tag, fixed64_tag, skip, varint_tag, wire_type};
use lgtm_core::codec::{Allowance, Reader};
use lgtm_core::model::TimestampNs;
use lgtm_core::otlp::{Attribute, Resource, Scoped, Value, submessages};
use lgtm_core::{DecodeError, Result};

use super::rules::AttributeAction;
use crate::entry::normal_metadata_name;
use crate::wire::batch::{PairPlace, PushBatch};
use crate::wire::decoding::{Decoded, Decoding, decode_with};
use crate::wire::options::PushOptions;
use crate::wire::stream_labels::LabelPairs;

/// How deep maps may lie in each other, as values of attributes.
const MAX_DEPTH: usize = 16;

/// Decodes a protobuf request, which is handed over through `fill` as in [`decode_protobuf`](crate::wire::decode_protobuf). `now_ns` is the time
/// of records that have none.
///
/// # Errors
/// As there.
pub fn decode_otlp(
    batch: &mut PushBatch,
    options: &PushOptions<'_>,
    now_ns: TimestampNs,
    allowance: &mut Allowance<'_>,
    fill: impl FnOnce(&mut Vec<u8>, &mut Allowance<'_>) -> Result<()>,
) -> Result<()> {
    decode_with(batch, options, allowance, fill, |decoding, body| {
        for resource in submessages("logs request", body, 1) {
            let resource = Resource::decode("resource logs", resource?, decoding.allowance)?;
            let mut logs = ResourceLogs {
                decoding,
                now_ns,
                labels: Vec::new(),
                shared: Vec::new(),
                resource_pairs: 0,
                text: String::new(),
                name: String::new(),
            };
            logs.take(&resource)?;
        }
        Ok(())
    })
}

/// One resource being read.
struct ResourceLogs<'r, 'd, 'b, 'g> {
    decoding: &'r mut Decoding<'d, 'b, 'g>,
    now_ns: TimestampNs,
    labels: Vec<(String, String)>,
    /// Metadata of the resource, then of the scope: the same places for all their records.
    shared: Vec<PairPlace>,
    resource_pairs: usize,
    text: String,
    name: String,
}

/// A label or a pair of metadata that an attribute became.
struct Field<'f> {
    action: AttributeAction,
    name: &'f str,
    value: &'f str,
}

/// Which records a pass takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Records {
    /// Those of the resource's own stream.
    Plain,
    /// Those with labels of their own.
    Split,
}

impl ResourceLogs<'_, '_, '_, '_> {
    fn take(&mut self, resource: &Resource<'_>) -> Decoded {
        let rules = self.decoding.options.otlp;
        for bytes in &resource.attributes {
            let attribute = Attribute::decode(bytes)?;
            let action = rules.of_resource(attribute.key);
            self.flatten(&attribute, action, |this, field| this.shared_field(&field))?;
        }
        self.resource_pairs = self.shared.len();
        self.pass(resource, Records::Plain)?;
        if self.decoding.has_entries() {
            self.decoding.batch.streams_sent += 1;
            let labels = self.stream_labels(&[])?;
            self.decoding.end_stream(labels)?;
        }
        if rules.may_split() {
            self.pass(resource, Records::Split)?;
        }
        Ok(())
    }

    /// The resource's labels and `more`, by normal names, the last of each name.
    fn stream_labels(&mut self, more: &[(String, String)]) -> Result<LabelPairs<'static>> {
        let mut pairs = LabelPairs::default();
        let all: Vec<&(String, String)> = self.labels.iter().chain(more).collect();
        for (n, (name, value)) in all.iter().enumerate() {
            if !all[n + 1..].iter().any(|(other, _)| other == name) {
                self.decoding.allowance.scratch(name.len() + value.len())?;
                pairs.push(name.clone(), value.clone());
            }
        }
        Ok(pairs)
    }

    fn pass(&mut self, resource: &Resource<'_>, records: Records) -> Decoded {
        let rules = self.decoding.options.otlp;
        for scope in &resource.scopes {
            self.shared.truncate(self.resource_pairs);
            let scope = Scoped::decode("scope logs", scope, self.decoding.allowance)?;
            for bytes in &scope.attributes {
                let attribute = Attribute::decode(bytes)?;
                let action = rules.of_scope(attribute.key);
                self.flatten(&attribute, action, |this, field| this.shared_field(&field))?;
            }
            let count = match scope.dropped_attributes_count {
                0 => String::new(),
                count => count.to_string(),
            };
            for (name, value) in [
                ("scope_name", scope.name),
                ("scope_version", scope.version),
                ("scope_dropped_attributes_count", &count),
            ] {
                if !value.is_empty() {
                    let action = AttributeAction::StructuredMetadata;
                    self.shared_field(&Field {
                        action,
                        name,
                        value,
                    })?;
                }
            }
            for record in &scope.items {
                self.record(&Record::decode(record)?, records)?;
            }
        }
        Ok(())
    }

    fn shared_field(&mut self, field: &Field<'_>) -> Decoded {
        match field.action {
            AttributeAction::IndexLabel => {
                let name = normal_metadata_name(field.name).unwrap_or_default();
                let entry = (name, field.value.to_owned());
                let room = entry.0.len() + entry.1.len();
                self.decoding.allowance.take(room)?;
                self.decoding.allowance.push(&mut self.labels, entry)?;
            }
            AttributeAction::StructuredMetadata => {
                let name = self.decoding.place(field.name.as_bytes())?;
                let value = self.decoding.place(field.value.as_bytes())?;
                let pair = PairPlace { name, value };
                self.decoding.allowance.push(&mut self.shared, pair)?;
            }
            AttributeAction::Drop => {}
        }
        Ok(())
    }

    /// Hands on an attribute, a map as one field for each of its values, keys joined by `_`.
    fn flatten(
        &mut self,
        attribute: &Attribute<'_>,
        action: AttributeAction,
        mut take: impl FnMut(&mut Self, Field<'_>) -> Decoded,
    ) -> Decoded {
        if action == AttributeAction::Drop {
            return Ok(());
        }
        let mut name = std::mem::take(&mut self.name);
        name.clear();
        let done = self.flatten_into(attribute, action, &mut name, 0, &mut take);
        self.name = name;
        done
    }

    fn flatten_into(
        &mut self,
        attribute: &Attribute<'_>,
        action: AttributeAction,
        name: &mut String,
        depth: usize,
        take: &mut dyn FnMut(&mut Self, Field<'_>) -> Decoded,
    ) -> Decoded {
        let outer = name.len();
        (self.decoding.allowance).reserve_text(name, attribute.key.len() + 1)?;
        if depth > 0 {
            name.push('_');
        }
        name.push_str(attribute.key);
        if let Value::Map(bytes) = attribute.value()? {
            if depth >= MAX_DEPTH {
                let reason = format!("maps lie more than {MAX_DEPTH} deep");
                return Err(DecodeError::new("attribute value", 0, reason).into());
            }
            for inner in submessages("map", bytes, 1) {
                let inner = Attribute::decode(inner?)?;
                self.flatten_into(&inner, action, name, depth + 1, take)?;
            }
        } else {
            let mut text = std::mem::take(&mut self.text);
            text.clear();
            attribute.push_text(&mut text, self.decoding.allowance)?;
            let field = Field {
                action,
                name: name.as_str(),
                value: &text,
            };
            take(self, field)?;
            self.text = text;
        }
        name.truncate(outer);
        Ok(())
    }

    fn record(&mut self, record: &Record<'_>, wanted: Records) -> Decoded {
        let rules = self.decoding.options.otlp;
        let may_split = rules.may_split();
        let first_pair = self.decoding.batch.sent_pairs.len();
        let mut own_labels: Vec<(String, String)> = Vec::new();
        if rules.severity_text_as_label && !record.severity_text.is_empty() {
            let label = ("severity_text".to_owned(), record.severity_text.to_owned());
            own_labels.push(label);
        }
        for bytes in submessages("log record", record.bytes, 6) {
            let attribute = Attribute::decode(bytes?)?;
            let action = rules.of_log(attribute.key);
            self.flatten(&attribute, action, |this, field| {
                if field.action == AttributeAction::IndexLabel {
                    let name = normal_metadata_name(field.name).unwrap_or_default();
                    let room = name.len() + field.value.len();
                    this.decoding.allowance.scratch(room)?;
                    own_labels.push((name, field.value.to_owned()));
                    return Ok(());
                }
                Ok(this.put(field.name, field.value.as_bytes())?)
            })?;
        }
        let is_wanted = match wanted {
            Records::Plain => own_labels.is_empty(),
            Records::Split => !own_labels.is_empty(),
        };
        if may_split && !is_wanted {
            self.decoding.drop_pairs_from(first_pair);
            return Ok(());
        }
        let t_ns = self.put_fields(record, rules.severity_text_as_label)?;
        for n in 0..self.shared.len() {
            let PairPlace { name, value } = self.shared[n];
            self.decoding.pair(name, value)?;
        }
        let line = self.line(record)?;
        self.decoding.entry(t_ns, line)?;
        if wanted == Records::Split {
            self.decoding.batch.streams_sent += 1;
            let labels = self.stream_labels(&own_labels)?;
            self.decoding.end_stream(labels)?;
        }
        Ok(())
    }

    fn put(&mut self, name: &str, value: &[u8]) -> Result<()> {
        self.decoding.pair_of_bytes(name.as_bytes(), value)
    }

    /// The record's own fields as metadata; gives its time.
    fn put_fields(&mut self, record: &Record<'_>, text_is_label: bool) -> Result<TimestampNs> {
        let t_ns = match (record.time, record.observed) {
            (TimestampNs::EPOCH, TimestampNs::EPOCH) => self.now_ns,
            (TimestampNs::EPOCH, observed) => observed,
            (time, TimestampNs::EPOCH) => time,
            (time, observed) => {
                self.put_number("observed_timestamp", observed.get() as u64)?;
                time
            }
        };
        if record.severity_number != 0 {
            self.put_number("severity_number", record.severity_number)?;
        }
        if !record.severity_text.is_empty() && !text_is_label {
            self.put("severity_text", record.severity_text.as_bytes())?;
        }
        for (name, count) in [
            ("dropped_attributes_count", record.dropped_attributes),
            ("flags", record.flags),
        ] {
            if count != 0 {
                self.put_number(name, count)?;
            }
        }
        for (name, id) in [("trace_id", record.trace_id), ("span_id", record.span_id)] {
            if id.iter().any(|b| *b != 0) {
                self.decoding.allowance.scratch(2 * id.len())?;
                let mut hex = std::mem::take(&mut self.text);
                hex.clear();
                for b in id {
                    let _ = write!(hex, "{b:02x}");
                }
                self.put(name, hex.as_bytes())?;
                self.text = hex;
            }
        }
        if !record.event_name.is_empty() {
            self.put("event_name", record.event_name.as_bytes())?;
        }
        Ok(t_ns)
    }

    fn put_number(&mut self, name: &str, number: u64) -> Result<()> {
        let mut text = std::mem::take(&mut self.text);
        text.clear();
        let _ = write!(text, "{number}");
        self.put(name, text.as_bytes())?;
        self.text = text;
        Ok(())
    }

    fn line(&mut self, record: &Record<'_>) -> Decoded<crate::wire::batch::Place> {
        if let Value::Text(text) = record.body.value()? {
            return Ok(self.decoding.place(text.as_bytes())?);
        }
        let mut text = std::mem::take(&mut self.text);
        text.clear();
        (record.body).push_text(&mut text, self.decoding.allowance)?;
        let line = self.decoding.place(text.as_bytes())?;
        self.text = text;
        Ok(line)
    }
}

/// A log record, its attributes not looked into yet.
struct Record<'a> {
    bytes: &'a [u8],
    time: TimestampNs,
    observed: TimestampNs,
    severity_number: u64,
    severity_text: &'a str,
    body: Attribute<'a>,
    dropped_attributes: u64,
    flags: u64,
    trace_id: &'a [u8],
    span_id: &'a [u8],
    event_name: &'a str,
}

impl<'a> Record<'a> {
    fn decode(bytes: &'a [u8]) -> Result<Self, DecodeError> {
        const FLAGS: u64 = 8 << 3 | wire_type::FIXED32;
        let mut out = Self {
            bytes,
            time: TimestampNs::EPOCH,
            observed: TimestampNs::EPOCH,
            severity_number: 0,
            severity_text: "",
            body: Attribute::of_value(&[]),
            dropped_attributes: 0,
            flags: 0,
            trace_id: &[],
            span_id: &[],
            event_name: "",
        };
        let mut r = Reader::new("log record", bytes);
        while !r.is_empty() {
            match r.uvarint()? {
                tag if tag == fixed64_tag(1) => out.time = time(&mut r)?,
                tag if tag == varint_tag(2) => out.severity_number = r.uvarint()?,
                tag if tag == bytes_tag(3) => out.severity_text = r.str()?,
                tag if tag == bytes_tag(5) => out.body = Attribute::of_value(r.bytes()?),
                tag if tag == varint_tag(7) => out.dropped_attributes = r.uvarint()?,
                FLAGS => out.flags = u64::from(r.u32_le()?),
                tag if tag == bytes_tag(9) => out.trace_id = r.bytes()?,
                tag if tag == bytes_tag(10) => out.span_id = r.bytes()?,
                tag if tag == fixed64_tag(11) => out.observed = time(&mut r)?,
                tag if tag == bytes_tag(12) => out.event_name = r.str()?,
                tag => skip(&mut r, tag)?,
            }
        }
        Ok(out)
    }
}

fn time(r: &mut Reader<'_>) -> Result<TimestampNs, DecodeError> {
    let t_ns = r.u64_le()?;
    let ticks = i64::try_from(t_ns);
    ticks
        .map(TimestampNs::new)
        .map_err(|_| r.error(format!("time {t_ns} ns does not fit 63 bits")))
}
