//! What do side files cost, and how much of the chunks does a search leave unread?
//!
//! Goals: at most 12 % of the chunks' bytes, a small part of ingest's CPU, less than 5 % of the chunks' bytes read for an id or a text that is
//! rare or absent. Prints tables; real lines with varied numbers, and JSON and logfmt lines with ids in text and metadata. The lines are those of
//! `LGTM_SHARED`.

#![allow(clippy::unwrap_used, reason = "a bench is a test")]
#![allow(clippy::print_stdout, reason = "its tables are its answer")]

use std::io::Read;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use lgtm_logstore::chunk::{Chunk, ChunkBuilder, ChunkCodec, ChunkFormat, ChunkSettings};
use lgtm_logstore::skip::{SkipBuilder, SkipFilters, SkipQuestion, SkipSettings};

/// CPU time of this thread so far: other programs of the machine do not count.
fn cpu() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    Duration::from_nanos(text.split(' ').next().unwrap().parse().unwrap())
}

/// Numbers without a seed from outside, so that every run has the same lines.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut x = self.0;
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ (x >> 31)
    }

    fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    fn uuid(&mut self) -> String {
        let (a, b) = (self.next(), self.next());
        format!(
            "{:08x}-{:04x}-4{:03x}-a{:03x}-{:012x}",
            a as u32,
            (a >> 32) as u16,
            (a >> 48) as u16 & 0xfff,
            b as u16 & 0xfff,
            b >> 16
        )
    }
}

/// A line with about half of its longer numbers changed, most of them to one of a hundred values that stand there.
fn varied(line: &str, salt: u64, random: &mut Random) -> String {
    let mut out = String::with_capacity(line.len());
    let mut rest = line;
    let mut place = salt;
    while let Some(at) = rest.find(|c: char| c.is_ascii_digit()) {
        out.push_str(&rest[..at]);
        let digits = rest[at..]
            .find(|c: char| !c.is_ascii_digit())
            .unwrap_or(rest.len() - at);
        let number = &rest[at..at + digits];
        place = place.wrapping_add(0x9e37);
        let draw = random.below(100);
        if digits < 2 || draw < 55 {
            out.push_str(number);
        } else {
            let mut source = if draw < 85 {
                Random(place ^ random.below(100) << 40)
            } else {
                Random(random.next())
            };
            out.extend((0..digits).map(|_| char::from(b'0' + source.below(10) as u8)));
        }
        rest = &rest[at + digits..];
    }
    out.push_str(rest);
    out
}

/// Lines of the samples by system; `None` without the folder.
fn samples() -> Option<Vec<(String, Vec<String>)>> {
    let root = std::env::var_os("LGTM_SHARED").map_or_else(
        || std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared"),
        std::path::PathBuf::from,
    );
    let packed = std::fs::read(root.join("lab/data/logs/loghub.txt.gz")).ok()?;
    let mut text = Vec::new();
    flate2::read::GzDecoder::new(&packed[..])
        .read_to_end(&mut text)
        .unwrap();
    let mut out: Vec<(String, Vec<String>)> = Vec::new();
    for line in String::from_utf8_lossy(&text).lines() {
        match line.strip_prefix("== ") {
            Some(name) => out.push((name.to_owned(), Vec::new())),
            None if line.trim().is_empty() => {}
            None => out.last_mut().unwrap().1.push(line.to_owned()),
        }
    }
    Some(out)
}

const APPS: [&str; 3] = ["shop-api", "shop-cart", "shop-pay"];
const LEVELS: [&str; 4] = ["info", "info", "warn", "error"];

