//! The messages of `opentelemetry/proto/collector/logs/v1`: field numbers and JSON names.
//!
//! From the published `opentelemetry-proto` 1.x definitions, which never change a number.

use lgtm_core::otlp::schema::{ANY_VALUE, KEY_VALUE, Kind, Message, RESOURCE, SCOPE, field};

/// `ExportLogsServiceRequest`, for [`json_to_protobuf`](lgtm_core::otlp::json_to_protobuf).
pub static REQUEST: Message = Message(&[field("resourceLogs", 1, Kind::Message(&RESOURCE_LOGS))]);

static RESOURCE_LOGS: Message = Message(&[
    field("resource", 1, Kind::Message(&RESOURCE)),
    field("scopeLogs", 2, Kind::Message(&SCOPE_LOGS)),
    field("schemaUrl", 3, Kind::Text),
]);

static SCOPE_LOGS: Message = Message(&[
    field("scope", 1, Kind::Message(&SCOPE)),
    field("logRecords", 2, Kind::Message(&LOG_RECORD)),
    field("schemaUrl", 3, Kind::Text),
]);

static LOG_RECORD: Message = Message(&[
    field("timeUnixNano", 1, Kind::Fixed64),
    field("severityNumber", 2, Kind::Enum(&SEVERITIES)),
    field("severityText", 3, Kind::Text),
    field("body", 5, Kind::Message(&ANY_VALUE)),
    field("attributes", 6, Kind::Message(&KEY_VALUE)),
    field("droppedAttributesCount", 7, Kind::Varint),
    field("flags", 8, Kind::Fixed32),
    field("traceId", 9, Kind::Hex),
    field("spanId", 10, Kind::Hex),
    field("observedTimeUnixNano", 11, Kind::Fixed64),
    field("eventName", 12, Kind::Text),
]);

static SEVERITIES: [(&str, u64); 25] = [
    ("SEVERITY_NUMBER_UNSPECIFIED", 0),
    ("SEVERITY_NUMBER_TRACE", 1),
    ("SEVERITY_NUMBER_TRACE2", 2),
    ("SEVERITY_NUMBER_TRACE3", 3),
    ("SEVERITY_NUMBER_TRACE4", 4),
    ("SEVERITY_NUMBER_DEBUG", 5),
    ("SEVERITY_NUMBER_DEBUG2", 6),
    ("SEVERITY_NUMBER_DEBUG3", 7),
    ("SEVERITY_NUMBER_DEBUG4", 8),
    ("SEVERITY_NUMBER_INFO", 9),
    ("SEVERITY_NUMBER_INFO2", 10),
    ("SEVERITY_NUMBER_INFO3", 11),
    ("SEVERITY_NUMBER_INFO4", 12),
    ("SEVERITY_NUMBER_WARN", 13),
    ("SEVERITY_NUMBER_WARN2", 14),
    ("SEVERITY_NUMBER_WARN3", 15),
    ("SEVERITY_NUMBER_WARN4", 16),
    ("SEVERITY_NUMBER_ERROR", 17),
    ("SEVERITY_NUMBER_ERROR2", 18),
    ("SEVERITY_NUMBER_ERROR3", 19),
    ("SEVERITY_NUMBER_ERROR4", 20),
    ("SEVERITY_NUMBER_FATAL", 21),
    ("SEVERITY_NUMBER_FATAL2", 22),
    ("SEVERITY_NUMBER_FATAL3", 23),
    ("SEVERITY_NUMBER_FATAL4", 24),
];
