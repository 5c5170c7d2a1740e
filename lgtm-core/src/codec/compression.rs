//! How stored bytes are compressed, whole buffers at a time.

/// A compression of stored bytes. [`Compressor`](crate::codec::Compressor) and [`Decompressor`](crate::codec::Decompressor) do it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Compression {
    /// The bytes as they are.
    None,
    /// RFC 1952; several members one after the other are read as one.
    Gzip,
    /// RFC 1950: deflate between a header and an Adler-32.
    Zlib,
    /// RFC 1951, raw.
    Deflate,
    /// Snappy's framing format; nothing at all stands for nothing.
    SnappyFramed,
    /// LZ4's frame format.
    Lz4(Lz4BlockSize),
    /// RFC 8878.
    Zstd,
}

/// The most that a block of an LZ4 frame holds. A writer's choice; readers take all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Lz4BlockSize {
    /// 64 KiB.
    KiB64,
    /// 256 KiB.
    KiB256,
    /// 1 MiB.
    MiB1,
    /// 4 MiB.
    MiB4,
}

/// What is known of the size of what comes out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OutputSize {
    /// Room that is made at once, in bytes; a guess that is too small costs time only.
    pub expected_bytes: usize,
    /// More than this is refused, in bytes.
    pub max_bytes: usize,
}

