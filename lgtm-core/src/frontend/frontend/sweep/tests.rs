use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use proptest::prelude::*;

use super::*;
use crate::cache::{MemoryCache, MemoryCacheSettings};
use crate::clock::ManualClock;
use crate::error::DecodeError;
use crate::frontend::{Downstream, FrontendSettings, ShardPlan, StepRange};
use crate::timestamp::TimestampMs;

/// A language that asks for the first `limit` of a list of times.
#[derive(Debug)]
struct Times {
    reads_ahead: bool,
}

#[derive(Debug, Clone, PartialEq)]
struct Request {
    range: SweepRange,
    limit: usize,
    /// Least distance of two times.
    apart: i64,
}

#[derive(Debug, Clone, PartialEq, Default)]
struct Answer {
    times: Vec<i64>,
    is_whole: bool,
}

impl Splitter for Times {
    type Request = Request;
    type Answer = Answer;

    fn times(&self, _: &Request) -> StepRange {
        StepRange::instant(0)
    }

    fn steps(&self, _: &Request) -> Option<StepRange> {
        None
    }

    fn with_steps(&self, request: &Request, _: StepRange) -> Request {
        request.clone()
    }

    fn key(&self, _: &Request) -> String {
        "times".into()
    }

    fn is_cacheable(&self, _: &Request, _: TimestampMs) -> bool {
        true
    }

    fn is_storable(&self, answer: &Answer) -> bool {
        answer.is_whole
    }

    fn extract(&self, answer: &Answer, _: StepRange) -> Answer {
        answer.clone()
    }

    fn merge(&self, parts: Vec<Answer>) -> Result<Answer> {
        let is_whole = parts.iter().all(|p| p.is_whole);
        let times = parts.into_iter().flat_map(|p| p.times).collect();
        Ok(Answer { times, is_whole })
    }

    fn encode(&self, _: &Answer) -> Vec<u8> {
        Vec::new()
    }

    fn decode(&self, _: &[u8]) -> Result<Answer, DecodeError> {
        Ok(Answer::default())
    }

    fn shard(&self, _: &Request, _: u32) -> Option<ShardPlan<Request>> {
        None
    }

    fn sweep(&self, request: &Request) -> Option<SweepRange> {
        Some(request.range)
    }

    fn with_sweep(&self, request: &Request, range: SweepRange) -> Request {
        Request {
            range,
            ..request.clone()
        }
    }

    fn sweep_part(
        &self,
        request: &Request,
        mut part: SweepRange,
        found: &[Answer],
    ) -> SweepStep<Request> {
        let known = found.iter().map(|a| a.times.len()).sum();
        let Some(limit) = request.limit.checked_sub(known).filter(|l| *l > 0) else {
            return SweepStep::Enough;
        };
        if let Some(last) = found.iter().flat_map(|a| &a.times).next_back() {
            if part.newest_first {
                part.end_ns = part.end_ns.min((last - request.apart + 1).into());
            } else {
                part.start_ns = part.start_ns.max((last + request.apart).into());
            }
        }
        match part.is_empty() {
            true => SweepStep::Skip,
            false => SweepStep::Ask(Request {
                range: part,
                limit,
                ..request.clone()
            }),
        }
    }

    fn reads_ahead(&self, request: &Request) -> bool {
        self.reads_ahead && request.apart == 0
    }

    /// Of an even limit it is known, of an odd one not.
    fn narrowed(&self, mut answer: Answer, request: &Request) -> Option<Answer> {
        let fits = answer.times.len() <= request.limit;
        answer.times.truncate(request.limit);
        (fits || request.limit.is_multiple_of(2)).then_some(answer)
    }

    fn is_nothing(&self, answer: &Answer) -> bool {
        answer.times.is_empty()
    }

    fn nothing(&self, _: &Request) -> Option<Answer> {
        Some(Answer {
            times: Vec::new(),
            is_whole: true,
        })
    }
}

#[derive(Debug, Default)]
struct Data {
    /// Sorted; a time may come twice.
    times: Mutex<Vec<i64>>,
    asked: Mutex<Vec<Request>>,
    is_broken: Mutex<bool>,
}

impl Data {
    fn answer(&self, request: &Request) -> Answer {
        let range = request.range.start_ns.get()..request.range.end_ns.get();
        let mut times = self.times.lock().clone();
        times.retain(|t| range.contains(t));
        if request.range.newest_first {
            times.reverse();
        }
        let mut last: Option<i64> = None;
        times.retain(|t| {
            let keeps = last.is_none_or(|l| l.abs_diff(*t) >= request.apart.unsigned_abs());
            last = if keeps { Some(*t) } else { last };
            keeps
        });
        times.truncate(request.limit);
        Answer {
            times,
            is_whole: !*self.is_broken.lock(),
        }
    }
}

#[async_trait]
impl Downstream<Times> for Data {
    async fn run(&self, _: &TenantId, request: &Request) -> Result<Answer> {
        self.asked.lock().push(request.clone());
        Ok(self.answer(request))
    }

    async fn join(
        &self,
        _: &TenantId,
        _: &ShardPlan<Request>,
        _: Vec<Vec<Answer>>,
    ) -> Result<Answer> {
        unreachable!("nothing is cut by series")
    }
}

struct House {
    data: Arc<Data>,
    clock: Arc<ManualClock>,
    frontend: Frontend<Times>,
    tenant: TenantId,
}

/// Times are hours.
const HOUR_NS: i64 = 3_600_000_000_000;
const NOW_HOURS: i64 = 1000;

