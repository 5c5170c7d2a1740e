use std::path::PathBuf;

use super::*;
use crate::clock::ManualClock;
use crate::limits::{RateLimit, TenantLimiters};
use crate::model::TenantId;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Limits {
    rate: f64,
    burst: f64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            rate: 9.0,
            burst: 100.0,
        }
    }
}

fn read(text: &str) -> Result<OverridesFile> {
    OverridesFile::read(serde_norway::Deserializer::from_str(text))
}

/// A file, the limits of two signals that follow it, and what is told of it.
struct Followed {
    dir: tempfile::TempDir,
    metrics: Overrides<Limits>,
    logs: Overrides<Limits>,
    registry: Registry,
    config: RuntimeConfig,
}

impl Followed {
    fn new(text: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (metrics, logs) = (Overrides::default(), Overrides::default());
        let registry = Registry::new();
        let settings = RuntimeConfigSettings {
            file: dir.path().join("o.yml").to_str().unwrap().to_owned(),
            ..RuntimeConfigSettings::default()
        };
        let config = RuntimeConfig::builder(settings, read)
            .configured(read("overrides: {a: {metrics: {rate: 1}}, z: {logs: {rate: 2}}}").unwrap())
            .limits("metrics", Limits::default(), &metrics)
            .limits("logs", Limits::default(), &logs)
            .metrics(&registry)
            .build()
            .unwrap();
        let followed = Self {
            dir,
            metrics,
            logs,
            registry,
            config,
        };
        followed.write(text);
        followed
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("o.yml")
    }

    fn write(&self, text: &str) {
        std::fs::write(self.path(), text).unwrap();
    }

    fn rates(&self, name: &str) -> (f64, f64) {
        let tenant = tenant(name);
        (
            self.metrics.for_tenant(&tenant).rate,
            self.logs.for_tenant(&tenant).rate,
        )
    }

    fn is_said_to_be_good(&self, good: bool) -> bool {
        let line = format!(
            "cortex_runtime_config_last_reload_successful {}\n",
            u8::from(good)
        );
        self.registry.encode().contains(&line)
    }
}

fn tenant(name: &str) -> TenantId {
    TenantId::new(name).unwrap()
}

#[test]
fn a_changed_file_changes_limits_and_a_broken_one_none() {
    let f = Followed::new("overrides: {b: {metrics: {rate: 5}, logs: {rate: 6}}}");
    assert_eq!(
        (f.rates("a"), f.rates("b"), f.rates("z")),
        ((1.0, 9.0), (9.0, 9.0), (9.0, 2.0))
    );
    assert_eq!(f.config.reload().unwrap(), Reload::Changed);
    assert_eq!(
        (f.rates("a"), f.rates("b"), f.rates("z")),
        ((1.0, 9.0), (5.0, 6.0), (9.0, 2.0))
    );
    assert!(f.is_said_to_be_good(true));
    assert_eq!(f.config.reload().unwrap(), Reload::Unchanged);

    f.write("overrides: {a: {metrics: {burst: 3}}, b: {metrics: {rate: 7}}}");
    assert_eq!(f.config.reload().unwrap(), Reload::Changed);
    assert_eq!((f.rates("a"), f.rates("b")), ((1.0, 9.0), (7.0, 9.0)));
    assert_eq!(f.metrics.for_tenant(&tenant("a")).burst, 3.0);

    for (broken, wanted) in [
        (
            "overrides: {b: {metrics: {rate: 8}, logs: {rat: 1}}}",
            "logs.rat",
        ),
        (
            "overrides: {b: {traces: {rate: 8}}}",
            "unknown signal traces",
        ),
        ("overrides: {b: {metrics: {rate: x}}}", "tenant b"),
        ("overrides: [", "overrides file"),
    ] {
        f.write(broken);
        let error = f.config.reload().unwrap_err().to_string();
        assert!(error.contains(wanted), "{broken}: {error}");
        assert_eq!(
            (f.rates("a"), f.rates("b")),
            ((1.0, 9.0), (7.0, 9.0)),
            "{broken}"
        );
        assert!(f.is_said_to_be_good(false), "{broken}");
    }
    std::fs::remove_file(f.path()).unwrap();
    assert!(f.config.reload().is_err());
    assert_eq!(f.rates("b"), (7.0, 9.0));

    // The file as it was is good again, and nothing new.
    f.write("overrides: {a: {metrics: {burst: 3}}, b: {metrics: {rate: 7}}}");
    assert_eq!(f.config.reload().unwrap(), Reload::Unchanged);
    assert!(f.is_said_to_be_good(true));
    f.write("");
    f.config.reload().unwrap();
    assert_eq!((f.rates("a"), f.rates("b")), ((1.0, 9.0), (9.0, 9.0)));
}

