//! Bytes as the formats of the workspace spell them: integers, strings, checksums, protobuf, compression; and how much may come of them.
//!
//! [`Reader`] walks borrowed bytes and never panics; the `put_*` functions append to a `Vec<u8>`. Varints are LEB128, signed
//! ones zig-zag, fixed-width integers big endian unless the name ends in `_le`. [`protobuf`] has the tags of fields and skips what is unknown:
//! each message is walked by its reader, with nothing built in between.
//!
//! What outsiders send is decompressed (`ContentEncoding`, `snappy`, with the feature `compression`) within a [`SizeBound`], and an
//! [`Allowance`] is asked before memory is made of it. What is stored is compressed buffer by buffer (`Compressor`, `Decompressor`).

mod allowance;
mod codec;
#[cfg(feature = "compression")]
mod compression;
#[cfg(feature = "compression")]
mod compressor;
#[cfg(feature = "compression")]
mod content_encoding;
#[cfg(feature = "compression")]
mod decompressor;
#[cfg(feature = "compression")]
mod lz4_frame;
pub mod protobuf;
pub mod ribbon;
mod size_bound;
#[cfg(feature = "compression")]
pub mod snappy;
#[cfg(feature = "compression")]
mod snappy_framed;

pub use allowance::{Allowance, DecodeFail, Grow};
pub use codec::{Reader, crc32c, crc32c_append, put_bytes, put_svarint, put_uvarint, uvarint_len};
#[cfg(feature = "compression")]
pub use compression::{Compression, Lz4BlockSize, OutputSize};
#[cfg(feature = "compression")]
pub use compressor::{CompressionLevels, Compressor};
#[cfg(feature = "compression")]
pub use content_encoding::ContentEncoding;
#[cfg(feature = "compression")]
pub use decompressor::Decompressor;
pub use size_bound::SizeBound;
