//! The messages of `opentelemetry/proto/collector/metrics/v1`, as far as metrics need them: field numbers and JSON names.
//!
//! From the published `opentelemetry-proto` 1.x definitions, which never change a number.

use lgtm_core::otlp::schema::{KEY_VALUE, Kind, Message, RESOURCE, SCOPE, field};

/// `ExportMetricsServiceRequest`, for [`json_to_protobuf`](lgtm_core::otlp::json_to_protobuf).
pub static REQUEST: Message = Message(&[field(
    "resourceMetrics",
    1,
    Kind::Message(&RESOURCE_METRICS),
)]);

/// What a point counts since.
const TEMPORALITY: Kind = Kind::Enum(&[
    ("AGGREGATION_TEMPORALITY_UNSPECIFIED", 0),
    ("AGGREGATION_TEMPORALITY_DELTA", 1),
    ("AGGREGATION_TEMPORALITY_CUMULATIVE", 2),
]);

static RESOURCE_METRICS: Message = Message(&[
    field("resource", 1, Kind::Message(&RESOURCE)),
    field("scopeMetrics", 2, Kind::Message(&SCOPE_METRICS)),
    field("schemaUrl", 3, Kind::Text),
]);

static SCOPE_METRICS: Message = Message(&[
    field("scope", 1, Kind::Message(&SCOPE)),
    field("metrics", 2, Kind::Message(&METRIC)),
    field("schemaUrl", 3, Kind::Text),
]);

static METRIC: Message = Message(&[
    field("name", 1, Kind::Text),
    field("description", 2, Kind::Text),
    field("unit", 3, Kind::Text),
    field("gauge", 5, Kind::Message(&NUMBERS)),
    field("sum", 7, Kind::Message(&NUMBERS)),
    field("histogram", 9, Kind::Message(&HISTOGRAM)),
    field("exponentialHistogram", 10, Kind::Message(&EXPONENTIAL)),
    field("summary", 11, Kind::Message(&SUMMARY)),
]);

/// Gauge and sum; a gauge has the points only.
static NUMBERS: Message = Message(&[
    field("dataPoints", 1, Kind::Message(&NUMBER_POINT)),
    field("aggregationTemporality", 2, TEMPORALITY),
    field("isMonotonic", 3, Kind::Varint),
]);

static HISTOGRAM: Message = Message(&[
    field("dataPoints", 1, Kind::Message(&HISTOGRAM_POINT)),
    field("aggregationTemporality", 2, TEMPORALITY),
]);

static EXPONENTIAL: Message = Message(&[
    field("dataPoints", 1, Kind::Message(&EXPONENTIAL_POINT)),
    field("aggregationTemporality", 2, TEMPORALITY),
]);

static SUMMARY: Message = Message(&[field("dataPoints", 1, Kind::Message(&SUMMARY_POINT))]);

static NUMBER_POINT: Message = Message(&[
    field("startTimeUnixNano", 2, Kind::Fixed64),
    field("timeUnixNano", 3, Kind::Fixed64),
    field("asDouble", 4, Kind::Double),
    field("exemplars", 5, Kind::Message(&EXEMPLAR)),
    field("asInt", 6, Kind::Fixed64),
    field("attributes", 7, Kind::Message(&KEY_VALUE)),
    field("flags", 8, Kind::Varint),
]);

static HISTOGRAM_POINT: Message = Message(&[
    field("startTimeUnixNano", 2, Kind::Fixed64),
    field("timeUnixNano", 3, Kind::Fixed64),
    field("count", 4, Kind::Fixed64),
    field("sum", 5, Kind::Double),
    field("bucketCounts", 6, Kind::Fixed64),
    field("explicitBounds", 7, Kind::Double),
    field("exemplars", 8, Kind::Message(&EXEMPLAR)),
    field("attributes", 9, Kind::Message(&KEY_VALUE)),
    field("flags", 10, Kind::Varint),
]);

static EXPONENTIAL_POINT: Message = Message(&[
    field("attributes", 1, Kind::Message(&KEY_VALUE)),
    field("startTimeUnixNano", 2, Kind::Fixed64),
    field("timeUnixNano", 3, Kind::Fixed64),
    field("count", 4, Kind::Fixed64),
    field("sum", 5, Kind::Double),
    field("scale", 6, Kind::Signed),
    field("zeroCount", 7, Kind::Fixed64),
    field("positive", 8, Kind::Message(&BUCKETS)),
    field("negative", 9, Kind::Message(&BUCKETS)),
    field("flags", 10, Kind::Varint),
    field("exemplars", 11, Kind::Message(&EXEMPLAR)),
    field("zeroThreshold", 14, Kind::Double),
]);

static BUCKETS: Message = Message(&[
    field("offset", 1, Kind::Signed),
    field("bucketCounts", 2, Kind::Varint),
]);

static SUMMARY_POINT: Message = Message(&[
    field("startTimeUnixNano", 2, Kind::Fixed64),
    field("timeUnixNano", 3, Kind::Fixed64),
    field("count", 4, Kind::Fixed64),
    field("sum", 5, Kind::Double),
    field("quantileValues", 6, Kind::Message(&QUANTILE)),
    field("attributes", 7, Kind::Message(&KEY_VALUE)),
    field("flags", 8, Kind::Varint),
]);

static QUANTILE: Message = Message(&[
    field("quantile", 1, Kind::Double),
    field("value", 2, Kind::Double),
]);

static EXEMPLAR: Message = Message(&[
    field("timeUnixNano", 2, Kind::Fixed64),
    field("asDouble", 3, Kind::Double),
    field("spanId", 4, Kind::Hex),
    field("traceId", 5, Kind::Hex),
    field("asInt", 6, Kind::Fixed64),
    field("filteredAttributes", 7, Kind::Message(&KEY_VALUE)),
]);
