//! A batch of the selected spans.

use std::collections::BTreeMap;

use lgtm_core::codec::{Allowance, DecodeFail};
use lgtm_core::exec::check_wanted;

use super::decoded::{Decoded, bad, guide_of, starts};
use super::field_plan::{FieldPlan, LeafSet, Need, Owner, add_leaf};
use super::scan_block::ScanBlock;
use super::selection::Selection;
use super::values::OwnerValues;
use crate::schema::Column;
use crate::select::{ServiceCount, SpanBatch, TraceRow, WantedColumns};
use crate::trace::{StatusCode, TraceId};

/// The leaves that a batch with these columns is made of; `None` where only whole traces tell.
///
/// With [`Need::PRESENCE`] of lists of attributes only the keys come: which values are needed is known with them.
pub(super) fn leaves_of(
    block: &ScanBlock,
    wanted: &WantedColumns,
    need: Need,
    decoded: &Decoded,
) -> Option<LeafSet> {
    if wanted.all_attributes {
        return None;
    }
    let mut out = LeafSet::new();
    let leaves = &block.file.positions;
    add_leaf(&mut out, block.guide, true);
    for leaf in [leaves.trace_id, leaves.start, leaves.end] {
        add_leaf(&mut out, leaf, false);
    }
    if wanted.traces.root {
        add_leaf(&mut out, leaves.root_span, false);
        add_leaf(&mut out, leaves.root_service, false);
    }
    if wanted.traces.services {
        if leaves.stats_service.is_some() {
            for leaf in [
                leaves.stats_service,
                leaves.stats_spans,
                leaves.stats_errors,
            ] {
                add_leaf(&mut out, leaf, true);
            }
        } else {
            add_leaf(&mut out, leaves.service_name, false);
            add_leaf(&mut out, leaves.span.status_code, false);
        }
    }
    for field in &wanted.fields {
        let plan = FieldPlan::of(block, field)?;
        plan.add_leaves(need, decoded, &mut out);
        add_leaf(&mut out, guide_of(block, plan.owner), true);
    }
    Some(out)
}

/// Makes a batch of decoded columns. `row_ids` are those of the selected spans.
pub(super) fn batch_of(
    block: &ScanBlock,
    decoded: &mut Decoded,
    selection: &Selection,
    row_ids: Vec<u64>,
    wanted: &WantedColumns,
    allowance: &mut Allowance<'_>,
) -> Result<SpanBatch, DecodeFail> {
    decoded.find_below(block, allowance)?;
    let plans = wanted.fields.iter().map(|f| (f, FieldPlan::of(block, f)));
    let plans: Vec<_> = plans.collect();
    for plan in plans.iter().filter_map(|(_, plan)| plan.as_ref()) {
        check_wanted("the reading of columns")?;
        for list in plan.lists() {
            decoded.add_key(list, &plan.key, allowance)?;
        }
    }
    let decoded = &*decoded;
    let mut out = SpanBatch {
        row_ids,
        traces: traces_of(block, decoded, selection, wanted, allowance)?,
        ..SpanBatch::default()
    };
    let mut owners: Vec<(Owner, Vec<u32>)> = Vec::new();
    for (field, plan) in plans {
        check_wanted("the reading of columns")?;
        let Some(plan) = plan else {
            continue;
        };
        if !owners.iter().any(|(owner, _)| *owner == plan.owner) {
            let rows = match plan.owner {
                Owner::Event | Owner::Link => {
                    let (rows, ends) = selection.below(decoded, plan.owner);
                    if plan.owner == Owner::Event {
                        out.event_ends = ends;
                    } else {
                        out.link_ends = ends;
                    }
                    rows
                }
                owner => selection.owners(decoded, owner),
            };
            allowance.take(rows.len() * 4)?;
            owners.push((plan.owner, rows));
        }
        let rows = owners.iter().find(|(owner, _)| *owner == plan.owner);
        let Some((_, rows)) = rows else {
            continue;
        };
        let values = OwnerValues::new(decoded, &plan, Need::ALL, allowance)?;
        let column = values.gather(rows, allowance)?;
        if !column.is_absent() {
            out.columns.push((field.clone(), column));
        }
    }
    Ok(out)
}

