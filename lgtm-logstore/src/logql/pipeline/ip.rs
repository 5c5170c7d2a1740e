//! Addresses: one, a network, or a range of them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use lgtm_core::go::quote;

/// Addresses from one to another, both included, of one family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct IpRange {
    first: IpAddr,
    last: IpAddr,
}

impl IpRange {
    /// Reads `10.0.0.1`, `10.0.0.0/8` or `10.0.0.1-10.0.0.9`.
    ///
    /// # Errors
    /// In the words of Loki.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let invalid = || format!("ip: invalid pattern: {}", quote(text));
        let range = if let Some((first, last)) = text.split_once('-') {
            Self {
                first: first.trim().parse().map_err(|_| invalid())?,
                last: last.trim().parse().map_err(|_| invalid())?,
            }
        } else if let Some((base, bits)) = text.split_once('/') {
            network(base, bits).ok_or_else(invalid)?
        } else {
            let one = text.parse().map_err(|_| invalid())?;
            Self {
                first: one,
                last: one,
            }
        };
        let fits = range.first.is_ipv4() == range.last.is_ipv4() && range.first <= range.last;
        if fits { Ok(range) } else { Err(invalid()) }
    }

    /// Whether a text is one address inside.
    pub(crate) fn has_text(&self, text: &str) -> bool {
        text.parse().is_ok_and(|ip| self.has(ip))
    }

    fn has(&self, ip: IpAddr) -> bool {
        ip.is_ipv4() == self.first.is_ipv4() && self.first <= ip && ip <= self.last
    }

    /// Whether a line holds an address inside. A candidate begins where an address may, reaches as far as characters of one do, and must
    /// be one as a whole.
    pub(crate) fn is_in_line(&self, line: &[u8]) -> bool {
        let is_part_v4 = |b: &u8| b.is_ascii_digit() || *b == b'.';
        let is_part_v6 = |b: &u8| b.is_ascii_hexdigit() || matches!(b, b':' | b'.');
        let mut at = 0;
        while at < line.len() {
            let rest = &line[at..];
            let is_v4 = begins_v4(rest);
            if !is_v4 && !begins_v6(rest) {
                at += 1;
                continue;
            }
            let is_part = |b: &&u8| if is_v4 { is_part_v4(b) } else { is_part_v6(b) };
            let len = rest.iter().take_while(is_part).count();
            let text = std::str::from_utf8(&rest[..len]).unwrap_or("");
            if self.has_text(text) {
                return true;
            }
            at += len + 1;
        }
        false
    }
}

fn begins_v4(rest: &[u8]) -> bool {
    rest.len() > 3 && rest[0].is_ascii_digit() && rest[1..4].contains(&b'.')
}

fn begins_v6(rest: &[u8]) -> bool {
    if rest.starts_with(b"::") {
        return rest.get(2).is_some_and(u8::is_ascii_hexdigit);
    }
    let digits = rest
        .iter()
        .take(5)
        .take_while(|b| b.is_ascii_hexdigit())
        .count();
    (1..=4).contains(&digits) && rest.get(digits) == Some(&b':')
}

fn network(base: &str, bits: &str) -> Option<IpRange> {
    let bits: u32 = bits.parse().ok()?;
    Some(match base.parse().ok()? {
        IpAddr::V4(ip) => {
            let host = u32::MAX.checked_shr(bits).unwrap_or(0);
            if bits > 32 {
                return None;
            }
            let first = u32::from(ip) & !host;
            IpRange {
                first: Ipv4Addr::from(first).into(),
                last: Ipv4Addr::from(first | host).into(),
            }
        }
        IpAddr::V6(ip) => {
            let host = u128::MAX.checked_shr(bits).unwrap_or(0);
            if bits > 128 {
                return None;
            }
            let first = u128::from(ip) & !host;
            IpRange {
                first: Ipv6Addr::from(first).into(),
                last: Ipv6Addr::from(first | host).into(),
            }
        }
    })
}
