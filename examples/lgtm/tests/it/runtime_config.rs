//! Overrides that change while the host runs, and settings in the spelling of before.

use crate::host;

use crate::host::{Host, now_ms};

/// Asks until `page` holds `text`.
fn wait_for(host: &Host, page: &str, text: &str) {
    let mut last = String::new();
    for _ in 0..1000 {
        last = host.get(page).text();
        if last.contains(text) {
            return;
        }
        std::thread::park_timeout(std::time::Duration::from_millis(10));
    }
    panic!("{page} does not say {text:?}:\n{last}");
}

fn pushed(host: &Host, tenant: &str, value: &str) -> u16 {
    let series: [host::Series<'_>; 1] = [(&[("__name__", "up"), ("l", value)], now_ms(), 1.0)];
    let headers = [("Content-Encoding", "snappy"), ("X-Scope-OrgID", tenant)];
    let body = host::write_request(&series);
    host.post("/api/v1/push", &headers, &body).status
}

#[test]
fn a_changed_overrides_file_holds_and_a_broken_one_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("overrides.yml");
    let write = |text: &str| {
        // As tools do it: the file is there whole or not at all.
        let next = dir.path().join("next.yml");
        std::fs::write(&next, text).unwrap();
        std::fs::rename(&next, &file).unwrap();
    };
    write("overrides: {a: {metrics: {max_label_value_length: 3}}}");
    let flags = [
        "-auth.multitenancy-enabled".to_owned(),
        format!("-runtime-config.file={}", file.display()),
        "-runtime-config.period=20ms".to_owned(),
    ];
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    let host = Host::start(&dir.path().join("data"), &flags);
    let good = "cortex_runtime_config_last_reload_successful 1";
    let bad = "cortex_runtime_config_last_reload_successful 0";
    wait_for(&host, "/metrics", good);
    assert_eq!(
        (pushed(&host, "a", "1234"), pushed(&host, "b", "1234")),
        (400, 200)
    );
    let diff = host.get("/runtime_config?mode=diff").text();
    let wanted = "overrides:\n  a:\n    metrics:\n      max_label_value_length: 3\n";
    assert_eq!(diff, wanted);
    let all = host.get("/runtime_config").text();
    assert!(all.contains("max_label_names_per_series: 30"), "{all}");
    for path in ["/status/runtime_config", "/status/overrides"] {
        assert_eq!(host.get(path).text(), all, "{path}");
    }
    let of = |tenant: &str| host.get(&format!("/status/overrides/{tenant}"));
    for (tenant, longest) in [("a", "length: 3"), ("other", "length: 2048")] {
        let wanted = format!("\n  max_label_value_{longest}\n");
        assert!(of(tenant).text().contains(&wanted), "{}", of(tenant).text());
    }
    assert_eq!(of("a%2Fb").status, 400);

    write(
        "overrides: {a: {metrics: {max_label_value_length: 4}}, b: {metrics: {ingestion_rate: 0.001, ingestion_burst_size: 1}}}",
    );
    wait_for(
        &host,
        "/runtime_config?mode=diff",
        "max_label_value_length: 4",
    );
    assert_eq!(pushed(&host, "a", "1234"), 200);
    assert_eq!(
        (pushed(&host, "b", "1"), pushed(&host, "b", "2")),
        (200, 429)
    );

    write("overrides: {a: {metrics: {max_label_value_lngth: 9}}}");
    wait_for(&host, "/metrics", bad);
    assert_eq!(
        (pushed(&host, "a", "12345"), pushed(&host, "b", "3")),
        (400, 429)
    );

    write("overrides: {a: {metrics: {max_label_value_length: 4}}}");
    wait_for(&host, "/metrics", good);
    assert_eq!(pushed(&host, "b", "4"), 200);
}

#[test]
fn old_spellings_are_those_of_metrics() {
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("lgtm.yml");
    let text = "limits: {max_label_value_length: 3}\noverrides: {a: {max_label_value_length: 5}}\nquerier: {timeout: 7s}\n";
    std::fs::write(&config, text).unwrap();
    let config = format!("-config.file={}", config.display());
    let flags = [
        "-auth.multitenancy-enabled",
        "-ingester.maintenance-interval=100ms",
        "-overrides.a.max-label-names-per-series=2",
        config.as_str(),
    ];
    let host = Host::start(&dir.path().join("data"), &flags);
    let statuses = ["b", "a"].map(|tenant| pushed(&host, tenant, "1234"));
    assert_eq!(statuses, [400, 200]);
    let shown = host.get("/config").text();
    for line in ["timeout: 7s", "maintenance_interval: 100ms"] {
        assert!(shown.contains(line), "{shown}");
    }
    let diff = host.get("/runtime_config?mode=diff").text();
    assert!(diff.contains("max_label_names_per_series: 2"), "{diff}");
}

#[test]
fn verifying_settings_reads_the_overrides_file_as_a_start_does() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("overrides.yml");
    let verified = |text: &str| {
        std::fs::write(&file, text).unwrap();
        std::process::Command::new(env!("CARGO_BIN_EXE_lgtm"))
            .arg("-config.verify")
            .arg(format!("-runtime-config.file={}", file.display()))
            .output()
            .unwrap()
    };
    let good = verified("overrides: {a: {max_label_value_length: 3}}");
    assert!(good.status.success(), "{good:?}");
    let bad = verified("overrides: {a: {metrics: {max_label_value_lenght: 3}}}");
    let said = String::from_utf8_lossy(&bad.stderr);
    assert!(
        !bad.status.success() && said.contains("max_label_value_lenght"),
        "{said}"
    );
}
