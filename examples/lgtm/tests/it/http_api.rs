//! The host's answers: shapes, codes and messages, good input and bad.

use crate::host::{Host, now_ms, write_request};

fn started(flags: &[&str]) -> (tempfile::TempDir, Host) {
    let dir = tempfile::tempdir().unwrap();
    let host = Host::start(dir.path(), flags);
    (dir, host)
}

fn some(host: &Host, t_ms: i64) {
    let answer = host.push(&[
        (
            &[("__name__", "up"), ("instance", "a"), ("job", "api")],
            t_ms,
            1.0,
        ),
        (
            &[("__name__", "up"), ("instance", "b"), ("job", "api")],
            t_ms,
            0.0,
        ),
        (
            &[("__name__", "temperature"), ("job", "room \"1\"")],
            t_ms,
            -3.25,
        ),
    ]);
    assert_eq!(answer.status, 200, "{}", answer.text());
}

#[test]
fn queries_answer_in_the_shapes_of_prometheus() {
    let (_dir, host) = started(&[]);
    let t_ms = now_ms() / 1000 * 1000;
    some(&host, t_ms);
    let t = t_ms / 1000;
    for flushed in [false, true] {
        if flushed {
            assert_eq!(
                host.post("/flush", &[], b"").text(),
                "1 blocks, 0 chunks, 0 trace blocks written\n"
            );
        }
        let answer = host
            .get(&format!(
                "/prometheus/api/v1/query?query=up%7Bjob%3D~%22a.i%22%7D&time={t}"
            ))
            .text();
        assert_eq!(
            answer,
            format!(
                r#"{{"status":"success","data":{{"resultType":"vector","result":[{{"metric":{{"__name__":"up","instance":"a","job":"api"}},"value":[{t},"1"]}},{{"metric":{{"__name__":"up","instance":"b","job":"api"}},"value":[{t},"0"]}}]}}}}"#
            )
        );
        let form = format!("query=temperature&start={}&end={}&step=15", t - 15, t + 30);
        let form_type = [("Content-Type", "application/x-www-form-urlencoded")];
        let answer = host
            .post(
                "/prometheus/api/v1/query_range",
                &form_type,
                form.as_bytes(),
            )
            .json();
        assert_eq!(answer["data"]["resultType"], "matrix");
        assert_eq!(
            answer["data"]["result"][0]["values"],
            serde_json::json!([[t, "-3.25"], [t + 15, "-3.25"], [t + 30, "-3.25"]])
        );
        let data =
            |path: &str| host.get(&format!("/prometheus/api/v1{path}")).json()["data"].clone();
        assert_eq!(
            data("/labels"),
            serde_json::json!(["__name__", "instance", "job"])
        );
        assert_eq!(
            data("/label/job/values"),
            serde_json::json!(["api", "room \"1\""])
        );
        assert_eq!(
            data("/label/instance/values?match[]=up&limit=1"),
            serde_json::json!(["a"])
        );
        assert_eq!(
            data("/series?match[]=temperature"),
            serde_json::json!([{"__name__": "temperature", "job": "room \"1\""}])
        );
        assert_eq!(data("/query?query=1%2b1").as_str(), None);
        assert_eq!(
            data("/query?query=-1.5&time=5"),
            serde_json::json!({"resultType": "scalar", "result": [5, "-1.5"]})
        );
        assert_eq!(data("/query?query=up%5B1m%5D")["resultType"], "matrix");
        assert_eq!(
            data("/format_query?query=sum(rate(x%5B300s%5D))by(a)"),
            "sum by (a) (rate(x[5m]))"
        );
        assert_eq!(data("/parse_query?query=up%3E1")["type"], "binaryExpr");
        assert_eq!(data("/status/buildinfo")["application"], "lgtm");
    }
    assert_eq!(
        host.get("/prometheus/api/v1/status/tsdb").json()["data"]["headStats"]["numSeries"],
        3
    );
    assert!(
        host.get("/metrics")
            .text()
            .contains("cortex_distributor_received_samples_total 3\n")
    );
    assert!(host.terminate(), "SIGTERM ends the process in order");
}

