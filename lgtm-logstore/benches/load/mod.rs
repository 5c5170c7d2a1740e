//! Logs as a small cluster writes them: real lines of several systems with their times rewritten and numbers varied, JSON lines with a trace in
//! structured metadata, logfmt lines of a proxy; each application on each host writes a stream a level.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Read;

use lgtm_core::codec::protobuf::{put_bytes_field, put_varint_field};

const SECOND_NS: i64 = 1_000_000_000;
/// Bytes of lines of one push.
const BATCH_BYTES: usize = 1_000_000;
/// Texts that stand in one line each.
const NEEDLES: usize = 20;

/// Numbers without a seed from outside, so that every run has the same lines.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut x = self.0;
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ (x >> 31)
    }

    pub(crate) fn below(&mut self, n: u64) -> u64 {
        ((u128::from(self.draw()) * u128::from(n)) >> 64) as u64
    }

    /// From 0 to 1, without either.
    fn part(&mut self) -> f64 {
        ((self.draw() >> 11) as f64 + 0.5) / (1u64 << 53) as f64
    }

    fn pick<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.below(of.len() as u64) as usize]
    }

    fn exponential(&mut self, mean: f64) -> f64 {
        -self.part().ln() * mean
    }

    fn lognormal(&mut self, median: f64, sigma: f64) -> f64 {
        let (a, b) = (self.part(), self.part());
        let normal = (-2.0 * a.ln()).sqrt() * (std::f64::consts::TAU * b).cos();
        median * (sigma * normal).exp()
    }
}

/// Where the time stands in each system's lines: its share, first token, tokens, format.
type Times = &'static [(usize, usize, &'static str)];
const SYSTEMS: [(&str, f64, Times); 16] = [
    ("Android", 3.0, &[(0, 2, "%m-%d %H:%M:%S.%3f")]),
    ("Apache", 2.0, &[(0, 5, "[%a %b %d %H:%M:%S %Y]")]),
    (
        "BGL",
        3.0,
        &[
            (1, 1, "%s"),
            (2, 1, "%Y.%m.%d"),
            (4, 1, "%Y-%m-%d-%H.%M.%S.%6f"),
        ],
    ),
    ("HDFS", 6.0, &[(0, 2, "%y%m%d %H%M%S")]),
    ("HPC", 1.0, &[(4, 1, "%s")]),
    ("Hadoop", 4.0, &[(0, 2, "%Y-%m-%d %H:%M:%S,%3f")]),
    ("HealthApp", 1.0, &[]),
    ("Linux", 2.0, &[(0, 3, "%b %d %H:%M:%S")]),
    ("Mac", 1.0, &[(0, 3, "%b %d %H:%M:%S")]),
    ("OpenSSH", 3.0, &[(0, 3, "%b %d %H:%M:%S")]),
    ("OpenStack", 6.0, &[(1, 2, "%Y-%m-%d %H:%M:%S.%3f")]),
    ("Proxifier", 1.0, &[(0, 2, "[%m.%d %H:%M:%S]")]),
    ("Spark", 5.0, &[(0, 2, "%y/%m/%d %H:%M:%S")]),
    (
        "Thunderbird",
        3.0,
        &[(1, 1, "%s"), (2, 1, "%Y.%m.%d"), (4, 3, "%b %e %H:%M:%S")],
    ),
    ("Windows", 1.0, &[(0, 2, "%Y-%m-%d %H:%M:%S,")]),
    ("Zookeeper", 2.0, &[(0, 2, "%Y-%m-%d %H:%M:%S,%3f")]),
];

const MADE: [(&str, f64); 4] = [
    ("shop-api", 6.0),
    ("shop-cart", 6.0),
    ("shop-pay", 6.0),
    ("edge-proxy", 10.0),
];

enum Piece {
    Text(String),
    Number(String, u64),
    Time(&'static str),
}

struct Template {
    pieces: Vec<Piece>,
    level: &'static str,
}

struct App {
    name: &'static str,
    share: f64,
    /// Nothing: its lines are made.
    templates: Vec<Template>,
}

fn level_of(line: &str) -> &'static str {
    let head: String = line.chars().take(140).collect();
    let head = head.to_ascii_lowercase();
    let levels = [
        ("fatal", "fatal"),
        ("error", "error"),
        (" e ", "error"),
        ("severe", "error"),
        ("warn", "warn"),
        (" w ", "warn"),
        ("failed", "warn"),
        ("failure", "warn"),
        ("debug", "debug"),
        (" d ", "debug"),
    ];
    let found = levels.iter().find(|(word, _)| head.contains(word));
    found.map_or("info", |(_, level)| level)
}

