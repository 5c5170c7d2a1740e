//! Where to look for other members.

use std::fmt::Debug;
use std::net::{Ipv6Addr, SocketAddr};

use async_trait::async_trait;
use lgtm_core::{Error, Result};

/// From the seeds that an operator wrote to addresses. Asked again at every attempt to join and at every `rejoin_interval`, so that
/// members that moved are found.
#[async_trait]
pub trait Resolver: Debug + Send + Sync + 'static {
    /// Whether this resolver understands the seed. Asked once, while the store is built.
    ///
    /// # Errors
    /// `InvalidInput`, naming the seed.
    fn check(&self, seed: &str) -> Result<()>;

    /// The addresses behind a seed; none is fine.
    async fn resolve(&self, seed: &str) -> Result<Vec<SocketAddr>>;
}

/// The resolver of the operating system: `host:port` and `dns+host:port`, both by A and AAAA records, and plain addresses.
///
/// SRV records (`dnssrv+`, `dnssrvnoa+`) it does not know, since operating systems offer no call for them; pass a [`Resolver`] of
/// your own, or use the name of a headless service, which has A records.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemResolver;

/// Whether a host's name or IPv4 address may have the character.
fn is_of_host(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '.' | '-' | '_')
}

fn host_and_port(seed: &str) -> &str {
    seed.strip_prefix("dns+").unwrap_or(seed)
}

#[async_trait]
impl Resolver for SystemResolver {
    fn check(&self, seed: &str) -> Result<()> {
        let wrong = |why: &str| Err(Error::InvalidInput(format!("seed {seed:?} {why}")));
        if seed.starts_with("dnssrv") {
            return wrong(
                "asks for SRV records, which the system's resolver cannot look up; use dns+host:port",
            );
        }
        const FORM: &str = "is not host:port or dns+host:port";
        let rest = host_and_port(seed);
        let is_bare_v6 = rest.matches(':').count() > 1
            && rest
                .chars()
                .all(|c| c.is_ascii_hexdigit() || matches!(c, ':' | '.'));
        if is_bare_v6 {
            return wrong(
                "has an IPv6 address without brackets; write it as [address]:port, e.g. [::1]:7946",
            );
        }
        let Some((host, port)) = rest.rsplit_once(':') else {
            return wrong(FORM);
        };
        if !port.parse::<u16>().is_ok_and(|p| p > 0) {
            return wrong("has no port from 1 to 65535");
        }
        let in_brackets = host.strip_prefix('[').map(|h| h.strip_suffix(']'));
        match in_brackets {
            Some(Some(ip)) if ip.parse::<Ipv6Addr>().is_ok() => Ok(()),
            Some(_) => wrong("has no IPv6 address in its brackets"),
            None if host.is_empty() || !host.chars().all(is_of_host) => wrong(FORM),
            None => Ok(()),
        }
    }

    async fn resolve(&self, seed: &str) -> Result<Vec<SocketAddr>> {
        let found = tokio::net::lookup_host(host_and_port(seed)).await;
        let found = found.map_err(|e| Error::Unavailable(format!("seed {seed:?}: {e}")))?;
        Ok(found.collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_system_knows_addresses_and_hosts_and_refuses_the_rest() {
        let r = SystemResolver;
        for good in [
            "127.0.0.1:7946",
            "dns+gossip.ns.svc:7946",
            "[::1]:7946",
            "dns+[2001:db8::7]:7946",
            "gossip_1:7946",
        ] {
            r.check(good).unwrap();
        }
        for bad in [
            "",
            "host",
            "host:",
            ":7946",
            "host:0",
            "host:70000",
            "dnssrv+_gossip._tcp.x",
            "[::1]",
            "[::1]:0",
            "[]:7946",
            "[::1:7946",
            "[host]:7946",
            "http://host:7946",
            "a b:7946",
            "dns+",
        ] {
            let error = r.check(bad).unwrap_err();
            assert!(error.to_string().contains(bad), "{error}");
        }
        // What looks like a port at the end of an address is none.
        for bare in ["::1", "::1:7946", "dns+::1:7946", "2001:db8::7", "::"] {
            let error = r.check(bare).unwrap_err().to_string();
            assert!(
                error.contains(bare) && error.contains("[::1]:7946"),
                "{error}"
            );
        }
        let found = r.resolve("dns+127.0.0.1:7946").await.unwrap();
        assert_eq!(found, ["127.0.0.1:7946".parse().unwrap()]);
    }
}
