//! Operators between two vectors: partners are found by their labels, then computed with, step by step.

use lgtm_core::exec::CancelToken;
use lgtm_core::model::{LabelBuilder, Labels};
use lgtm_core::vector::{MatchGroup, StepGrid, match_groups};

use super::cells::{Cells, Element, Series};
use super::context::Charge;
use super::elements::{Outcome, arithmetic, changes_meaning, combine};
use super::labels::{is_metadata, merge_equal};
use super::matching::grouping;
use crate::promql::annotations::Annotations;
use crate::promql::ast::{BinaryOp, Cardinality, VectorMatching};
use crate::promql::query_error::{QueryError, Result};

/// The operator and its place.
#[derive(Debug, Clone, Copy)]
pub(super) struct Operator {
    pub(super) op: BinaryOp,
    pub(super) return_bool: bool,
    pub(super) pos: usize,
    pub(super) delayed_names: bool,
}

/// What computing takes and leaves.
pub(super) struct Work<'a> {
    pub(super) notes: &'a mut Annotations,
    /// The memory of what is made.
    pub(super) made: &'a mut Charge,
    pub(super) cancel: &'a CancelToken,
}

/// Both sides, the one with many series first.
struct Sides<'a> {
    operator: &'a Operator,
    matching: &'a VectorMatching,
    many: &'a [Series],
    one: &'a [Series],
    /// Whether `many` stands on the right.
    swapped: bool,
    /// Steps at which anything at all can come out.
    active: Vec<bool>,
    cancel: &'a CancelToken,
}

/// Applies an operator to two vectors.
///
/// # Errors
/// `Execution` when a series has more partners at a step than the matching allows, whether or not the operator lets any pass; and when
/// what is made takes more memory than the query may.
pub(super) fn operate(
    operator: &Operator,
    lhs: Vec<Series>,
    rhs: Vec<Series>,
    matching: &VectorMatching,
    grid: StepGrid,
    work: Work<'_>,
) -> Result<Vec<Series>> {
    let Work {
        notes,
        made,
        cancel,
    } = work;
    let swapped = matching.card == Cardinality::OneToMany;
    let (many, one) = if swapped { (rhs, lhs) } else { (lhs, rhs) };
    let groups = match_groups(
        grouping(matching),
        many.iter().map(|s| &s.labels),
        one.iter().map(|s| &s.labels),
    );
    let fills = matching.fill_left.is_some() || matching.fill_right.is_some();
    let any = |side: &[Series], step: usize| side.iter().any(|s| s.cells.has(step));
    let active = (0..grid.len()).map(|step| {
        if fills {
            any(&many, step) || any(&one, step)
        } else {
            any(&many, step) && any(&one, step)
        }
    });
    let sides = Sides {
        operator,
        matching,
        many: &many,
        one: &one,
        swapped,
        active: active.collect(),
        cancel,
    };
    let mut out = Vec::new();
    for g in &groups {
        sides.group(g, &mut out, (notes, made))?;
    }
    merge_equal(out)
}

