//! Jaeger's batches in Thrift's binary protocol, as its agents and clients post them. See `docs/format/push.md`.

mod batch;
mod thrift;

pub use batch::decode_jaeger_thrift;
