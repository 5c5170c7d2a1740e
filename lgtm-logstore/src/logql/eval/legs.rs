//! The answers to the legs of a cut query, where they are embedded in what is evaluated over them.

use std::sync::Arc;

use hashbrown::HashMap;
use hashbrown::hash_map::Entry;
use lgtm_core::Error;
use lgtm_core::model::Labels;
use lgtm_core::vector::{GAP, GridSeries, StepGrid, is_gap};

use super::vector::GridVector;
use crate::logql::answer::{Answer, Point, QueryValue, Series};
use crate::logql::ast::{Leg, LegJoin};
use crate::logql::query_error::{QueryError, Result};
use crate::logql::usage::Charge;

/// The answers to the parts of each leg, in their order.
pub(crate) type LegAnswers = Arc<[Vec<Arc<Answer>>]>;

/// The series of a leg on the grid of the query, those of equal labels joined. `charge` takes what they hold.
///
/// # Errors
/// `Internal` for answers that are none of this query's; those of `charge`.
pub(super) fn leg_vector(
    leg: Leg,
    legs: &LegAnswers,
    grid: StepGrid,
    charge: &mut Charge,
) -> Result<GridVector> {
    let missing = || fault(format!("there is no leg {}", leg.number));
    let answers = legs.get(leg.number).ok_or_else(missing)?;
    let mut out: GridVector = Vec::new();
    let mut places: HashMap<Labels, usize> = HashMap::new();
    for answer in answers {
        for series in series_of(&answer.value)? {
            let place = match (leg.join, places.entry(series.labels.clone())) {
                (LegJoin::None, _) => None,
                (_, Entry::Occupied(place)) => Some(*place.get()),
                (_, Entry::Vacant(free)) => {
                    free.insert(out.len());
                    None
                }
            };
            let place = match place {
                Some(place) => place,
                None => {
                    charge.grow(
                        (grid.len() * size_of::<f64>() + series.labels.size_bytes()) as u64,
                    )?;
                    out.push(GridSeries {
                        labels: series.labels.clone(),
                        cells: vec![GAP; grid.len()],
                    });
                    out.len() - 1
                }
            };
            for point in &series.points {
                let step = step_of(&grid, point)?;
                let cell = &mut out[place].cells[step];
                *cell = joined(leg.join, *cell, point.value);
            }
        }
    }
    Ok(out)
}

fn fault(message: String) -> QueryError {
    QueryError::Source(Error::Internal(format!("joining a query: {message}")))
}

fn series_of(value: &QueryValue) -> Result<&[Series]> {
    match value {
        QueryValue::Matrix(series) | QueryValue::Vector(series) => Ok(series),
        QueryValue::Streams(_) | QueryValue::Scalar(_) => Err(fault("a part has no series".into())),
    }
}

fn step_of(grid: &StepGrid, point: &Point) -> Result<usize> {
    let step = grid.index_of(point.t_ms);
    step.ok_or_else(|| fault(format!("a part has a value at {}, no step", point.t_ms)))
}

fn joined(join: LegJoin, known: f64, value: f64) -> f64 {
    if is_gap(known) {
        return value;
    }
    // NaN gives way to numbers where one of two is chosen.
    match join {
        LegJoin::None | LegJoin::First => known,
        LegJoin::Sum => known + value,
        LegJoin::Least if value < known || known.is_nan() => value,
        LegJoin::Greatest if value > known || known.is_nan() => value,
        LegJoin::Least | LegJoin::Greatest => known,
    }
}
