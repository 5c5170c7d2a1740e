//! The lists that a row consists of.

use crate::schema::LeafIndex;
use crate::schema::file::FileLeaf;

/// A list: its leaves, and the one that says how long it is.
#[derive(Debug, Default, Clone)]
pub(crate) struct List {
    pub(crate) leaves: Vec<LeafIndex>,
    pub(crate) guide: Option<LeafIndex>,
    pub(crate) depth: u8,
}

/// Leaves below each list.
#[derive(Debug, Default)]
pub(crate) struct RowLists {
    pub(crate) resources: List,
    pub(crate) scopes: List,
    pub(crate) spans: List,
    pub(crate) events: List,
    pub(crate) links: List,
    pub(crate) resource_attributes: List,
    pub(crate) scope_attributes: List,
    pub(crate) span_attributes: List,
    pub(crate) event_attributes: List,
    pub(crate) link_attributes: List,
}

impl RowLists {
    /// Those of a file. Compares each leaf with each list, so a file keeps them.
    pub(crate) fn of(leaves: &[FileLeaf]) -> Self {
        let plain = leaves.iter().map(|l| l.path.replace(".list.element", ""));
        let paths: Vec<String> = plain.collect();
        let list = |prefix: &str, depth: u8| {
            let numbered = paths.iter().enumerate();
            let below = numbered.filter(|(_, path)| path.starts_with(prefix));
            let below: Vec<LeafIndex> = below.map(|(n, _)| n).collect();
            let is_guide = |n: &&LeafIndex| {
                let leaf = &leaves[**n];
                leaf.max_rep == depth && leaf.max_def == depth
            };
            List {
                guide: below.iter().find(is_guide).copied(),
                leaves: below,
                depth,
            }
        };
        Self {
            resources: list("rs.", 1),
            scopes: list("rs.ss.", 2),
            spans: list("rs.ss.Spans.", 3),
            events: list("rs.ss.Spans.Events.", 4),
            links: list("rs.ss.Spans.Links.", 4),
            resource_attributes: list("rs.Resource.Attrs.", 2),
            scope_attributes: list("rs.ss.Scope.Attrs.", 3),
            span_attributes: list("rs.ss.Spans.Attrs.", 4),
            event_attributes: list("rs.ss.Spans.Events.Attrs.", 5),
            link_attributes: list("rs.ss.Spans.Links.Attrs.", 5),
        }
    }
}
