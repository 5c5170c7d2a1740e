//! The leaf columns of a trace block as data: path, types, encoding, compression, in the order that readers of others count them by.

use std::sync::Arc;

use parquet::basic::{ConvertedType, LogicalType, Repetition, Type as Physical};
use parquet::schema::types::{Type, TypePtr};

use crate::schema::{BlockVersion, DedicatedSlots};
use crate::trace::{ColumnKind, ColumnOption, ColumnScope, DedicatedColumn};

/// What the values of a leaf are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LeafKind {
    /// Bytes.
    Bytes,
    /// Text, which may be cut within a character.
    Text,
    /// 64 bits without a sign.
    U64,
    /// 64 bits.
    I64,
    /// 32 bits without a sign.
    U32,
    /// 32 bits.
    I32,
    /// Floats of 64 bits.
    Double,
    /// `true` or `false`.
    Bool,
}

/// How the values of a leaf are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LeafEncoding {
    /// One after the other.
    Plain,
    /// Differences, bit-packed (`DELTA_BINARY_PACKED`).
    Delta,
    /// Lengths as differences, then the bytes (`DELTA_LENGTH_BYTE_ARRAY`).
    DeltaLength,
    /// Numbers of entries of a dictionary (`RLE_DICTIONARY`).
    Dictionary,
}

/// How the pages of a leaf are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LeafCodec {
    /// Not at all.
    None,
    /// Snappy, without frames.
    Snappy,
    /// Zstandard.
    Zstd,
}

/// A leaf column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leaf {
    /// Names from the root on, with dots between them.
    pub path: String,
    /// What its values are.
    pub kind: LeafKind,
    /// How they are written.
    pub encoding: LeafEncoding,
    /// How pages are compressed.
    pub codec: LeafCodec,
    /// Definition level of a value that is there.
    pub max_def: u8,
    /// Depth of the lists that it lies in.
    pub max_rep: u8,
    /// Whether pages have their least and greatest values in the index.
    pub bounds: bool,
}

/// The columns of a version with a list of attributes that have columns of their own.
#[derive(Debug, Clone)]
pub struct Layout {
    /// The version.
    pub version: BlockVersion,
    /// Leaves in order.
    pub leaves: Vec<Leaf>,
    /// The schema for the Parquet file.
    pub(crate) root: TypePtr,
}

impl Layout {
    /// The columns of a block. Columns of their own that nothing uses are left out in version 5 and are empty before it.
    pub fn new(version: BlockVersion, dedicated: &[DedicatedColumn]) -> Self {
        let nodes = trace_nodes(version, dedicated);
        let mut leaves = Vec::new();
        for node in &nodes {
            node.add_leaves("", 0, 0, &mut leaves);
        }
        let fields = nodes.iter().map(Node::parquet).collect();
        let root = Type::group_type_builder("Trace").with_fields(fields);
        Self {
            version,
            leaves,
            root: Arc::new(root.build().expect("a group with fields is a schema")),
        }
    }
}

/// How a group of the schema is marked.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mark {
    None,
    List,
    Map,
}

enum Shape {
    Group(Mark, Vec<Node>),
    Leaf(LeafKind, LeafEncoding, LeafCodec, bool),
}

struct Node {
    name: String,
    repetition: Repetition,
    shape: Shape,
}

impl Node {
    fn add_leaves(&self, above: &str, def: u8, rep: u8, out: &mut Vec<Leaf>) {
        let path = match above {
            "" => self.name.clone(),
            above => format!("{above}.{}", self.name),
        };
        let def = def + u8::from(self.repetition != Repetition::REQUIRED);
        let rep = rep + u8::from(self.repetition == Repetition::REPEATED);
        match &self.shape {
            Shape::Group(_, fields) => {
                for field in fields {
                    field.add_leaves(&path, def, rep, out);
                }
            }
            &Shape::Leaf(kind, encoding, codec, bounds) => out.push(Leaf {
                path,
                kind,
                encoding,
                codec,
                max_def: def,
                max_rep: rep,
                bounds,
            }),
        }
    }

