//! Where spans stand in the tree of their trace, as numbers that make structural questions comparisons.
//!
//! A walk over the tree, depth first, numbers a span when it is entered (`left`) and when it is left (`right`): what lies between these is
//! below it. The rules are Tempo's, since its readers rely on the numbers in blocks.

use crate::trace::{Span, SpanId, SpanKind, Trace};

/// A span's place in the tree. All zero for a span that hangs on no root.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct NestedSet {
    /// The number at which the walk enters it, from 1.
    pub left: i32,
    /// The number at which the walk leaves it.
    pub right: i32,
    /// `left` of its parent; -1 for a root.
    pub parent: i32,
    /// Spans whose parent it is, also where no root is above it.
    pub child_count: i32,
}

/// Numbers the spans of one trace after the other, with the memory of the one before.
#[derive(Debug, Default)]
pub struct NestedSets {
    numbers: Vec<NestedSet>,
    /// Ids in order, each with the number of its span.
    by_id: Vec<(SpanId, u32)>,
    tree: Vec<Node>,
    kinds: Vec<i32>,
}

/// Nobody, as the number of a span.
const NONE: u32 = u32::MAX;

/// A span in the tree: numbers of spans.
#[derive(Debug, Clone, Copy)]
struct Node {
    parent: u32,
    first_child: u32,
    last_child: u32,
    next_sibling: u32,
    is_root: bool,
}

impl NestedSets {
    /// The places of all spans of a trace, in the order of [`Trace::spans`]. Costs a sort of the ids; the depth of the tree does not matter.
    ///
    /// There are none without a span that has no parent id, and none when more than two spans bear the same id. Two may: a client's span and
    /// the server's that answers it, as Zipkin has them. Which of them is meant as a parent follows from the kind of the child.
    pub fn number(&mut self, trace: &Trace<'_>) -> &[NestedSet] {
        self.numbers.clear();
        self.by_id.clear();
        self.tree.clear();
        self.kinds.clear();
        let mut has_root = false;
        for (n, (_, _, span)) in trace.spans().enumerate() {
            let is_root = span.parent_span_id.is_empty();
            has_root |= is_root;
            self.by_id.push((SpanId::from_any(span.span_id), n as u32));
            self.kinds.push(span.kind);
            self.tree.push(Node {
                parent: NONE,
                first_child: NONE,
                last_child: NONE,
                next_sibling: NONE,
                is_root,
            });
        }
        self.numbers.resize(self.tree.len(), NestedSet::default());
        self.by_id.sort_unstable();
        let is_thrice = |w: &[(SpanId, u32)]| w[0].0 == w[2].0;
        if has_root && !self.by_id.windows(3).any(is_thrice) {
            for (n, (_, _, span)) in trace.spans().enumerate() {
                self.hang(n as u32, span);
            }
            self.walk();
        }
        &self.numbers
    }

    /// Hangs a span below its parent.
    fn hang(&mut self, n: u32, span: &Span<'_>) {
        if span.parent_span_id.is_empty() {
            return;
        }
        let Some(parent) = self.parent_of(span) else {
            return;
        };
        self.tree[n as usize].parent = parent;
        self.numbers[parent as usize].child_count += 1;
        match self.tree[parent as usize].last_child {
            NONE => self.tree[parent as usize].first_child = n,
            last => self.tree[last as usize].next_sibling = n,
        }
        self.tree[parent as usize].last_child = n;
    }

    fn parent_of(&self, span: &Span<'_>) -> Option<u32> {
        let id = SpanId::from_any(span.parent_span_id);
        let from = self.by_id.partition_point(|(other, _)| *other < id);
        let with_id = |at: usize| {
            let found = self.by_id.get(at).filter(|(other, _)| *other == id);
            found.map(|(_, n)| *n)
        };
        let first = with_id(from)?;
        let Some(second) = with_id(from + 1) else {
            return Some(first);
        };
        // A server's span is called by the client's; everything else was done by the server.
        let wanted = if span.kind == SpanKind::Server as i32 {
            SpanKind::Client as i32
        } else {
            SpanKind::Server as i32
        };
        let is_wanted = |n: &u32| self.kinds[*n as usize] == wanted;
        [first, second].into_iter().find(is_wanted)
    }

    fn walk(&mut self) {
        let mut counter = 1;
        for root in 0..self.tree.len() {
            if !self.tree[root].is_root {
                continue;
            }
            let mut at = root as u32;
            self.enter(at, -1, &mut counter);
            loop {
                let node = self.tree[at as usize];
                if self.numbers[at as usize].right == 0 && node.first_child != NONE {
                    let left = self.numbers[at as usize].left;
                    at = node.first_child;
                    self.enter(at, left, &mut counter);
                    continue;
                }
                if self.numbers[at as usize].right == 0 {
                    self.leave(at, &mut counter);
                }
                if at == root as u32 {
                    break;
                }
                if node.next_sibling == NONE {
                    // All children are done: so is the parent.
                    at = node.parent;
                    self.leave(at, &mut counter);
                } else {
                    let parent = self.numbers[node.parent as usize].left;
                    at = node.next_sibling;
                    self.enter(at, parent, &mut counter);
                }
            }
        }
    }

