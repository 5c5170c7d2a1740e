//! What a tenant's queries may ask for: refusals name the limit, and the answers of others do not change.

use crate::host;

use crate::host::{Answer, Host, now_ms};

#[test]
fn limits_of_queries_are_told_with_and_without_the_frontend() {
    for frontend in ["true", "false"] {
        let dir = tempfile::tempdir().unwrap();
        let host = Host::start(
            dir.path(),
            &[
                &format!("-metrics.query-frontend.enabled={frontend}"),
                "-limits.metrics.max-query-expression-size-bytes=20",
                "-limits.metrics.max-total-query-length=2h",
                "-limits.metrics.max-query-lookback=30m",
            ],
        );
        let t_ms = now_ms() / 60_000 * 60_000;
        let pushed = host.push(&[(&[("__name__", "up")], t_ms, 1.0)]);
        assert_eq!(pushed.status, 200, "{}", pushed.text());
        let t = t_ms / 1000;
        let get = |path: String| host.get(&format!("/prometheus/api/v1{path}"));
        let range = |start: i64| format!("/query_range?start={start}&end={t}&step=60&query=");
        for (path, id) in [
            (
                format!("{}up", range(t - 7260)),
                "(err-mimir-max-total-query-length)",
            ),
            (
                format!("{}sum(up)%2Bsum(up)%2Bsum(up)", range(t)),
                "(err-mimir-max-query-expression-size-bytes)",
            ),
            (
                format!("/query?time={t}&query=sum(up)%2Bsum(up)%2Bsum(up)"),
                "(err-mimir-max-query-expression-size-bytes)",
            ),
        ] {
            let answer = get(path);
            assert_eq!(answer.status, 422, "{}", answer.text());
            let json = answer.json();
            assert_eq!(json["errorType"], "execution");
            let said = json["error"].as_str().unwrap().to_owned();
            assert!(said.contains(id) && said.contains("limit: "), "{said}");
        }
        // Steps that lie too far back are left out without a word; those that remain are the ones asked for.
        let answer = get(format!("{}vector(1)", range(t - 7200))).json();
        let values = answer["data"]["result"][0]["values"].as_array().unwrap();
        let first = values[0][0].as_i64().unwrap();
        assert!(
            (t - 1800..=t - 1680).contains(&first) && first % 60 == 0,
            "{first}"
        );
        assert_eq!(values.last().unwrap()[0], t);
        let old = get(format!("/query?time={}&query=vector(1)", t - 3600)).json();
        assert_eq!(old["data"]["result"], serde_json::json!([]));
        let now = get(format!("/query?time={t}&query=up")).json();
        assert_eq!(now["data"]["result"][0]["value"][1], "1");
    }
}

const FORM: (&str, &str) = ("Content-Type", "application/x-www-form-urlencoded");

/// A configuration with settings of tenants, and a host that has it.
fn host_with(config: &str) -> (tempfile::TempDir, Host) {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("lgtm.yml");
    std::fs::write(&file, config).unwrap();
    let file = format!("-config.file={}", file.display());
    let data = dir.path().join("data");
    let host = Host::start(&data, &["-auth.multitenancy-enabled", &file]);
    (dir, host)
}

fn push_many(host: &Host, tenant: &str, count: usize, t_ms: i64) {
    for first in (0..count).step_by(2000) {
        let numbers: Vec<String> = (first..first + 2000).map(|n| n.to_string()).collect();
        let labels: Vec<_> = numbers
            .iter()
            .map(|n| [("__name__", "big"), ("number", n.as_str())])
            .collect();
        let series: Vec<_> = labels.iter().map(|l| (&l[..], t_ms, 1.0)).collect();
        let headers = [("X-Scope-OrgID", tenant)];
        let pushed = host.post("/api/v1/push", &headers, &host::write_request(&series));
        assert_eq!(pushed.status, 200, "{}", pushed.text());
    }
}

