//! Tenants beside each other: who may be one, and how much of the process each may hold.

use lgtm_core::model::Metadata;

use super::*;
use crate::wire::MetadataEntry;

impl Store {
    async fn push_names(
        &self,
        tenant: &str,
        names: impl Iterator<Item = u32>,
        t: i64,
    ) -> AppendReport {
        let names: Vec<_> = names.map(|n| format!("series_{n}")).collect();
        let samples = [(t, 1.0)];
        let series: Vec<_> = names.iter().map(|n| (n.as_str(), &samples[..])).collect();
        self.push(tenant, &series).await
    }

    fn series_of(&self, tenant: &str) -> u64 {
        self.heads.series_of(&TenantId::new(tenant).unwrap())
    }
}

#[tokio::test]
async fn a_tenant_holds_its_share_of_the_series_and_leaves_the_others_theirs() {
    let settings = HeadSettings {
        max_series: 1000,
        max_series_per_tenant_share: 0.5,
        series_idle_timeout: Duration::from_secs(1),
        ..HeadSettings::default()
    };
    let store = Arc::new(object_store::memory::InMemory::new());
    let mut s = Store::over(store, Limits::default(), settings);
    let share = "ingester-max-series-per-tenant-share";
    let r = s.push_names("greedy", 0..2000, 1).await;
    assert_eq!((r.samples, r.rejected.samples[share]), (500, 1500));
    assert!(r.is_over_capacity, "to be sent again");
    let first = r.rejected.first.unwrap();
    assert_eq!(first.reason, share);
    for part in ["ingester.head.max_series_per_tenant_share", "(limit: 500)"] {
        assert!(first.message.contains(part), "{part}: {first:?}");
    }
    // Each takes its share of what the others leave, so that the next one always finds room.
    for (tenant, samples) in [("greedy_2", 250), ("greedy_3", 125), ("greedy_4", 62)] {
        assert_eq!(s.push_names(tenant, 0..2000, 1).await.samples, samples);
    }
    let r = s.push_names("victim", 0..1, 1).await;
    assert!(r.samples == 1 && r.rejected.first.is_none());
    let r = s.push_names("greedy", 0..2000, 2).await;
    assert_eq!(r.samples, 500, "known series are taken");
    // Series in the log were taken once; a smaller share must not lose them.
    s.settings.max_series_per_tenant_share = 0.1;
    s.reopen();
    assert_eq!((s.series_of("greedy"), s.series_of("victim")), (500, 1));
    // Who has nothing gets something; what is forgotten is given back.
    assert_eq!(s.push_names("late", 0..9, 2).await.samples, 6);
    s.settings.max_series_per_tenant_share = 0.5;
    s.reopen();
    s.flush(FlushScope::All).await;
    s.heads.collect_idle();
    assert_eq!(s.heads.series_count(), 0);
    assert_eq!(s.push_names("next", 0..2000, 3).await.samples, 500);
}

#[tokio::test]
async fn a_tenant_has_something_of_the_smallest_process() {
    for (max_series, share) in [(1, 0.5), (2, 0.001)] {
        let settings = HeadSettings {
            max_series,
            max_series_per_tenant_share: share,
            ..HeadSettings::default()
        };
        let store = Arc::new(object_store::memory::InMemory::new());
        let s = Store::over(store, Limits::default(), settings);
        assert_eq!(s.push_names("a", 0..5, 1).await.samples, 1);
    }
    for bad in [0.0, -1.0, 1.01, f64::NAN] {
        let settings = HeadSettings {
            max_series_per_tenant_share: bad,
            ..HeadSettings::default()
        };
        let fault = settings.validate().unwrap_err().to_string();
        assert!(fault.contains("max_series_per_tenant_share"), "{fault}");
    }
}

/// Whoever passes for a tenant is found in the bucket by one who knows nothing yet; markers beside them are no tenants.
#[tokio::test]
async fn who_may_push_is_found_again_in_the_bucket() {
    let mut s = Store::new(Limits::default());
    let ids = [
        "a",
        "_a",
        "_",
        "a__",
        "...",
        "-",
        "A!b_c.d*e'(f)",
        "anonymous",
    ];
    for id in ids {
        let _ = s.push(id, &[("up", &[(1, 1.0)])]).await;
    }
    for id in ["__evil", "__mimir_cluster", "__", "__markers__"] {
        let refused = TenantId::new(id).unwrap_err().to_string();
        assert!(refused.contains("reserved"), "{refused}");
        let marker = format!("{id}/tenant-deletion-mark.json");
        s.bucket.put(&marker, "{}").await.unwrap();
    }
    assert_eq!(s.flush(FlushScope::All).await, ids.len());
    s.dir = tempfile::tempdir().unwrap();
    s.reopen();
    s.blocks = BucketBlocks::builder(s.bucket.clone()).build().unwrap();
    s.blocks.sync().await.unwrap();
    for id in ids {
        assert_eq!(s.all(id).await, [f("up", 1, 1.0)], "{id}");
    }
    assert_eq!(s.blocks.stats().blocks, ids.len() as u64);
}

#[tokio::test]
async fn metadata_beyond_the_tenants_room_is_told() {
    let s = Store::new(Limits {
        max_global_metadata_per_user: 1,
        ..Limits::default()
    });
    let mut batch = WriteBatch::default();
    for name in ["a", "b", "c", "a"] {
        batch.push_metadata(MetadataEntry {
            name: name.into(),
            metadata: Metadata::default(),
        });
    }
    let tenant = TenantId::new("t").unwrap();
    let report = s.heads.append(&tenant, &batch).await.unwrap();
    assert_eq!(report.dropped_metadata["per_user_metadata_limit"], 2);
    assert_eq!(report.rejected.first, None, "it fails no request");
}