/// One line of an application of our own, and its structured metadata.
fn made_line(app: usize, n: u64, random: &mut Random) -> (String, Vec<(&'static str, String)>) {
    let level = LEVELS[random.below(4) as usize];
    let status = [200, 200, 201, 304, 404, 500][random.below(6) as usize];
    if app == APPS.len() {
        let line = format!(
            "ts=2026-01-01T00:{:02}:{:02}.{:03}Z level={level} component=edge method=GET path=/api/orders/{} status={status} dur={}.{}ms upstream=shop-{}:8080 bytes={} req_id={:016x}",
            n / 60 % 60,
            n % 60,
            random.below(1000),
            random.below(50_000),
            random.below(900),
            random.below(10),
            random.below(24),
            random.below(200_000),
            random.next(),
        );
        return (line, vec![("detected_level", level.to_owned())]);
    }
    let trace = format!("{:016x}{:016x}", random.next(), random.next());
    let line = format!(
        r#"{{"ts":"2026-01-01T00:{:02}:{:02}.{:06}Z","level":"{level}","service":"{}","msg":"request completed","method":"GET","path":"/api/users/{}","status":{status},"duration_ms":{}.{:03},"user_id":"u-{}","client_ip":"10.{}.{}.{}","request_id":"{}","trace_id":"{trace}"}}"#,
        n / 60 % 60,
        n % 60,
        random.below(1_000_000),
        APPS[app],
        random.below(50_000),
        random.below(900),
        random.below(1000),
        random.below(20_000),
        random.below(16),
        random.below(256),
        random.below(256),
        random.uuid(),
    );
    let metadata = vec![
        ("detected_level", level.to_owned()),
        ("pod", format!("{}-{}", APPS[app], random.below(5))),
        ("trace_id", trace),
    ];
    (line, metadata)
}

/// Chunks as a store writes them, and the bytes of lines in them.
struct Corpus {
    chunks: Vec<Vec<u8>>,
    line_bytes: u64,
    /// Texts that stand in one line each.
    uuids: Vec<String>,
    traces: Vec<String>,
}

/// Chunks of `chunk_bytes` raw bytes, `count` of each application.
fn corpus(samples: &[(String, Vec<String>)], chunk_bytes: usize, count: usize) -> Corpus {
    let mut random = Random(7);
    let settings = Arc::new(ChunkSettings::default());
    let mut compressor = settings.compressor();
    let mut out = Corpus {
        chunks: Vec::new(),
        line_bytes: 0,
        uuids: Vec::new(),
        traces: Vec::new(),
    };
    for source in 0..samples.len() + APPS.len() + 1 {
        for _ in 0..count {
            let mut builder = ChunkBuilder::new(ChunkFormat::V4, Arc::clone(&settings));
            let (mut bytes, mut n) = (0, 0u64);
            while bytes < chunk_bytes {
                let (line, metadata) = match samples.get(source) {
                    Some((_, lines)) => {
                        let at = random.below(lines.len() as u64);
                        let line = varied(&lines[at as usize], at * 7919, &mut random);
                        let level = LEVELS[random.below(4) as usize];
                        (line, vec![("detected_level", level.to_owned())])
                    }
                    None => made_line(source - samples.len(), n, &mut random),
                };
                if let Some(at) = line.find("request_id").filter(|_| n == 500) {
                    out.uuids.push(line[at + 13..at + 49].to_owned());
                    out.traces.push(metadata[2].1.clone());
                }
                bytes += line.len();
                let pairs: Vec<_> = metadata.iter().map(|(n, v)| (*n, &**v)).collect();
                let t_ns = (n as i64) * 7_000_000 + random.below(1000) as i64;
                builder.append(t_ns, line.as_bytes(), &pairs).unwrap();
                if builder.is_block_full() {
                    builder.cut(&mut compressor).unwrap();
                }
                n += 1;
            }
            out.line_bytes += bytes as u64;
            let finished = builder.finish(&mut compressor, &mut ChunkCodec::default());
            out.chunks.push(finished.unwrap().bytes);
        }
    }
    out
}

/// A bound on side files, and what was made within it.
struct Side {
    filters: Vec<Option<SkipFilters>>,
    filter_bytes: usize,
    count_bytes: usize,
    took: Duration,
}

fn build(corpus: &Corpus, settings: &SkipSettings) -> Side {
    let mut builder = SkipBuilder::default();
    let began = cpu();
    let made: Vec<_> = corpus
        .chunks
        .iter()
        .map(|c| builder.build(c, settings).unwrap().unwrap_or_default())
        .collect();
    let took = cpu() - began;
    Side {
        filter_bytes: made.iter().map(|m| m.filters.len()).sum(),
        count_bytes: made.iter().map(|m| m.counts.len()).sum(),
        filters: made
            .into_iter()
            .map(|m| {
                (!m.filters.is_empty()).then(|| SkipFilters::decode(m.filters.into()).unwrap())
            })
            .collect(),
        took,
    }
}

/// Bytes of chunks, and of blocks alone, that may hold what is asked for.
fn read_of(corpus: &Corpus, side: &Side, question: &SkipQuestion) -> (usize, u64) {
    let (mut chunks, mut blocks) = (0, 0);
    for (bytes, filters) in corpus.chunks.iter().zip(&side.filters) {
        let chunk = Chunk::open(Bytes::copy_from_slice(bytes)).unwrap();
        let choice = filters.as_ref().map(|f| f.choose(question, |_| false));
        let places = chunk.blocks().iter().enumerate();
        let wanted = places.filter(|(n, _)| choice.as_ref().is_none_or(|c| c.has(*n)));
        let wanted: u64 = wanted.map(|(_, b)| b.len).sum();
        if wanted > 0 {
            chunks += bytes.len();
            blocks += wanted;
        }
    }
    (chunks, blocks)
}

/// What is asked of the chunks, by kind.
fn needles(corpus: &Corpus) -> Vec<(&'static str, Vec<SkipQuestion>)> {
    let ask = |make: &dyn Fn(&mut SkipQuestion)| {
        let mut question = SkipQuestion::default();
        make(&mut question);
        question
    };
    vec![
        (
            "uuid",
            corpus
                .uuids
                .iter()
                .take(20)
                .map(|u| ask(&|q| q.line(u.as_bytes())))
                .collect(),
        ),
        (
            "uuid absent",
            (0..20)
                .map(|n| ask(&|q| q.line(Random(n).uuid().as_bytes())))
                .collect(),
        ),
        (
            "hex32 absent",
            (0..20)
                .map(|n| {
                    ask(&|q| {
                        q.line(
                            format!("{:032x}", u128::from(Random(n).next()) << 60 | 12345)
                                .as_bytes(),
                        )
                    })
                })
                .collect(),
        ),
        (
            "trace_id in metadata",
            corpus
                .traces
                .iter()
                .take(20)
                .map(|t| ask(&|q| q.metadata("trace_id", t)))
                .collect(),
        ),
        (
            "word",
            ["PacketResponder", "Accepted", "checkout", "timeout"]
                .iter()
                .map(|w| ask(&|q| q.line(w.as_bytes())))
                .collect(),
        ),
        (
            "phrase",
            [
                "authentication failure",
                "instruction cache parity error",
                "Got assigned task",
            ]
            .iter()
            .map(|w| ask(&|q| q.line(w.as_bytes())))
            .collect(),
        ),
        (
            "word absent",
            ["needle-9f", "Kaiserschmarrn", "absent-12ab"]
                .iter()
                .map(|w| ask(&|q| q.line(w.as_bytes())))
                .collect(),
        ),
        (
            "user u-99999",
            vec![ask(&|q| q.line(b"u-99999")), ask(&|q| q.line(b"blk_-99"))],
        ),
    ]
}

fn sizes(samples: &[(String, Vec<String>)], what: &str, chunk_bytes: usize, count: usize) {
    let corpus = corpus(samples, chunk_bytes, count);
    let stored: usize = corpus.chunks.iter().map(Vec::len).sum();
    let mut codec = ChunkCodec::default();
    let began = cpu();
    for bytes in &corpus.chunks {
        let chunk = Chunk::open(Bytes::copy_from_slice(bytes)).unwrap();
        let symbols = chunk.symbols(&mut codec).unwrap();
        for place in chunk.blocks() {
            std::hint::black_box(chunk.read_block(place, &symbols, &mut codec).unwrap());
        }
    }
    let read = cpu() - began;
    let per_gb = |t: Duration| t.as_secs_f64() * 1e9 / corpus.line_bytes as f64;
    println!(
        "\n{what}: {} chunks, {} MB of lines, {} MB stored; reading all of them {:.2} CPU-s per GB",
        corpus.chunks.len(),
        corpus.line_bytes / 1_000_000,
        stored / 1_000_000,
        per_gb(read),
    );
    let needles = needles(&corpus);
    print!(
        "{:>9} {:>8} {:>7} {:>7}",
        "bound", "filters", "counts", "s/GB"
    );
    for (name, _) in &needles {
        print!(" | {name:>20}");
    }
    println!("   (% of chunk bytes in chunks, in groups)");
    for max_size_percent in [4, 8, 12] {
        let settings = SkipSettings {
            max_size_percent,
            ..SkipSettings::default()
        };
        let side = build(&corpus, &settings);
        print!(
            "{max_size_percent:>8}% {:>7.2}% {:>6.2}% {:>7.2}",
            side.filter_bytes as f64 * 100.0 / stored as f64,
            side.count_bytes as f64 * 100.0 / stored as f64,
            per_gb(side.took),
        );
        for (_, questions) in &needles {
            let (mut chunks, mut blocks) = (0, 0);
            for question in questions {
                let (c, b) = read_of(&corpus, &side, question);
                chunks += c;
                blocks += b;
            }
            let all = (stored * questions.len()) as f64;
            print!(
                " | {:>9.2} {:>10.2}",
                chunks as f64 * 100.0 / all,
                blocks as f64 * 100.0 / all
            );
        }
        println!();
    }
}

fn main() {
    let Some(samples) = samples() else {
        println!("skipped: set LGTM_SHARED to the folder with lab/data/logs/loghub.txt.gz");
        return;
    };
    sizes(&samples, "chunks of one block", 240_000, 15);
    sizes(&samples, "full chunks", 8_000_000, 1);
}