fn ask(host: &Host, tenant: &str, call: &str) -> Answer {
    let path = format!("/prometheus/api/v1{call}");
    let headers = [("X-Scope-OrgID", tenant)];
    host.try_request("GET", &path, &headers, b"").unwrap()
}

/// All steps that a query may have, from `t` on, at each of which the sample at `t` is the newest; `n` makes it unlike others.
fn longest(query: &str, t: i64, n: i64) -> String {
    let (start, end) = (t + n, t + n + 10_999 * 15);
    format!("/query_range?query={query}&start={start}&end={end}&step=15&lookback_delta=7d")
}

#[test]
fn a_query_over_its_memory_ends_and_others_go_on() {
    const SERIES: usize = 20_000;
    const LIMIT: u64 = 16 << 20;
    const AT_ONCE: i64 = 3;
    // A value at each of 11,000 steps of 20,000 series would be 1.76 GB. What a query may hold is counted for its values; the list of
    // the series that it asked for (some 200 bytes each) and a batch of their chunks come on top. Each part that the frontend cuts a query into
    // may hold as much: how many there are depends on the time of day, so it cuts none here.
    const MOST_RISE: u64 = AT_ONCE as u64 * (LIMIT + (8 << 20)) + (16 << 20);
    let (_dir, host) = host_with(&format!(
        "metrics: {{query_frontend: {{split_queries_by_interval: 0s}}}}\n\
         overrides: {{bounded: {{metrics: {{max_estimated_memory_consumption_per_query: {LIMIT}}}}}}}\n"
    ));
    let t_ms = now_ms() / 1000 * 1000;
    let t = t_ms / 1000;
    push_many(&host, "bounded", SERIES, t_ms);
    push_many(&host, "other", 2000, t_ms);
    let count = |tenant: &str| {
        let answer = ask(&host, tenant, &format!("/query?query=count(big)&time={t}"));
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.json()["data"]["result"][0]["value"][1]
            .as_str()
            .unwrap()
            .to_owned()
    };
    // Buffers that are kept are there before it is measured.
    assert_eq!(
        (count("bounded"), count("other")),
        ("20000".into(), "2000".into())
    );
    host.forget_peak_memory();
    let before = host.peak_memory_bytes();
    let answered = std::sync::atomic::AtomicUsize::new(0);
    std::thread::scope(|scope| {
        let large: Vec<_> = (0..AT_ONCE)
            .map(|n| {
                let host = &host;
                scope.spawn(move || {
                    for round in 0..3 {
                        let call = longest("-big", t, n * 3 + round);
                        let answer = ask(host, "bounded", &call);
                        let json = answer.json();
                        assert_eq!(answer.status, 422, "{json}");
                        assert_eq!(json["errorType"], "execution");
                        let said = json["error"].as_str().unwrap();
                        for part in [
                            &format!("limit: {LIMIT} bytes")[..],
                            "(err-mimir-max-estimated-memory-consumption-per-query)",
                            "configure max_estimated_memory_consumption_per_query",
                        ] {
                            assert!(said.contains(part), "{said}");
                        }
                    }
                })
            })
            .collect();
        while large.iter().any(|l| !l.is_finished()) {
            assert_eq!(
                (count("bounded"), count("other")),
                ("20000".into(), "2000".into())
            );
            answered.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        }
    });
    let rise = host.peak_memory_bytes().saturating_sub(before);
    let answered = answered.into_inner();
    println!(
        "memory rose by {} KiB; {answered} small queries of each tenant answered meanwhile",
        rise >> 10
    );
    assert!(
        rise <= MOST_RISE,
        "memory rose by {rise} bytes, {MOST_RISE} are allowed"
    );
    assert!(answered > 0);
    // Whoever has no limit of its own has the process' one, whose setting is named.
    let dir = tempfile::tempdir().unwrap();
    let host = Host::start(dir.path(), &["-metrics.querier.max-memory=64KiB"]);
    let series: Vec<String> = (0..100).map(|n| n.to_string()).collect();
    let labels: Vec<_> = series
        .iter()
        .map(|n| [("__name__", "big"), ("number", n)])
        .collect();
    let series: Vec<_> = labels.iter().map(|l| (&l[..], t_ms, 1.0)).collect();
    assert_eq!(host.push(&series).status, 200);
    let answer = host.get(&format!("/api/v1{}", longest("-big", t, 0)));
    assert_eq!(answer.status, 422, "{}", answer.text());
    assert!(
        answer
            .text()
            .contains("configure metrics.querier.max_memory"),
        "{}",
        answer.text()
    );
}

