//! Pages of a column chunk: headers, and bodies without their compression.

use lgtm_core::codec::{Allowance, DecodeFail};
use lgtm_core::error::DecodeError;

use crate::schema::LeafCodec;
use crate::schema::thrift::Thrift;

/// How a page's values are encoded: numbers of `parquet.thrift`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PageEncoding {
    Plain,
    Rle,
    Delta,
    DeltaLength,
    Dictionary,
}

impl PageEncoding {
    fn of_number(number: i64) -> Option<Self> {
        Some(match number {
            0 => Self::Plain,
            // 2 is what dictionary pages and their data pages were marked with first.
            2 | 8 => Self::Dictionary,
            3 => Self::Rle,
            5 => Self::Delta,
            6 => Self::DeltaLength,
            _ => return None,
        })
    }
}

/// What kind of page it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PageKind {
    /// Levels and values, compressed together.
    V1,
    /// Levels, then values, of which only these are compressed.
    V2 {
        rows: usize,
        nulls: usize,
        def_bytes: usize,
        rep_bytes: usize,
        is_compressed: bool,
    },
    /// A dictionary.
    Dictionary,
    /// Anything else, which is passed over.
    Other,
}

/// A page as it lies in the file.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Page<'a> {
    pub(crate) kind: PageKind,
    /// Entries of levels, or of the dictionary.
    pub(crate) values: usize,
    pub(crate) encoding: PageEncoding,
    pub(crate) uncompressed_bytes: usize,
    pub(crate) body: &'a [u8],
}

impl Page<'_> {
    /// How many rows it has, where it says so: in a list only headers of version 2 do.
    pub(crate) fn rows(&self, max_rep: u8) -> Option<usize> {
        match self.kind {
            _ if max_rep == 0 => Some(self.values),
            PageKind::V2 { rows, .. } => Some(rows),
            _ => None,
        }
    }
}

/// Pages one after the other.
#[derive(Debug, Clone)]
pub(crate) struct Pages<'a> {
    rest: &'a [u8],
}

impl<'a> Pages<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// The next page; `None` behind the last.
    pub(crate) fn next(&mut self) -> Result<Option<Page<'a>>, DecodeError> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let (header, len) = Header::read(self.rest)?;
        let bad = |reason: String| DecodeError::new("page header", 0, reason);
        let behind = &self.rest[len..];
        if header.compressed > behind.len() as u64 {
            let (wanted, left) = (header.compressed, behind.len());
            return Err(bad(format!("a page of {wanted} bytes, {left} left")));
        }
        let (body, rest) = behind.split_at(header.compressed as usize);
        self.rest = rest;
        let kind = match header.kind {
            0 => PageKind::V1,
            2 => PageKind::Dictionary,
            3 => PageKind::V2 {
                rows: header.rows as usize,
                nulls: header.nulls as usize,
                def_bytes: header.def_bytes as usize,
                rep_bytes: header.rep_bytes as usize,
                is_compressed: header.is_compressed,
            },
            _ => PageKind::Other,
        };
        let encoding = match PageEncoding::of_number(header.encoding) {
            Some(encoding) => encoding,
            None if kind == PageKind::Other => PageEncoding::Plain,
            None => return Err(bad(format!("encoding {} is not known", header.encoding))),
        };
        Ok(Some(Page {
            kind,
            values: header.values as usize,
            encoding,
            uncompressed_bytes: header.uncompressed as usize,
            body,
        }))
    }
}

/// The fields of a page header that count.
struct Header {
    kind: i64,
    uncompressed: u64,
    compressed: u64,
    values: u64,
    nulls: u64,
    rows: u64,
    encoding: i64,
    def_bytes: u64,
    rep_bytes: u64,
    is_compressed: bool,
}

