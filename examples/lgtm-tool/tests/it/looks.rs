//! `ls`, `inspect` and `query` over a bucket that our stores wrote, and what is said of a wrong command line.

use crate::bucket::{HOUR_MS, START_MS, TENANT, files, tool, url, written};
use lgtm_tool::Outcome;
use serde_json::Value;

/// Runs a command that must end well.
fn shown(words: &[&str]) -> Value {
    let (outcome, json, complaint) = tool(words);
    assert_eq!(outcome, Outcome::Fine, "{words:?}: {complaint:?}");
    json
}

fn sum(rows: &Value, column: &str) -> u64 {
    let rows = rows.as_array().unwrap().iter();
    rows.map(|row| row[column].as_u64().unwrap()).sum()
}

#[test]
fn a_bucket_is_listed_and_its_objects_are_shown() {
    let folder = tempfile::tempdir().unwrap();
    let bucket = written(folder.path());
    let url = url(&bucket);

    let all = shown(&["ls", &url]);
    assert_eq!(all["metrics"][0]["tenant"], TENANT);
    assert_eq!(all["metrics"][0]["samples"], 16_000);
    assert_eq!(all["logs"][0]["chunks"], 6);
    assert_eq!(all["log_index"].as_array().unwrap().len(), 2);
    assert_eq!(all["traces"][0]["traces"], 120);
    let only = shown(&["ls", &url, "-signal=metrics", "-tenant=shop"]);
    assert_eq!(only["metric_blocks"].as_array().unwrap().len(), 2);
    assert_eq!(sum(&only["metric_blocks"], "series"), 80);
    assert!(only["logs"].is_null() && only["traces"].is_null());
    // The place of one signal alone is known by what is in it.
    let part = format!("{url}/metricsblocks");
    assert_eq!(shown(&["ls", &part])["metrics"][0]["blocks"], 2);

    let name = |ends: &str| {
        let found = files(&bucket, |p| p.ends_with(ends) && !p.contains("__"));
        let path = found.first().expect(ends).strip_prefix(&bucket).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let block = shown(&["inspect", &url, &name("chunks/000001")]);
    assert_eq!(block["block"]["samples"], 8000);
    assert_eq!(sum(&block["chunks"], "samples"), 8000);
    assert_eq!(block["largest_metrics"][0]["metric"], "requests_total");
    let mut labels = block["labels"].as_array().unwrap().iter();
    let instance = labels.find(|l| l["label"] == "instance").unwrap();
    assert_eq!(instance["values"], 40);
    assert_eq!(instance["series"], 40);
    let index = shown(&["inspect", &url, &name("bucket-index.json.gz")]);
    assert_eq!(index["bucket_index"]["blocks"], 2);

    let index = shown(&["inspect", &url, &name(".tsdb.gz")]);
    assert_eq!(index["index_file"]["streams"], 3);
    assert_eq!(index["index_file"]["entries"], 6000);
    let chunks = files(&bucket.join("logs"), |p| p.starts_with(TENANT));
    let chunk = chunks[0].strip_prefix(&bucket).unwrap().to_str().unwrap();
    let chunk = shown(&["inspect", &url, chunk]);
    assert_eq!(chunk["chunk"]["checksum_fits"], true);
    assert_eq!(sum(&chunk["blocks"], "entries"), 2000);
    let names = chunk["metadata"].as_array().unwrap().iter();
    let mut names = names.map(|row| &row["structured_metadata"]);
    assert!(names.any(|name| name == "trace_id"), "{chunk:#}");
    let side = files(&bucket.join("logsskip"), |p| p.contains('/'));
    let side = side[0].strip_prefix(&bucket).unwrap().to_str().unwrap();
    assert_eq!(shown(&["inspect", &url, side])["side_object"]["chunks"], 3);

    let block = shown(&["inspect", &url, &name("data.parquet")]);
    assert!(block["columns"].as_array().unwrap().len() > 20);
    assert!(sum(&block["columns"], "size") > 0);
    let index = shown(&["inspect", &url, &name("index.pb.zst")]);
    assert_eq!(index["tenant_index"]["blocks"], 1);
}

#[test]
fn queries_of_all_languages_are_answered_from_the_bucket() {
    let folder = tempfile::tempdir().unwrap();
    let bucket = written(folder.path());
    let url = url(&bucket);
    let at = format!("-time={}", (START_MS + HOUR_MS) / 1000);
    let ask = |signal: &str, query: &str, times: &[&str]| {
        let signal = format!("-signal={signal}");
        let words = ["query", &url, query, "-tenant=shop", &signal];
        shown(&[&words[..], times].concat())
    };
    let answer = ask("metrics", "count(requests_total)", &[&at]);
    assert_eq!(answer["result"][0]["value"], "40");
    let (from, to) = (
        format!("-from={}", START_MS / 1000),
        format!("-to={}", (START_MS + 3 * HOUR_MS) / 1000),
    );
    let answer = ask("metrics", "sum(requests_total)", &[&from, &to, "-step=1h"]);
    assert!(
        answer["result"].as_array().unwrap().len() >= 3,
        "{answer:#}"
    );

    let lines = ask("logs", r#"{app="cart"} |= "took=5ms""#, &[&from, &to]);
    assert_eq!(lines["lines"].as_array().unwrap().len(), 42, "{lines:#}");
    let count = r#"sum(count_over_time({app="cart"}[3h]))"#;
    // A window has its end and not its begin: the first line stands a second behind that.
    let end = format!("-time={}", (START_MS + 3 * HOUR_MS) / 1000 - 1);
    assert_eq!(ask("logs", count, &[&end])["result"][0]["value"], "4000");

    let traces = ask("traces", r#"{ span.customer = "anna" }"#, &[&from, &to]);
    assert_eq!(traces["traces"].as_array().unwrap().len(), 60);
    let rates = ask(
        "traces",
        "{} | count_over_time()",
        &[&from, &to, "-step=3h"],
    );
    let values = rates["result"].as_array().unwrap().iter();
    let values = values.map(|r| r["value"].as_str().unwrap().parse::<f64>().unwrap());
    assert_eq!(values.sum::<f64>(), 120.0, "{rates:#}");
}

#[test]
fn what_cannot_be_done_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let bucket = written(folder.path());
    let url = url(&bucket);
    let nothing = format!("{url}/nothing");
    let cases: [(&[&str], Outcome, &str); 7] = [
        (&["ls", &nothing], Outcome::Failed, "nothing not found"),
        (&["ls", "ftp://x"], Outcome::Usage, "unknown scheme"),
        (&["ls"], Outcome::Usage, "ls takes URL"),
        (
            &["query", &url, "up"],
            Outcome::Usage,
            "say which by -signal",
        ),
        (
            &["query", &url, "up{", "-signal=metrics"],
            Outcome::Usage,
            "parse",
        ),
        (
            &["inspect", &url, "logs/shop/x"],
            Outcome::Usage,
            "neither an index file nor named as a chunk",
        ),
        (
            &["inspect", &url, "shop/x"],
            Outcome::Usage,
            "must begin with metricsblocks/",
        ),
    ];
    for (words, outcome, why) in cases {
        let (found, _, complaint) = tool(words);
        assert_eq!(found, outcome, "{words:?} {complaint:?}");
        assert!(complaint.clone().unwrap().contains(why), "{complaint:?}");
    }
    // A folder that is not there is not made.
    assert!(!bucket.join("nothing").exists());
    let (outcome, text, _) = lgtm_tool::run(&["help".into(), "-h".into()]);
    assert_eq!(outcome, Outcome::Fine);
    assert!(text.contains("Exit code"), "{text}");
}
