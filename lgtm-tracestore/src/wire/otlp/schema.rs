//! The messages of `opentelemetry/proto/collector/trace/v1`: field numbers and JSON names.
//!
//! From the published `opentelemetry-proto` 1.x definitions, which never change a number.

use lgtm_core::otlp::schema::{KEY_VALUE, Kind, Message, RESOURCE, SCOPE, field};

/// `ExportTraceServiceRequest`, for [`json_to_protobuf`](lgtm_core::otlp::json_to_protobuf).
pub static REQUEST: Message = Message(&[field("resourceSpans", 1, Kind::Message(&RESOURCE_SPANS))]);

static RESOURCE_SPANS: Message = Message(&[
    field("resource", 1, Kind::Message(&RESOURCE)),
    field("scopeSpans", 2, Kind::Message(&SCOPE_SPANS)),
    field("schemaUrl", 3, Kind::Text),
]);

static SCOPE_SPANS: Message = Message(&[
    field("scope", 1, Kind::Message(&SCOPE)),
    field("spans", 2, Kind::Message(&SPAN)),
    field("schemaUrl", 3, Kind::Text),
]);

static SPAN: Message = Message(&[
    field("traceId", 1, Kind::Hex),
    field("spanId", 2, Kind::Hex),
    field("traceState", 3, Kind::Text),
    field("parentSpanId", 4, Kind::Hex),
    field("name", 5, Kind::Text),
    field("kind", 6, Kind::Enum(&KINDS)),
    field("startTimeUnixNano", 7, Kind::Fixed64),
    field("endTimeUnixNano", 8, Kind::Fixed64),
    field("attributes", 9, Kind::Message(&KEY_VALUE)),
    field("droppedAttributesCount", 10, Kind::Varint),
    field("events", 11, Kind::Message(&EVENT)),
    field("droppedEventsCount", 12, Kind::Varint),
    field("links", 13, Kind::Message(&LINK)),
    field("droppedLinksCount", 14, Kind::Varint),
    field("status", 15, Kind::Message(&STATUS)),
    field("flags", 16, Kind::Fixed32),
]);

static EVENT: Message = Message(&[
    field("timeUnixNano", 1, Kind::Fixed64),
    field("name", 2, Kind::Text),
    field("attributes", 3, Kind::Message(&KEY_VALUE)),
    field("droppedAttributesCount", 4, Kind::Varint),
]);

static LINK: Message = Message(&[
    field("traceId", 1, Kind::Hex),
    field("spanId", 2, Kind::Hex),
    field("traceState", 3, Kind::Text),
    field("attributes", 4, Kind::Message(&KEY_VALUE)),
    field("droppedAttributesCount", 5, Kind::Varint),
    field("flags", 6, Kind::Fixed32),
]);

static STATUS: Message = Message(&[
    field("message", 2, Kind::Text),
    field("code", 3, Kind::Enum(&STATUS_CODES)),
]);

static KINDS: [(&str, u64); 6] = [
    ("SPAN_KIND_UNSPECIFIED", 0),
    ("SPAN_KIND_INTERNAL", 1),
    ("SPAN_KIND_SERVER", 2),
    ("SPAN_KIND_CLIENT", 3),
    ("SPAN_KIND_PRODUCER", 4),
    ("SPAN_KIND_CONSUMER", 5),
];

static STATUS_CODES: [(&str, u64); 3] = [
    ("STATUS_CODE_UNSET", 0),
    ("STATUS_CODE_OK", 1),
    ("STATUS_CODE_ERROR", 2),
];