#[test]
fn bad_queries_are_told_what_is_wrong() {
    let (_dir, host) = started(&[]);
    for (path, status, kind, words) in [
        ("/query?query=up%7B", 400, "bad_data", "1:4: parse error"),
        ("/query", 400, "bad_data", "invalid parameter \"query\""),
        (
            "/parse_query?query=1%3D%3D1",
            400,
            "bad_data",
            "invalid parameter \"query\": 1:2: parse error: comparisons between scalars must use BOOL modifier",
        ),
        (
            "/series?match[]=%7B%7D",
            400,
            "bad_data",
            "match[] must contain at least one non-empty matcher",
        ),
        (
            "/query?query=up&time=x",
            400,
            "bad_data",
            "cannot parse \"x\" to a valid timestamp",
        ),
        (
            "/query_range?query=up&start=5&end=4&step=1",
            400,
            "bad_data",
            "end timestamp must not be before start time",
        ),
        (
            "/query_range?query=up&start=1&end=2&step=0",
            400,
            "bad_data",
            "zero or negative query resolution step widths",
        ),
        (
            "/query_range?query=up&start=0&end=99999&step=1",
            400,
            "bad_data",
            "exceeded maximum resolution of 11,000 points",
        ),
        (
            "/query_range?query=up%5B5m%5D&start=0&end=9&step=1",
            400,
            "bad_data",
            "invalid expression type",
        ),
        ("/series", 400, "bad_data", "no match[] parameter provided"),
        (
            "/series?match[]=%7B%7D",
            400,
            "bad_data",
            "at least one non-empty matcher",
        ),
    ] {
        let answer = host.get(&format!("/prometheus/api/v1{path}"));
        let json = answer.json();
        assert_eq!(
            (answer.status, &json["errorType"]),
            (status, &serde_json::json!(kind)),
            "{path}: {json}"
        );
        assert!(
            json["error"].as_str().unwrap().contains(words),
            "{path}: {json}"
        );
    }
}

#[test]
fn a_push_keeps_what_is_good_and_names_what_is_not() {
    let (_dir, host) = started(&["-limits.metrics.max-label-value-length=20"]);
    let t_ms = now_ms();
    let long = "x".repeat(21);
    let answer = host.push(&[
        (&[("__name__", "good")], t_ms, 1.0),
        (&[("job", "nameless")], t_ms, 1.0),
        (&[("__name__", "long"), ("l", &long)], t_ms, 1.0),
        (&[("__name__", "twice"), ("a", "1"), ("a", "2")], t_ms, 1.0),
        (
            &[("b", "unsorted"), ("__name__", "unsorted"), ("c", "")],
            t_ms,
            1.0,
        ),
        (&[("__name__", "future")], t_ms + 3_600_000, 1.0),
        (&[("__name__", "end_of_time")], i64::MAX, 1.0),
        (&[("__name__", "past")], i64::MIN, f64::NAN),
    ]);
    assert_eq!(answer.status, 400);
    assert!(
        answer.text().contains("(err-mimir-missing-metric-name)"),
        "{}",
        answer.text()
    );
    let names = host.get("/prometheus/api/v1/label/__name__/values").json()["data"].clone();
    assert_eq!(
        names,
        serde_json::json!(
            ["future", "good", "past", "unsorted"]
                .iter()
                .filter(|n| **n != "future")
                .collect::<Vec<_>>()
        )
    );
    let metrics = host.get("/metrics").text();
    for reason in [
        "missing-metric-name",
        "label-value-too-long",
        "duplicate-label-names",
        "too-far-in-future",
    ] {
        assert!(
            metrics.contains(&format!(
                "cortex_discarded_samples_total{{user=\"anonymous\",reason=\"{reason}\"}}"
            )),
            "{reason}"
        );
    }
    // The same sample again is fine, another value for its time is not.
    assert_eq!(
        host.push(&[(&[("__name__", "good")], t_ms, 1.0)]).status,
        200
    );
    let answer = host.push(&[(&[("__name__", "good")], t_ms, 2.0)]);
    assert_eq!(answer.status, 400);
    assert!(
        answer
            .text()
            .contains("err-mimir-sample-duplicate-timestamp"),
        "{}",
        answer.text()
    );
}

