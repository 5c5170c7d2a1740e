//! Where a block has the values of a field.

use std::collections::BTreeMap;

use super::decoded::Decoded;
use super::scan_block::ScanBlock;
use crate::schema::{AttributeLeaves, BlockVersion, DedicatedLeaves, DedicatedSlots, LeafIndex};
use crate::select::{AttributeScope, Field, Intrinsic};
use crate::trace::ColumnKind;

/// Attributes of resources with columns that bear their names before version 5, in the order of [`crate::schema::Leaves::resource_known`].
const KNOWN: [&str; 8] = [
    "cluster",
    "namespace",
    "pod",
    "container",
    "k8s.cluster.name",
    "k8s.namespace.name",
    "k8s.pod.name",
    "k8s.container.name",
];

/// Whose values they are. Each has a depth of lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Owner {
    Trace,
    Resource,
    Scope,
    Span,
    Event,
    Link,
}

impl Owner {
    /// How many lists it lies in.
    pub(super) fn depth(self) -> u8 {
        match self {
            Self::Trace => 0,
            Self::Resource => 1,
            Self::Scope => 2,
            Self::Span => 3,
            Self::Event | Self::Link => 4,
        }
    }
}

/// One place that values lie in.
#[derive(Debug, Clone)]
pub(super) enum Source {
    /// A column with a value for each owner.
    Flat(LeafIndex),
    /// A column of an attribute's own: owners have none, one, or in version 5 several.
    Own(LeafIndex),
    /// The list of attributes.
    List(AttributeLeaves),
    /// How many spans name a span as their parent; client and server may share an id.
    ChildCount {
        id: LeafIndex,
        parent: LeafIndex,
        kind: LeafIndex,
    },
    /// Version 3: times of events, less the starts of their spans.
    EventTime { time: LeafIndex, start: LeafIndex },
}

/// Where the values of a field lie; of two for one owner the first counts.
#[derive(Debug, Clone)]
pub(super) struct FieldPlan {
    pub(super) owner: Owner,
    pub(super) sources: Vec<Source>,
    /// The key in lists of attributes.
    pub(super) key: Vec<u8>,
    /// An empty text is no value.
    pub(super) is_nil_when_empty: bool,
    /// Values that are no texts are the empty text.
    pub(super) is_always_text: bool,
}

/// Which values are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Need {
    pub(super) texts: bool,
    pub(super) numbers: bool,
    pub(super) bools: bool,
    /// Values of lists that say whether they are arrays, and those that are no plain values.
    pub(super) arrays: bool,
}

impl Need {
    pub(super) const ALL: Self = Self {
        texts: true,
        numbers: true,
        bools: true,
        arrays: true,
    };
    /// Texts: most attributes are.
    pub(super) const TEXTS: Self = Self {
        texts: true,
        ..Self::PRESENCE
    };
    /// Only whether there is one.
    pub(super) const PRESENCE: Self = Self {
        texts: false,
        numbers: false,
        bools: false,
        arrays: false,
    };
}

/// Leaves to be read, and whether their levels are needed.
pub(super) type LeafSet = BTreeMap<LeafIndex, bool>;

pub(super) fn add_leaf(out: &mut LeafSet, leaf: Option<LeafIndex>, with_levels: bool) {
    if let Some(leaf) = leaf {
        *out.entry(leaf).or_default() |= with_levels;
    }
}

impl FieldPlan {
    /// Where a block has a field; `None` where only whole traces tell.
    pub(super) fn of(block: &ScanBlock, field: &Field) -> Option<Self> {
        match field {
            Field::Intrinsic(intrinsic) => of_intrinsic(block, *intrinsic),
            Field::Attribute(scope, name) => of_attribute(block, *scope, name),
        }
    }

