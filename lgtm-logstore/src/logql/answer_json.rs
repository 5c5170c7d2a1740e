//! Answers as Loki's query API writes them, in pieces: a large one never stands in memory as text.

use std::fmt::Write;

use lgtm_core::go::json::push_quoted;
use lgtm_core::go::push_float;
use lgtm_core::model::Labels;

use super::answer::{AnswerStream, Point, QueryStats, QueryValue, Series};

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
        let mut out = String::new();
        let mut printer = AnswerPrinter::new(encoding, stats.copied());
        while printer.print(self, usize::MAX, &mut out) {}
        out
    }
}

#[cfg(feature = "http")]
impl QueryStats {
    /// The API's `stats`.
    pub(crate) fn to_json(self) -> String {
        let mut out = String::new();
        push_stats(&mut out, &self);
        out
    }
}

/// Writes the API's `data` piece by piece.
#[derive(Debug)]
pub(crate) struct AnswerPrinter {
    encoding: LabelEncoding,
    stats: Option<QueryStats>,
    place: Place,
    /// Of streams: those that are written as one, in the order of their labels.
    groups: Vec<StreamGroup>,
    /// The entries of the group that is being written: places of stream and entry.
    entries: Vec<(u32, u32)>,
}

/// Streams that are written as one.
#[derive(Debug)]
struct StreamGroup {
    labels: Labels,
    parts: Vec<u32>,
}

/// Where writing stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Begin,
    /// Before a group of streams.
    Stream(usize),
    /// Before an entry of a group.
    Entry(usize, usize),
    /// Before a series.
    Series(usize),
    /// Before a point of a series.
    Point(usize, usize),
    End,
}

impl AnswerPrinter {
    pub(crate) fn new(encoding: LabelEncoding, stats: Option<QueryStats>) -> Self {
        Self {
            encoding,
            stats,
            place: Place::Begin,
            groups: Vec::new(),
            entries: Vec::new(),
        }
    }

    /// Writes some more of `value`, the same each time, until `out` has `bytes`, but for a line or label that is longer. Whether there is more.
    pub(crate) fn print(&mut self, value: &QueryValue, bytes: usize, out: &mut String) -> bool {
        while out.len() < bytes && self.place != Place::End {
            self.place = self.step(value, out);
        }
        self.place != Place::End
    }

    /// Writes what stands at a place; the next place.
    fn step(&mut self, value: &QueryValue, out: &mut String) -> Place {
        match value {
            QueryValue::Streams(streams) => self.streams(streams, out),
            QueryValue::Matrix(all) => self.series(all, "matrix", out),
            QueryValue::Vector(all) => self.series(all, "vector", out),
            QueryValue::Scalar(p) => {
                // Milliseconds here, and only here.
                let _ = write!(out, "{{\"resultType\":\"scalar\",\"result\":[{},\"", p.t_ms);
                push_float(out, p.value);
                out.push_str("\"]");
                self.end(out)
            }
        }
    }

    fn streams(&mut self, streams: &[AnswerStream], out: &mut String) -> Place {
        match self.place {
            Place::Stream(n) => {
                let Some(group) = self.groups.get(n) else {
                    out.push(']');
                    return self.end(out);
                };
                out.push_str(if n > 0 {
                    ",{\"stream\":"
                } else {
                    "{\"stream\":"
                });
                push_labels(out, &group.labels);
                out.push_str(",\"values\":[");
                self.entries = merged_entries(streams, &group.parts);
                Place::Entry(n, 0)
            }
            Place::Entry(n, at) => {
                let Some((part, entry)) = self.entries.get(at) else {
                    out.push_str("]}");
                    return Place::Stream(n + 1);
                };
                if at > 0 {
                    out.push(',');
                }
                let part = &streams[*part as usize];
                push_entry(out, part, *entry as usize, self.encoding);
                Place::Entry(n, at + 1)
            }
            Place::Begin | Place::Series(_) | Place::Point(..) => {
                out.push_str("{\"resultType\":\"streams\"");
                if self.encoding == LabelEncoding::Categorized {
                    out.push_str(",\"encodingFlags\":[\"categorize-labels\"]");
                }
                out.push_str(",\"result\":[");
                self.groups = stream_groups(streams, self.encoding);
                Place::Stream(0)
            }
            Place::End => Place::End,
        }
    }

