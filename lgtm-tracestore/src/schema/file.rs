//! The footer of a block's file: which leaves there are, and where each row group has them.

use std::ops::Range;
use std::sync::Arc;

use lgtm_core::codec::{Allowance, DecodeFail};
use lgtm_core::error::DecodeError;

use crate::schema::row_lists::RowLists;
use crate::schema::thrift::{BINARY, Field, STRUCT, Thrift};
use crate::schema::{LeafCodec, LeafIndex, Leaves};

/// Bytes at the end of a file: the footer's length and a mark.
pub const TAIL_BYTES: u64 = 8;
/// Most leaves that a file may have; those with all columns have some two hundred.
const MAX_LEAVES: usize = 4096;
/// Most bytes of a path.
const MAX_PATH: usize = 1024;

/// What the values of a leaf are in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Physical {
    /// Booleans.
    Bool,
    /// 32 bits.
    Int32,
    /// 64 bits.
    Int64,
    /// Floats of 64 bits.
    Double,
    /// Bytes of any length.
    Bytes,
}

/// A leaf of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileLeaf {
    /// Names from the root on, with dots between them.
    pub path: String,
    /// What its values are.
    pub physical: Physical,
    /// Definition level of a value that is there.
    pub max_def: u8,
    /// Depth of the lists that it lies in.
    pub max_rep: u8,
}

/// Where a row group has a leaf.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chunk {
    /// All its pages, the dictionary first.
    pub range: Range<u64>,
    /// Where its first page of data lies; what lies before it is the dictionary.
    pub first_page: u64,
    /// Whether the file says that all values are numbers of entries of the dictionary, so that what the dictionary lacks is not in the chunk.
    pub is_all_dictionary: bool,
    /// Entries: values and such that are not there.
    pub entries: u64,
    /// How pages are compressed.
    pub codec: LeafCodec,
    /// Where its offset index lies.
    pub offset_index: Option<Range<u64>>,
    /// Where its column index lies.
    pub column_index: Option<Range<u64>>,
    /// A bound below all values, as the bytes that they would be written as.
    pub min: Option<Vec<u8>>,
    /// A bound above all values.
    pub max: Option<Vec<u8>>,
    /// Entries without a value, where that is said.
    pub nulls: Option<u64>,
}

/// Some rows of a block.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RowGroup {
    /// Traces.
    pub rows: u64,
    /// By leaf.
    pub chunks: Vec<Chunk>,
}

/// What the footer of a file says.
#[derive(Debug, Clone)]
pub struct BlockFile {
    /// Leaves in the file's order.
    pub leaves: Vec<FileLeaf>,
    /// Which of them holds what.
    pub positions: Leaves,
    /// Row groups in order.
    pub row_groups: Vec<RowGroup>,
    /// Which leaves lie in which list.
    pub(crate) lists: Arc<RowLists>,
}

impl BlockFile {
    /// Where the footer lies in a file of `size` bytes with a footer of `footer_size`, both out of `meta.json`: one read.
    ///
    /// # Errors
    /// When it would not fit in.
    pub fn footer_range(size: u64, footer_size: u32) -> Result<Range<u64>, DecodeError> {
        let footer = u64::from(footer_size) + TAIL_BYTES;
        // The file begins with the mark too.
        if size < footer + 4 {
            return Err(DecodeError::new(
                "parquet file",
                0,
                format!("a footer of {footer_size} bytes in a file of {size}"),
            ));
        }
        Ok(size - footer..size)
    }

    /// Reads the footer: all bytes of [`BlockFile::footer_range`].
    ///
    /// # Errors
    /// For bytes that are none, chunks beyond the file, row groups without all leaves; what `allowance` refuses.
    pub fn decode(
        footer: &[u8],
        size: u64,
        allowance: &mut Allowance<'_>,
    ) -> Result<Self, DecodeFail> {
        let bad = |reason: String| DecodeError::new("parquet footer", 0, reason);
        let Some((metadata, tail)) = footer.split_last_chunk::<{ TAIL_BYTES as usize }>() else {
            return Err(bad("shorter than its end".into()).into());
        };
        let [a, b, c, d, mark @ ..] = *tail;
        if mark != *b"PAR1" {
            return Err(bad(format!("the file ends with {mark:?}, not with PAR1")).into());
        }
        let said = u32::from_le_bytes([a, b, c, d]);
        if said as usize != metadata.len() {
            let len = metadata.len();
            return Err(bad(format!("{len} bytes, the file says {said}")).into());
        }
        let mut r = Thrift::new("parquet footer", metadata);
        let (mut leaves, mut row_groups) = (Vec::new(), Vec::new());
        let mut has_schema = false;
        r.structure::<DecodeFail>(|r, field| {
            match field.id {
                2 if !has_schema => {
                    has_schema = true;
                    leaves = schema(r, field, allowance)?;
                }
                4 => {
                    let len = r.list(field, STRUCT)?;
                    for _ in 0..len {
                        let group = row_group(r, &leaves, size, allowance)?;
                        allowance.push(&mut row_groups, group)?;
                    }
                }
                _ => return Ok(false),
            }
            Ok(true)
        })?;
        Ok(Self {
            positions: Leaves::find(leaves.iter().map(|l| l.path.as_str())),
            lists: Arc::new(RowLists::of(&leaves)),
            leaves,
            row_groups,
        })
    }

