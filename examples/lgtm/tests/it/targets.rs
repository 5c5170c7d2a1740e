//! Parts of the host alone: what they serve, and what is told when a partner is missing.

use std::process::Command;

use crate::host::{Host, now_ms};

#[test]
fn the_write_path_runs_alone_and_the_whole_host_finds_what_it_wrote() {
    let dir = tempfile::tempdir().unwrap();
    let write = Host::start(dir.path(), &["-target=write"]);
    let t_ms = now_ms();
    assert_eq!(
        write.push(&[(&[("__name__", "up")], t_ms, 5.0)]).status,
        200
    );
    assert_eq!(write.get("/prometheus/api/v1/query?query=up").status, 404);
    let line = format!(
        r#"{{"streams":[{{"stream":{{"app":"shop"}},"values":[["{t_ms}000000","hello"]]}}]}}"#
    );
    let json = [("Content-Type", "application/json")];
    let pushed = write.post("/loki/api/v1/push", &json, line.as_bytes());
    assert_eq!(pushed.status, 204, "{}", pushed.text());
    assert_eq!(write.get("/loki/api/v1/labels").status, 404);
    let services = write.get("/services").text();
    let mut services: Vec<&str> = services.lines().collect();
    services.sort_unstable();
    let running = [
        "logs-ingester",
        "metrics-ingester",
        "runtime-config",
        "server",
        "traces-ingester",
    ];
    let running = running.map(|name| format!("{name} => Running"));
    assert!(
        running.iter().all(|line| services.contains(&line.as_str())),
        "{services:?}"
    );
    assert!(
        !services
            .iter()
            .any(|line| line.starts_with("metrics-store-gateway") || line.contains("querier"))
    );
    let flushed = write.post("/flush", &[], b"");
    assert_eq!(
        (flushed.status, flushed.text().as_str()),
        (200, "1 blocks, 1 chunks, 0 trace blocks written\n")
    );
    assert!(write.terminate());

    let all = Host::start(dir.path(), &[]);
    let path = format!("/prometheus/api/v1/query?query=up&time={}", t_ms / 1000 + 1);
    let answer = all.get(&path).json();
    assert_eq!(answer["data"]["result"][0]["value"][1], "5", "{answer}");
    let answer = all.get("/loki/api/v1/query_range?query=%7Bapp%3D%22shop%22%7D");
    let answer = answer.json();
    let line = &answer["data"]["result"][0]["values"][0][1];
    assert_eq!(line, "hello", "{answer}");
}

#[test]
fn a_component_without_its_partner_says_what_to_add() {
    for (target, wanted) in [
        (
            "metrics-querier",
            "-target=metrics-querier,metrics-store-gateway,metrics-ingester",
        ),
        (
            "metrics-distributor",
            "-target=metrics-distributor,metrics-ingester",
        ),
        ("metrics-ingestr", "did you mean \"metrics-ingester\"?"),
    ] {
        let flags = [format!("-target={target}"), "-config.verify".to_owned()];
        let out = Command::new(env!("CARGO_BIN_EXE_lgtm"))
            .args(flags)
            .output()
            .unwrap();
        let said = String::from_utf8(out.stderr).unwrap();
        assert!(
            !out.status.success() && said.contains(wanted),
            "{target}: {said}"
        );
    }
}
