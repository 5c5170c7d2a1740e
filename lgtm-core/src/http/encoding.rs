//! Which compression a client takes, RFC 9110 section 12.5.3.

/// How an answer's body may be compressed, the one that costs least for its size first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AnswerEncoding {
    /// RFC 8878.
    Zstd,
    /// RFC 1952.
    Gzip,
    /// The framing format, which can be streamed.
    SnappyFramed,
    /// One block, as remote write and read use the word.
    Snappy,
}

/// In order of preference.
const ALL: [AnswerEncoding; 4] = [
    AnswerEncoding::Zstd,
    AnswerEncoding::Gzip,
    AnswerEncoding::SnappyFramed,
    AnswerEncoding::Snappy,
];

impl AnswerEncoding {
    /// The name in `Content-Encoding`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Zstd => "zstd",
            Self::Gzip => "gzip",
            Self::SnappyFramed => "x-snappy-framed",
            Self::Snappy => "snappy",
        }
    }

    fn has_name(self, name: &str) -> bool {
        name.eq_ignore_ascii_case(self.name())
            || self == Self::Gzip && name.eq_ignore_ascii_case("x-gzip")
    }

    /// The compression that `Accept-Encoding` likes best; of those it likes equally, the first of ours. None when it likes the plain
    /// body better, or takes nothing of ours: a plain body is always understood.
    pub fn accepted<'a>(values: impl Iterator<Item = &'a str>) -> Option<Self> {
        let mut named = [None; ALL.len()];
        let (mut any, mut identity) = (None, None);
        for item in values.flat_map(|v| v.split(',')) {
            let mut parts = item.split(';').map(str::trim);
            let name = parts.next().unwrap_or_default();
            let Some(weight) = weight(parts) else {
                continue;
            };
            match ALL.iter().position(|e| e.has_name(name)) {
                Some(at) => named[at] = Some(weight),
                None if name == "*" => any = Some(weight),
                None if name.eq_ignore_ascii_case("identity") => identity = Some(weight),
                None => {}
            }
        }
        let mut best = (identity.unwrap_or(0), None);
        for (at, encoding) in ALL.into_iter().enumerate() {
            // `*` stands for whatever is not named; one block of Snappy is nothing to choose for somebody who did not ask for it.
            let any = any.filter(|_| encoding != AnswerEncoding::Snappy);
            let weight = named[at].or(any).unwrap_or(0);
            let is_better = match best.1 {
                Some(_) => weight > best.0,
                None => weight > 0 && weight >= best.0,
            };
            if is_better {
                best = (weight, Some(encoding));
            }
        }
        best.1
    }
}

/// The weight among an item's parameters, in thousandths; `None` for one that is no weight.
fn weight<'a>(mut parameters: impl Iterator<Item = &'a str>) -> Option<u16> {
    let q = parameters.find_map(|p| {
        let (name, value) = p.split_once('=')?;
        name.trim().eq_ignore_ascii_case("q").then(|| value.trim())
    });
    let Some(q) = q else { return Some(1000) };
    let q: f64 = q.parse().ok()?;
    (0.0..=1.0).contains(&q).then_some((q * 1000.0) as u16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_heaviest_that_is_known_is_chosen() {
        for (header, chosen) in [
            ("", None),
            ("br, deflate", None),
            ("gzip", Some(AnswerEncoding::Gzip)),
            ("GZIP", Some(AnswerEncoding::Gzip)),
            ("x-gzip", Some(AnswerEncoding::Gzip)),
            ("gzip, deflate, br, zstd", Some(AnswerEncoding::Zstd)),
            ("zstd;q=0.5, gzip;q=0.8", Some(AnswerEncoding::Gzip)),
            ("zstd ; q=0 , gzip ; Q=0.001", Some(AnswerEncoding::Gzip)),
            ("gzip;q=0", None),
            ("gzip;q=2", None),
            ("gzip;q=x, snappy", Some(AnswerEncoding::Snappy)),
            ("x-snappy-framed", Some(AnswerEncoding::SnappyFramed)),
            ("*", Some(AnswerEncoding::Zstd)),
            ("zstd;q=0, *", Some(AnswerEncoding::Gzip)),
            ("*;q=0", None),
            ("identity", None),
            ("identity, gzip;q=0.5", None),
            ("identity;q=0.5, gzip;q=0.5", Some(AnswerEncoding::Gzip)),
            ("identity;q=0, br", None),
        ] {
            assert_eq!(
                AnswerEncoding::accepted([header].into_iter()),
                chosen,
                "{header}"
            );
        }
        let several = ["br", "gzip"].into_iter();
        assert_eq!(
            AnswerEncoding::accepted(several),
            Some(AnswerEncoding::Gzip)
        );
    }

    proptest::proptest! {
        #[test]
        fn arbitrary_headers_never_panic(header in "\\PC{0,60}") {
            let _ = AnswerEncoding::accepted([header.as_str()].into_iter());
        }
    }
}