fn template(line: &str, times: Times, salt: u64) -> Template {
    let words: Vec<&str> = line.split(' ').collect();
    let (mut pieces, mut text, mut slot, mut n) = (Vec::new(), String::new(), salt, 0);
    while n < words.len() {
        if n > 0 {
            text.push(' ');
        }
        if let Some((_, count, format)) = times.iter().find(|t| t.0 == n && n + t.1 <= words.len())
        {
            pieces.push(Piece::Text(std::mem::take(&mut text)));
            pieces.push(Piece::Time(format));
            n += count;
            continue;
        }
        let mut rest = words[n];
        while !rest.is_empty() {
            let is_digit = rest.starts_with(|c: char| c.is_ascii_digit());
            let end = rest.find(|c: char| c.is_ascii_digit() != is_digit);
            let (part, behind) = rest.split_at(end.unwrap_or(rest.len()));
            if is_digit && part.len() > 1 {
                pieces.push(Piece::Text(std::mem::take(&mut text)));
                slot = slot.wrapping_add(0x9e37);
                pieces.push(Piece::Number(part.to_owned(), slot));
            } else {
                text.push_str(part);
            }
            rest = behind;
        }
        n += 1;
    }
    pieces.push(Piece::Text(text));
    Template {
        pieces,
        level: level_of(line),
    }
}

/// The applications; `None` without the folder of samples.
fn apps() -> Option<Vec<App>> {
    let root = std::env::var_os("LGTM_SHARED").map_or_else(
        || std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared"),
        std::path::PathBuf::from,
    );
    let packed = std::fs::read(root.join("lab/data/logs/loghub.txt.gz")).ok()?;
    let mut text = Vec::new();
    flate2::read::GzDecoder::new(&packed[..])
        .read_to_end(&mut text)
        .ok()?;
    let mut apps: Vec<(App, Times)> = Vec::new();
    for line in String::from_utf8_lossy(&text).lines() {
        let system = line.strip_prefix("== ");
        if let Some(system) = system.and_then(|name| SYSTEMS.iter().find(|s| s.0 == name)) {
            let app = App {
                name: system.0,
                share: system.1,
                templates: Vec::new(),
            };
            apps.push((app, system.2));
        } else if let Some((app, times)) = apps.last_mut().filter(|_| !line.trim().is_empty()) {
            let salt = (apps_salt(app.name)) ^ (app.templates.len() as u64 * 7919);
            app.templates.push(template(line, times, salt));
        }
    }
    let made = MADE.map(|(name, share)| App {
        name,
        share,
        templates: Vec::new(),
    });
    Some(apps.into_iter().map(|(app, _)| app).chain(made).collect())
}

fn apps_salt(name: &str) -> u64 {
    name.bytes().fold(7, |h: u64, b| {
        h.wrapping_mul(0x100_0000_01b3) ^ u64::from(b)
    })
}

/// Prints times; remembers the last second.
#[derive(Default)]
struct Clock {
    known: BTreeMap<&'static str, (i64, String)>,
}

impl Clock {
    fn print(&mut self, out: &mut String, format: &'static str, t_ns: i64) {
        let second = t_ns.div_euclid(SECOND_NS);
        let (whole, digits) = match format.strip_suffix("f") {
            Some(rest) => match rest.strip_suffix("%3") {
                Some(whole) => (whole, 3),
                None => (rest.strip_suffix("%6").unwrap_or(rest), 6),
            },
            None => (format, 0),
        };
        let known = self.known.entry(format).or_default();
        if known.0 != second {
            let at = jiff::Timestamp::from_second(second).unwrap();
            let at = jiff::tz::Offset::UTC.to_datetime(at);
            let text = match whole {
                "%s" => second.to_string(),
                _ => at.strftime(whole).to_string(),
            };
            *known = (second, text);
        }
        out.push_str(&known.1);
        let part = t_ns.rem_euclid(SECOND_NS);
        match digits {
            3 => write!(out, "{:03}", part / 1_000_000).unwrap(),
            6 => write!(out, "{:06}", part / 1000).unwrap(),
            _ => {}
        }
    }
}

fn digits(out: &mut String, random: &mut Random, like: &str) {
    for n in 0..like.len() {
        let least = u64::from(n == 0 && !like.starts_with('0'));
        let digit = least + random.below(10 - least);
        out.push(char::from(b'0' + digit as u8));
    }
}