impl Sides<'_> {
    /// What a missing partner on the "one" side, then on the "many" side, is taken to be. Prometheus calls the "one" side right
    /// here, on whichever side it is written.
    fn fills(&self) -> (Option<f64>, Option<f64>) {
        (self.matching.fill_right, self.matching.fill_left)
    }

    /// Which series of the "one" side has a value at each step.
    fn partners(&self, g: &MatchGroup) -> Result<Vec<Option<u32>>> {
        let mut out = vec![None; self.active.len()];
        for place in &g.right {
            self.cancel.check("query")?;
            let cells = &self.one[*place as usize].cells;
            for (step, partner) in out.iter_mut().enumerate() {
                if !self.active[step] || !cells.has(step) {
                    continue;
                }
                if let Some(other) = partner.replace(*place) {
                    return Err(self.duplicate(g, other, *place));
                }
            }
        }
        Ok(out)
    }

    fn duplicate(&self, g: &MatchGroup, a: u32, b: u32) -> QueryError {
        let side = if self.swapped { "left" } else { "right" };
        let mut names = [a, b].map(|p| self.one[p as usize].labels.clone());
        names.sort_unstable();
        QueryError::execution(format!(
            "found duplicate series for the match group {} on the {side} hand-side of the operation: [{}, {}];many-to-many matching not allowed: matching labels must be unique on one side",
            g.labels, names[0], names[1]
        ))
    }

    fn group(
        &self,
        g: &MatchGroup,
        out: &mut Vec<Series>,
        (notes, made): (&mut Annotations, &mut Charge),
    ) -> Result<()> {
        let (fill_one, fill_many) = self.fills();
        if g.right.is_empty() && fill_one.is_none() {
            return Ok(());
        }
        if g.left.is_empty() && fill_many.is_none() {
            // Nothing comes out, but that the "one" side is one is asked of all groups.
            return match g.right.len() {
                0 | 1 => Ok(()),
                _ => self.partners(g).map(|_| ()),
            };
        }
        let partners = self.partners(g)?;
        let steps = self.active.len();
        let mut matched = vec![false; steps];
        let is_one_to_one = self.matching.card == Cardinality::OneToOne;
        let mut results: Vec<(Series, Vec<bool>)> = Vec::new();
        for place in &g.left {
            self.cancel.check("query")?;
            let many = &self.many[*place as usize];
            let mut variants: Vec<(Option<u32>, Cells, Vec<bool>)> = Vec::new();
            for step in 0..steps {
                let Some(value) = self.active[step].then(|| many.cells.get(step)).flatten() else {
                    continue;
                };
                let partner = partners[step];
                let other = match (partner, fill_one) {
                    (Some(p), _) => self.one[p as usize].cells.get(step),
                    (None, Some(fill)) => Some(Element::Float(fill)),
                    (None, None) => None,
                };
                let Some(other) = other else { continue };
                let Some(result) = self.compute(&value, &other, notes) else {
                    continue;
                };
                if is_one_to_one && matched[step] {
                    return Err(QueryError::execution(
                        "multiple matches for labels: many-to-one matching must be explicit (group_left/group_right)",
                    ));
                }
                matched[step] = true;
                // What the labels depend on.
                let key = if self.matching.include.is_empty() {
                    None
                } else {
                    partner
                };
                let at = match variants.iter().rposition(|v| v.0 == key) {
                    Some(at) => at,
                    None => {
                        let row = steps * (size_of::<f64>() + size_of::<bool>());
                        let labels = many.labels.size_bytes() + g.labels.size_bytes();
                        made.grow(0, (row + labels + 128) as u64)?;
                        let tried = if g.left.len() > 1 {
                            vec![false; steps]
                        } else {
                            Vec::new()
                        };
                        variants.push((key, Cells::gaps(steps), tried));
                        variants.len() - 1
                    }
                };
                let variant = &mut variants[at];
                if let Some(tried) = variant.2.get_mut(step) {
                    *tried = true;
                }
                if let Some(result) = result {
                    variant.1.set(step, result);
                }
            }
            for (partner, cells, tried) in variants {
                let one = partner.map_or(&g.labels, |p| &self.one[p as usize].labels);
                let series = self.series(&many.labels, one, cells, many.cells.drop_name);
                results.push((series, tried));
            }
        }
        if !is_one_to_one {
            check_unique(&results)?;
        }
        out.extend(
            results
                .into_iter()
                .map(|r| r.0)
                .filter(|s| !s.cells.is_empty()),
        );
        if let Some(fill) = fill_many {
            made.grow(0, (g.right.len() * (steps * size_of::<f64>() + 128)) as u64)?;
            self.fill_many(g, fill, &matched, out, notes);
        }
        Ok(())
    }

    /// Series of the "one" side that met nobody, with the fill value as partner.
    fn fill_many(
        &self,
        g: &MatchGroup,
        fill: f64,
        matched: &[bool],
        out: &mut Vec<Series>,
        notes: &mut Annotations,
    ) {
        for place in &g.right {
            let one = &self.one[*place as usize];
            let mut cells = Cells::gaps(matched.len());
            for (step, matched) in matched.iter().enumerate() {
                if *matched || !self.active[step] {
                    continue;
                }
                if let Some(value) = one.cells.get(step)
                    && let Some(Some(result)) = self.compute(&Element::Float(fill), &value, notes)
                {
                    cells.set(step, result);
                }
            }
            if !cells.is_empty() {
                out.push(self.series(&g.labels, &one.labels, cells, false));
            }
        }
    }

    /// Computes one pair; the inner `None` is a comparison that does not hold, the outer one a failure.
    #[allow(
        clippy::option_option,
        reason = "failed, filtered and given are three different things"
    )]
    fn compute(
        &self,
        many: &Element,
        one: &Element,
        notes: &mut Annotations,
    ) -> Option<Option<Element>> {
        let o = self.operator;
        let (lhs, rhs) = if self.swapped {
            (one, many)
        } else {
            (many, one)
        };
        if let (Element::Float(a), Element::Float(b), Some(f)) = (lhs, rhs, arithmetic(o.op)) {
            return Some(Some(Element::Float(f(*a, *b))));
        }
        let outcome = combine(o.op, lhs, rhs, o.pos, notes);
        match (outcome, o.return_bool) {
            (Outcome::Failed, _) => None,
            (Outcome::Value(_), true) => Some(Some(Element::Float(1.0))),
            (Outcome::Filtered, true) => Some(Some(Element::Float(0.0))),
            (Outcome::Value(value), false) => Some(Some(value)),
            (Outcome::Filtered, false) => Some(None),
        }
    }

    /// A result with its labels: those of the "many" side, less what the matching leaves out, plus what it takes from the other.
    fn series(&self, many: &Labels, one: &Labels, mut cells: Cells, named: bool) -> Series {
        let (o, m) = (self.operator, self.matching);
        let drop = changes_meaning(o.op) || o.return_bool && !o.delayed_names;
        let keep = |name: &str| {
            if drop && is_metadata(name) {
                return false;
            }
            m.card != Cardinality::OneToOne || m.labels.iter().any(|l| l == name) == m.on
        };
        let kept = many.iter().filter(|(name, _)| keep(name));
        let labels = if m.include.is_empty() {
            Labels::from_sorted(kept).unwrap_or_default()
        } else {
            let mut builder = LabelBuilder::default();
            for (name, value) in kept {
                builder.push(name, value);
            }
            for name in &m.include {
                builder.set(name, one.get(name).unwrap_or(""));
            }
            builder.build().unwrap_or_default()
        };
        cells.drop_name = o.return_bool && o.delayed_names || named && !drop;
        Series { labels, cells }
    }
}

/// Two series of the "many" side must not give equal labels at one step.
fn check_unique(results: &[(Series, Vec<bool>)]) -> Result<()> {
    if results.len() < 2 {
        return Ok(());
    }
    let mut order: Vec<&(Series, Vec<bool>)> = results.iter().collect();
    order.sort_by(|a, b| a.0.labels.cmp(&b.0.labels));
    for pair in order.chunk_by(|a, b| a.0.labels == b.0.labels) {
        let [first, others @ ..] = pair else { continue };
        let mut seen = first.1.clone();
        for (_, tried) in others {
            for (seen, tried) in seen.iter_mut().zip(tried) {
                if *seen && *tried {
                    return Err(QueryError::execution(
                        "multiple matches for labels: grouping labels must ensure unique matches",
                    ));
                }
                *seen |= tried;
            }
        }
    }
    Ok(())
}
