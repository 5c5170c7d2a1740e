//! Which lines of a block may pass the line filters, found over the bytes of all lines at once.

use memchr::memmem::Finder;

use crate::entry::EntryBlock;

/// Where the lines of a block stand, first to last byte, if they stand in order.
fn span(block: &EntryBlock) -> Option<std::ops::Range<usize>> {
    let lines = block.lines();
    let (first, last) = (lines.first()?, lines.last()?);
    (block.has_lines_in_order()).then_some(first.start as usize..last.end as usize)
}

/// Writes the entries whose line holds what `finder` looks for to `out`, ascending. False if their lines do not stand in order, so that
/// each must be looked at.
pub(super) fn lines_with(block: &EntryBlock, finder: &Finder<'_>, out: &mut Vec<u32>) -> bool {
    out.clear();
    let Some(span) = span(block) else {
        return false;
    };
    let (bytes, lines, len) = (
        &block.bytes()[..span.end],
        block.lines(),
        finder.needle().len(),
    );
    let mut at = span.start;
    let mut line = 0;
    while let Some(found) = finder.find(&bytes[at..]) {
        let hit = at + found;
        line = gallop(line, lines.len(), |n| (lines[n].end as usize) > hit);
        let Some(range) = lines.get(line) else { break };
        // A hit may stand in the bytes between lines, or reach over the end of one.
        if hit >= range.start as usize && hit + len <= range.end as usize {
            out.push(line as u32);
            at = range.end as usize;
            line += 1;
        } else {
            at = hit + 1;
        }
    }
    true
}

/// The first place from `from` on at which `holds` is true, if it is true from there on; steps double, so that near places cost little.
fn gallop(from: usize, len: usize, holds: impl Fn(usize) -> bool) -> usize {
    let (mut low, mut step) = (from, 1);
    while low + step < len && !holds(low + step) {
        low += step;
        step *= 2;
    }
    let high = len.min(low + step + 1);
    let (mut low, mut high) = (low, high);
    while low < high {
        let middle = low + (high - low) / 2;
        if holds(middle) {
            high = middle
        } else {
            low = middle + 1
        }
    }
    low
}
