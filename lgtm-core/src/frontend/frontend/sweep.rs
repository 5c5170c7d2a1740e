//! Requests that are answered from one end of their range of time, until there is enough.

use std::sync::atomic::Ordering;

use futures::future::FutureExt;

use super::{Frontend, Query, all};
use crate::error::Result;
use crate::frontend::empty_ranges::{EmptyRange, unknown_part};
use crate::frontend::settings::{FrontendLimits, ms};
use crate::frontend::splitter::Splitter;
use crate::frontend::sweep::{SweepRange, SweepStep};
use crate::model::TenantId;

const NS_PER_MS: i64 = 1_000_000;

impl<S: Splitter> Frontend<S> {
    /// Asks piece after piece. The first one alone; as long as there is not enough, twice as many at a time: so what is read in vain is
    /// no more than what was read for nothing better, and where little is found, many work on it.
    pub(super) async fn run_sweep(
        &self,
        tenant: &TenantId,
        request: &S::Request,
        range: SweepRange,
        limits: &FrontendLimits,
    ) -> Result<S::Answer> {
        let interval_ns = ms(limits.split_interval).saturating_mul(NS_PER_MS);
        let mut pieces = range.pieces(interval_ns);
        let interval_ns = pieces.interval_ns();
        let key = self.splitter.key(request);
        let query = self.query(tenant, (request, &key), limits, 1);
        let most = if self.splitter.reads_ahead(request) {
            limits.max_query_parallelism.max(1)
        } else {
            1
        };
        let (mut width, mut found) = (1, Vec::new());
        'pieces: loop {
            let mut wave = Vec::new();
            for part in pieces.by_ref().take(width) {
                match self.splitter.sweep_part(request, part, &found) {
                    SweepStep::Ask(asked) => wave.push((part, asked)),
                    SweepStep::Skip => {}
                    SweepStep::Enough => break 'pieces,
                }
            }
            if wave.is_empty() && pieces.clone().next().is_none() {
                break;
            }
            self.stats
                .pieces
                .fetch_add(wave.len() as u64, Ordering::Relaxed);
            let asked = wave
                .iter()
                .map(|(part, asked)| self.sweep_piece(&query, *part, asked, interval_ns).boxed());
            let answers = all(asked.collect(), limits).await?;
            for (n, ((part, _), answer)) in wave.into_iter().zip(answers).enumerate() {
                let answer = match n {
                    0 => answer,
                    // It was asked before the answers ahead of it were known.
                    _ => match self.splitter.sweep_part(request, part, &found) {
                        SweepStep::Enough => break 'pieces,
                        SweepStep::Skip => continue,
                        SweepStep::Ask(now) => match self.splitter.narrowed(answer, &now) {
                            Some(answer) => answer,
                            None => self.sweep_piece(&query, part, &now, interval_ns).await?,
                        },
                    },
                };
                found.push(answer);
            }
            width = width.saturating_mul(2).min(most);
        }
        if found.is_empty() {
            self.ask(&query, request).await
        } else {
            self.splitter.merge(found)
        }
    }

    /// One piece, unless it is known to be empty.
    async fn sweep_piece(
        &self,
        query: &Query<'_, S>,
        part: SweepRange,
        asked: &S::Request,
        interval_ns: i64,
    ) -> Result<S::Answer> {
        let is_on = query.limits.results_cache_enabled && query.is_cacheable;
        let (Some(empty), Some(range)) = (
            self.empty.as_ref().filter(|_| is_on),
            self.splitter.sweep(asked),
        ) else {
            return self.ask(query, asked).await;
        };
        let key = format!(
            "{}:{}:{interval_ns}:{}",
            query.tenant,
            query.key,
            part.start_ns.get().div_euclid(interval_ns)
        );
        let window_ms = ms(query.limits.out_of_order_time_window);
        let settled_ns = query.now_ms.saturating_sub(window_ms).to_ns();
        let short_ttl = query.limits.results_cache_ttl_out_of_order;
        // What late entries may have filled since counts for a short time.
        let is_valid = |known: &EmptyRange| {
            let age_ms = query.now_ms.since(known.query_ms);
            window_ms == 0 || known.end_ns <= settled_ns || age_ms <= ms(short_ttl)
        };
        let known = empty.load(&key).await.filter(is_valid);
        let answer = match unknown_part(range, known) {
            Some(rest) if rest == range => self.ask(query, asked).await?,
            Some(rest) => {
                let narrower = self.splitter.with_sweep(asked, rest);
                self.ask(query, &narrower).await?
            }
            None => match self.splitter.nothing(asked) {
                Some(answer) => return Ok(answer),
                None => self.ask(query, asked).await?,
            },
        };
        let until_ns = self.fresh_ms(query).to_ns();
        let end_ns = range.end_ns.min(until_ns);
        let is_kept = end_ns > range.start_ns
            && self.splitter.is_nothing(&answer)
            && self.splitter.is_storable(&answer);
        if is_kept {
            let ttl = if window_ms > 0 && end_ns > settled_ns {
                short_ttl
            } else {
                query.limits.results_cache_ttl
            };
            let new = EmptyRange {
                start_ns: range.start_ns,
                end_ns,
                query_ms: query.now_ms,
            };
            empty.store(&key, known, new, ttl).await;
        }
        Ok(answer)
    }
}

#[cfg(test)]
mod tests;
