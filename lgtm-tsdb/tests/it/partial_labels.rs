//! A query that looks at some labels only gets no others from a head that answers alone, and the same answer everywhere.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use lgtm_core::Result;
use lgtm_core::clock::ManualClock;
use lgtm_core::model::{Labels, Matcher, Sample, TenantId, TextSet, TimeRange, TimestampMs};
use lgtm_tsdb::Tsdb;
use lgtm_tsdb::components::Holders;
use lgtm_tsdb::select::{Listed, ReadyBatches, Select, SelectRequest, SeriesBatches, SeriesChunks};

const T_MS: i64 = 1_700_000_000_000;

async fn filled() -> (tempfile::TempDir, Tsdb) {
    let dir = tempfile::tempdir().unwrap();
    let bucket = Arc::new(object_store::memory::InMemory::new());
    let builder = Tsdb::builder(dir.path(), bucket).clock(Arc::new(ManualClock::at_ms(T_MS)));
    let db = builder.open().await.unwrap();
    // The order of the labels is not the order of coming.
    let series = (0..1500u32).map(|n| {
        let value = f64::from(n);
        let (job, n) = (
            ["a", "b", "c"][n as usize / 7 % 3],
            (n * 7919 % 1500).to_string(),
        );
        let pairs = [("__name__", "m"), ("job", job), ("n", &n)];
        let sample = Sample {
            t_ms: TimestampMs::new(T_MS),
            value,
        };
        (Labels::from_pairs(pairs).unwrap(), vec![sample])
    });
    let series: Vec<_> = series.collect();
    let report = db.append(&TenantId::anonymous(), &series).await.unwrap();
    assert_eq!(report.samples, 1500);
    (dir, db)
}

fn by_job() -> SelectRequest {
    let matchers = vec![Matcher::equal("__name__", "m")];
    let request = SelectRequest::new(matchers, TimeRange::ALL).unwrap();
    request.looking_at(Some(vec!["job".to_owned()]))
}

async fn all_of(mut batches: Box<dyn SeriesBatches>) -> Vec<SeriesChunks> {
    let mut out = Vec::new();
    while let Some(batch) = batches.next_batch().await.unwrap() {
        out.extend(batch);
    }
    assert_eq!(batches.end().stats.series, out.len() as u64);
    out
}

#[tokio::test]
async fn a_head_that_answers_alone_brings_what_is_looked_at() {
    let (_dir, db) = filled().await;
    let tenant = TenantId::anonymous();
    let alone = all_of(db.source().select(&tenant, &by_job()).await.unwrap()).await;
    assert_eq!(alone.len(), 1500, "each series for itself");
    for job in ["a", "b", "c"] {
        let only = Labels::from_pairs([("job", job)]).unwrap();
        let count = alone.iter().filter(|s| s.labels == only).count();
        assert!((495..=505).contains(&count), "{count}");
    }
    // Once there is a block, both bring all labels in order, so that equal series meet.
    db.flush().await.unwrap();
    let joined = all_of(db.source().select(&tenant, &by_job()).await.unwrap()).await;
    assert!(joined.len() == 1500 && joined.is_sorted_by(|a, b| a.labels < b.labels));
}

#[tokio::test]
async fn aggregations_are_the_same_from_the_head_and_from_blocks() {
    let (_dir, db) = filled().await;
    let tenant = TenantId::anonymous();
    let mut answers = Vec::new();
    for flushed in [false, true] {
        if flushed {
            db.flush().await.unwrap();
        }
        let mut texts = Vec::new();
        for query in [
            "count(m)",
            "sum(m)",
            "sum by (job) (m)",
            "max by (n, job) (m)",
            "avg by (absent) (m)",
            "group(rate(m[5m]))",
            "sum by (__name__) (m)",
            "count by (job) ({__name__=~\"m|x\"} * 2)",
            "sum without (n) (m)",
            "count_values by (job) (\"v\", m > 1000)",
            "topk by (job) (2, m)",
            "quantile(0.5, m)",
            "count(m) by (job) + on (job) sum(m) by (job)",
        ] {
            let answer = db.query(&tenant, query, T_MS).await.unwrap();
            texts.push((query, serde_json::to_string(&answer).unwrap()));
        }
        answers.push(texts);
    }
    for (head, blocks) in answers[0].iter().zip(&answers[1]) {
        assert!(
            head == blocks,
            "{} is not the same: {:.900} but {:.900}",
            head.0,
            head.1,
            blocks.1
        );
    }
}

/// Notes what it is asked for; has something from the n-th question about that on.
#[derive(Debug, Default)]
struct Holder {
    has_from: usize,
    questions: AtomicUsize,
    asked: parking_lot::Mutex<Vec<Option<Vec<String>>>>,
}

#[async_trait]
impl Select for Holder {
    async fn select(&self, _: &TenantId, r: &SelectRequest) -> Result<Box<dyn SeriesBatches>> {
        self.asked.lock().push(r.labels.clone());
        Ok(Box::<ReadyBatches>::default())
    }

    fn may_hold(&self, _: &TenantId, _: &SelectRequest) -> bool {
        self.questions.fetch_add(1, Ordering::Relaxed) >= self.has_from
    }

    async fn series(&self, _: &TenantId, _: &SelectRequest) -> Result<Listed<Vec<Labels>>> {
        Ok(Listed::default())
    }

    async fn label_names(&self, _: &TenantId, _: &SelectRequest) -> Result<Listed<TextSet>> {
        Ok(Listed::default())
    }

    async fn label_values(
        &self,
        _: &TenantId,
        _: &str,
        _: &SelectRequest,
    ) -> Result<Listed<TextSet>> {
        Ok(Listed::default())
    }
}

#[tokio::test]
async fn whoever_joins_answers_asks_for_all_labels() {
    let some = || by_job().labels;
    for (has_from, recent, stored) in [
        // Never: the stored ones are not even asked.
        (usize::MAX, vec![some()], vec![]),
        // From the beginning.
        (0, vec![None], vec![None]),
        // A block came while the recent ones were asked.
        (1, vec![some(), None], vec![None]),
    ] {
        let head = Arc::new(Holder::default());
        let blocks = Arc::new(Holder {
            has_from,
            ..Holder::default()
        });
        let holders = Holders::new(vec![Arc::clone(&head) as _], vec![Arc::clone(&blocks) as _]);
        let tenant = TenantId::anonymous();
        holders.select(&tenant, &by_job()).await.unwrap();
        assert_eq!(*head.asked.lock(), recent);
        assert_eq!(*blocks.asked.lock(), stored);
    }
    // Two replicas hold the same series.
    let heads = [Arc::new(Holder::default()), Arc::new(Holder::default())];
    let recent = heads.iter().map(|h| Arc::clone(h) as _).collect();
    let holders = Holders::new(recent, vec![]);
    holders
        .select(&TenantId::anonymous(), &by_job())
        .await
        .unwrap();
    assert!(heads.iter().all(|h| *h.asked.lock() == [None]));
}
