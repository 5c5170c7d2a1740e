//! Which spans of the decoded rows go on, and how what lies above and below them is found.

use super::decoded::Decoded;
use super::field_plan::Owner;

/// Spans of the decoded rows, ascending.
#[derive(Debug, Clone, Default)]
pub(super) struct Selection {
    /// Rows that have some, and where these end among `spans`.
    pub(super) rows: Vec<(u32, u32)>,
    /// The spans by number.
    pub(super) spans: Vec<u32>,
}

impl Selection {
    /// The spans whose place in a mask is set, of rows that pass.
    pub(super) fn of_mask(
        decoded: &Decoded,
        mask: &[bool],
        row_passes: impl Fn(usize) -> bool,
    ) -> Self {
        let mut out = Self::default();
        let spans = decoded.spans();
        for row in 0..spans.rows() {
            let range = spans.spans_of_row(row);
            let Some(hits) = mask.get(range.clone()) else {
                break;
            };
            if !hits.contains(&true) || !row_passes(row) {
                continue;
            }
            if hits.contains(&false) {
                let numbered = hits.iter().enumerate();
                let passing = numbered.filter(|(_, hit)| **hit);
                (out.spans).extend(passing.map(|(n, _)| (range.start + n) as u32));
            } else {
                out.spans.extend(range.start as u32..range.end as u32);
            }
            out.rows.push((row as u32, out.spans.len() as u32));
        }
        out
    }

    /// The same spans where only the selected rows are decoded, one after the other.
    pub(super) fn moved(&self, from: &Decoded, to: &Decoded) -> Self {
        let mut out = self.clone();
        let mut start = 0;
        for (n, row) in out.rows.iter_mut().enumerate() {
            let old = from.spans().spans_of_row(row.0 as usize).start as u32;
            let new = to.spans().spans_of_row(n).start as u32;
            for span in &mut out.spans[start as usize..row.1 as usize] {
                *span = *span - old + new;
            }
            start = row.1;
            row.0 = n as u32;
        }
        out
    }

    /// For each span the number of what it lies in.
    pub(super) fn owners(&self, decoded: &Decoded, owner: Owner) -> Vec<u32> {
        let spans = decoded.spans();
        let range = |n: usize| match owner {
            Owner::Resource => spans.spans_of_resource(n),
            Owner::Scope => spans.spans_of_scope(n),
            _ => spans.spans_of_row(n),
        };
        match owner {
            Owner::Span | Owner::Event | Owner::Link => self.spans.clone(),
            owner => {
                let (mut n, count) = (0, decoded.count(owner));
                let numbers = self.spans.iter().map(|span| {
                    while n + 1 < count && range(n).end <= *span as usize {
                        n += 1;
                    }
                    n as u32
                });
                numbers.collect()
            }
        }
    }

    /// The events or links of the spans, and where those of each end.
    pub(super) fn below(&self, decoded: &Decoded, owner: Owner) -> (Vec<u32>, Vec<u32>) {
        let starts = decoded.below(owner);
        let (mut numbers, mut ends) = (Vec::new(), Vec::new());
        for span in &self.spans {
            let span = *span as usize;
            if let Some([start, end]) = starts.get(span..span + 2) {
                numbers.extend(*start..*end);
            }
            ends.push(numbers.len() as u32);
        }
        (numbers, ends)
    }
}

/// Carries a mask over owners down, or up, to their spans.
pub(super) fn to_spans(decoded: &Decoded, owner: Owner, hits: Vec<bool>) -> Vec<bool> {
    let spans = decoded.spans();
    let mut out = vec![false; spans.len()];
    match owner {
        Owner::Span => return hits,
        Owner::Event | Owner::Link => {
            for (out, bounds) in out.iter_mut().zip(decoded.below(owner).windows(2)) {
                let range = bounds[0] as usize..bounds[1] as usize;
                *out = hits.get(range).is_some_and(|hits| hits.contains(&true));
            }
        }
        _ => {
            for (n, _) in hits.iter().enumerate().filter(|(_, hit)| **hit) {
                let range = match owner {
                    Owner::Resource => spans.spans_of_resource(n),
                    Owner::Scope => spans.spans_of_scope(n),
                    _ => spans.spans_of_row(n),
                };
                if let Some(part) = out.get_mut(range) {
                    part.fill(true);
                }
            }
        }
    }
    out
}
