//! Settings of the memcached client.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::cache::memcached::address::Address;
use crate::cache::remote::{BreakerSettings, WriteBackSettings};
use crate::error::{Error, Result};
use crate::units::ByteSize;

/// Where memcached servers are, and how they are asked. Defaults are Mimir's where nothing else is said.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MemcachedSettings {
    /// Servers, comma separated: host:port, or dns+host:port for a server at every address of a name.
    pub addresses: String,
    /// How often names are resolved again.
    #[serde(with = "crate::units::duration")]
    pub resolve_interval: Duration,
    /// How long resolving may take; the addresses known before are used meanwhile and when it fails.
    #[serde(with = "crate::units::duration")]
    pub resolve_timeout: Duration,
    /// How long a server may take for its part of a request; then it is a miss.
    #[serde(with = "crate::units::duration")]
    pub timeout: Duration,
    /// How long connecting may take.
    #[serde(with = "crate::units::duration")]
    pub connect_timeout: Duration,
    /// Connections to one server at a time; requests beyond it wait, no longer than `timeout`.
    pub max_connections: usize,
    /// Connections to one server that are kept for the next requests.
    pub max_idle_connections: usize,
    /// Batches of reads that are under way at a time, to all servers together.
    pub max_get_multi_concurrency: usize,
    /// Keys in one request to a server, 1 to 1000.
    pub max_get_multi_batch_size: usize,
    /// Bytes of a value; larger ones are not stored. Default 1020KiB: what fits into the 1 MiB of a server with its key and header. For chunks of logs raise
    /// this and the server's `-I`.
    pub max_item_size: ByteSize,
    /// Values on their way to the servers.
    pub write_back: WriteBackSettings,
    /// When a server is left alone.
    pub breaker: BreakerSettings,
}

impl Default for MemcachedSettings {
    fn default() -> Self {
        Self {
            addresses: String::new(),
            resolve_interval: Duration::from_secs(30),
            resolve_timeout: Duration::from_secs(10),
            timeout: Duration::from_millis(200),
            connect_timeout: Duration::from_millis(200),
            max_connections: 100,
            max_idle_connections: 100,
            max_get_multi_concurrency: 100,
            max_get_multi_batch_size: 100,
            max_item_size: ByteSize::kib(1020),
            write_back: WriteBackSettings::default(),
            breaker: BreakerSettings::default(),
        }
    }
}

/// Keys in a request: their text must fit into what a system buffers of it, since a server answers while it reads.
const MAX_BATCH: usize = 1000;

impl MemcachedSettings {
    /// Checks that something can be stored and found at all.
    ///
    /// # Errors
    /// `InvalidInput`, naming the setting.
    pub fn validate(&self) -> Result<()> {
        let bad = |why: String| Err(Error::InvalidInput(format!("memcached: {why}")));
        for (name, is_zero) in [
            ("resolve_interval", self.resolve_interval.is_zero()),
            ("resolve_timeout", self.resolve_timeout.is_zero()),
            ("timeout", self.timeout.is_zero()),
            ("connect_timeout", self.connect_timeout.is_zero()),
            ("max_connections", self.max_connections == 0),
            (
                "max_get_multi_concurrency",
                self.max_get_multi_concurrency == 0,
            ),
            ("max_item_size", self.max_item_size.as_u64() == 0),
        ] {
            if is_zero {
                return bad(format!("{name} is 0, must be more"));
            }
        }
        let batch = self.max_get_multi_batch_size;
        if !(1..=MAX_BATCH).contains(&batch) {
            return bad(format!(
                "max_get_multi_batch_size is {batch}, must be 1 to {MAX_BATCH}"
            ));
        }
        self.write_back.validate()?;
        self.breaker.validate()?;
        self.servers().map(drop)
    }

    pub(super) fn servers(&self) -> Result<Vec<Address>> {
        let parts = self.addresses.split(',').map(str::trim);
        let parts = parts.filter(|part| !part.is_empty());
        let servers: Vec<_> = parts.map(Address::parse).collect::<Result<_>>()?;
        if servers.is_empty() {
            return Err(Error::InvalidInput(
                "memcached: addresses is empty, must name at least one server".into(),
            ));
        }
        Ok(servers)
    }
}