    fn series(&self, all: &[Series], kind: &str, out: &mut String) -> Place {
        match self.place {
            Place::Series(n) => {
                let Some(series) = all.get(n) else {
                    out.push(']');
                    return self.end(out);
                };
                out.push_str(if n > 0 {
                    ",{\"metric\":"
                } else {
                    "{\"metric\":"
                });
                push_labels(out, &series.labels);
                if kind == "matrix" {
                    out.push_str(",\"values\":[");
                    return Place::Point(n, 0);
                }
                if let Some(p) = series.points.first() {
                    out.push_str(",\"value\":");
                    push_point(out, *p);
                }
                out.push('}');
                Place::Series(n + 1)
            }
            Place::Point(n, at) => {
                let Some(point) = all[n].points.get(at) else {
                    out.push_str("]}");
                    return Place::Series(n + 1);
                };
                if at > 0 {
                    out.push(',');
                }
                push_point(out, *point);
                Place::Point(n, at + 1)
            }
            Place::Begin | Place::Stream(_) | Place::Entry(..) => {
                let _ = write!(out, "{{\"resultType\":\"{kind}\",\"result\":[");
                Place::Series(0)
            }
            Place::End => Place::End,
        }
    }

    fn end(&self, out: &mut String) -> Place {
        if let Some(stats) = &self.stats {
            out.push_str(",\"stats\":");
            push_stats(out, stats);
        }
        out.push('}');
        Place::End
    }
}