/// The rows of the selected spans as traces.
fn traces_of(
    block: &ScanBlock,
    decoded: &Decoded,
    selection: &Selection,
    wanted: &WantedColumns,
    allowance: &mut Allowance<'_>,
) -> Result<Vec<TraceRow>, DecodeFail> {
    let leaves = &block.file.positions;
    let rows = decoded.spans().rows();
    let column = |leaf| {
        let column: Option<&Column> = decoded.column(leaf);
        match column {
            Some(column) if column.values.len() == rows => Ok(Some(column)),
            None => Ok(None),
            Some(_) => Err(bad("a column of traces has other rows than spans have")),
        }
    };
    let ids = column(leaves.trace_id)?.ok_or_else(|| bad("the file has no ids of traces"))?;
    let (starts, ends) = (column(leaves.start)?, column(leaves.end)?);
    let (root_span, root_service) = if wanted.traces.root {
        (column(leaves.root_span)?, column(leaves.root_service)?)
    } else {
        (None, None)
    };
    let services = if wanted.traces.services {
        Some(Services::new(block, decoded, allowance)?)
    } else {
        None
    };
    let mut out = Vec::new();
    allowance.reserve(&mut out, selection.rows.len())?;
    for (row, end_row) in &selection.rows {
        let row = *row as usize;
        let text =
            |column: Option<&Column>| column.map_or_else(Vec::new, |c| c.values.text(row).to_vec());
        let int = |column: Option<&Column>| column.map_or(0, |c| c.values.int(row) as u64);
        let start_ns = int(starts);
        out.push(TraceRow {
            id: TraceId::from_short(ids.values.text(row)).unwrap_or_default(),
            end_row: *end_row,
            start_ns,
            duration_ns: int(ends).saturating_sub(start_ns),
            root_name: text(root_span),
            root_service: text(root_service),
            services: services.as_ref().map_or_else(Vec::new, |s| s.of_row(row)),
        });
    }
    Ok(out)
}

/// Spans and errors of each service of traces.
enum Services<'c> {
    /// Counted by the writer.
    Counted {
        starts: Vec<u32>,
        names: &'c Column,
        spans: Option<&'c Column>,
        errors: Option<&'c Column>,
    },
    /// Version 3: counted here.
    Spans {
        decoded: &'c Decoded,
        names: &'c Column,
        status: Option<&'c Column>,
    },
    None,
}

impl<'c> Services<'c> {
    fn new(
        block: &ScanBlock,
        decoded: &'c Decoded,
        allowance: &mut Allowance<'_>,
    ) -> Result<Self, DecodeFail> {
        let leaves = &block.file.positions;
        if let Some(names) = decoded.column(leaves.stats_service) {
            // A trace without spans has no service; rows are counted by where they begin.
            return Ok(Self::Counted {
                starts: starts(names, 0, decoded.spans().rows(), allowance)?,
                names,
                spans: decoded.column(leaves.stats_spans),
                errors: decoded.column(leaves.stats_errors),
            });
        }
        Ok(match decoded.column(leaves.service_name) {
            Some(names) => Self::Spans {
                decoded,
                names,
                status: decoded.column(leaves.span.status_code),
            },
            None => Self::None,
        })
    }

    fn of_row(&self, row: usize) -> Vec<ServiceCount> {
        match self {
            Self::None => Vec::new(),
            Self::Counted {
                starts,
                names,
                spans,
                errors,
            } => {
                let count =
                    |column: &Option<&Column>, n| column.map_or(0, |c| c.values.int(n) as u32);
                let range = match starts.get(row..row + 2) {
                    Some([start, end]) => *start as usize..*end as usize,
                    _ => 0..0,
                };
                let services = range.map(|n| ServiceCount {
                    name: names.values.text(n).to_vec(),
                    spans: count(spans, n),
                    errors: count(errors, n),
                });
                let mut services: Vec<_> = services.collect();
                // Tempo's have no order.
                services.sort_by(|a, b| a.name.cmp(&b.name));
                services
            }
            Self::Spans {
                decoded,
                names,
                status,
            } => {
                let mut counts: BTreeMap<&[u8], (u32, u32)> = BTreeMap::new();
                let spans = decoded.spans();
                for span in spans.spans_of_row(row) {
                    let resource = spans.resource_of_span(span);
                    let (all, errors) = counts.entry(names.values.text(resource)).or_default();
                    *all += 1;
                    let code = status.map_or(0, |c| c.values.int(span));
                    *errors += u32::from(code == StatusCode::Error as i64);
                }
                let services = counts
                    .into_iter()
                    .map(|(name, (spans, errors))| ServiceCount {
                        name: name.to_vec(),
                        spans,
                        errors,
                    });
                services.collect()
            }
        }
    }
}
