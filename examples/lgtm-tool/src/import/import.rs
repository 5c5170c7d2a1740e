//! Of which signal a text is.

use std::collections::BTreeMap;

use lgtm_core::Result;

use super::text::TextLines;
use super::{logs, metrics, traces};
use crate::arguments::Arguments;
use crate::place::{Place, Signal};
use crate::report::{Cell, Report, Table};
use crate::run::Answer;

/// What became of a text.
#[derive(Debug, Default)]
pub(super) struct Imported {
    /// Samples, lines or spans that are stored.
    pub(super) items: u64,
    /// Blocks or chunks that were written.
    pub(super) objects: u64,
    /// What was not taken, by the reason.
    pub(super) refused: BTreeMap<String, u64>,
}

impl Imported {
    pub(super) fn refuse(&mut self, why: impl Into<String>, count: u64) {
        /// Reasons that are told apart.
        const MAX_REASONS: usize = 100;
        let mut why = why.into();
        if self.refused.len() >= MAX_REASONS && !self.refused.contains_key(&why) {
            why = "(others)".into();
        }
        *self.refused.entry(why).or_default() += count;
    }
}

pub(crate) async fn import(place: &Place, arguments: &Arguments) -> Result<Answer> {
    arguments.must_write()?;
    let signal = place.one_signal()?;
    let tenant = place.one_tenant().await?;
    let mut lines = TextLines::open(arguments.word(0).unwrap_or_default())?;
    let (done, items, objects) = match signal {
        Signal::Metrics => (
            metrics::import(place, &tenant, &mut lines).await?,
            "samples",
            "blocks",
        ),
        Signal::Logs => (
            logs::import(place, &tenant, &mut lines).await?,
            "lines",
            "chunks",
        ),
        Signal::Traces => (
            traces::import(place, &tenant, &mut lines).await?,
            "spans",
            "blocks",
        ),
    };
    let mut report = Report::default();
    report.facts(
        "imported",
        [
            (items, Cell::Count(done.items)),
            (objects, Cell::Count(done.objects)),
        ],
    );
    let is_fine = done.refused.is_empty();
    let mut refused = Table::new(&["why", items]);
    for (why, count) in done.refused {
        refused.row([why.into(), Cell::Count(count)]);
    }
    report.table("refused", refused);
    Ok(Answer { report, is_fine })
}