#[test]
fn a_running_limiter_holds_to_the_new_rate_at_once() {
    let f = Followed::new("overrides: {b: {metrics: {rate: 10, burst: 10}}}");
    f.config.reload().unwrap();
    let limiters = TenantLimiters::new(Arc::new(ManualClock::default()));
    let b = tenant("b");
    let take = |count| {
        let limits = f.metrics.for_tenant(&b);
        let limit = RateLimit {
            per_second: limits.rate,
            burst: limits.burst,
        };
        limiters.take(&b, "samples", limit, count)
    };
    take(2.0).unwrap();
    f.write("overrides: {b: {metrics: {rate: 10, burst: 4}}}");
    f.config.reload().unwrap();
    assert!(take(5.0).is_err(), "more than the new burst");
    take(4.0).unwrap();
    f.write("overrides: {b: {metrics: {rate: 0}}}");
    f.config.reload().unwrap();
    take(1e6).unwrap();
}

#[test]
fn later_files_lie_over_earlier_ones() {
    let f = Followed::new("overrides: {b: {metrics: {rate: 5, burst: 6}}}");
    let second = f.dir.path().join("second.yml");
    std::fs::write(&second, "overrides: {b: {metrics: {rate: 7}}}").unwrap();
    let overrides = Overrides::default();
    let settings = RuntimeConfigSettings {
        file: format!("{}, {}", f.path().display(), second.display()),
        ..RuntimeConfigSettings::default()
    };
    let config =
        RuntimeConfig::builder(settings, read).limits("metrics", Limits::default(), &overrides);
    config.build().unwrap().reload().unwrap();
    let b = overrides.for_tenant(&tenant("b"));
    assert_eq!((b.rate, b.burst), (7.0, 6.0));
}

#[test]
fn what_is_in_force_is_shown_in_the_shape_of_the_file() {
    let f = Followed::new("overrides: {b: {metrics: {rate: 5}}}");
    f.config.reload().unwrap();
    let whole = serde_json::json!({"overrides": {
        "a": {"metrics": {"rate": 1.0, "burst": 100.0}},
        "b": {"metrics": {"rate": 5.0, "burst": 100.0}},
        "z": {"logs": {"rate": 2.0, "burst": 100.0}},
    }});
    assert_eq!(f.config.shown(Shown::All).unwrap(), whole);
    let differing = serde_json::json!({"overrides": {
        "a": {"metrics": {"rate": 1.0}},
        "b": {"metrics": {"rate": 5.0}},
        "z": {"logs": {"rate": 2.0}},
    }});
    assert_eq!(f.config.shown(Shown::Differing).unwrap(), differing);
    for (name, rate) in [("b", 5.0), ("nobody", 9.0)] {
        let limits = f.config.of_tenant(&tenant(name)).unwrap();
        assert_eq!(
            limits["metrics"],
            serde_json::json!({"rate": rate, "burst": 100.0})
        );
        assert!(limits["logs"].is_object(), "{limits}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_service_fails_on_a_bad_file_at_start_and_follows_it_later() {
    let bad = Followed::new("overrides: 5");
    assert!(bad.config.start().await.is_err());
    let f = Followed::new("overrides: {b: {metrics: {rate: 5}}}");
    f.config.start().await.unwrap();
    assert_eq!(f.rates("b").0, 5.0);
    f.write("overrides: {b: {metrics: {rate: 6}}}");
    let stop = CancelToken::new();
    let (config, stopped) = (f.config.clone(), stop.clone());
    let running = async { config.run(stopped).await };
    let watching = async {
        while f.rates("b").0 != 6.0 {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        stop.cancel();
    };
    let (ran, ()) = tokio::join!(running, watching);
    ran.unwrap();
}