    /// All rows.
    pub fn rows(&self) -> u64 {
        self.row_groups
            .iter()
            .fold(0, |n, g| n.saturating_add(g.rows))
    }

    /// A leaf, and where a row group has it.
    pub fn chunk(&self, row_group: usize, leaf: LeafIndex) -> Option<(&FileLeaf, &Chunk)> {
        let group = self.row_groups.get(row_group)?;
        Some((self.leaves.get(leaf)?, group.chunks.get(leaf)?))
    }
}

/// A group of the schema whose fields come next.
struct OpenGroup {
    fields_left: i64,
    path_len: usize,
    def: u8,
    rep: u8,
}

fn schema(
    r: &mut Thrift<'_>,
    field: Field,
    allowance: &mut Allowance<'_>,
) -> Result<Vec<FileLeaf>, DecodeFail> {
    let len = r.list(field, STRUCT)?;
    let mut leaves = Vec::new();
    let mut open: Vec<OpenGroup> = Vec::new();
    let mut path = String::new();
    for n in 0..len {
        let (mut kind, mut repetition, mut children, mut name) = (None, 0, 0, &[][..]);
        r.structure::<DecodeError>(|r, field| {
            match field.id {
                1 => kind = Some(r.int(field)?),
                3 => repetition = r.int(field)?,
                4 => name = r.binary()?,
                5 => children = r.int(field)?,
                _ => return Ok(false),
            }
            Ok(true)
        })?;
        if n == 0 {
            open.push(OpenGroup {
                fields_left: children,
                path_len: 0,
                def: 0,
                rep: 0,
            });
            continue;
        }
        while open.last().is_some_and(|group| group.fields_left <= 0) {
            open.pop();
        }
        let Some(above) = open.last_mut() else {
            return Err(r.error("an element of no group").into());
        };
        above.fields_left -= 1;
        let def = above.def + u8::from(repetition != 0);
        let rep = above.rep + u8::from(repetition == 2);
        path.truncate(above.path_len);
        if !path.is_empty() {
            path.push('.');
        }
        path.push_str(&String::from_utf8_lossy(name));
        if path.len() > MAX_PATH || def > 32 || leaves.len() >= MAX_LEAVES {
            return Err(r
                .error("more leaves, or deeper ones, than a block has")
                .into());
        }
        let Some(kind) = kind else {
            open.push(OpenGroup {
                fields_left: children,
                path_len: path.len(),
                def,
                rep,
            });
            continue;
        };
        let physical = match kind {
            0 => Physical::Bool,
            1 => Physical::Int32,
            2 => Physical::Int64,
            5 => Physical::Double,
            6 => Physical::Bytes,
            kind => return Err(r.error(format!("leaf {path} is of type {kind}")).into()),
        };
        allowance.take(path.len())?;
        let leaf = FileLeaf {
            path: path.clone(),
            physical,
            max_def: def,
            max_rep: rep,
        };
        allowance.push(&mut leaves, leaf)?;
    }
    Ok(leaves)
}

fn row_group(
    r: &mut Thrift<'_>,
    leaves: &[FileLeaf],
    size: u64,
    allowance: &mut Allowance<'_>,
) -> Result<RowGroup, DecodeFail> {
    let mut out = RowGroup::default();
    r.structure::<DecodeFail>(|r, field| {
        match field.id {
            1 => {
                let len = r.list(field, STRUCT)?;
                if len != leaves.len() || !out.chunks.is_empty() {
                    let leaves = leaves.len();
                    return Err(r.error(format!("{len} chunks for {leaves} leaves")).into());
                }
                allowance.reserve(&mut out.chunks, len)?;
                for _ in 0..len {
                    out.chunks.push(chunk(r, size, allowance)?);
                }
            }
            3 => out.rows = r.count(field)?,
            _ => return Ok(false),
        }
        Ok(true)
    })?;
    if out.chunks.len() != leaves.len() {
        return Err(r.error("a row group without chunks").into());
    }
    Ok(out)
}