impl Header {
    fn read(bytes: &[u8]) -> Result<(Self, usize), DecodeError> {
        let mut out = Self {
            kind: -1,
            uncompressed: 0,
            compressed: 0,
            values: 0,
            nulls: 0,
            rows: 0,
            encoding: 0,
            def_bytes: 0,
            rep_bytes: 0,
            is_compressed: true,
        };
        let mut r = Thrift::new("page header", bytes);
        r.structure::<DecodeError>(|r, field| {
            match field.id {
                1 => out.kind = r.int(field)?,
                2 => out.uncompressed = r.count(field)?,
                3 => out.compressed = r.count(field)?,
                // Page headers of dictionaries begin with the same two fields.
                5 | 7 => r.structure::<DecodeError>(|r, field| {
                    match field.id {
                        1 => out.values = r.count(field)?,
                        2 => out.encoding = r.int(field)?,
                        _ => return Ok(false),
                    }
                    Ok(true)
                })?,
                8 => r.structure::<DecodeError>(|r, field| {
                    match field.id {
                        1 => out.values = r.count(field)?,
                        2 => out.nulls = r.count(field)?,
                        3 => out.rows = r.count(field)?,
                        4 => out.encoding = r.int(field)?,
                        5 => out.def_bytes = r.count(field)?,
                        6 => out.rep_bytes = r.count(field)?,
                        7 => out.is_compressed = Thrift::boolean(field),
                        _ => return Ok(false),
                    }
                    Ok(true)
                })?,
                _ => return Ok(false),
            }
            Ok(true)
        })?;
        // All of these have 32 bits with a sign.
        let most = [
            out.uncompressed,
            out.compressed,
            out.values,
            out.nulls,
            out.rows,
            out.def_bytes,
            out.rep_bytes,
        ];
        if most.iter().any(|n| *n > i32::MAX as u64) {
            return Err(r.error("a size has more than 31 bits"));
        }
        Ok((out, r.position()))
    }
}

/// Takes compression away. Its memory serves page after page: to be made anew, that of zstd costs more than a small page.
#[derive(Default)]
pub(crate) struct Inflater {
    out: Vec<u8>,
    zstd: Option<zstd::bulk::Decompressor<'static>>,
}

impl std::fmt::Debug for Inflater {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inflater")
            .field("bytes", &self.out.len())
            .finish_non_exhaustive()
    }
}

impl Inflater {
    /// Bytes of its buffer; 0 before it was used.
    pub(crate) fn buffer_bytes(&self) -> usize {
        self.out.capacity()
    }

    /// The bytes behind `body`, which are `bytes` long.
    pub(crate) fn inflate<'a>(
        &'a mut self,
        codec: LeafCodec,
        body: &'a [u8],
        bytes: usize,
        allowance: &mut Allowance<'_>,
    ) -> Result<&'a [u8], DecodeFail> {
        let bad = |reason: String| DecodeError::new("page body", 0, reason);
        if codec == LeafCodec::None {
            if body.len() != bytes {
                return Err(bad(format!("{} bytes, {bytes} are expected", body.len())).into());
            }
            return Ok(body);
        }
        if bytes == 0 {
            // Writers differ in what nothing is when it is compressed.
            return Ok(&[]);
        }
        if bytes > self.out.len() {
            allowance.scratch(bytes)?;
            self.out.resize(bytes, 0);
        }
        let out = &mut self.out[..bytes];
        let done = match codec {
            LeafCodec::Snappy => match snap::raw::decompress_len(body) {
                Ok(len) if len == bytes => {
                    let done = snap::raw::Decoder::new().decompress(body, out);
                    done.map_err(|e| bad(e.to_string()))?
                }
                Ok(len) => return Err(bad(format!("{len} bytes, {bytes} are expected")).into()),
                Err(e) => return Err(bad(e.to_string()).into()),
            },
            LeafCodec::Zstd => {
                let failed = |e: std::io::Error| bad(e.to_string());
                let zstd = match &mut self.zstd {
                    Some(zstd) => zstd,
                    none => none.insert(zstd::bulk::Decompressor::new().map_err(failed)?),
                };
                zstd.decompress_to_buffer(body, out).map_err(failed)?
            }
            LeafCodec::None => bytes,
        };
        if done != bytes {
            return Err(bad(format!("{done} bytes, {bytes} are expected")).into());
        }
        Ok(out)
    }
}