#[test]
fn a_query_ends_with_its_time_and_with_its_client() {
    let (_dir, host) = host_with(
        "metrics: {query_frontend: {max_concurrent: 1, max_outstanding_requests_per_tenant: 1}}\n",
    );
    let t_ms = now_ms() / 1000 * 1000;
    let t = t_ms / 1000;
    push_many(&host, "a", 20_000, t_ms);
    push_many(&host, "b", 2000, t_ms);
    let slow = |n| longest("max(max_over_time(big[7d]))", t, n);
    let answer = ask(&host, "a", &format!("{}&timeout=20ms", slow(0)));
    assert_eq!(answer.status, 503, "{}", answer.text());
    let json = answer.json();
    assert_eq!(
        (json["errorType"].as_str(), json["error"].as_str()),
        (
            Some("timeout"),
            Some("query timed out in expression evaluation")
        )
    );
    // One runs, one waits for its turn, one is too many; their clients go away.
    let mut clients: Vec<_> = (1..=2)
        .map(|n| {
            let path = format!("/api/v1{}", slow(n));
            let client = host.ask_without_waiting(&path, &[("X-Scope-OrgID", "a")]);
            std::thread::park_timeout(std::time::Duration::from_millis(200));
            client
        })
        .collect();
    let answer = ask(&host, "a", &slow(3));
    assert_eq!(answer.status, 429, "{}", answer.text());
    assert_eq!(answer.json()["errorType"], "too_many_requests");
    let before = host.cpu_ticks();
    let mut works = false;
    for _ in 0..100 {
        std::thread::park_timeout(std::time::Duration::from_millis(100));
        works = host.cpu_ticks() > before + 10;
        if works {
            break;
        }
    }
    assert!(works, "the slow query computes");
    clients.clear();
    let mut idle = false;
    for _ in 0..50 {
        let before = host.cpu_ticks();
        std::thread::park_timeout(std::time::Duration::from_millis(200));
        idle = host.cpu_ticks() <= before + 2;
        if idle {
            break;
        }
    }
    assert!(idle, "the process computes on for nobody");
    let answer = ask(&host, "b", &format!("/query?query=count(big)&time={t}"));
    assert_eq!(answer.json()["data"]["result"][0]["value"][1], "2000");
}

