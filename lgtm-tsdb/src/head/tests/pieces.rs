//! Requests in pieces: what fits the log is taken whole, what never fits is refused alone, and nothing blocks anybody else.

use lgtm_core::model::{Metadata, MetricType, TimestampMs};
use lgtm_core::units::ByteSize;

use super::durable::hooked_with;
use super::*;
use crate::wire::{MetadataEntry, PushPart};

/// A store whose log has the smallest buffer.
fn narrow() -> Store {
    let settings = HeadSettings {
        wal: WalSettings {
            max_buffered: ByteSize::kib(64),
            ..WalSettings::default()
        },
        ..HeadSettings::default()
    };
    let limits = Limits {
        max_label_value_length: 1 << 20,
        ..Limits::default()
    };
    let store = Arc::new(object_store::memory::InMemory::new());
    Store::over(store, limits, settings)
}

async fn append(s: &Store, tenant: &str, batch: &WriteBatch) -> AppendReport {
    let tenant = TenantId::new(tenant).unwrap();
    s.heads.append(&tenant, batch).await.unwrap()
}

/// Name, what makes its labels long, samples.
type Row<'a> = (&'a str, &'a str, &'a [(i64, f64)]);

fn batch(series: &[Row<'_>]) -> WriteBatch {
    let mut batch = WriteBatch::default();
    for (name, filler, samples) in series {
        let pairs = [("__name__", *name), ("job", "x"), ("z", *filler)];
        let pairs = pairs.into_iter().filter(|p| !p.1.is_empty());
        let labels = Labels::from_pairs(pairs).unwrap();
        let sample = |(t, value): &(i64, f64)| Sample {
            t_ms: TimestampMs::new(START + t),
            value: *value,
        };
        let samples: Vec<_> = samples.iter().map(sample).collect();
        batch.push_series(labels.iter(), &samples);
    }
    batch
}

/// A replica gets the series and the metadata of its keys, and no others.
#[tokio::test]
async fn of_a_part_only_its_places_are_taken() {
    let s = Store::new(Limits::default());
    let mut request = batch(&[
        ("a", "", &[(0, 1.0)]),
        ("b", "", &[(0, 2.0), (1, 3.0)]),
        ("c", "", &[(0, 4.0)]),
    ]);
    for name in ["a", "b"] {
        request.push_metadata(MetadataEntry {
            name: name.to_owned(),
            metadata: Metadata {
                metric_type: MetricType::Gauge,
                ..Metadata::default()
            },
        });
    }
    let request = Arc::new(request.into());
    let tenant = TenantId::new("t").unwrap();
    for (places, samples) in [(vec![1, 4], 2), (vec![0, 2], 2), (vec![], 0)] {
        let part = PushPart::of(Arc::clone(&request), places);
        let report = s.heads.append(&tenant, part.view()).await.unwrap();
        assert_eq!((report.samples, report.rejected.total()), (samples, 0));
    }
    assert_eq!(s.heads.series_count(), 3);
    let told = s.heads.metadata(&tenant, None);
    assert_eq!(told.len(), 1);
    assert_eq!(told[0].0, "b");
}

#[tokio::test]
async fn a_request_many_times_the_logs_buffer_is_taken_whole_and_survives() {
    let mut s = narrow();
    let names: Vec<String> = (0..1500).map(|n| format!("series_{n:04}")).collect();
    let filler = "v".repeat(500);
    let series: Vec<Row<'_>> = names
        .iter()
        .map(|n| (n.as_str(), filler.as_str(), &[(0, 1.0), (1, 2.0)][..]))
        .collect();
    let report = append(&s, "t", &batch(&series)).await;
    assert_eq!((report.samples, report.rejected.total()), (3000, 0));
    // One series with samples for many pieces.
    let long: Vec<(i64, f64)> = (0..20_000).map(|i| (i, (i as f64).sin())).collect();
    let report = append(&s, "t", &batch(&[("long", "", &long)])).await;
    assert_eq!((report.samples, report.rejected.total()), (20_000, 0));
    s.reopen();
    assert_eq!(s.report.samples, 23_000);
    assert_eq!(s.all("t").await.len(), 23_000);
}

#[tokio::test]
async fn what_no_record_holds_is_refused_and_the_rest_is_stored() {
    let mut s = narrow();
    let huge = "v".repeat(40 << 10);
    let mut request = batch(&[
        ("a", "", &[(0, 1.0)]),
        ("huge", &huge, &[(0, 1.0), (1, 1.0)]),
        ("b", "", &[(0, 1.0)]),
    ]);
    let labels = Labels::from_pairs([("__name__", "h"), ("job", "x")]).unwrap();
    for buckets in [2, 20_000] {
        let h = Histogram {
            count: buckets,
            positive_spans: vec![BucketSpan {
                offset: 0,
                length: buckets as u32,
            }],
            positive_deltas: std::iter::once(1)
                .chain(std::iter::repeat_n(0, buckets as usize - 1))
                .collect(),
            ..Histogram::default()
        };
        request.push_histogram(labels.iter(), TimestampMs::new(START + buckets as i64), h);
    }
    for help in ["fine", &huge, "fine too"] {
        request.push_metadata(MetadataEntry {
            name: format!("m{}", help.len()),
            metadata: Metadata {
                metric_type: MetricType::Counter,
                help: help.to_owned(),
                unit: String::new(),
            },
        });
    }
    let report = append(&s, "t", &request).await;
    assert_eq!((report.samples, report.histograms), (2, 1));
    assert_eq!(report.rejected.samples["log-record-too-large"], 2 + 1 + 1);
    assert!(!report.is_over_capacity);
    let first = report.rejected.first.unwrap().message;
    assert!(
        first.contains("of labels takes") && first.contains("32768: half of max_buffered"),
        "{first}"
    );
    // Nobody is blocked by it.
    assert_eq!(
        append(&s, "other", &batch(&[("a", "", &[(0, 1.0)])]))
            .await
            .samples,
        1
    );
    s.reopen();
    assert_eq!(s.all("t").await.len(), 3);
    let tenant = TenantId::new("t").unwrap();
    assert_eq!(s.heads.metadata(&tenant, None).len(), 2);
}

#[tokio::test]
async fn what_the_disk_did_not_take_is_not_acknowledged_and_is_written_once_it_does() {
    let (mut s, disk) = hooked_with(HeadSettings {
        wal: WalSettings {
            retry_interval: Duration::from_millis(2),
            ..WalSettings::default()
        },
        ..HeadSettings::default()
    });
    let _ = append(&s, "t", &batch(&[("a", "", &[(0, 1.0)])])).await;
    disk.set(|operation, path| {
        if operation == "append" && path.contains("/wal/") {
            Err(std::io::ErrorKind::StorageFull.into())
        } else {
            Ok(())
        }
    });
    let tenant = TenantId::new("t").unwrap();
    let request = batch(&[("a", "", &[(1, 2.0)]), ("new", "", &[(1, 3.0)])]);
    for _ in 0..3 {
        let refused = s.heads.append(&tenant, &request).await.unwrap_err();
        assert_eq!(refused.kind(), lgtm_core::ErrorKind::Unavailable);
    }
    disk.set(|_, _| Ok(()));
    // The log mends itself, with no request's help.
    while s.heads.wal.refusal().is_some() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let report = append(&s, "t", &request).await;
    assert_eq!((report.samples, report.rejected.total()), (2, 0));
    let want = [f("a", 0, 1.0), f("a", 1, 2.0), f("new", 1, 3.0)];
    assert_eq!(s.all("t").await, want);
    s.reopen();
    assert!(s.report.is_whole(), "{:?}", s.report);
    assert_eq!(s.all("t").await, want);
}

#[tokio::test]
async fn a_data_folder_has_one_owner() {
    let s = Store::new(Limits::default());
    let open = || {
        let limits = Overrides::fixed(Limits::default());
        let clock = Arc::new(ManualClock::at_ms(START));
        let disk = Arc::new(LocalDisk::new(s.dir.path()));
        Heads::open(disk, ".", HeadSettings::default(), limits, clock, 7)
    };
    let _ = append(&s, "t", &batch(&[("a", "", &[(0, 1.0)])])).await;
    let refused = open().unwrap_err();
    assert_eq!(refused.kind(), lgtm_core::ErrorKind::Conflict);
    let text = refused.to_string();
    assert!(
        text.contains(s.dir.path().to_str().unwrap())
            && text.contains(&format!("process {}", std::process::id())),
        "{text}"
    );
    // Closed, it is free although readers hold it.
    s.heads.close();
    let tenant = TenantId::new("t").unwrap();
    let late = batch(&[("a", "", &[(1, 1.0)])]);
    assert!(s.heads.append(&tenant, &late).await.is_err());
    let (heads, log) = open().unwrap();
    assert_eq!(heads.replay(log).unwrap().samples, 1);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]
    /// Whatever a request holds, its pieces have it all once, in order, each within its bounds.
    #[test]
    fn pieces_are_the_request(
        series in proptest::collection::vec((0usize..3000, 0usize..400, 0usize..4, 0usize..600), 0..12),
        metadata in proptest::collection::vec(0usize..5000, 0..8),
        zeros: bool,
    ) {
        use super::super::pieces::{PieceBounds, Pieces};
        let mut request = WriteBatch::default();
        for (n, (filler, samples, histograms, buckets)) in series.iter().enumerate() {
            let pairs = [("__name__", format!("m{n}")), ("z", "v".repeat(*filler))];
            let labels = Labels::from_pairs(pairs.into_iter().filter(|p| !p.1.is_empty())).unwrap();
            let samples: Vec<_> = (0..*samples).map(|i| Sample { t_ms: TimestampMs::new(i as i64), value: n as f64 }).collect();
            request.push_series(labels.iter(), &samples);
            for t_ms in 0..*histograms {
                let h = Histogram { positive_deltas: vec![0; *buckets], ..Histogram::default() };
                request.push_histogram(labels.iter(), TimestampMs::new(t_ms as i64), h);
            }
        }
        for help in &metadata {
            let metadata = Metadata { metric_type: MetricType::Counter, help: "h".repeat(*help), unit: String::new() };
            request.push_metadata(MetadataEntry { name: "m".into(), metadata });
        }
        let max = 64 << 10;
        let (mut pieces, mut report) = (Pieces::new((&request).into(), PieceBounds::new(max, zeros)), AppendReport::default());
        let mut floats: Vec<Vec<i64>> = vec![Vec::new(); request.series_count()];
        let mut histograms = vec![0; request.series_count()];
        let mut seen = 0;
        let mut resumed = false;
        while let Some(piece) = pieces.next(&mut report) {
            prop_assert!(piece.log_bytes <= max / 2, "{piece:?}");
            let mut places = piece.places.clone();
            // Half way, as where many series are new.
            if places.len() > 2 && !resumed {
                resumed = true;
                places.end = places.start + 2;
                pieces.resume_at(&piece, places.end);
            } else {
                prop_assert_eq!(piece.metadata.start, seen);
                seen = piece.metadata.end;
            }
            for place in places {
                let view = piece.series_at((&request).into(), place);
                floats[place].extend(view.samples.iter().map(|s| s.t_ms.get()));
                histograms[place] += view.histograms.len();
            }
        }
        prop_assert_eq!(report.rejected.total(), 0);
        prop_assert_eq!(seen, metadata.len());
        for (place, view) in request.series().enumerate() {
            prop_assert_eq!(&floats[place], &view.samples.iter().map(|s| s.t_ms.get()).collect::<Vec<_>>());
            prop_assert_eq!(histograms[place], view.histograms.len());
        }
    }
}

#[tokio::test]
async fn the_rules_are_those_of_the_request_in_all_its_pieces() {
    let s = Store::new(Limits::default());
    let names: Vec<String> = (0..2000).map(|n| format!("m{n}")).collect();
    // The newest sample of each series would make the first ones of the next series too old.
    let samples: &[(i64, f64)] = &[(0, 1.0), (5 * HOUR, 2.0)];
    let series: Vec<(&str, &[(i64, f64)])> = names.iter().map(|n| (n.as_str(), samples)).collect();
    let report = s.push("t", &series).await;
    assert_eq!((report.samples, report.rejected.total()), (4000, 0));
    let late = s.push("t", &[("late", &[(0, 1.0)])]).await;
    assert_eq!(late.rejected.total(), 1, "the next request has its own");
}
