//! Answers as Loki's query API writes them.

use std::fmt::Write;

use lgtm_core::go::json::push_quoted;
use lgtm_core::go::push_float;
use lgtm_core::model::Labels;

use super::answer::{AnswerEntry, AnswerStream, Point, QueryStats, QueryValue, Series};

/// How labels of entries are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LabelEncoding {
    /// All in one map per stream.
    #[default]
    Merged,
    /// By where they come from: those of the stream there, the others beside each line (`categorize-labels`).
    Categorized,
}

impl QueryValue {
    /// The API's `data`, with `"stats"` if there are some. Costs a walk over the answer and a copy of its text.
    pub fn to_json(&self, encoding: LabelEncoding, stats: Option<&QueryStats>) -> String {
        let mut out = String::from("{\"resultType\":");
        match self {
            Self::Streams(streams) => {
                out.push_str("\"streams\"");
                if encoding == LabelEncoding::Categorized {
                    out.push_str(",\"encodingFlags\":[\"categorize-labels\"]");
                }
                out.push_str(",\"result\":");
                push_streams(&mut out, streams, encoding);
            }
            Self::Matrix(all) => {
                out.push_str("\"matrix\",\"result\":");
                push_list(&mut out, all, |out, series| {
                    push_metric(out, series);
                    out.push_str(",\"values\":");
                    push_list(out, &series.points, |out, p| push_point(out, *p));
                    out.push('}');
                });
            }
            Self::Vector(all) => {
                out.push_str("\"vector\",\"result\":");
                push_list(&mut out, all, |out, series| {
                    push_metric(out, series);
                    for p in series.points.iter().take(1) {
                        out.push_str(",\"value\":");
                        push_point(out, *p);
                    }
                    out.push('}');
                });
            }
            Self::Scalar(p) => {
                out.push_str("\"scalar\",\"result\":");
                // Milliseconds here, and only here.
                let _ = write!(out, "[{},\"", p.t_ms);
                push_float(&mut out, p.value);
                out.push_str("\"]");
            }
        }
        if let Some(stats) = stats {
            out.push_str(",\"stats\":");
            push_stats(&mut out, stats);
        }
        out.push('}');
        out
    }
}

fn push_list<T>(out: &mut String, items: &[T], mut push: impl FnMut(&mut String, &T)) {
    out.push('[');
    for (n, item) in items.iter().enumerate() {
        if n > 0 {
            out.push(',');
        }
        push(out, item);
    }
    out.push(']');
}

fn push_labels(out: &mut String, labels: &Labels) {
    out.push('{');
    for (n, (name, value)) in labels.iter().enumerate() {
        if n > 0 {
            out.push(',');
        }
        push_quoted(out, name);
        out.push(':');
        push_quoted(out, value);
    }
    out.push('}');
}

fn push_metric(out: &mut String, series: &Series) {
    out.push_str("{\"metric\":");
    push_labels(out, &series.labels);
}

/// Seconds, with as many decimals as there are up to three.
fn push_point(out: &mut String, p: Point) {
    let (seconds, millis) = (p.t_ms.div_euclid(1000), p.t_ms.rem_euclid(1000));
    match millis {
        0 => {
            let _ = write!(out, "[{seconds},\"");
        }
        _ => {
            let digits = format!("{millis:03}");
            let _ = write!(out, "[{seconds}.{},\"", digits.trim_end_matches('0'));
        }
    }
    push_float(out, p.value);
    out.push_str("\"]");
}