    fn parquet(&self) -> TypePtr {
        let built = match &self.shape {
            Shape::Group(mark, fields) => {
                let fields = fields.iter().map(Node::parquet).collect();
                let group = Type::group_type_builder(&self.name)
                    .with_repetition(self.repetition)
                    .with_fields(fields);
                match mark {
                    Mark::None => group,
                    Mark::List => group
                        .with_logical_type(Some(LogicalType::List))
                        .with_converted_type(ConvertedType::LIST),
                    Mark::Map => group
                        .with_logical_type(Some(LogicalType::Map))
                        .with_converted_type(ConvertedType::MAP),
                }
                .build()
            }
            Shape::Leaf(kind, ..) => {
                let (physical, logical) = parquet_type(*kind);
                Type::primitive_type_builder(&self.name, physical)
                    .with_repetition(self.repetition)
                    .with_logical_type(logical)
                    .build()
            }
        };
        Arc::new(built.expect("types and their marks go together"))
    }
}

fn parquet_type(kind: LeafKind) -> (Physical, Option<LogicalType>) {
    let int = |bit_width, is_signed| Some(LogicalType::integer(bit_width, is_signed));
    match kind {
        LeafKind::Bytes => (Physical::BYTE_ARRAY, None),
        LeafKind::Text => (Physical::BYTE_ARRAY, Some(LogicalType::String)),
        LeafKind::U64 => (Physical::INT64, int(64, false)),
        LeafKind::I64 => (Physical::INT64, int(64, true)),
        LeafKind::U32 => (Physical::INT32, int(32, false)),
        LeafKind::I32 => (Physical::INT32, int(32, true)),
        LeafKind::Double => (Physical::DOUBLE, None),
        LeafKind::Bool => (Physical::BOOLEAN, None),
    }
}

fn leaf(name: &str, kind: LeafKind, encoding: LeafEncoding, codec: LeafCodec) -> Node {
    Node {
        name: name.to_owned(),
        repetition: Repetition::REQUIRED,
        shape: Shape::Leaf(kind, encoding, codec, true),
    }
}

fn optional(mut node: Node) -> Node {
    node.repetition = Repetition::OPTIONAL;
    node
}

fn repeated(mut node: Node) -> Node {
    node.repetition = Repetition::REPEATED;
    node
}

fn group(name: &str, fields: Vec<Node>) -> Node {
    Node {
        name: name.to_owned(),
        repetition: Repetition::REQUIRED,
        shape: Shape::Group(Mark::None, fields),
    }
}

/// A list of an element: a repeated field in version 5, before it wrapped in a marked group.
fn list(version: BlockVersion, mut element: Node) -> Node {
    if version == BlockVersion::V5 {
        return repeated(element);
    }
    let name = std::mem::replace(&mut element.name, "element".to_owned());
    let middle = repeated(group("list", vec![element]));
    Node {
        name,
        repetition: Repetition::REQUIRED,
        shape: Shape::Group(Mark::List, vec![middle]),
    }
}

use LeafCodec::{None as NoCodec, Snappy};
use LeafEncoding::{Delta, DeltaLength, Dictionary, Plain};

fn text(name: &str) -> Node {
    leaf(name, LeafKind::Text, Dictionary, Snappy)
}

fn long_text(name: &str) -> Node {
    leaf(name, LeafKind::Text, DeltaLength, Snappy)
}

fn id(name: &str) -> Node {
    leaf(name, LeafKind::Bytes, DeltaLength, NoCodec)
}

fn delta(name: &str, kind: LeafKind) -> Node {
    leaf(name, kind, Delta, NoCodec)
}

fn dropped(name: &str) -> Node {
    leaf(name, LeafKind::I32, Delta, Snappy)
}

fn dropped_plain(name: &str) -> Node {
    leaf(name, LeafKind::I32, Plain, Snappy)
}

