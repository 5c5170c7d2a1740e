//! Settings of the Redis client.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::cache::remote::{BreakerSettings, WriteBackSettings};
use crate::error::{Error, Result};
use crate::secret::Secret;
use crate::units::ByteSize;

/// Where Redis servers are, and how they are asked. Defaults are Loki's where nothing else is said.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RedisSettings {
    /// Servers, comma separated, as host:port. One: a single server; several: a cluster; with `master_name`: the sentinels.
    pub endpoint: String,
    /// Name of the master that the sentinels know. Empty: there are no sentinels.
    pub master_name: String,
    /// User to log in as. Empty: none.
    pub username: String,
    /// Password to log in with. Empty: none.
    pub password: Secret,
    /// Database; a cluster has only 0.
    pub db: u16,
    /// How long a request may take; then it is a miss.
    #[serde(with = "crate::units::duration")]
    pub timeout: Duration,
    /// How long connecting may take.
    #[serde(with = "crate::units::duration")]
    pub connect_timeout: Duration,
    /// Requests under way at a time; more wait, no longer than `timeout`. Default 100, as for memcached.
    pub max_concurrency: usize,
    /// Keys in one request, 1 to 1000. Default 100, as for memcached.
    pub max_get_multi_batch_size: usize,
    /// Bytes of a value; larger ones are not stored. Default 8MiB: a server answers one request after the other, and others wait for a large one.
    pub max_item_size: ByteSize,
    /// Values on their way to the servers.
    pub write_back: WriteBackSettings,
    /// When the servers are left alone.
    pub breaker: BreakerSettings,
}

impl Default for RedisSettings {
    fn default() -> Self {
        Self {
            endpoint: String::new(),
            master_name: String::new(),
            username: String::new(),
            password: Secret::new(""),
            db: 0,
            timeout: Duration::from_millis(500),
            connect_timeout: Duration::from_millis(500),
            max_concurrency: 100,
            max_get_multi_batch_size: 100,
            max_item_size: ByteSize::mib(8),
            write_back: WriteBackSettings::default(),
            breaker: BreakerSettings::default(),
        }
    }
}

impl RedisSettings {
    /// Checks that something can be stored and found at all.
    ///
    /// # Errors
    /// `InvalidInput`, naming the setting.
    pub fn validate(&self) -> Result<()> {
        let bad = |why: String| Err(Error::InvalidInput(format!("redis: {why}")));
        for (name, is_zero) in [
            ("timeout", self.timeout.is_zero()),
            ("connect_timeout", self.connect_timeout.is_zero()),
            ("max_concurrency", self.max_concurrency == 0),
            ("max_item_size", self.max_item_size.as_u64() == 0),
        ] {
            if is_zero {
                return bad(format!("{name} is 0, must be more"));
            }
        }
        let batch = self.max_get_multi_batch_size;
        if !(1..=1000).contains(&batch) {
            return bad(format!(
                "max_get_multi_batch_size is {batch}, must be 1 to 1000"
            ));
        }
        let servers = self.servers()?;
        if self.db != 0 && servers.len() > 1 && self.master_name.is_empty() {
            return bad(format!("db is {}, a cluster has only 0", self.db));
        }
        self.write_back.validate()?;
        self.breaker.validate()
    }

    /// Hosts and ports.
    pub(super) fn servers(&self) -> Result<Vec<(String, u16)>> {
        let bad = |why: String| Error::InvalidInput(format!("redis: {why}"));
        let parts = self.endpoint.split(',').map(str::trim);
        let mut servers = Vec::new();
        for part in parts.filter(|part| !part.is_empty()) {
            let (host, port) = part
                .rsplit_once(':')
                .ok_or_else(|| bad(format!("endpoint {part:?} has no port")))?;
            let port = port.parse().ok().filter(|port| *port != 0);
            let port =
                port.ok_or_else(|| bad(format!("endpoint {part:?} must end in a port number")))?;
            let host = host.trim_start_matches('[').trim_end_matches(']');
            servers.push((host.to_owned(), port));
        }
        if servers.is_empty() {
            return Err(bad(
                "endpoint is empty, must name at least one server".to_owned()
            ));
        }
        Ok(servers)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_read() {
        let of = |endpoint: &str, db| RedisSettings {
            endpoint: endpoint.into(),
            db,
            ..RedisSettings::default()
        };
        let servers = of("a:1, [::1]:2", 0).servers().unwrap();
        assert_eq!(servers, [("a".to_owned(), 1), ("::1".to_owned(), 2)]);
        for (endpoint, db, is_fine) in [
            ("a:1", 3, true),
            ("a:1,b:1", 0, true),
            ("a:1,b:1", 3, false),
            ("", 0, false),
            ("a", 0, false),
            ("a:0", 0, false),
            ("a:x", 0, false),
        ] {
            assert_eq!(of(endpoint, db).validate().is_ok(), is_fine, "{endpoint}");
        }
    }
}