    fn enter(&mut self, n: u32, parent: i32, counter: &mut i32) {
        let number = &mut self.numbers[n as usize];
        number.left = *counter;
        number.parent = parent;
        *counter = counter.saturating_add(1);
    }

    fn leave(&mut self, n: u32, counter: &mut i32) {
        self.numbers[n as usize].right = *counter;
        *counter = counter.saturating_add(1);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::trace::{ResourceSpans, ScopeSpans};

    const KINDS: [SpanKind; 3] = [SpanKind::Internal, SpanKind::Server, SpanKind::Client];

    fn trace<'a>(spans: impl Iterator<Item = (&'a [u8], &'a [u8], SpanKind)>) -> Trace<'a> {
        let spans = spans.map(|(span_id, parent_span_id, kind)| Span {
            span_id,
            parent_span_id,
            kind: kind as i32,
            ..Span::default()
        });
        let scope = ScopeSpans {
            spans: spans.collect(),
            ..ScopeSpans::default()
        };
        let resource = ResourceSpans {
            scopes: vec![scope],
            ..ResourceSpans::default()
        };
        Trace {
            resources: vec![resource],
        }
    }

    /// The rules as they read, with the program's stack as the way down.
    fn plainly(spans: &[(Vec<u8>, Vec<u8>, SpanKind)]) -> Vec<NestedSet> {
        fn visit(
            n: usize,
            parent: i32,
            children: &[Vec<usize>],
            counter: &mut i32,
            out: &mut [NestedSet],
        ) {
            out[n].left = *counter;
            out[n].parent = parent;
            *counter += 1;
            for &child in &children[n] {
                visit(child, out[n].left, children, counter, out);
            }
            out[n].right = *counter;
            *counter += 1;
        }
        let mut out = vec![NestedSet::default(); spans.len()];
        let with_id =
            |id: &[u8]| -> Vec<usize> { (0..spans.len()).filter(|n| spans[*n].0 == id).collect() };
        let has_root = spans.iter().any(|s| s.1.is_empty());
        if !has_root || spans.iter().any(|s| with_id(&s.0).len() > 2) {
            return out;
        }
        let mut children = vec![Vec::new(); spans.len()];
        for (n, (_, parent, kind)) in spans.iter().enumerate() {
            let found = with_id(parent);
            let wanted = if *kind == SpanKind::Server {
                SpanKind::Client
            } else {
                SpanKind::Server
            };
            let parent = match (parent.is_empty(), &found[..]) {
                (true, _) | (_, []) => None,
                (_, [one]) => Some(*one),
                (_, two) => two.iter().copied().find(|p| spans[*p].2 == wanted),
            };
            if let Some(parent) = parent {
                children[parent].push(n);
                out[parent].child_count += 1;
            }
        }
        let mut counter = 1;
        for (n, span) in spans.iter().enumerate() {
            if span.1.is_empty() {
                visit(n, -1, &children, &mut counter, &mut out);
            }
        }
        out
    }

    proptest! {
        #[test]
        fn numbers_are_those_of_the_plain_rules(
            spans in proptest::collection::vec((0u8..14, 0u8..16, 0usize..3), 0..24),
        ) {
            let spans: Vec<_> = spans
                .iter()
                .map(|(id, parent, kind)| {
                    let parent = if *parent < 3 { vec![] } else { vec![*parent; 8] };
                    (vec![*id + 1; 8], parent, KINDS[*kind])
                })
                .collect();
            let trace = trace(spans.iter().map(|(i, p, k)| (&i[..], &p[..], *k)));
            let mut sets = NestedSets::default();
            prop_assert_eq!(sets.number(&trace), &plainly(&spans)[..]);
            prop_assert_eq!(sets.number(&Trace::default()), &[][..]);
        }
    }

    #[test]
    fn a_chain_of_a_million_spans_needs_no_stack() {
        let ids: Vec<[u8; 8]> = (1..=1_000_000u64).map(u64::to_be_bytes).collect();
        let spans = (0..ids.len()).map(|n| {
            let parent: &[u8] = if n == 0 { &[] } else { &ids[n - 1] };
            (&ids[n][..], parent, SpanKind::Internal)
        });
        let trace = trace(spans);
        let mut sets = NestedSets::default();
        let numbers = sets.number(&trace);
        let last = numbers.last().unwrap();
        assert_eq!(
            (last.left, last.right, last.parent),
            (1_000_000, 1_000_001, 999_999)
        );
        assert_eq!(numbers[0].right, 2_000_000);
    }
}
