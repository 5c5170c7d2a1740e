//! What the tool writes: exported texts and what is imported of them, backfilled blocks, deletions, compaction.

use std::path::Path;

use lgtm_tool::Outcome;
use serde_json::Value;

use crate::bucket::{HOUR_MS, START_MS, TENANT, copy, files, tool, url, written};

/// Runs a command that must end well.
fn done(words: &[&str]) -> Value {
    let (outcome, json, complaint) = tool(words);
    assert_eq!(outcome, Outcome::Fine, "{words:?}: {complaint:?} {json:#}");
    json
}

fn range() -> [String; 2] {
    [
        format!("-from={}", START_MS / 1000),
        format!("-to={}", (START_MS + 5 * HOUR_MS) / 1000),
    ]
}

/// An empty bucket below a folder.
fn empty(folder: &Path, name: &str) -> String {
    let bucket = folder.join(name);
    std::fs::create_dir(&bucket).unwrap();
    url(&bucket)
}

/// Exports a tenant's data of a signal.
fn exported(bucket: &str, signal: &str, file: &Path) -> Value {
    let out = format!("-out={}", file.display());
    let signal = format!("-signal={signal}");
    done(&["export", bucket, &signal, "-tenant=shop", &out])["exported"].clone()
}

/// Imports it into another bucket.
fn imported(bucket: &str, signal: &str, file: &Path) -> Value {
    let signal = format!("-signal={signal}");
    let file = file.to_str().unwrap();
    done(&["import", bucket, file, &signal, "-tenant=shop", "-write"])["imported"].clone()
}