#[test]
fn hostile_pushes_cost_themselves_only() {
    let (_dir, host) = started(&["-max-recv-msg-size=1MiB"]);
    let bomb = [0xff, 0xff, 0xff, 0xff, 0x0f, 0, 0];
    let deep = snap::raw::Encoder::new()
        .compress_vec(&[0x0b; 1000])
        .unwrap();
    let cut = &write_request(&[(&[("__name__", "x")], 1, 1.0)])[..9];
    let nonsense = snap::raw::Encoder::new()
        .compress_vec(b"\x0a\xff\xff\xff\xff\x0f")
        .unwrap();
    for (body, status) in [
        (&bomb[..], 413),
        (b"no snappy", 400),
        (&deep, 400),
        (cut, 400),
        (&nonsense, 400),
        (b"", 400),
    ] {
        let answer = host.post("/api/v1/push", &[], body);
        assert_eq!(answer.status, status, "{body:?}: {}", answer.text());
    }
    assert_eq!(
        host.post("/api/v1/push", &[], &vec![0; 2 << 20]).status,
        413
    );
    let typed = |t: &str| {
        host.post("/api/v1/write", &[("Content-Type", t)], &write_request(&[]))
            .status
    };
    assert_eq!(typed("application/x-protobuf"), 200);
    assert_eq!(
        typed("application/x-protobuf;proto=prometheus.WriteRequest"),
        200
    );
    assert_eq!(typed("application/x-protobuf;proto=nobody.knows"), 415);
    assert_eq!(typed("text/plain"), 415);
    assert_eq!(host.get("/ready").status, 200);
}

#[test]
fn tenants_are_apart() {
    let (_dir, host) = started(&["-auth.multitenancy-enabled"]);
    let t_ms = now_ms();
    let body = write_request(&[(&[("__name__", "mine")], t_ms, 1.0)]);
    assert_eq!(host.post("/api/v1/push", &[], &body).status, 401);
    assert_eq!(
        host.post("/api/v1/push", &[("X-Scope-OrgID", "a/b")], &body)
            .status,
        400
    );
    assert_eq!(
        host.post("/api/v1/push", &[("X-Scope-OrgID", "it's-(me)!")], &body)
            .status,
        200
    );
    let names = |tenant: &str| {
        let path = "/prometheus/api/v1/label/__name__/values";
        host.try_request("GET", path, &[("X-Scope-OrgID", tenant)], b"")
            .unwrap()
            .json()["data"]
            .clone()
    };
    for _ in 0..2 {
        assert_eq!(names("it's-(me)!"), serde_json::json!(["mine"]));
        assert_eq!(names("other"), serde_json::json!([]));
        assert_eq!(host.post("/flush", &[], b"").status, 200);
    }
}

fn varint(out: &mut Vec<u8>, mut v: u64) {
    while v >= 0x80 {
        out.push(v as u8 | 0x80);
        v >>= 7;
    }
    out.push(v as u8);
}

fn field(out: &mut Vec<u8>, number: u64, body: &[u8]) {
    varint(out, number << 3 | 2);
    varint(out, body.len() as u64);
    out.extend_from_slice(body);
}

fn snappy(body: &[u8]) -> Vec<u8> {
    snap::raw::Encoder::new().compress_vec(body).unwrap()
}

/// A remote write 2.0 request: series as references into the table, each with samples at these times.
fn v2_request(symbols: &[&str], series: &[(&[u8], &[i64])]) -> Vec<u8> {
    let mut body = Vec::new();
    symbols
        .iter()
        .for_each(|s| field(&mut body, 4, s.as_bytes()));
    for (refs, times) in series {
        let mut one = Vec::new();
        field(&mut one, 1, refs);
        for t_ms in *times {
            let mut sample = vec![9];
            sample.extend_from_slice(&1.0f64.to_bits().to_le_bytes());
            sample.push(16);
            varint(&mut sample, *t_ms as u64);
            field(&mut one, 2, &sample);
        }
        field(&mut body, 5, &one);
    }
    snappy(&body)
}

