//! What a regular expression says without an engine.
//!
//! Most matchers of dashboards and rules are literals, alternations of literals, and literals between `.*`. [`expand`] turns such an
//! expression into the finite list of sequences of literals and gaps that it stands for, or gives up at a bound.

use regex_syntax::hir::{Class, Hir, HirKind, Look, Repetition};

/// Sequences that a product (of classes, groups, repetitions) may grow to: as many as `(?i)` makes of seven letters. Past that, one pass
/// of the engine is cheaper than asking each. Alternations that were written out are not bound by it.
const MAX_PRODUCT: usize = 128;

/// Bytes of literals in all sequences: a list of 20 000 host names passes, a product of long alternations does not.
const MAX_BYTES: usize = 1 << 20;

/// One piece of a sequence.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Piece {
    /// These bytes.
    Literal(Vec<u8>),
    /// `.*`: any text, newlines too.
    Any,
    /// `.+`: any text that is not empty.
    Some,
}

/// Literals and gaps, one after the other. No two neighbours of the same kind.
pub(super) type Sequence = Vec<Piece>;

/// The sequences whose union `hir`, anchored at both ends, matches. None if it is more than that, or too many.
pub(super) fn expand(hir: &Hir) -> Option<Vec<Sequence>> {
    let edges = Edges {
        start: true,
        end: true,
    };
    let mut sequences = visit(hir, edges)?;
    sequences.sort_unstable();
    sequences.dedup();
    Some(sequences)
}

/// Whether an expression stands at an end of the text, where `^` and `$` say nothing new.
#[derive(Clone, Copy)]
struct Edges {
    start: bool,
    end: bool,
}

/// Recursion is bounded by the nesting limit of the parser.
fn visit(hir: &Hir, edges: Edges) -> Option<Vec<Sequence>> {
    match hir.kind() {
        HirKind::Empty => Some(vec![vec![]]),
        HirKind::Literal(literal) => Some(vec![vec![Piece::Literal(literal.0.to_vec())]]),
        HirKind::Class(class) => chars(class),
        HirKind::Look(Look::Start) if edges.start => Some(vec![vec![]]),
        HirKind::Look(Look::End) if edges.end => Some(vec![vec![]]),
        HirKind::Look(_) => None,
        HirKind::Repetition(repetition) => repeat(repetition),
        HirKind::Capture(capture) => visit(&capture.sub, edges),
        HirKind::Concat(parts) => concat(parts, edges),
        HirKind::Alternation(parts) => {
            let mut all = Vec::new();
            let mut size = 0;
            for part in parts {
                let more = visit(part, edges)?;
                size += bytes(&more);
                if size > MAX_BYTES {
                    return None;
                }
                all.extend(more);
            }
            Some(all)
        }
    }
}

fn chars(class: &Class) -> Option<Vec<Sequence>> {
    let Class::Unicode(class) = class else {
        return None;
    };
    let count: usize = class.iter().map(|range| range.len()).sum();
    if count > MAX_PRODUCT {
        return None;
    }
    let chars = class.iter().flat_map(|range| range.start()..=range.end());
    Some(
        chars
            .map(|c| vec![Piece::Literal(c.to_string().into_bytes())])
            .collect(),
    )
}

fn repeat(repetition: &Repetition) -> Option<Vec<Sequence>> {
    let nowhere = Edges {
        start: false,
        end: false,
    };
    match (repetition.min, repetition.max) {
        (0, None) if is_any_char(&repetition.sub) => Some(vec![vec![Piece::Any]]),
        (1, None) if is_any_char(&repetition.sub) => Some(vec![vec![Piece::Some]]),
        (min, Some(max)) if max as usize <= MAX_PRODUCT => {
            let once = visit(&repetition.sub, nowhere)?;
            let mut power = vec![vec![]];
            let mut all = Vec::new();
            for count in 0..=max {
                if count >= min {
                    all.extend(power.iter().cloned());
                }
                if all.len() > MAX_PRODUCT || bytes(&all) > MAX_BYTES {
                    return None;
                }
                if count < max {
                    power = product(power, &once)?;
                }
            }
            Some(all)
        }
        _ => None,
    }
}

fn is_any_char(hir: &Hir) -> bool {
    match hir.kind() {
        HirKind::Class(Class::Unicode(class)) => {
            matches!(class.ranges(), [all] if all.start() == '\0' && all.end() == char::MAX)
        }
        HirKind::Capture(capture) => is_any_char(&capture.sub),
        _ => false,
    }
}

fn concat(parts: &[Hir], edges: Edges) -> Option<Vec<Sequence>> {
    let is_look = |hir: &Hir, look| matches!(hir.kind(), HirKind::Look(l) if *l == look);
    let starts = parts
        .iter()
        .take_while(|hir| is_look(hir, Look::Start))
        .count();
    let ends = parts
        .iter()
        .rev()
        .take_while(|hir| is_look(hir, Look::End))
        .count();
    let mut all = vec![vec![]];
    for (i, part) in parts.iter().enumerate() {
        let edges = Edges {
            start: edges.start && i <= starts,
            end: edges.end && i + ends + 1 >= parts.len(),
        };
        all = product(all, &visit(part, edges)?)?;
    }
    Some(all)
}

fn product(left: Vec<Sequence>, right: &[Sequence]) -> Option<Vec<Sequence>> {
    let count = left.len() * right.len();
    // With one on a side the number does not grow, only the bytes do.
    if left.len() > 1 && right.len() > 1 && count > MAX_PRODUCT {
        return None;
    }
    if bytes(&left) * right.len() + bytes(right) * left.len() > MAX_BYTES {
        return None;
    }
    let mut all = Vec::with_capacity(count);
    for head in &left {
        for tail in right {
            let mut sequence = head.clone();
            for piece in tail {
                append(&mut sequence, piece)?;
            }
            all.push(sequence);
        }
    }
    Some(all)
}

/// None where a gap would have to hold two characters.
fn append(sequence: &mut Sequence, piece: &Piece) -> Option<()> {
    match (sequence.last_mut(), piece) {
        (Some(Piece::Literal(last)), Piece::Literal(more)) => last.extend_from_slice(more),
        (Some(Piece::Some), Piece::Some) => return None,
        (Some(last @ (Piece::Any | Piece::Some)), Piece::Any | Piece::Some) => {
            if *piece == Piece::Some {
                *last = Piece::Some;
            }
        }
        _ => sequence.push(piece.clone()),
    }
    Some(())
}

/// Bytes of literals, and something for each piece, so that lists of empty sequences are bounded too.
fn bytes(sequences: &[Sequence]) -> usize {
    let piece = |piece: &Piece| match piece {
        Piece::Literal(literal) => literal.len() + 1,
        Piece::Any | Piece::Some => 1,
    };
    sequences
        .iter()
        .map(|sequence| sequence.iter().map(piece).sum::<usize>() + 1)
        .sum()
}
