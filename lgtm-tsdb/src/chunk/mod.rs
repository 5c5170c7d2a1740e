//! How one run of samples is packed: the chunk encodings of the Prometheus TSDB. See `docs/format/chunk.md`.

mod bits;
mod chunk;
pub(crate) mod cut;
mod encoding;
mod float_histogram;
mod histogram;
mod iter;
mod layout;
mod run;
mod sample_time;
mod start_time;
mod xor;
mod xor2;

pub use chunk::{Chunk, ChunkRef};
pub use encoding::{CounterResetHeader, Encoding};
pub use float_histogram::FloatHistogramAppender;
pub(crate) use histogram::{Appender, Kind};
pub use histogram::{HistogramAppend, HistogramAppender};
pub use iter::{ChunkIter, SampleValue, iter, sample_count};
pub use run::{encode_run, encode_started_run};
pub use sample_time::SampleTime;
pub use xor::{XorAppender, XorIter};
pub use xor2::Xor2Appender;
