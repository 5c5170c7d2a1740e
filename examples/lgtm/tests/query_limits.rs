//! What a tenant's queries may ask for: refusals name the limit, and the answers of others do not change.

#![allow(clippy::unwrap_used, reason = "what serves tests only is a test")]

mod host;

use host::{Host, now_ms};

#[test]
fn limits_of_queries_are_told_with_and_without_the_frontend() {
    for frontend in ["true", "false"] {
        let dir = tempfile::tempdir().unwrap();
        let host = Host::start(
            dir.path(),
            &[
                &format!("-query-frontend.enabled={frontend}"),
                "-limits.max-query-expression-size-bytes=20",
                "-limits.max-total-query-length=2h",
                "-limits.max-query-lookback=30m",
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
