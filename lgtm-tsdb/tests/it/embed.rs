//! The store as a program holds it: it keeps house, tells its metrics, and lets go of its folder.

use std::time::Duration;

use lgtm_core::clock::ManualClock;
use lgtm_tsdb::prelude::*;

const T_MS: i64 = 1_700_000_000_000;
const HOUR_MS: i64 = 3_600_000;

async fn put(db: &Tsdb, t_ms: i64) {
    let labels = Labels::from_pairs([("__name__", "up"), ("job", "api")]).unwrap();
    let sample = Sample {
        t_ms: t_ms.into(),
        value: 1.0,
    };
    let tenant = "team-a".parse().unwrap();
    let report = db.append(&tenant, &[(labels, vec![sample])]).await.unwrap();
    assert_eq!(report.samples, 1);
}

fn frequent() -> IngesterSettings {
    IngesterSettings {
        maintenance_interval: Duration::from_millis(10),
        ..IngesterSettings::default()
    }
}

#[tokio::test]
async fn complete_ranges_become_blocks_by_themselves() {
    let (folder, store) = (tempfile::tempdir().unwrap(), Backend::memory());
    let clock = Arc::new(ManualClock::at_ms(T_MS + 9 * HOUR_MS));
    let registry = Registry::new();
    let db = Tsdb::builder(folder.path(), store.clone())
        .clock(clock)
        .settings(frequent())
        .metrics(&registry)
        .open()
        .await
        .unwrap();
    put(&db, T_MS).await;
    put(&db, T_MS + 9 * HOUR_MS).await;
    let written = "cortex_ingester_shipper_uploads_total 1\n";
    for _ in 0..500 {
        if registry.encode().contains(written) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(registry.encode().contains(written), "no block was written");
    let tenant = TenantId::new("team-a").unwrap();
    let found = db.select(&tenant, vec![], T_MS..=T_MS + 9 * HOUR_MS).await;
    assert_eq!(found.unwrap().items[0].1.len(), 2);
    db.close().await.unwrap();
    let told = registry.encode();
    assert!(!told.contains("cortex_ingester_memory_series"), "{told}");
}

#[tokio::test]
async fn a_store_that_is_dropped_lets_go_of_its_folder() {
    let (folder, store) = (tempfile::tempdir().unwrap(), Backend::memory());
    for round in 0..3 {
        let db = Tsdb::builder(folder.path(), store.clone())
            .settings(frequent())
            .open()
            .await
            .unwrap();
        put(&db, T_MS + round).await;
        let tenant = TenantId::new("team-a").unwrap();
        let at = T_MS + HOUR_MS;
        let count = db.query(&tenant, "count_over_time(up[2h])", at).await;
        let QueryValue::Vector(series) = count.unwrap().value else {
            panic!("an instant query of a vector");
        };
        assert_eq!(series[0].floats[0].value, round as f64 + 1.0);
    }
}

#[tokio::test]
async fn a_closed_store_takes_nothing_and_says_so() {
    let (folder, store) = (tempfile::tempdir().unwrap(), Backend::memory());
    let db = Tsdb::builder(folder.path(), store).open().await.unwrap();
    put(&db, T_MS).await;
    let (frontend, ingester) = (db.frontend(), db.ingester());
    db.close().await.unwrap();
    let parser = &frontend.engine().settings().parser;
    let query = Query::instant("up", T_MS, parser).unwrap();
    let tenant = TenantId::new("team-a").unwrap();
    let error = frontend.query(&tenant, &query).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    assert!(ingester.series_by_tenant().is_empty());
}

#[tokio::test]
async fn a_folder_that_is_held_is_named_in_the_refusal() {
    let (folder, store) = (tempfile::tempdir().unwrap(), Backend::memory());
    let db = Tsdb::builder(folder.path(), store.clone());
    let db = db.open().await.unwrap();
    let second = Tsdb::builder(folder.path(), store).open().await;
    let error = second.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    let place = folder.path().display().to_string();
    assert!(error.to_string().contains(&place), "{error}");
    db.close().await.unwrap();
}