#[test]
fn what_is_exported_is_imported_as_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let bucket = url(&written(folder.path()));
    let [from, to] = range();
    let same = |signal: &str, other: &str, query: &str| {
        let signal = format!("-signal={signal}");
        let ask = |bucket: &str| {
            let words = ["query", bucket, query, "-tenant=shop", &signal, &from, &to];
            done(&[&words[..], &["-step=10m", "-limit=100000"]].concat())
        };
        let (before, after) = (ask(&bucket), ask(other));
        assert_eq!(before, after, "{query}");
        before
    };

    let file = folder.path().join("metrics.txt");
    let told = exported(&bucket, "metrics", &file);
    assert_eq!(
        (&told["samples"], &told["left_out"]),
        (&16_000.into(), &0.into())
    );
    let other = empty(folder.path(), "metrics-2");
    assert_eq!(imported(&other, "metrics", &file)["samples"], 16_000);
    same("metrics", &other, "sum by (instance) (requests_total)");
    same("metrics", &other, "count_over_time(requests_total[10m])");
    let of_window = folder.path().join("window.txt");
    let out = format!("-out={}", of_window.display());
    let words = ["export", &bucket, "-signal=metrics", &out, &from];
    let until = format!("-to={}", START_MS / 1000 + 60);
    done(&[&words[..], &[&until]].concat());
    let lines = std::fs::read_to_string(&of_window).unwrap();
    assert_eq!(
        lines.lines().count(),
        40 * 3 + 1,
        "three times of 40 series"
    );

    let file = folder.path().join("logs.json");
    assert_eq!(exported(&bucket, "logs", &file)["lines"], 12_000);
    let other = empty(folder.path(), "logs-2");
    assert_eq!(imported(&other, "logs", &file)["lines"], 12_000);
    let lines = same("logs", &other, r#"{app=~".+"} | trace_id=~"0+[1-9]""#);
    assert_eq!(lines["lines"].as_array().unwrap().len(), 9 * 3 * 2);
    same(
        "logs",
        &other,
        r#"sum by (app) (count_over_time({env="prod"}[10m]))"#,
    );

    let file = folder.path().join("traces.json");
    assert_eq!(exported(&bucket, "traces", &file)["traces"], 120);
    let other = empty(folder.path(), "traces-2");
    assert_eq!(imported(&other, "traces", &file)["spans"], 120);
    same("traces", &other, r#"{ span.customer = "ben" } | rate()"#);
    let first = std::fs::read_to_string(&file).unwrap();
    let first: Value = serde_json::from_str(first.lines().next().unwrap()).unwrap();
    assert!(first["resourceSpans"][0]["scopeSpans"][0]["spans"][0]["traceId"].is_string());

    // What was imported passes every check.
    for other in ["metrics-2", "logs-2", "traces-2"] {
        let bucket = url(&folder.path().join(other));
        assert_eq!(done(&["verify", &bucket])["result"]["ok"], true, "{other}");
    }
}

#[test]
fn one_block_or_chunk_is_exported_alone() {
    let folder = tempfile::tempdir().unwrap();
    let bucket = written(folder.path());
    let export = |object: &str, n: usize| {
        let file = folder.path().join(format!("export-{n}"));
        let out = format!("-out={}", file.display());
        let told = done(&["export", &url(&bucket), object, &out]);
        // It is there under its name only when it is whole, and not written over.
        let (outcome, _, complaint) = tool(&["export", &url(&bucket), object, &out]);
        assert_eq!(outcome, Outcome::Usage);
        assert!(complaint.unwrap().contains("there already"));
        told["exported"].clone()
    };
    let first = |is_wanted: &dyn Fn(&str) -> bool| {
        let found = files(&bucket, is_wanted);
        let path = found[0].strip_prefix(&bucket).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let index = first(&|p| p.starts_with("metricsblocks/shop/0") && p.ends_with("index"));
    assert_eq!(export(&index, 1)["samples"], 8000);
    let chunk = first(&|p| p.starts_with("logs/shop/"));
    assert_eq!(export(&chunk, 2)["lines"], 2000);
    let data = first(&|p| p.ends_with("data.parquet"));
    let traces = export(&data, 3)["traces"].as_u64().unwrap();
    assert!((60..=120).contains(&traces), "{traces}");
}

#[test]
fn texts_that_are_wrong_are_refused_with_their_line() {
    let folder = tempfile::tempdir().unwrap();
    let buckets = ["metrics", "logs", "traces"].map(|s| (s, empty(folder.path(), s)));
    let import = |signal: &str, text: &str| {
        let (_, bucket) = buckets.iter().find(|b| b.0 == signal).unwrap();
        let file = folder.path().join("text");
        std::fs::write(&file, text).unwrap();
        let signal = format!("-signal={signal}");
        let file = file.to_str().unwrap();
        let words = ["import", bucket, file, &signal, "-tenant=shop", "-write"];
        let (outcome, json, complaint) = tool(&words);
        (outcome, json, complaint.unwrap_or_default())
    };
    for (signal, text, why) in [
        ("metrics", "# TYPE a gauge\na 1 1\na x 2\n# EOF\n", "line 3"),
        ("metrics", "a 1 1\n", "cut off"),
        ("metrics", "a 1\n# EOF\n", "no time"),
        ("metrics", "\u{1}\u{fffd}{\n# EOF\n", "line 1"),
        ("logs", "{\"streams\":[]}\n{\"streams\":[{\n", "line 2"),
        ("traces", "{\"resourceSpans\":3}\n", "line 1"),
    ] {
        let (outcome, _, complaint) = import(signal, text);
        assert_eq!(outcome, Outcome::Usage, "{text}: {complaint}");
        assert!(complaint.contains(why), "{text}: {complaint}");
    }
    // What rules refuse is counted, and the rest is stored.
    let long = "x".repeat(3000);
    let text = format!("a 1 1700000000\nb{{c=\"{long}\"}} 1 1700000000\n# EOF\n");
    let (outcome, json, _) = import("metrics", &text);
    assert_eq!(outcome, Outcome::Failed);
    assert_eq!(json["imported"]["samples"], 1, "{json:#}");
    assert_eq!(json["refused"][0]["samples"], 1, "{json:#}");
}

#[test]
fn nothing_is_written_without_the_word() {
    let folder = tempfile::tempdir().unwrap();
    let bucket = written(folder.path());
    let before = files(&bucket, |_| true);
    let url = url(&bucket);
    let block = block_of(&bucket);
    let [from, to] = range();
    for words in [
        &["compact", &url][..],
        &["import", &url, "x", "-signal=metrics"],
        &["backfill", &url, "x", "-signal=metrics"],
    ] {
        let (outcome, _, complaint) = tool(words);
        assert_eq!(outcome, Outcome::Usage);
        assert!(complaint.unwrap().contains("say -write"), "{words:?}");
    }
    let told = done(&["delete", &url, &block, "-signal=metrics"]);
    assert_eq!(told["blocks"][0]["samples"], 8000);
    assert_eq!(told["blocks"][0]["marked"], false);
    done(&["delete", &url, "all", "-signal=metrics"]);
    done(&["delete", &url, "{app=\"cart\"}", "-signal=logs", &from, &to]);
    let query = "{ span.customer = \"anna\" }";
    let told = done(&["delete", &url, query, "-signal=traces", &from, &to]);
    assert_eq!(told["redaction"]["traces"], 60);
    assert_eq!(files(&bucket, |_| true), before);
    // What cannot be undone has no range by default.
    let (outcome, _, complaint) = tool(&["delete", &url, "{app=\"cart\"}", "-signal=logs"]);
    assert_eq!(outcome, Outcome::Usage);
    assert!(complaint.unwrap().contains("-from"));
}

/// The id of a block of metrics.
fn block_of(bucket: &Path) -> String {
    let blocks = bucket.join("metricsblocks").join(TENANT);
    let found = files(&blocks, |p| p.ends_with("/meta.json"));
    let name = found[0].parent().unwrap().file_name().unwrap();
    name.to_str().unwrap().to_owned()
}

#[test]
fn what_is_deleted_is_gone_and_the_rest_is_there() {
    let folder = tempfile::tempdir().unwrap();
    let bucket = written(folder.path());
    let url = url(&bucket);
    let [from, to] = range();

    let block = block_of(&bucket);
    done(&["delete", &url, &block, "-signal=metrics", "-write"]);
    let told = done(&["ls", &url, "-signal=metrics", "-tenant=shop"]);
    let blocks = told["metric_blocks"].as_array().unwrap();
    let marked: Vec<_> = blocks.iter().filter(|b| b["marks"] == "deletion").collect();
    assert_eq!(marked.len(), 1);
    assert_eq!(marked[0]["block"], *block);
    done(&["delete", &url, "all", "-signal=metrics", "-write"]);
    let mark = bucket.join("metricsblocks/shop/markers/tenant-deletion-mark.json");
    let mark: Value = serde_json::from_slice(&std::fs::read(mark).unwrap()).unwrap();
    assert!(mark["deletion_time"].as_i64() > Some(1_700_000_000));
    assert!(mark["finished_time"].is_null());

    let query = "{app=\"cart\"} |= \"took=5ms\"";
    let told = done(&["delete", &url, query, "-signal=logs", &from, &to, "-write"]);
    assert!(told["delete_request"]["request"].is_string());
    let count = |query: &str| {
        let words = ["query", &url, query, "-signal=logs", "-tenant=shop"];
        let told = done(&[&words[..], &[&from, &to, "-limit=100000"]].concat());
        told["lines"].as_array().map_or(0, Vec::len)
    };
    assert_eq!(count(query), 0);
    assert_eq!(count("{app=\"cart\"}"), 4000 - 42);
    assert_eq!(count("{app=\"search\"} |= \"took=5ms\""), 42);

    let query = "{ span.customer = \"anna\" }";
    let told = done(&[
        "delete",
        &url,
        query,
        "-signal=traces",
        &from,
        &to,
        "-write",
    ]);
    assert_eq!(told["redaction"]["traces"], 60);
    let traces = |query: &str| {
        let words = ["query", &url, query, "-signal=traces", "-limit=1000"];
        let told = done(&[&words[..], &[&from, &to]].concat());
        told["traces"].as_array().map_or(0, Vec::len)
    };
    assert_eq!((traces(query), traces("{}")), (0, 60));
    let id = format!("{:032x}", 1);
    assert_eq!(traces("{ span.customer = \"ben\" }"), 60);
    done(&["delete", &url, &id, "-signal=traces", "-write"]);
    assert_eq!(traces("{}"), 59);
}

#[test]
fn blocks_of_prometheus_are_backfilled_once_they_are_whole() {
    let folder = tempfile::tempdir().unwrap();
    let bucket = written(folder.path());
    let local = folder.path().join("local");
    let block = block_of(&bucket);
    let own = local.join(&block);
    copy(&bucket.join("metricsblocks/shop").join(&block), &own);
    let target = empty(folder.path(), "target");
    let own = own.to_str().unwrap();
    let words = ["backfill", &target, own, "-signal=metrics", "-tenant=team"];
    let words = [&words[..], &["-write"]].concat();
    let told = done(&words);
    assert_eq!(told["blocks"][0]["what_became_of_it"], "uploaded");
    assert_eq!(told["blocks"][0]["samples"], 8000);
    assert_eq!(
        done(&words)["blocks"][0]["what_became_of_it"],
        "there already"
    );
    let told = done(&["ls", &target, "-signal=metrics"]);
    assert_eq!(told["metrics"][0]["samples"], 8000);
    assert_eq!(done(&["verify", &target])["result"]["ok"], true);

    // A flipped bit: nothing of it is taken.
    let chunks = local.join(&block).join("chunks/000001");
    let mut bytes = std::fs::read(&chunks).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&chunks, bytes).unwrap();
    let other = empty(folder.path(), "other");
    let words = ["backfill", &other, own, "-signal=metrics", "-tenant=team"];
    let (outcome, told, _) = tool(&[&words[..], &["-write"]].concat());
    assert_eq!(outcome, Outcome::Failed);
    assert_eq!(told["blocks"][0]["what_became_of_it"], "damaged, not taken");
    assert!(told["damage"][0]["detail"].is_string());
    assert!(files(&folder.path().join("other"), |_| true).is_empty());
}

#[test]
fn compaction_joins_and_loses_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let bucket = written(folder.path());
    let url = url(&bucket);
    // The same samples once more: blocks that overlap.
    let text = folder.path().join("text");
    exported(&url, "metrics", &text);
    imported(&url, "metrics", &text);
    let told = done(&["compact", &url, "-write"]);
    assert!(
        told["metrics"]["blocks_written"].as_u64() > Some(0),
        "{told:#}"
    );
    assert_eq!(told["metrics"]["failed_jobs"], 0);
    let at = format!("-time={}", (START_MS + HOUR_MS) / 1000);
    let query = "sum(count_over_time(requests_total[1h]))";
    let words = ["query", &url, query, "-signal=metrics", "-tenant=shop", &at];
    assert_eq!(done(&words)["result"][0]["value"], "4800");
    assert_eq!(done(&["verify", &url])["result"]["ok"], true);
    // Traces of 2023 stay: no age is known to the tool.
    assert_eq!(
        done(&["ls", &url, "-signal=traces"])["traces"][0]["traces"],
        120
    );
}