fn render(
    template: &Template,
    out: &mut String,
    t_ns: i64,
    random: &mut Random,
    clock: &mut Clock,
) {
    for piece in &template.pieces {
        match piece {
            Piece::Text(text) => out.push_str(text),
            Piece::Time(format) => clock.print(out, format, t_ns),
            Piece::Number(text, slot) => match random.part() {
                // Some numbers stay, some are one of a hundred, the others are new.
                p if p < 0.55 => out.push_str(text),
                p if p < 0.85 => {
                    let mut usual = Random(slot ^ random.below(100) << 40);
                    digits(out, &mut usual, text);
                }
                _ => digits(out, random, text),
            },
        }
    }
}

const METHODS: [&str; 5] = ["GET", "GET", "GET", "POST", "PUT"];
const PATHS: [&str; 9] = [
    "/api/products",
    "/api/products/%",
    "/api/cart",
    "/api/cart/items",
    "/api/checkout",
    "/api/users/%",
    "/api/search",
    "/healthz",
    "/api/orders/%",
];
const MESSAGES: [&str; 6] = [
    "request completed",
    "cache lookup",
    "calling upstream",
    "order priced",
    "session refreshed",
    "query executed",
];
const FAULTS: [&str; 4] = [
    "upstream timeout after 2000ms",
    "connection refused: payments:8443",
    "pq: deadlock detected",
    "unexpected EOF while reading response body",
];

fn path(random: &mut Random) -> String {
    let path = *random.pick(&PATHS);
    path.replace('%', &random.below(50_000).to_string())
}

/// Level and trace of the line.
fn json_line(
    out: &mut String,
    (t_ns, service, pod): (i64, &str, &str),
    random: &mut Random,
    clock: &mut Clock,
) -> (&'static str, String) {
    let level = match random.part() {
        p if p < 0.03 => "error",
        p if p < 0.08 => "warn",
        p if p < 0.3 => "debug",
        _ => "info",
    };
    let trace = format!("{:016x}{:016x}", random.draw(), random.draw());
    let status = match level {
        "error" => *random.pick(&[500, 502, 503, 504]),
        "warn" => *random.pick(&[400, 401, 404, 409, 429]),
        _ => *random.pick(&[200, 200, 200, 200, 201, 204, 304]),
    };
    let (message, median) = match level {
        "error" => ("request failed", 400.0),
        _ => (*random.pick(&MESSAGES), 18.0),
    };
    out.push_str("{\"ts\":\"");
    clock.print(out, "%Y-%m-%dT%H:%M:%S.%6f", t_ns);
    write!(
        out,
        r#"Z","level":"{level}","service":"{service}","pod":"{pod}","msg":"{message}","method":"{}","path":"{}","status":{status},"duration_ms":{:.3},"bytes":{},"user_id":"u-{}","client_ip":"10.{}.{}.{}","trace_id":"{trace}""#,
        random.pick(&METHODS),
        path(random),
        random.lognormal(median, 1.1),
        random.below(60_000),
        random.below(20_000),
        random.below(16),
        random.below(256),
        random.below(256),
    )
    .unwrap();
    if level == "error" {
        write!(
            out,
            r#","error":"{}","stack":"handler.go:{} serve()\n\tmiddleware.go:{} wrap()\n\tserver.go:{} run()""#,
            random.pick(&FAULTS),
            20 + random.below(380),
            20 + random.below(100),
            1000 + random.below(2000),
        )
        .unwrap();
    }
    out.push('}');
    (level, trace)
}

fn logfmt_line(
    out: &mut String,
    t_ns: i64,
    random: &mut Random,
    clock: &mut Clock,
) -> &'static str {
    let (level, status) = match random.part() {
        p if p < 0.02 => ("error", *random.pick(&[500, 502, 503])),
        p if p < 0.07 => ("warn", *random.pick(&[404, 429, 499])),
        _ => ("info", *random.pick(&[200, 200, 200, 206, 301, 304])),
    };
    out.push_str("ts=");
    clock.print(out, "%Y-%m-%dT%H:%M:%S.%3f", t_ns);
    write!(
        out,
        "Z level={level} component=edge method={} path={} status={status} dur={:.1}ms upstream=shop-{}:8080 bytes={} ua=\"Mozilla/5.0 (X11; Linux x86_64) Gecko/{}\" req_id={:016x}",
        random.pick(&METHODS),
        path(random),
        random.lognormal(25.0, 1.0),
        random.below(24),
        random.below(200_000),
        20_200_101 + random.below(39_999),
        random.draw(),
    )
    .unwrap();
    level
}