    /// The leaves that hold it.
    ///
    /// A list of attributes is left out where its keys, or their dictionary, are decoded already and the field's is not among them.
    pub(super) fn add_leaves(&self, need: Need, decoded: &Decoded, out: &mut LeafSet) {
        for source in &self.sources {
            match source {
                Source::Flat(leaf) => add_leaf(out, Some(*leaf), false),
                Source::Own(leaf) => add_leaf(out, Some(*leaf), true),
                Source::ChildCount { id, parent, kind } => {
                    for leaf in [id, parent, kind] {
                        add_leaf(out, Some(*leaf), false);
                    }
                }
                Source::EventTime { time, start } => {
                    add_leaf(out, Some(*time), true);
                    add_leaf(out, Some(*start), false);
                }
                Source::List(list) => {
                    if !decoded.may_have_key(list, &self.key) {
                        continue;
                    }
                    add_leaf(out, list.key, true);
                    if need.texts {
                        add_leaf(out, list.text, true);
                    }
                    if decoded.is_text(list, &self.key) {
                        add_leaf(out, list.is_array.filter(|_| need.arrays), false);
                        continue;
                    }
                    if need.numbers {
                        add_leaf(out, list.int, true);
                        add_leaf(out, list.double, true);
                    }
                    if need.bools {
                        add_leaf(out, list.boolean, true);
                    }
                    if need.arrays {
                        add_leaf(out, list.is_array, false);
                    }
                    // Arrays of version 3 are JSON, whatever their elements are.
                    if need != Need::PRESENCE && (need.arrays || list.array_json.is_some()) {
                        for json in [list.unsupported, list.map_json, list.array_json] {
                            add_leaf(out, json, true);
                        }
                    }
                }
            }
        }
    }
}

impl FieldPlan {
    /// The leaves that are needed whatever the keys of lists of attributes are.
    pub(super) fn add_certain_leaves(&self, out: &mut LeafSet) {
        let certain = self
            .sources
            .iter()
            .filter(|s| !matches!(s, Source::List(_)));
        let certain = Self {
            sources: certain.cloned().collect(),
            ..self.clone()
        };
        certain.add_leaves(Need::PRESENCE, &Decoded::default(), out);
    }

    /// Its lists of attributes.
    pub(super) fn lists(&self) -> impl Iterator<Item = &AttributeLeaves> {
        self.sources.iter().filter_map(|source| match source {
            Source::List(list) => Some(list),
            _ => None,
        })
    }

    /// The keys of its lists of attributes.
    pub(super) fn keys(&self) -> impl Iterator<Item = LeafIndex> {
        self.lists().filter_map(|list| list.key)
    }
}

fn flat(owner: Owner, leaf: Option<LeafIndex>) -> FieldPlan {
    FieldPlan {
        owner,
        sources: leaf.map(Source::Flat).into_iter().collect(),
        key: Vec::new(),
        is_nil_when_empty: false,
        is_always_text: false,
    }
}

fn of_intrinsic(block: &ScanBlock, intrinsic: Intrinsic) -> Option<FieldPlan> {
    let leaves = &block.file.positions;
    let (span, events, links) = (&leaves.span, &leaves.span.events, &leaves.span.links);
    let of_span = |leaf| flat(Owner::Span, leaf);
    Some(match intrinsic {
        Intrinsic::Duration => of_span(span.duration),
        Intrinsic::Name => of_span(span.name),
        Intrinsic::Status => of_span(span.status_code),
        Intrinsic::StatusMessage => of_span(span.status_message),
        Intrinsic::Kind => of_span(span.kind),
        Intrinsic::SpanId => of_span(span.span_id),
        Intrinsic::StartTime => of_span(span.start),
        Intrinsic::NestedSetLeft => of_span(span.nested_left),
        Intrinsic::NestedSetRight => of_span(span.nested_right),
        Intrinsic::NestedSetParent => of_span(span.parent),
        Intrinsic::ParentId => FieldPlan {
            is_nil_when_empty: true,
            ..of_span(span.parent_span_id)
        },
        Intrinsic::ChildCount if span.child_count.is_some() => of_span(span.child_count),
        Intrinsic::ChildCount => FieldPlan {
            sources: vec![Source::ChildCount {
                id: span.span_id?,
                parent: span.parent_span_id?,
                kind: span.kind?,
            }],
            ..of_span(None)
        },
        Intrinsic::TraceDuration => flat(Owner::Trace, leaves.duration),
        Intrinsic::RootName => flat(Owner::Trace, leaves.root_span),
        Intrinsic::RootService => flat(Owner::Trace, leaves.root_service),
        Intrinsic::TraceId => flat(Owner::Trace, leaves.trace_id),
        Intrinsic::ScopeName => flat(Owner::Scope, leaves.scope_name),
        Intrinsic::ScopeVersion => flat(Owner::Scope, leaves.scope_version),
        Intrinsic::EventName => flat(Owner::Event, events.name),
        Intrinsic::EventTimeSinceStart if events.since_start.is_some() => {
            flat(Owner::Event, events.since_start)
        }
        Intrinsic::EventTimeSinceStart => FieldPlan {
            sources: vec![Source::EventTime {
                time: events.time?,
                start: span.start?,
            }],
            ..flat(Owner::Event, None)
        },
        // Links of version 3 are messages.
        Intrinsic::LinkTraceId | Intrinsic::LinkSpanId if links.encoded.is_some() => return None,
        Intrinsic::LinkTraceId => flat(Owner::Link, links.trace_id),
        Intrinsic::LinkSpanId => flat(Owner::Link, links.span_id),
    })
}

