//! The units in which settings speak: byte sizes (`64MiB`) and durations (`1h30m`).

mod byte_size;
pub mod duration;

pub use byte_size::ByteSize;
