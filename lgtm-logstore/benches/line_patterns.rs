//! What does finding the patterns of lines cost? Goals: below 500 ns for a line that is looked at, below 10 ns for one that is not; with the default
//! settings below 0.1 CPU-s per GB of lines.

#![allow(missing_docs, reason = "criterion's macros make items without")]

use std::hint::black_box;
use std::sync::Arc;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use lgtm_core::clock::ManualClock;
use lgtm_core::codec::Allowance;
use lgtm_core::model::TenantId;
use lgtm_logstore::components::{PatternSettings, RecentPatterns};
use lgtm_logstore::drain::{DrainSettings, LineTemplates, LineWords};
use lgtm_logstore::limits::{Accepted, Limits};
use lgtm_logstore::wire::{PushBatch, decode_json};

const NOW_MS: i64 = 1_700_000_000_000;

/// Lines of a few programs, about 170 bytes each.
fn lines(count: u64) -> Vec<String> {
    let line = |n: u64| match n % 4 {
        0 => format!(
            "ts=2024-05-01T10:00:{:02}.{:03}Z level=info caller=http.go:194 msg=\"GET /api/v1/items/{n} (200) {}ms\" trace_id={:032x} user=user-{}",
            n % 60,
            n % 1000,
            n % 97,
            u128::from(n) * 0x9e37_79b9_7f4a_7c15,
            n % 31
        ),
        1 => format!(
            "10.0.{}.{} - - [01/May/2024:10:00:{:02} +0000] \"GET /static/img/{n}.png HTTP/1.1\" 200 {} \"-\" \"Mozilla/5.0 (X11; Linux x86_64)\"",
            n % 255,
            n % 251,
            n % 60,
            n * 7 % 90_000
        ),
        2 => format!(
            "{{\"level\":\"warn\",\"component\":\"queue\",\"msg\":\"slow consumer\",\"lag\":{n},\"partition\":{},\"group\":\"billing\",\"elapsed\":\"{}ms\"}}",
            n % 12,
            n % 5000
        ),
        _ => format!(
            "081109 203518 {n} INFO dfs.DataNode$PacketResponder: PacketResponder {} for block blk_{} terminating",
            n % 3,
            n * 31
        ),
    };
    (0..count).map(line).collect()
}

fn batch(lines: &[String]) -> PushBatch {
    let t_ns = (NOW_MS * 1_000_000).to_string();
    let values: Vec<_> = lines.iter().map(|l| serde_json::json!([t_ns, l])).collect();
    let body = serde_json::json!({"streams": [{"stream": {"app": "x"}, "values": values}]});
    let body = body.to_string();
    let mut batch = PushBatch::default();
    let mut grow = |_| Ok(());
    let mut allowance = Allowance::new(0, &mut grow);
    let fill = |out: &mut Vec<u8>, _: &mut Allowance<'_>| {
        out.extend_from_slice(body.as_bytes());
        Ok(())
    };
    let limits = Limits::default();
    decode_json(&mut batch, &limits.push_options(), &mut allowance, fill).expect("a good push");
    batch
}

fn line_patterns(c: &mut Criterion) {
    let lines = lines(10_000);
    let mut group = c.benchmark_group("line_patterns");
    group.throughput(Throughput::Elements(lines.len() as u64));
    group.bench_function("every_line", |b| {
        let settings = DrainSettings::default();
        let (mut templates, mut words) = (LineTemplates::default(), LineWords::default());
        b.iter(|| {
            for line in &lines {
                let line = black_box(line.as_bytes());
                templates.add(NOW_MS * 1_000_000, line, 1, &settings, &mut words);
            }
        });
    });
    let batch = batch(&lines);
    let bytes: usize = lines.iter().map(String::len).sum();
    group.throughput(Throughput::Bytes(bytes as u64));
    group.bench_function("pushes_as_by_default", |b| {
        let clock = Arc::new(ManualClock::at_ms(NOW_MS));
        let patterns = RecentPatterns::new(PatternSettings::default(), clock);
        let patterns = patterns.expect("default settings are valid");
        let tenant = TenantId::anonymous();
        let taken = Accepted::all(&batch);
        let runtime = tokio::runtime::Builder::new_current_thread().build();
        let runtime = runtime.expect("a runtime without drivers");
        b.iter(|| {
            let observed = patterns.observe(&tenant, black_box(&batch), &taken);
            runtime.block_on(observed);
        });
    });
    group.finish();
}

criterion_group!(benches, line_patterns);
criterion_main!(benches);