#[test]
fn remote_write_2_is_told_what_was_written() {
    let (_dir, host) = started(&[]);
    let t_ms = now_ms();
    let post = |body: &[u8]| {
        let typed = [
            (
                "Content-Type",
                "application/x-protobuf;proto=io.prometheus.write.v2.Request",
            ),
            ("X-Prometheus-Remote-Write-Version", "2.0.0"),
            ("Content-Encoding", "snappy"),
        ];
        let answer = host.post("/api/v1/write", &typed, body);
        let headers = answer.headers.to_ascii_lowercase();
        let written = |what: &str| {
            let name = format!("x-prometheus-remote-write-{what}-written: ");
            let line = headers
                .lines()
                .find_map(|l| l.strip_prefix(&name).map(str::to_owned));
            line.unwrap_or_else(|| panic!("no {name} in {headers}"))
                .parse::<u64>()
                .unwrap()
        };
        (
            answer.status,
            written("samples"),
            written("histograms"),
            written("exemplars"),
        )
    };
    let symbols = ["", "__name__", "up", "job", "api"];
    assert_eq!(
        post(&v2_request(&symbols, &[(&[1, 2, 3, 4], &[t_ms, t_ms + 1])])),
        (200, 2, 0, 0)
    );
    // An odd number of references and a reference to nowhere cost their series; the third is written.
    let partly = v2_request(
        &symbols,
        &[
            (&[1], &[t_ms]),
            (&[1, 9], &[t_ms]),
            (&[1, 2, 3, 4], &[t_ms + 2]),
        ],
    );
    assert_eq!(post(&partly), (400, 1, 0, 0));
    assert_eq!(post(&v2_request(&["not empty"], &[])), (400, 0, 0, 0));
    assert_eq!(post(b"no snappy"), (400, 0, 0, 0));
    assert_eq!(
        post(&v2_request(&symbols, &[(&[1, 2], &[])])),
        (400, 0, 0, 0)
    );
    let points = host
        .get(&format!(
            "/prometheus/api/v1/query?query=up%5B1m%5D&time={}",
            t_ms / 1000 + 1
        ))
        .json();
    assert_eq!(
        points["data"]["result"][0]["values"]
            .as_array()
            .unwrap()
            .len(),
        3,
        "{points}"
    );
}

#[test]
fn remote_read_gives_samples_and_chunks() {
    let (_dir, host) = started(&[]);
    let t_ms = now_ms();
    some(&host, t_ms);
    let mut matcher = vec![8, 2];
    field(&mut matcher, 2, b"__name__");
    field(&mut matcher, 3, b"up|nothing");
    let mut query = vec![8];
    varint(&mut query, (t_ms - 1000) as u64);
    query.push(16);
    varint(&mut query, (t_ms + 1000) as u64);
    field(&mut query, 3, &matcher);
    for flushed in [false, true] {
        if flushed {
            assert_eq!(host.post("/flush", &[], b"").status, 200);
        }
        let mut body = Vec::new();
        field(&mut body, 1, &query);
        let answer = host.post("/prometheus/api/v1/read", &[], &snappy(&body));
        assert!(
            answer.headers.contains("application/x-protobuf"),
            "{}: {}",
            answer.headers,
            answer.text()
        );
        let plain = snap::raw::Decoder::new()
            .decompress_vec(&answer.body)
            .unwrap();
        let instances = plain.windows(8).filter(|w| *w == b"instance").count();
        assert_eq!(instances, 2);
        // STREAMED_XOR_CHUNKS alone.
        field(&mut body, 2, &[1]);
        let answer = host.post("/prometheus/api/v1/read", &[], &snappy(&body));
        assert!(
            answer
                .headers
                .contains("application/x-streamed-protobuf; proto=prometheus.ChunkedReadResponse")
        );
        let frame_len = usize::from(answer.body[0]);
        assert!(
            frame_len < 128 && answer.body.len() > 5 + frame_len,
            "two frames of a small series each"
        );
    }
    assert_eq!(
        host.post("/prometheus/api/v1/read", &[], b"nonsense")
            .status,
        400
    );
}