/// Labels as a JSON object.
pub(crate) fn push_labels(out: &mut String, labels: &Labels) {
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

/// Seconds, with as many decimals as there are up to three.
fn push_point(out: &mut String, p: Point) {
    let (seconds, millis) = (p.t_ms.to_seconds(), p.t_ms.get().rem_euclid(1000));
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

/// An entry as time, line and, with categories, where its other labels come from.
pub(crate) fn push_entry(
    out: &mut String,
    part: &AnswerStream,
    entry: usize,
    encoding: LabelEncoding,
) {
    let entry = &part.entries[entry];
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
}

fn stream_groups(streams: &[AnswerStream], encoding: LabelEncoding) -> Vec<StreamGroup> {
    let labels = |s: &AnswerStream| match encoding {
        LabelEncoding::Merged => s.labels(),
        LabelEncoding::Categorized => s.stream.clone(),
    };
    let all = streams.iter().enumerate();
    let mut all: Vec<(Labels, u32)> = all.map(|(n, s)| (labels(s), n as u32)).collect();
    all.sort_by(|a, b| a.0.cmp(&b.0));
    let mut groups: Vec<StreamGroup> = Vec::new();
    for (labels, part) in all {
        match groups.last_mut() {
            Some(last) if last.labels == labels => last.parts.push(part),
            _ => groups.push(StreamGroup {
                labels,
                parts: vec![part],
            }),
        }
    }
    groups
}

/// The entries of several parts in the order that each has.
fn merged_entries(streams: &[AnswerStream], parts: &[u32]) -> Vec<(u32, u32)> {
    let entries = |part: u32| &streams[part as usize].entries;
    let places = |part: &u32| {
        let part = *part;
        (0..entries(part).len() as u32).map(move |at| (part, at))
    };
    let mut all: Vec<(u32, u32)> = parts.iter().flat_map(places).collect();
    if parts.len() > 1 {
        let time = |(part, at): &(u32, u32)| entries(*part)[*at as usize].t_ns;
        let ends = parts.iter().filter_map(|part| {
            let entries = entries(*part);
            Some((entries.first()?.t_ns, entries.last()?.t_ns))
        });
        let (mut ascends, mut descends) = (false, false);
        for (first, last) in ends {
            ascends |= first < last;
            descends |= first > last;
        }
        if ascends && !descends {
            all.sort_by_key(time)
        } else {
            all.sort_by_key(|place| std::cmp::Reverse(time(place)))
        }
    }
    all
}

/// Caches that Loki tells of.
const CACHES: [&str; 10] = [
    "chunk",
    "index",
    "result",
    "statsResult",
    "volumeResult",
    "seriesResult",
    "labelResult",
    "instantMetricResult",
    "logResult",
    "taskResult",
];
/// What it tells of each.
const OF_CACHE: &str = "{\"entriesFound\":0,\"entriesRequested\":0,\"entriesStored\":0,\"bytesReceived\":0,\"bytesSent\":0,\"requests\":0,\"downloadTime\":0,\"queryLengthServed\":0}";
/// What it tells of a store of another kind.
const DATA_OBJECTS: &str = "{\"prePredicateDecompressedRows\":0,\"prePredicateDecompressedBytes\":0,\"prePredicateDecompressedStructuredMetadataBytes\":0,\"postPredicateRows\":0,\"postPredicateDecompressedBytes\":0,\"postPredicateStructuredMetadataBytes\":0,\"postFilterRows\":0,\"pagesScanned\":0,\"pagesDownloaded\":0,\"pagesDownloadedBytes\":0,\"pageBatches\":0,\"totalRowsAvailable\":0,\"totalPageDownloadTime\":0,\"wireBytesTransferred\":0}";

/// The members that Loki has, in its order; what is not counted here is 0.
fn push_stats(out: &mut String, stats: &QueryStats) {
    let f = &stats.fetched;
    let seconds = stats.elapsed.as_secs_f64();
    let per_second = |n: u64| {
        if seconds > 0.0 {
            (n as f64 / seconds) as u64
        } else {
            0
        }
    };
    let _ = write!(
        out,
        "{{\"summary\":{{\"bytesProcessedPerSecond\":{},\"linesProcessedPerSecond\":{},\"totalBytesProcessed\":{},\"totalLinesProcessed\":{},\"execTime\":{seconds},\"queueTime\":0,\"subqueries\":0,\"totalEntriesReturned\":{},\"splits\":0,\"shards\":0,\"totalPostFilterLines\":{},\"totalStructuredMetadataBytesProcessed\":{}}},\"querier\":{{\"store\":",
        per_second(f.bytes()),
        per_second(f.lines()),
        f.bytes(),
        f.lines(),
        stats.entries_returned,
        stats.post_filter_lines,
        f.decompressed_metadata_bytes + f.head_metadata_bytes,
    );
    push_store(out, stats);
    let _ = write!(
        out,
        ",\"querierExecTime\":{seconds}}},\"ingester\":{{\"totalReached\":0,\"totalChunksMatched\":0,\"totalBatches\":0,\"totalLinesSent\":0,\"store\":"
    );
    push_store(out, &QueryStats::default());
    out.push_str("},\"cache\":{");
    for (n, cache) in CACHES.iter().enumerate() {
        let comma = if n > 0 { "," } else { "" };
        let _ = write!(out, "{comma}\"{cache}\":{OF_CACHE}");
    }
    let _ = write!(
        out,
        "}},\"index\":{{\"totalChunks\":{},\"postFilterChunks\":{},\"shardsDuration\":0,\"usedBloomFilters\":false,\"totalStreams\":{},\"chunkRefsLookupTime\":0,\"bloomFilterTime\":0}}}}",
        f.chunks_referenced, f.chunks_referenced, f.streams,
    );
}

fn push_store(out: &mut String, stats: &QueryStats) {
    let f = &stats.fetched;
    let _ = write!(
        out,
        "{{\"totalChunksRef\":{},\"totalChunksDownloaded\":{},\"chunksDownloadTime\":{},\"queryReferencedStructuredMetadata\":false,\"queryUsedV2Engine\":false,\"chunk\":{{\"headChunkBytes\":{},\"headChunkLines\":{},\"decompressedBytes\":{},\"decompressedLines\":{},\"compressedBytes\":{},\"totalDuplicates\":{},\"postFilterLines\":{},\"headChunkStructuredMetadataBytes\":{},\"decompressedStructuredMetadataBytes\":{}}},\"chunkRefsFetchTime\":0,\"congestionControlLatency\":0,\"pipelineWrapperFilteredLines\":0,\"dataobj\":{DATA_OBJECTS}}}",
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

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use lgtm_core::model::{TimestampMs, TimestampNs};

    use super::*;
    use crate::logql::AnswerEntry;

    fn labels(pairs: &[(&str, &str)]) -> Labels {
        Labels::from_pairs(pairs.iter().copied()).unwrap()
    }

    fn stream(metadata: &str, times: &[i64]) -> AnswerStream {
        let entry = |t_ns: &i64| AnswerEntry {
            t_ns: TimestampNs::new(*t_ns),
            line: Bytes::from_static(b"a \"line\" \xff"),
        };
        AnswerStream {
            stream: labels(&[("app", "x")]),
            metadata: labels(&[("id", metadata)]),
            parsed: Labels::empty(),
            entries: times.iter().map(entry).collect(),
        }
    }

    #[test]
    fn streams_are_one_by_all_labels_or_by_those_of_the_stream() {
        let value = QueryValue::Streams(vec![stream("2", &[9, 5]), stream("1", &[7])]);
        let line = r#""a \"line\" �""#;
        assert_eq!(
            value.to_json(LabelEncoding::Merged, None),
            format!(
                r#"{{"resultType":"streams","result":[{{"stream":{{"app":"x","id":"1"}},"values":[["7",{line}]]}},{{"stream":{{"app":"x","id":"2"}},"values":[["9",{line}],["5",{line}]]}}]}}"#
            )
        );
        let of = |id: u8| format!(r#"{{"structuredMetadata":{{"id":"{id}"}}}}"#);
        assert_eq!(
            value.to_json(LabelEncoding::Categorized, None),
            format!(
                r#"{{"resultType":"streams","encodingFlags":["categorize-labels"],"result":[{{"stream":{{"app":"x"}},"values":[["9",{line},{}],["7",{line},{}],["5",{line},{}]]}}]}}"#,
                of(2),
                of(1),
                of(2)
            )
        );
    }

    #[test]
    fn pieces_are_one_text() {
        let series = |n: usize| Series {
            labels: labels(&[("n", &n.to_string())]),
            points: vec![
                Point {
                    t_ms: TimestampMs::new(1500),
                    value: 1.0,
                },
                Point {
                    t_ms: TimestampMs::new(2000),
                    value: f64::NAN,
                },
            ],
        };
        let all: Vec<Series> = (0..3).map(series).collect();
        let stats = QueryStats::default();
        for value in [
            QueryValue::Streams(vec![stream("2", &[9, 5]), stream("1", &[7])]),
            QueryValue::Streams(Vec::new()),
            QueryValue::Matrix(all.clone()),
            QueryValue::Vector(all),
            QueryValue::Scalar(Point {
                t_ms: TimestampMs::new(1500),
                value: 7.0,
            }),
        ] {
            let whole = value.to_json(LabelEncoding::Categorized, Some(&stats));
            let mut pieces = Vec::new();
            let mut printer = AnswerPrinter::new(LabelEncoding::Categorized, Some(stats));
            loop {
                let mut piece = String::new();
                let more = printer.print(&value, 10, &mut piece);
                pieces.push(piece);
                if !more {
                    break;
                }
            }
            assert_eq!(pieces.concat(), whole);
            let json: serde_json::Value = serde_json::from_str(&whole).unwrap();
            assert_eq!(json["stats"]["summary"]["totalEntriesReturned"], 0);
        }
    }
}
