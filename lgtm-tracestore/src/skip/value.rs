//! Values as the side file has them.

use lgtm_core::codec::{Reader, put_bytes, put_svarint};
use lgtm_core::error::DecodeError;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::select::Literal;

/// A value, in the order of types and then of values.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SkipValue {
    /// A text; of attributes only UTF-8 where nobody cut it.
    Text(Vec<u8>),
    /// An integer.
    Int(i64),
    /// The bits of a float.
    Float(u64),
    /// `true` or `false`.
    Bool(bool),
}

impl SkipValue {
    /// What stands for it in a set of hashes. Numbers of all types that are equal have the same.
    pub(super) fn hash(&self) -> u64 {
        match self {
            Self::Text(text) => xxh3_64_with_seed(text, 1),
            Self::Int(v) => number_hash(*v as f64),
            Self::Float(bits) => number_hash(f64::from_bits(*bits)),
            Self::Bool(v) => xxh3_64_with_seed(&[u8::from(*v)], 3),
        }
    }

    /// The hash of values that a literal equals; `None` where that is not one.
    pub(super) fn hash_of(literal: &Literal) -> Option<u64> {
        Some(match literal {
            Literal::Text(text) => xxh3_64_with_seed(text.as_bytes(), 1),
            Literal::Int(v) | Literal::Duration(v) => number_hash(*v as f64),
            Literal::Float(v) => number_hash(*v),
            Literal::Bool(v) => xxh3_64_with_seed(&[u8::from(*v)], 3),
            Literal::Nil | Literal::Status(_) | Literal::Kind(_) => return None,
        })
    }

    /// Bytes that it takes, about.
    pub(super) fn size_bytes(&self) -> usize {
        match self {
            Self::Text(text) => text.len() + 2,
            Self::Int(_) | Self::Float(_) => 9,
            Self::Bool(_) => 2,
        }
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Text(text) => {
                out.push(0);
                put_bytes(out, text);
            }
            Self::Int(v) => {
                out.push(1);
                put_svarint(out, *v);
            }
            Self::Float(bits) => {
                out.push(2);
                out.extend_from_slice(&bits.to_le_bytes());
            }
            Self::Bool(v) => {
                out.push(3);
                out.push((*v).into());
            }
        }
    }

    pub(super) fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(match r.u8()? {
            0 => Self::Text(r.bytes()?.to_vec()),
            1 => Self::Int(r.svarint()?),
            2 => Self::Float(r.u64_le()?),
            3 => Self::Bool(r.u8()? != 0),
            kind => return Err(r.error(format!("a value of kind {kind}"))),
        })
    }
}

fn number_hash(v: f64) -> u64 {
    // Both zeros are equal.
    let v = if v == 0.0 { 0.0 } else { v };
    xxh3_64_with_seed(&v.to_bits().to_le_bytes(), 2)
}
