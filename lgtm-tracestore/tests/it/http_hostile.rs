//! Answers of any size, and questions that nobody asks in good faith.

#![cfg(feature = "http")]

use crate::door;

use std::time::Duration;

use crate::door::{Door, Sent, otlp, shop};
use serde_json::Value;

#[tokio::test]
async fn large_answers_are_compressed_and_small_ones_are_not() {
    let door = Door::new().await;
    for n in 0..400 {
        let trace = format!("{:032x}", n + 1);
        door.push(&otlp(&[Sent::root("shop", &trace, "GET /")]))
            .await;
    }
    let ask = async |limit: u32| {
        let path = format!("/api/search?q=%7B%7D&limit={limit}");
        door.ask("GET", &path, &[("accept-encoding", "gzip")], "")
            .await
    };
    let large = ask(400).await;
    assert_eq!(large.header("content-encoding"), "gzip");
    let mut json = Vec::new();
    let mut gzip = flate2::read::GzDecoder::new(&large.body[..]);
    std::io::Read::read_to_end(&mut gzip, &mut json).unwrap();
    let json: Value = serde_json::from_slice(&json).unwrap();
    assert_eq!(json["traces"].as_array().unwrap().len(), 400);
    // Newest first, and the same at every call.
    assert_eq!(ask(400).await.body, large.body);
    assert_eq!(ask(1).await.header("content-encoding"), "");
}

#[tokio::test]
async fn hostile_queries_end_soon_and_say_why() {
    let door = Door::new().await;
    door.push(&shop()).await;
    let nested = format!("{{ {}true{} }}", "(".repeat(10_000), ")".repeat(10_000));
    let chained = format!("{{ {} }}", vec!["name = \"a\""; 9_000].join(" || "));
    let bang = format!("{{ {}true }}", "!".repeat(20_000));
    let spansets = vec!["{ }"; 9_000].join(" && ");
    let ored = format!("{{ {} }}", vec!["(.a = 1 || .b = 2)"; 60].join(" && "));
    for (path, q) in [
        ("/api/search", &nested),
        ("/api/search", &bang),
        ("/api/search", &spansets),
        ("/api/search", &chained),
        ("/api/metrics/query", &nested),
        ("/api/v2/search/tags", &ored),
        ("/api/v2/search/tag/name/values", &ored),
        ("/api/v2/traces/ab", &nested),
    ] {
        let began = tokio::time::Instant::now();
        let path = format!("{path}?{}", door::query(&[("q", q.as_str())]));
        let answer = if path.len() < 60_000 {
            door.ask("GET", &path, &[], "").await
        } else {
            let (path, form) = path.split_once('?').unwrap();
            let form_type = [("content-type", "application/x-www-form-urlencoded")];
            door.ask("POST", path, &form_type, form.to_owned()).await
        };
        assert!(
            matches!(answer.status, 200 | 400),
            "{path}: {}",
            answer.status
        );
        assert!(began.elapsed() < Duration::from_secs(5), "{path}");
        assert!(answer.body.len() < 4_000, "{}", answer.text());
    }
    let nested = [("q", nested.as_str())];
    let answer = door.get("/api/search", &nested).await;
    assert_eq!(answer.status, 400);
    for limit in ["262144", "99999999999999999999", "-1"] {
        let answer = door
            .get("/api/search", &[("limit", limit), ("q", "{}")])
            .await;
        assert!(matches!(answer.status, 200 | 400), "{limit}");
    }
}