#[test]
fn labels_and_remote_reads_keep_to_the_times_a_tenant_may_see() {
    let (_dir, host) = host_with(
        "overrides:\n  short: {metrics: {max_query_lookback: 30m}}\n  narrow: {metrics: {max_labels_query_length: 30m}}\n  long: {metrics: {max_total_query_length: 1h}}\n",
    );
    let now = now_ms() / 1000 * 1000;
    let old = now - 3600 * 1000;
    for tenant in ["short", "narrow", "long", "free"] {
        for (name, t_ms) in [("old", old), ("new", now)] {
            let body = host::write_request(&[(&[("__name__", name), (name, "x")], t_ms, 1.0)]);
            let headers = [("X-Scope-OrgID", tenant)];
            assert_eq!(host.post("/api/v1/push", &headers, &body).status, 200);
        }
    }
    // Blocks, which know their times series by series.
    assert_eq!(host.post("/flush", &[], b"").status, 200);
    let data = |tenant: &str, call: &str| ask(&host, tenant, call).json()["data"].clone();
    let all = "match[]=%7B__name__%3D~%22.%2B%22%7D";
    let times = format!("start={}&end={}", old / 1000 - 60, now / 1000 + 60);
    for (tenant, seen) in [
        ("free", &["new", "old"][..]),
        ("short", &["new"]),
        ("narrow", &["new"]),
    ] {
        let values = data(tenant, &format!("/label/__name__/values?{all}&{times}"));
        assert_eq!(values, serde_json::json!(seen), "{tenant}");
        let names = data(tenant, &format!("/labels?{all}&{times}"));
        assert_eq!(
            names.as_array().unwrap().len(),
            seen.len() + 1,
            "{tenant}: {names}"
        );
        let series = data(tenant, &format!("/series?{all}&{times}"));
        assert_eq!(
            series.as_array().unwrap().len(),
            seen.len(),
            "{tenant}: {series}"
        );
    }
    let past = format!("/label/__name__/values?{all}&end={}", old / 1000 + 60);
    assert_eq!(data("free", &past), serde_json::json!(["old"]));
    assert_eq!(data("short", &past), serde_json::json!([]));
    // As a remote read: what lies too far back is not there, and one that is too long is refused.
    let read = |tenant: &str, from: i64, to: i64| {
        let headers = [("X-Scope-OrgID", tenant)];
        let request = host::read_request("__name__", ".+", from, to);
        host.post("/prometheus/api/v1/read", &headers, &request)
    };
    let series = |tenant: &str| {
        let answer = read(tenant, old - 60_000, now + 60_000);
        assert_eq!(answer.status, 200, "{}", answer.text());
        let plain = snap::raw::Decoder::new()
            .decompress_vec(&answer.body)
            .unwrap();
        plain.windows(8).filter(|w| *w == b"__name__").count()
    };
    assert_eq!((series("free"), series("short")), (2, 1));
    let refused = read("long", old - 60_000, now + 60_000);
    assert_eq!(refused.status, 422, "{}", refused.text());
    assert!(
        refused.text().contains("max_total_query_length"),
        "{}",
        refused.text()
    );
    assert_eq!(read("long", now - 60_000, now).status, 200);
}

#[test]
fn an_error_that_stays_is_told_again_without_another_look() {
    for cached in [false, true] {
        let (_dir, host) = host_with(&format!(
            "metrics: {{query_frontend: {{cache_errors: {cached}}}}}\noverrides: {{none: {{metrics: {{results_cache_ttl_for_errors: 0s}}}}}}\n"
        ));
        let t_ms = now_ms() / 1000 * 1000;
        for tenant in ["a", "b", "none"] {
            push_many(&host, tenant, 2000, t_ms);
        }
        let failing = format!("/query?query=big%20*%20on()%20big&time={}", t_ms / 1000);
        let begun = || {
            let metrics = host.get("/metrics").text();
            let line = metrics
                .lines()
                .find(|l| l.starts_with("lgtm_queries_total "));
            line.unwrap()
                .rsplit(' ')
                .next()
                .unwrap()
                .parse::<u64>()
                .unwrap()
        };
        let mut expected = begun();
        for (tenant, form) in [
            ("a", false),
            ("a", false),
            ("b", false),
            ("none", false),
            ("none", false),
            ("a", true),
        ] {
            let answer = if form {
                let (path, form) = failing.split_once('?').unwrap();
                let headers = [
                    ("X-Scope-OrgID", tenant),
                    ("Cache-Control", "no-store"),
                    FORM,
                ];
                host.post(&format!("/api/v1{path}"), &headers, form.as_bytes())
            } else {
                ask(&host, tenant, &failing)
            };
            assert_eq!(answer.status, 422, "{}", answer.text());
            assert!(
                answer.text().contains("many-to-many matching not allowed"),
                "{}",
                answer.text()
            );
            expected += 1;
        }
        if cached {
            // The second one of `a`.
            expected -= 1;
            let metrics = host.get("/metrics").text();
            assert!(
                metrics.contains("\ncortex_frontend_query_error_cache_hits_total 1\n"),
                "{metrics}"
            );
        }
        assert_eq!(begun(), expected, "cache_errors: {cached}");
    }
}