fn of_attribute(block: &ScanBlock, scope: AttributeScope, name: &str) -> Option<FieldPlan> {
    let leaves = &block.file.positions;
    let span = &leaves.span;
    let mut plan = flat(Owner::Span, None);
    plan.key = name.as_bytes().to_vec();
    let is_service = scope == AttributeScope::Resource && name == "service.name";
    let own = |own: &DedicatedLeaves, slots: &DedicatedSlots| -> Vec<Source> {
        let slots = slots.as_slice().iter().filter(|s| s.key == name.as_bytes());
        let leaves = slots.filter_map(|slot| match slot.kind {
            ColumnKind::String => own.text.get(slot.number).copied().flatten(),
            ColumnKind::Int => own.int.get(slot.number).copied().flatten(),
        });
        leaves.map(Source::Own).collect()
    };
    let list = |list: &AttributeLeaves| list.key.map(|_| Source::List(list.clone()));
    match scope {
        AttributeScope::Any => return None,
        AttributeScope::Resource => {
            plan.owner = Owner::Resource;
            plan.sources.extend(list(&leaves.resource_attributes));
            let more = own(&leaves.resource_dedicated, &block.resource_slots);
            plan.sources.extend(more);
            let known = KNOWN.iter().zip(leaves.resource_known);
            let known = known.filter(|(key, _)| **key == name);
            let known = known.filter_map(|(_, leaf)| leaf.map(Source::Own));
            plan.sources.extend(known);
            if is_service {
                plan.sources.extend(leaves.service_name.map(Source::Flat));
                plan.is_always_text = true;
            }
        }
        AttributeScope::Span => {
            plan.sources.extend(list(&span.attributes));
            plan.sources.extend(own(&span.dedicated, &block.span_slots));
            let of_http = match name {
                "http.method" => span.http_method,
                "http.url" => span.http_url,
                "http.status_code" => span.http_status_code,
                _ => None,
            };
            plan.sources.extend(of_http.map(Source::Own));
        }
        AttributeScope::Event => {
            // Values of version 3 are messages.
            if block.version == BlockVersion::V3 {
                return None;
            }
            plan.owner = Owner::Event;
            plan.sources.extend(list(&span.events.attributes));
            plan.sources
                .extend(own(&span.events.dedicated, &block.event_slots));
        }
        AttributeScope::Link => {
            if span.links.encoded.is_some() {
                return None;
            }
            plan.owner = Owner::Link;
            plan.sources.extend(list(&span.links.attributes));
        }
        AttributeScope::Instrumentation => {
            plan.owner = Owner::Scope;
            plan.sources.extend(list(&leaves.scope_attributes));
        }
    }
    Some(plan)
}