fn chunk(
    r: &mut Thrift<'_>,
    size: u64,
    allowance: &mut Allowance<'_>,
) -> Result<Chunk, DecodeFail> {
    let mut out = Chunk {
        range: 0..0,
        first_page: 0,
        is_all_dictionary: false,
        entries: 0,
        codec: LeafCodec::None,
        offset_index: None,
        column_index: None,
        min: None,
        max: None,
        nulls: None,
    };
    let (mut codec, mut bytes, mut data, mut dictionary) = (0, 0, 0, None);
    let (mut offset_index, mut column_index) = ([0u64; 2], [0u64; 2]);
    r.structure::<DecodeFail>(|r, field| {
        match field.id {
            3 => r.structure::<DecodeFail>(|r, field| {
                match field.id {
                    4 => codec = r.int(field)?,
                    5 => out.entries = r.count(field)?,
                    7 => bytes = r.count(field)?,
                    9 => data = r.count(field)?,
                    11 => dictionary = Some(r.count(field)?),
                    12 => statistics(r, &mut out, allowance)?,
                    13 => out.is_all_dictionary = is_all_dictionary(r, field)?,
                    _ => return Ok(false),
                }
                Ok(true)
            })?,
            4 => offset_index[0] = r.count(field)?,
            5 => offset_index[1] = r.count(field)?,
            6 => column_index[0] = r.count(field)?,
            7 => column_index[1] = r.count(field)?,
            _ => return Ok(false),
        }
        Ok(true)
    })?;
    let within = |start: u64, len: u64| {
        let end = start.checked_add(len).filter(|end| *end <= size);
        end.map(|end| start..end)
    };
    out.codec = match codec {
        0 => LeafCodec::None,
        1 => LeafCodec::Snappy,
        6 => LeafCodec::Zstd,
        codec => return Err(r.error(format!("compression {codec} is not known")).into()),
    };
    // Some writers say 0 for no dictionary.
    let start = dictionary.filter(|d| *d > 0 && *d < data).unwrap_or(data);
    out.range = within(start, bytes).ok_or_else(|| r.error("a chunk beyond the file"))?;
    out.first_page = data.clamp(out.range.start, out.range.end);
    out.is_all_dictionary &= out.first_page > out.range.start;
    let index = |[start, len]: [u64; 2]| within(start, len).filter(|range| !range.is_empty());
    out.offset_index = index(offset_index);
    out.column_index = index(column_index);
    Ok(out)
}

/// Reads how many pages have which encoding: whether all pages of data have the dictionary's.
fn is_all_dictionary(r: &mut Thrift<'_>, field: Field) -> Result<bool, DecodeFail> {
    let len = r.list(field, STRUCT)?;
    let mut is_all = len > 0;
    for _ in 0..len {
        let (mut page, mut encoding, mut count) = (0, 0, 0);
        r.structure::<DecodeError>(|r, field| {
            match field.id {
                1 => page = r.int(field)?,
                2 => encoding = r.int(field)?,
                3 => count = r.int(field)?,
                _ => return Ok(false),
            }
            Ok(true)
        })?;
        let is_data = matches!(page, 0 | 3);
        is_all &= !is_data || count == 0 || matches!(encoding, 2 | 8);
    }
    Ok(is_all)
}

fn statistics(
    r: &mut Thrift<'_>,
    out: &mut Chunk,
    allowance: &mut Allowance<'_>,
) -> Result<(), DecodeFail> {
    r.structure::<DecodeFail>(|r, field| {
        match (field.id, field.kind) {
            (3, _) => out.nulls = Some(r.count(field)?),
            (5, BINARY) => {
                let bytes = r.binary()?;
                allowance.take(bytes.len())?;
                out.max = Some(bytes.to_vec());
            }
            (6, BINARY) => {
                let bytes = r.binary()?;
                allowance.take(bytes.len())?;
                out.min = Some(bytes.to_vec());
            }
            _ => return Ok(false),
        }
        Ok(true)
    })
}