/// An entry in the bytes of a push.
fn put_entry(out: &mut Vec<u8>, t_ns: i64, line: &str, metadata: &[(&str, &str)]) {
    let mut time = Vec::new();
    put_varint_field(&mut time, 1, (t_ns / SECOND_NS) as u64);
    put_varint_field(&mut time, 2, (t_ns % SECOND_NS) as u64);
    let mut entry = Vec::with_capacity(line.len() + 120);
    put_bytes_field(&mut entry, 1, &time);
    put_bytes_field(&mut entry, 2, line.as_bytes());
    for (name, value) in metadata {
        let mut pair = Vec::new();
        put_bytes_field(&mut pair, 1, name.as_bytes());
        put_bytes_field(&mut pair, 2, value.as_bytes());
        put_bytes_field(&mut entry, 3, &pair);
    }
    put_bytes_field(out, 2, &entry);
}

/// What is to be made.
pub(crate) struct Plan {
    pub(crate) bytes: u64,
    pub(crate) hosts: usize,
    pub(crate) start_ns: i64,
    pub(crate) span_ns: i64,
}

/// What was made.
#[derive(Default)]
pub(crate) struct Made {
    pub(crate) lines: u64,
    pub(crate) line_bytes: u64,
    pub(crate) streams: usize,
    /// Texts that stand in one line each, with the application.
    pub(crate) needles: Vec<(String, &'static str)>,
}

/// Makes the logs, and hands each push, in protobuf, to `push`. `None` without the samples.
pub(crate) fn make(plan: &Plan, mut push: impl FnMut(Vec<u8>)) -> Option<Made> {
    let apps = apps()?;
    let shares: f64 = apps.iter().map(|a| a.share).sum();
    let per_host = plan.bytes / plan.hosts as u64;
    let slices = (per_host as usize).div_ceil(BATCH_BYTES).max(1);
    let slice_ns = plan.span_ns as f64 / slices as f64;
    let gap_ns = slice_ns / (BATCH_BYTES as f64 / 170.0) * 0.9;
    let every = (slices * plan.hosts / NEEDLES).max(1);
    let (mut made, mut clock) = (Made::default(), Clock::default());
    let mut streams = std::collections::BTreeSet::new();
    for slice in 0..slices {
        for host in 0..plan.hosts {
            let number = slice * plan.hosts + host;
            let mut random = Random(1 + number as u64 * 0x1234_5678_9abc);
            let has_needle = number % every == every / 2 && made.needles.len() < NEEDLES;
            let mut of_push: BTreeMap<(usize, &'static str), Vec<u8>> = BTreeMap::new();
            let begin_ns = plan.start_ns as f64 + slice as f64 * slice_ns;
            let (mut t_ns, mut bytes, mut n) = (begin_ns, 0, 0);
            while bytes < BATCH_BYTES {
                t_ns = (t_ns + random.exponential(gap_ns)).min(begin_ns + slice_ns - 1.0);
                let mut share = random.part() * shares;
                let picked = apps.iter().position(|a| {
                    share -= a.share;
                    share < 0.0
                });
                let at = picked.unwrap_or(apps.len() - 1);
                let (app, mut line) = (&apps[at], String::with_capacity(256));
                let (mut trace, mut pod) = (String::new(), String::new());
                let t = t_ns as i64;
                let level = if !app.templates.is_empty() {
                    let template = random.pick(&app.templates);
                    render(template, &mut line, t, &mut random, &mut clock);
                    template.level
                } else if app.name == "edge-proxy" {
                    logfmt_line(&mut line, t, &mut random, &mut clock)
                } else {
                    pod = format!("{}-{:05x}", app.name, (host * 7919 + at) & 0xfffff);
                    let of = (t, app.name, pod.as_str());
                    let (level, made) = json_line(&mut line, of, &mut random, &mut clock);
                    trace = made;
                    level
                };
                if has_needle && n == 500 {
                    let word = format!("needle-{:016x}", random.draw());
                    write!(line, " {word}").unwrap();
                    made.needles.push((word, app.name));
                }
                bytes += line.len();
                n += 1;
                let metadata = [("trace_id", &*trace), ("pod", &*pod)];
                let metadata = if trace.is_empty() { &[][..] } else { &metadata };
                let stream = of_push.entry((at, level)).or_insert_with(|| {
                    let cluster = ["prod-eu", "prod-us", "staging"][host % 3];
                    let labels = format!(
                        r#"{{app="{}", cluster="{cluster}", host="host-{host:03}", level="{level}"}}"#,
                        app.name
                    );
                    let mut out = Vec::new();
                    put_bytes_field(&mut out, 1, labels.as_bytes());
                    out
                });
                put_entry(stream, t, &line, metadata);
                streams.insert((at, level, host));
            }
            made.lines += n;
            made.line_bytes += bytes as u64;
            let mut body = Vec::with_capacity(2 * BATCH_BYTES);
            for stream in of_push.values() {
                put_bytes_field(&mut body, 1, stream);
            }
            push(body);
        }
    }
    made.streams = streams.len();
    Some(made)
}
