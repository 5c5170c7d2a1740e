//! Label sets in messages: each text once a message.
//!
//! ```text
//! message = { item = 1, repeated; symbols = 2; end = 3 }
//! item    = labels, as many times (name, value) as symbols' numbers; then what else it has, to its end
//! symbols = each text with its length
//! ```
//!
//! All numbers are varints. Names and values of neighbours are mostly the same, so that a label set costs some bytes.

use hashbrown::HashMap;

use super::walk::{broken, walk};
use crate::codec::protobuf::{bytes_tag, put_bytes_field, put_message};
use crate::codec::{Reader, put_bytes, put_uvarint};
use crate::model::{LabelArena, Labels};
use crate::{Error, Result};

/// Bytes from which on a message is sent. One item more may be in it.
pub const MESSAGE_BYTES: usize = 512 << 10;
/// Labels of an item that room is made for before they are seen.
const USUAL_LABELS: usize = 32;

/// Numbers of the texts of a message.
#[derive(Debug, Default)]
pub struct SymbolWriter<'a> {
    numbers: HashMap<&'a str, u64>,
    bytes: Vec<u8>,
}

impl<'a> SymbolWriter<'a> {
    /// Bytes of the texts so far.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether there is no text yet.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// The texts, for field 2.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The number of a text.
    pub fn number(&mut self, text: &'a str) -> u64 {
        let next = self.numbers.len() as u64;
        *self.numbers.entry(text).or_insert_with(|| {
            put_bytes(&mut self.bytes, text.as_bytes());
            next
        })
    }

    /// Appends a label set as numbers.
    pub fn put_labels(&mut self, out: &mut Vec<u8>, labels: &'a Labels) {
        put_uvarint(out, labels.len() as u64);
        for (name, value) in labels.iter() {
            put_uvarint(out, self.number(name));
            put_uvarint(out, self.number(value));
        }
    }
}

/// Appends a message of the first label sets, as many as fit; how many those are, at least one of any.
pub fn put_label_sets(out: &mut Vec<u8>, sets: &[Labels]) -> usize {
    let (mut symbols, begin) = (SymbolWriter::default(), out.len());
    let mut count = 0;
    for labels in sets {
        if out.len() - begin + symbols.len() >= MESSAGE_BYTES {
            break;
        }
        put_message(out, 1, |out| symbols.put_labels(out, labels));
        count += 1;
    }
    put_bytes_field(out, 2, &symbols.bytes);
    count
}

/// Reads a message of label sets; what its end is, the caller knows.
///
/// # Errors
/// `InvalidInput` for bytes that are none.
pub fn read_label_sets(message: &[u8]) -> Result<(Vec<Labels>, Option<&[u8]>)> {
    let parts = LabelledMessage::of(message)?;
    let mut labels = SymbolReader::new(parts.texts()?);
    let sets = parts.items.iter().map(|bytes| {
        let mut r = Reader::new("label set", bytes);
        labels.read(&mut r)
    });
    Ok((sets.collect::<Result<_>>()?, parts.end))
}

/// A message, its parts not looked into.
#[derive(Debug)]
pub struct LabelledMessage<'a> {
    /// The items.
    pub items: Vec<&'a [u8]>,
    symbols: &'a [u8],
    /// How the answer ended, in its last message.
    pub end: Option<&'a [u8]>,
}

impl<'a> LabelledMessage<'a> {
    /// The parts of a message.
    ///
    /// # Errors
    /// `InvalidInput` for bytes that are none.
    pub fn of(message: &'a [u8]) -> Result<Self> {
        let mut out = Self {
            items: Vec::new(),
            symbols: &[],
            end: None,
        };
        // An item has two bytes of tag and length and one of its count of labels at least.
        const LEAST_BYTES: usize = 3;
        debug_assert!(bytes_tag(1) < 0x80);
        walk("batch", message, |number, field| {
            match number {
                1 => {
                    if out.items.is_empty() {
                        out.items.reserve((message.len() / LEAST_BYTES).min(512));
                    }
                    out.items.push(field.bytes()?);
                }
                2 => out.symbols = field.bytes()?,
                3 => out.end = Some(field.bytes()?),
                _ => {}
            }
            Ok(())
        })?;
        Ok(out)
    }

    /// Its texts.
    ///
    /// # Errors
    /// `InvalidInput` for bytes that are none.
    pub fn texts(&self) -> Result<Vec<&'a str>> {
        let (mut r, mut out) = (Reader::new("symbols", self.symbols), Vec::new());
        while !r.is_empty() {
            out.push(r.str().map_err(broken)?);
        }
        Ok(out)
    }
}

/// Makes label sets of numbers.
#[derive(Debug)]
pub struct SymbolReader<'a> {
    texts: Vec<&'a str>,
    arena: LabelArena,
    pairs: Vec<(&'a str, &'a str)>,
}

impl<'a> SymbolReader<'a> {
    /// Of a message with these texts.
    pub fn new(texts: Vec<&'a str>) -> Self {
        Self {
            texts,
            arena: LabelArena::default(),
            pairs: Vec::with_capacity(USUAL_LABELS),
        }
    }

    /// Reads a label set.
    ///
    /// # Errors
    /// `InvalidInput` for bytes that are none, and for numbers without a text.
    pub fn read(&mut self, r: &mut Reader<'_>) -> Result<Labels> {
        let count = r.length().map_err(broken)?;
        self.pairs.clear();
        for _ in 0..count {
            let (name, value) = (self.text(r)?, self.text(r)?);
            self.pairs.push((name, value));
        }
        self.arena.from_sorted(self.pairs.iter().copied())
    }

    /// Reads a number, and gives its text.
    ///
    /// # Errors
    /// As [`SymbolReader::read`].
    pub fn text(&self, r: &mut Reader<'_>) -> Result<&'a str> {
        let number = r.uvarint().map_err(broken)?;
        let text = usize::try_from(number).ok().and_then(|n| self.texts.get(n));
        text.copied().ok_or_else(|| {
            Error::InvalidInput(format!(
                "symbol {number} of a message that has {}",
                self.texts.len()
            ))
        })
    }
}