impl OutputSize {
    /// At most `max_bytes`, with no better guess than the first 64 KiB.
    pub fn at_most(max_bytes: usize) -> Self {
        Self {
            expected_bytes: max_bytes.min(64 << 10),
            max_bytes,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::ErrorKind;
    use crate::codec::{Compressor, DecodeFail, Decompressor};

    const ALL: [Compression; 10] = [
        Compression::None,
        Compression::Gzip,
        Compression::Zlib,
        Compression::Deflate,
        Compression::SnappyFramed,
        Compression::Lz4(Lz4BlockSize::KiB64),
        Compression::Lz4(Lz4BlockSize::KiB256),
        Compression::Lz4(Lz4BlockSize::MiB1),
        Compression::Lz4(Lz4BlockSize::MiB4),
        Compression::Zstd,
    ];

    fn unpack(with: Compression, bytes: &[u8], max: usize) -> Result<Vec<u8>, DecodeFail> {
        let mut out = b"before".to_vec();
        let size = OutputSize::at_most(max);
        let done = Decompressor::default().decompress(with, bytes, size, &mut out);
        assert!(out.starts_with(b"before") && (done.is_ok() || out.len() == 6));
        done.map(|()| out.split_off(6))
    }

    /// Text that repeats itself, then noise.
    fn text(len: usize) -> Vec<u8> {
        let mut state = 7u64;
        let mut next = || {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1);
            state >> 33
        };
        let mut out = Vec::new();
        while out.len() < len / 2 {
            let line = format!("level=info caller=push.go:{} msg=\"ok\"\n", next() % 100);
            out.extend_from_slice(line.as_bytes());
        }
        out.resize_with(len, || next() as u8);
        out
    }

    #[test]
    fn buffers_of_all_sizes_come_back_from_one_state() {
        let (mut packer, mut unpacker) = (Compressor::default(), Decompressor::default());
        for with in ALL {
            for len in [0, 1, 100, 65_535, 65_536, 65_537, 300_000, 2 << 20] {
                let bytes = text(len);
                let mut packed = b"x".to_vec();
                packer.compress(with, &bytes, &mut packed).unwrap();
                assert_eq!(packed[0], b'x');
                let kept = packer.compressed(with, &bytes, 4).unwrap();
                assert_eq!(
                    (kept.capacity(), &kept[..]),
                    (packed.len() + 3, &packed[1..])
                );
                if with != Compression::None && len > 1000 {
                    assert!(packed.len() < len * 3 / 4, "{with:?}: {}", packed.len());
                }
                for expected_bytes in [0, len / 2, len, 3 << 20] {
                    let max_bytes = len;
                    let size = OutputSize {
                        expected_bytes,
                        max_bytes,
                    };
                    let mut out = b"y".to_vec();
                    unpacker
                        .decompress(with, &packed[1..], size, &mut out)
                        .unwrap();
                    assert!(out[0] == b'y' && out[1..] == bytes, "{with:?} {len}");
                }
            }
        }
    }

    #[test]
    fn bombs_are_cut_at_the_bound() {
        let zeros = vec![0; 4 << 20];
        for with in ALL {
            let mut packed = Vec::new();
            Compressor::default()
                .compress(with, &zeros, &mut packed)
                .unwrap();
            for max_bytes in [0, 1000, (4 << 20) - 1] {
                let mut out = Vec::new();
                let size = OutputSize {
                    expected_bytes: usize::MAX,
                    max_bytes,
                };
                let done = Decompressor::default().decompress(with, &packed, size, &mut out);
                let Err(DecodeFail::Refused(error)) = done else {
                    panic!("{with:?} {max_bytes}: {done:?}")
                };
                assert_eq!(error.kind(), ErrorKind::LimitExceeded);
                assert!(
                    error.to_string().contains(&max_bytes.to_string()),
                    "{error}"
                );
                assert!(out.capacity() <= 2 * max_bytes + (64 << 10), "{with:?}");
            }
        }
    }

    #[test]
    fn every_truncation_is_an_error() {
        let bytes = text(3000);
        for with in &ALL[1..] {
            let mut packed = Vec::new();
            Compressor::default()
                .compress(*with, &bytes, &mut packed)
                .unwrap();
            for cut in 0..packed.len() {
                let read = unpack(*with, &packed[..cut], 1 << 20);
                let is_empty_snappy = *with == Compression::SnappyFramed && cut <= 10;
                match read {
                    // A stream of snappy's may end behind any chunk.
                    Ok(out) => assert!(is_empty_snappy && out.is_empty(), "{with:?} {cut}"),
                    Err(DecodeFail::Broken(_)) => {}
                    Err(other) => panic!("{with:?} {cut}: {other:?}"),
                }
            }
            packed.push(0x55);
            assert!(unpack(*with, &packed, 1 << 20).is_err(), "{with:?}");
        }
    }

    #[test]
    fn streams_that_follow_each_other_are_one() {
        for with in [ALL[1], ALL[4], ALL[5], ALL[9]] {
            let mut packed = Vec::new();
            for part in [&b"one "[..], b"", b"two"] {
                Compressor::default()
                    .compress(with, part, &mut packed)
                    .unwrap();
            }
            assert_eq!(unpack(with, &packed, 100).unwrap(), b"one two", "{with:?}");
            assert!(unpack(with, &packed, 6).is_err(), "{with:?}");
        }
    }

    #[test]
    fn frames_of_lz4_with_checksums_sizes_and_linked_blocks_are_read() {
        use lz4_flex::block::{compress, compress_with_dict};
        use xxhash_rust::xxh32::xxh32;
        let (one, two) = (text(60_000), text(60_000));
        let descriptor = [0b0101_1100u8, 4 << 4];
        let mut frame = 0x184d_2a57u32.to_le_bytes().to_vec();
        frame.extend([3, 0, 0, 0, 9, 9, 9]);
        frame.extend(0x184d_2204u32.to_le_bytes());
        let at = frame.len();
        frame.extend(descriptor);
        frame.extend(120_000u64.to_le_bytes());
        frame.push((xxh32(&frame[at..], 0) >> 8) as u8);
        for block in [compress(&one), compress_with_dict(&two, &one)] {
            frame.extend((block.len() as u32).to_le_bytes());
            frame.extend(&block);
            frame.extend(xxh32(&block, 0).to_le_bytes());
        }
        frame.extend([0; 4]);
        let both = [one, two].concat();
        frame.extend(xxh32(&both, 0).to_le_bytes());
        let with = Compression::Lz4(Lz4BlockSize::MiB4);
        assert!(unpack(with, &frame, 120_000).unwrap() == both);
        for at in [15, 22, 40, frame.len() / 2, frame.len() - 1] {
            frame[at] ^= 1;
            assert!(unpack(with, &frame, 120_000).is_err(), "{at}");
            frame[at] ^= 1;
        }
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes: Vec<u8>, at: prop::sample::Index, with: u8) {
            for compression in ALL {
                let _ = unpack(compression, &bytes, 1 << 12);
                let mut packed = Vec::new();
                Compressor::default().compress(compression, &bytes, &mut packed).unwrap();
                if !packed.is_empty() {
                    let at = at.index(packed.len());
                    packed[at] = with;
                }
                let _ = unpack(compression, &packed, 1 << 12);
            }
        }
    }
}