/// The list of attributes of anything but an event of version 3.
fn attributes(version: BlockVersion) -> Node {
    let int = leaf("ValueInt", LeafKind::I64, Plain, Snappy);
    let double = leaf("ValueDouble", LeafKind::Double, Plain, Snappy);
    let boolean = leaf("ValueBool", LeafKind::Bool, Plain, Snappy);
    let mut fields = vec![text("Key")];
    if version == BlockVersion::V3 {
        fields.extend([text("Value"), int, double, boolean].map(optional));
        fields.extend(["ValueKVList", "ValueArray"].map(|name| optional(long_text(name))));
    } else {
        fields.push(leaf("IsArray", LeafKind::Bool, Plain, Snappy));
        fields.extend([text("Value"), int, double, boolean].map(|value| list(version, value)));
        fields.push(optional(long_text("ValueUnsupported")));
    }
    list(version, group("Attrs", fields))
}

/// The group of columns for attributes that have their own; none where there are no such columns.
fn dedicated_group(
    version: BlockVersion,
    scope: ColumnScope,
    list: &[DedicatedColumn],
) -> Option<Node> {
    let used = |kind| {
        let slots = DedicatedSlots::count(version, scope, kind);
        let columns = list.iter().filter(|c| c.scope == scope && c.kind == kind);
        columns.take(slots).collect::<Vec<_>>()
    };
    let mut fields = Vec::new();
    if version == BlockVersion::V5 {
        for (i, column) in used(ColumnKind::String).into_iter().enumerate() {
            let mut node = repeated(text(&format!("String{:02}", i + 1)));
            if column.options.contains(&ColumnOption::Blob) {
                node.shape = Shape::Leaf(LeafKind::Text, DeltaLength, LeafCodec::Zstd, false);
            }
            fields.push(node);
        }
        for i in 0..used(ColumnKind::Int).len() {
            let name = format!("Int{:02}", i + 1);
            fields.push(repeated(leaf(&name, LeafKind::I64, Plain, Snappy)));
        }
    } else {
        let slots = DedicatedSlots::count(version, scope, ColumnKind::String);
        let names = (1..=slots).map(|i| format!("String{i:02}"));
        fields.extend(names.map(|name| optional(text(&name))));
    }
    (!fields.is_empty()).then(|| group("DedicatedAttributes", fields))
}

fn trace_nodes(version: BlockVersion, dedicated: &[DedicatedColumn]) -> Vec<Node> {
    let mut out = vec![
        id("TraceID"),
        long_text("TraceIDText"),
        delta("StartTimeUnixNano", LeafKind::U64),
        delta("EndTimeUnixNano", LeafKind::U64),
        delta("DurationNano", LeafKind::U64),
        leaf("RootServiceName", LeafKind::Text, Dictionary, NoCodec),
        leaf("RootSpanName", LeafKind::Text, Dictionary, NoCodec),
    ];
    out.extend(service_stats(version));
    let mut scope_spans = vec![group("Scope", scope_nodes(version))];
    let spans = group("Spans", span_nodes(version, dedicated));
    scope_spans.push(list(version, spans));
    if version == BlockVersion::V5 {
        scope_spans.push(delta("SpanCount", LeafKind::I32));
    }
    let resource = group("Resource", resource_nodes(version, dedicated));
    let scopes = list(version, group("ss", scope_spans));
    out.push(list(version, group("rs", vec![resource, scopes])));
    out
}

fn service_stats(version: BlockVersion) -> Option<Node> {
    let counts = ["SpanCount", "ErrorCount"].map(|name| delta(name, LeafKind::U32));
    match version {
        BlockVersion::V3 => None,
        BlockVersion::V4 => {
            let key = leaf("key", LeafKind::Text, DeltaLength, NoCodec);
            let value = group("value", counts.into());
            Some(Node {
                name: "ServiceStats".to_owned(),
                repetition: Repetition::REQUIRED,
                shape: Shape::Group(
                    Mark::Map,
                    vec![repeated(group("key_value", vec![key, value]))],
                ),
            })
        }
        BlockVersion::V5 => {
            let mut fields = vec![text("ServiceName")];
            fields.extend(counts);
            Some(repeated(group("ServiceStats", fields)))
        }
    }
}

/// Attributes of resources that have columns with their own names before version 5: column, key.
pub(crate) const KNOWN_RESOURCE: [(&str, &[u8]); 8] = [
    ("Cluster", b"cluster"),
    ("Namespace", b"namespace"),
    ("Pod", b"pod"),
    ("Container", b"container"),
    ("K8sClusterName", b"k8s.cluster.name"),
    ("K8sNamespaceName", b"k8s.namespace.name"),
    ("K8sPodName", b"k8s.pod.name"),
    ("K8sContainerName", b"k8s.container.name"),
];

