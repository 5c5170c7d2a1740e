//! Settings: defaults, then the YAML file, then flags.
//!
//! [`Config`] is all that can be set, [`read`] makes one of the command line; `texts` says what each setting is for, by a file that is made
//! from the doc comments of the fields (`settings.txt`).

mod arguments;
mod caches;
mod config;
#[cfg(test)]
mod doc_comments;
mod limits;
mod overrides;
mod ring;
mod server;
mod spellings;
mod texts;
mod yaml;

pub(crate) use arguments::{Action, Asked, read};
pub(crate) use config::{Config, LogFormat, OtlpPorts};
pub(crate) use limits::LimitsInForce;
pub(crate) use ring::KvStore;
pub(crate) use texts::{documented, help};