fn push_streams(out: &mut String, streams: &[AnswerStream], encoding: LabelEncoding) {
    let mut order: Vec<(Labels, Vec<&AnswerStream>)> = Vec::new();
    let mut all: Vec<(Labels, &AnswerStream)> = streams
        .iter()
        .map(|s| match encoding {
            LabelEncoding::Merged => (s.labels(), s),
            LabelEncoding::Categorized => (s.stream.clone(), s),
        })
        .collect();
    all.sort_by(|a, b| a.0.cmp(&b.0));
    for (labels, stream) in all {
        match order.last_mut() {
            Some(last) if last.0 == labels => last.1.push(stream),
            _ => order.push((labels, vec![stream])),
        }
    }
    push_list(out, &order, |out, (labels, parts)| {
        out.push_str("{\"stream\":");
        push_labels(out, labels);
        out.push_str(",\"values\":");
        let entries = merged_entries(parts);
        push_list(out, &entries, |out, (part, entry)| {
            let _ = write!(out, "[\"{}\",", entry.t_ns);
            push_quoted(out, &String::from_utf8_lossy(&entry.line));
            if encoding == LabelEncoding::Categorized {
                out.push_str(",{");
                let mut comma = "";
                for (name, labels) in [
                    ("structuredMetadata", &part.metadata),
                    ("parsed", &part.parsed),
                ] {
                    if !labels.is_empty() {
                        let _ = write!(out, "{comma}\"{name}\":");
                        push_labels(out, labels);
                        comma = ",";
                    }
                }
                out.push('}');
            }
            out.push(']');
        });
        out.push('}');
    });
}

/// The entries of several parts in the order that each has.
fn merged_entries<'a>(parts: &[&'a AnswerStream]) -> Vec<(&'a AnswerStream, &'a AnswerEntry)> {
    let mut all: Vec<_> = parts
        .iter()
        .flat_map(|p| p.entries.iter().map(move |e| (*p, e)))
        .collect();
    if parts.len() > 1 {
        let is_descending = |p: &&&AnswerStream| matches!((p.entries.first(), p.entries.last()), (Some(a), Some(b)) if a.t_ns > b.t_ns);
        let is_ascending = |p: &&&AnswerStream| matches!((p.entries.first(), p.entries.last()), (Some(a), Some(b)) if a.t_ns < b.t_ns);
        match parts.iter().any(|p| is_ascending(&p)) && !parts.iter().any(|p| is_descending(&p)) {
            true => all.sort_by_key(|(_, e)| e.t_ns),
            false => all.sort_by_key(|(_, e)| std::cmp::Reverse(e.t_ns)),
        }
    }
    all
}

/// The members that clients read, with those of the store behind them.
fn push_stats(out: &mut String, stats: &QueryStats) {
    let f = &stats.fetched;
    let seconds = stats.elapsed.as_secs_f64();
    let per_second = |n: u64| match seconds > 0.0 {
        true => (n as f64 / seconds) as u64,
        false => 0,
    };
    let _ = write!(
        out,
        "{{\"summary\":{{\"bytesProcessedPerSecond\":{},\"linesProcessedPerSecond\":{},\"totalBytesProcessed\":{},\"totalLinesProcessed\":{},\"execTime\":{seconds},\"queueTime\":0,\"subqueries\":0,\"totalEntriesReturned\":{},\"splits\":0,\"shards\":0,\"totalPostFilterLines\":{},\"totalStructuredMetadataBytesProcessed\":{}}}",
        per_second(f.bytes()),
        per_second(f.lines()),
        f.bytes(),
        f.lines(),
        stats.entries_returned,
        stats.post_filter_lines,
        f.decompressed_metadata_bytes + f.head_metadata_bytes,
    );
    let _ = write!(
        out,
        ",\"querier\":{{\"store\":{{\"totalChunksRef\":{},\"totalChunksDownloaded\":{},\"chunksDownloadTime\":{},\"queryReferencedStructuredMetadata\":false,\"chunk\":{{\"headChunkBytes\":{},\"headChunkLines\":{},\"decompressedBytes\":{},\"decompressedLines\":{},\"compressedBytes\":{},\"totalDuplicates\":{},\"postFilterLines\":{},\"headChunkStructuredMetadataBytes\":{},\"decompressedStructuredMetadataBytes\":{}}}}}}}}}",
        f.chunks_referenced,
        f.chunks_downloaded,
        f.chunks_download_ns,
        f.head_bytes,
        f.head_lines,
        f.decompressed_bytes,
        f.decompressed_lines,
        f.compressed_bytes,
        f.duplicates,
        stats.post_filter_lines,
        f.head_metadata_bytes,
        f.decompressed_metadata_bytes,
    );
}