fn resource_nodes(version: BlockVersion, dedicated: &[DedicatedColumn]) -> Vec<Node> {
    let service = text("ServiceName");
    let own = dedicated_group(version, ColumnScope::Resource, dedicated);
    let mut out = match version {
        BlockVersion::V3 => vec![attributes(version), service],
        BlockVersion::V4 => {
            let count = dropped("DroppedAttributesCount");
            vec![attributes(version), count, service]
        }
        BlockVersion::V5 => {
            let count = dropped("DroppedAttributesCount");
            vec![service, attributes(version), count]
        }
    };
    if version != BlockVersion::V5 {
        out.extend(KNOWN_RESOURCE.map(|(name, _)| optional(text(name))));
    }
    out.extend(own);
    out
}

fn scope_nodes(version: BlockVersion) -> Vec<Node> {
    let mut out = vec![text("Name"), text("Version")];
    if version != BlockVersion::V3 {
        out.push(attributes(version));
        out.push(dropped("DroppedAttributesCount"));
    }
    out
}

fn span_nodes(version: BlockVersion, dedicated: &[DedicatedColumn]) -> Vec<Node> {
    let mut out = vec![id("SpanID"), id("ParentSpanID")];
    out.extend(["ParentID", "NestedSetLeft", "NestedSetRight"].map(|n| delta(n, LeafKind::I32)));
    if version == BlockVersion::V5 {
        out.push(delta("ChildCount", LeafKind::I32));
    }
    out.extend([
        text("Name"),
        delta("Kind", LeafKind::I64),
        long_text("TraceState"),
        delta("StartTimeUnixNano", LeafKind::U64),
        delta("DurationNano", LeafKind::U64),
        delta("StatusCode", LeafKind::I64),
        long_text("StatusMessage"),
        attributes(version),
    ]);
    out.push(match version {
        BlockVersion::V3 => dropped_plain("DroppedAttributesCount"),
        _ => dropped("DroppedAttributesCount"),
    });
    out.push(list(
        version,
        group("Events", event_nodes(version, dedicated)),
    ));
    out.push(dropped_plain("DroppedEventsCount"));
    out.push(match version {
        BlockVersion::V3 => leaf("Links", LeafKind::Bytes, DeltaLength, Snappy),
        _ => list(version, group("Links", link_nodes(version))),
    });
    out.push(dropped_plain("DroppedLinksCount"));
    if version != BlockVersion::V5 {
        out.extend(["HttpMethod", "HttpUrl"].map(|name| optional(text(name))));
        let code = leaf("HttpStatusCode", LeafKind::I64, Plain, Snappy);
        out.push(optional(code));
    }
    out.extend(dedicated_group(version, ColumnScope::Span, dedicated));
    if version == BlockVersion::V5 {
        out.extend([15, 60, 300, 3600].map(|seconds| {
            let name = format!("StartTimeRounded{seconds}");
            delta(&name, LeafKind::U32)
        }));
    }
    out
}

fn event_nodes(version: BlockVersion, dedicated: &[DedicatedColumn]) -> Vec<Node> {
    let mut out = if version == BlockVersion::V3 {
        let value = leaf("Value", LeafKind::Bytes, DeltaLength, Snappy);
        vec![
            delta("TimeUnixNano", LeafKind::U64),
            long_text("Name"),
            list(version, group("Attrs", vec![text("Key"), value])),
        ]
    } else {
        let time = delta("TimeSinceStartNano", LeafKind::U64);
        vec![time, text("Name"), attributes(version)]
    };
    out.push(dropped("DroppedAttributesCount"));
    out.extend(dedicated_group(version, ColumnScope::Event, dedicated));
    out
}

fn link_nodes(version: BlockVersion) -> Vec<Node> {
    vec![
        id("TraceID"),
        id("SpanID"),
        long_text("TraceState"),
        attributes(version),
        dropped("DroppedAttributesCount"),
    ]
}