#[test]
fn series_and_streams_are_counted_once() {
    let folder = tempfile::tempdir().unwrap();
    let bucket = url(&written(folder.path()));
    let told = done(&["cardinality", &bucket, "-signal=metrics"]);
    assert_eq!(told["cardinality"]["series"], 40, "in two blocks each");
    assert_eq!(told["metrics"][0]["metric"], "requests_total");
    assert_eq!(told["labels"][0]["label"], "instance");
    assert_eq!(told["labels"][0]["values"], 40);
    assert_eq!(told["pairs"][0]["value"], "requests_total");
    let told = done(&[
        "cardinality",
        &bucket,
        "-signal=logs",
        "-tenant=shop",
        "-limit=1",
    ]);
    assert_eq!(told["cardinality"]["streams"], 3);
    assert_eq!(told["pairs"].as_array().unwrap().len(), 1);
    let later = format!("-from={}", (START_MS + 4 * HOUR_MS) / 1000);
    let told = done(&["cardinality", &bucket, "-signal=metrics", &later]);
    assert_eq!(told["cardinality"]["series"], 0);
    let (outcome, _, complaint) = tool(&["cardinality", &bucket, "-signal=traces"]);
    assert_eq!(outcome, Outcome::Usage);
    assert!(complaint.unwrap().contains("no series"));
}