fn house(reads_ahead: bool, times: Vec<i64>) -> House {
    let data = Arc::new(Data::default());
    *data.times.lock() = times;
    let clock = Arc::new(ManualClock::at_ms(NOW_HOURS * 3_600_000));
    let cache =
        MemoryCache::new("results", &MemoryCacheSettings::default(), clock.clone()).unwrap();
    let frontend = Frontend::builder(Times { reads_ahead }, data.clone(), clock.clone())
        .results_cache(Arc::new(cache))
        .settings(FrontendSettings::default())
        .build()
        .unwrap();
    House {
        data,
        clock,
        frontend,
        tenant: TenantId::new("t").unwrap(),
    }
}

fn limits(split_hours: u64) -> FrontendLimits {
    FrontendLimits {
        split_interval: Duration::from_secs(3600 * split_hours),
        max_cache_freshness: Duration::from_secs(3600 * 10),
        ..FrontendLimits::default()
    }
}

fn request(from_hour: i64, to_hour: i64, newest_first: bool, limit: usize) -> Request {
    Request {
        range: SweepRange {
            start_ns: (from_hour * HOUR_NS).into(),
            end_ns: (to_hour * HOUR_NS).into(),
            newest_first,
        },
        limit,
        apart: 0,
    }
}

impl House {
    async fn ask(&self, request: &Request, limits: &FrontendLimits) -> Answer {
        let answer = self.frontend.run(&self.tenant, request.clone(), limits);
        answer.await.unwrap()
    }

    fn asked(&self) -> Vec<Request> {
        std::mem::take(&mut *self.data.asked.lock())
    }
}

#[tokio::test(start_paused = true)]
async fn the_nearest_piece_is_asked_first_and_alone() {
    let times: Vec<i64> = (0..100).map(|n| n * HOUR_NS).collect();
    for (newest_first, wanted) in [(true, (95, 100)), (false, (0, 5))] {
        let h = house(true, times.clone());
        let answer = h.ask(&request(0, 100, newest_first, 5), &limits(10)).await;
        assert_eq!(answer.times.len(), 5);
        let asked = h.asked();
        assert_eq!(asked.len(), 1, "{asked:?}");
        let mut hours: Vec<i64> = answer.times.iter().map(|t| t / HOUR_NS).collect();
        hours.sort_unstable();
        assert_eq!(hours, (wanted.0..wanted.1).collect::<Vec<_>>());
    }
}

#[tokio::test(start_paused = true)]
async fn where_little_is_found_more_are_asked_at_a_time() {
    let h = house(true, vec![HOUR_NS]);
    h.ask(&request(0, 150, true, 5), &limits(10)).await;
    // 1, 2, 4 and 8 pieces of 15.
    assert_eq!(h.asked().len(), 15);
    let alone = house(false, vec![HOUR_NS]);
    alone.ask(&request(0, 150, true, 5), &limits(10)).await;
    assert_eq!(alone.asked().len(), 15);
}

#[tokio::test(start_paused = true)]
async fn what_was_empty_is_not_asked_again() {
    let h = house(true, Vec::new());
    let ask = request(900, NOW_HOURS, true, 5);
    h.ask(&ask, &limits(20)).await;
    assert_eq!(h.asked().len(), 5);
    h.ask(&ask, &limits(20)).await;
    // The last ten hours may still change.
    let asked = h.asked();
    assert_eq!(asked.len(), 1, "{asked:?}");
    assert_eq!(asked[0].range.start_ns, 990 * HOUR_NS);
    // Another tenant, another length of pieces, and who wants nothing from a cache are asked for.
    let none = FrontendLimits {
        results_cache_enabled: false,
        ..limits(20)
    };
    h.ask(&ask, &none).await;
    assert_eq!(h.asked().len(), 5);
    h.ask(&ask, &limits(25)).await;
    assert_eq!(h.asked().len(), 4);
}

#[tokio::test(start_paused = true)]
async fn late_entries_are_seen_after_the_short_time() {
    let h = house(true, Vec::new());
    let limits = FrontendLimits {
        out_of_order_time_window: Duration::from_secs(3600 * 30),
        ..limits(10)
    };
    let ask = request(950, 990, true, 5);
    h.ask(&ask, &limits).await;
    *h.data.times.lock() = vec![985 * HOUR_NS];
    h.clock.advance(Duration::from_secs(300));
    assert!(h.ask(&ask, &limits).await.times.is_empty());
    h.clock.advance(Duration::from_secs(301));
    assert_eq!(h.ask(&ask, &limits).await.times, [985 * HOUR_NS]);
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_lacks_something_is_not_kept() {
    let h = house(true, Vec::new());
    *h.data.is_broken.lock() = true;
    let ask = request(100, 120, true, 5);
    h.ask(&ask, &limits(10)).await;
    *h.data.is_broken.lock() = false;
    *h.data.times.lock() = vec![105 * HOUR_NS];
    assert_eq!(h.ask(&ask, &limits(10)).await.times, [105 * HOUR_NS]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn in_pieces_the_answer_is_the_same(
        mut hours in prop::collection::vec(880i64..NOW_HOURS, 0..40),
        asks in prop::collection::vec((880i64..NOW_HOURS, 0i64..120, any::<bool>(), 1usize..12, 0i64..9), 1..8),
        split in 0u64..30,
        reads_ahead: bool,
    ) {
        hours.sort_unstable();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let h = house(reads_ahead, hours.iter().map(|t| t * HOUR_NS).collect());
            for (start, length, newest_first, limit, apart) in asks {
                let ask = Request {
                    apart: (apart - 4).max(0) * HOUR_NS,
                    ..request(start, start + length, newest_first, limit)
                };
                assert_eq!(h.ask(&ask, &limits(split)).await, h.data.answer(&ask), "{ask:?}");
            }
        });
    }
}
