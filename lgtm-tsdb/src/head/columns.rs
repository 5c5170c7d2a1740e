//! Columns of the records in the log: values relative to a base, ids relative to the one before. See
//! `docs/format/head_records.md`.

use lgtm_core::DecodeError;
use lgtm_core::codec::{Reader, put_bytes, put_svarint};
use lgtm_core::postings::SeriesId;

/// Largest power of ten that values are scaled by.
const MAX_EXPONENT: u8 = 4;
const POW10: [f64; MAX_EXPONENT as usize + 1] = [1.0, 10.0, 100.0, 1e3, 1e4];
/// Integers up to here are exact in a float, with room for one more digit of scale.
const MAX_MANTISSA: f64 = 9e15;

/// The value equals the base.
const CLASS_SAME: u8 = 0;
/// `1 + k`: the value is a written integer divided by 10^k.
const CLASS_DECIMAL: u8 = 1;
/// `0x10 + k`: the same, but the integer is the difference to the base's.
const CLASS_DELTA: u8 = 0x10;
/// `0x40 + 8 * t + n - 1`: the bits are the base's, xor `n` bytes shifted left by `t` bytes.
const CLASS_XOR: u8 = 0x40;

/// `value` as an integer divided by a power of ten, if that is exact to the bit.
fn decimal(value: f64) -> Option<(u8, i64)> {
    if value == 0.0 {
        return value.is_sign_positive().then_some((0, 0));
    }
    for k in 0..=MAX_EXPONENT {
        let scaled = value * POW10[k as usize];
        // No NaN and no infinity is in the range.
        if !(-MAX_MANTISSA..MAX_MANTISSA).contains(&scaled) {
            return None;
        }
        let mantissa = scaled.round();
        if from_decimal(k, mantissa as i64).to_bits() == value.to_bits() {
            return Some((k, mantissa as i64));
        }
    }
    None
}

fn from_decimal(exponent: u8, mantissa: i64) -> f64 {
    mantissa as f64 / POW10[exponent as usize]
}

fn delta_to(value: f64, (k, m): (u8, i64), (base_k, base_m): (u8, i64)) -> Option<(u8, i64)> {
    let common = k.max(base_k);
    let scale = |k: u8, m: i64| m.checked_mul(POW10[(common - k) as usize] as i64);
    let scaled = scale(k, m)?;
    let delta = scaled.checked_sub(scale(base_k, base_m)?)?;
    (from_decimal(common, scaled).to_bits() == value.to_bits())
        .then_some((CLASS_DELTA + common, delta))
}

/// Values, each written relative to a base, column by column.
#[derive(Debug, Default)]
pub(super) struct ValueColumns {
    classes: Vec<u8>,
    mantissas: Vec<u8>,
    raw: Vec<u8>,
}

impl ValueColumns {
    #[inline]
    pub(super) fn push(&mut self, value: f64, base: f64) {
        if value.to_bits() == base.to_bits() {
            self.classes.push(CLASS_SAME);
        } else {
            self.push_changed(value, base);
        }
    }

    fn push_changed(&mut self, value: f64, base: f64) {
        if let Some((k, m)) = decimal(value) {
            if let Some((class, delta)) = decimal(base).and_then(|b| delta_to(value, (k, m), b)) {
                self.classes.push(class);
                put_svarint(&mut self.mantissas, delta);
            } else {
                self.classes.push(CLASS_DECIMAL + k);
                put_svarint(&mut self.mantissas, m);
            }
            return;
        }
        let x = value.to_bits() ^ base.to_bits();
        let shift = x.trailing_zeros() / 8;
        let len = 8 - x.leading_zeros() / 8 - shift;
        self.classes.push(CLASS_XOR + (shift * 8 + len - 1) as u8);
        self.raw
            .extend_from_slice(&(x >> (8 * shift)).to_le_bytes()[..len as usize]);
    }

    /// Appends the columns to `out` and empties them.
    pub(super) fn encode(&mut self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.classes);
        put_bytes(out, &self.mantissas);
        put_bytes(out, &self.raw);
        self.classes.clear();
        self.mantissas.clear();
        self.raw.clear();
    }
}

/// Reads value columns.
pub(super) struct Values<'a> {
    classes: std::slice::Iter<'a, u8>,
    mantissas: Reader<'a>,
    raw: Reader<'a>,
}

impl<'a> Values<'a> {
    pub(super) fn new(r: &mut Reader<'a>, count: usize) -> Result<Self, DecodeError> {
        let classes = r.take(count)?.iter();
        let mantissas = Reader::new("value mantissas", r.bytes()?);
        Ok(Self {
            classes,
            mantissas,
            raw: Reader::new("raw values", r.bytes()?),
        })
    }

    /// The next value, relative to `base`.
    pub(super) fn next(&mut self, base: f64) -> Result<f64, DecodeError> {
        let class = *self
            .classes
            .next()
            .ok_or_else(|| self.raw.error("more values than announced"))?;
        Ok(match class {
            CLASS_SAME => base,
            c if (CLASS_DECIMAL..=CLASS_DECIMAL + MAX_EXPONENT).contains(&c) => {
                from_decimal(c - CLASS_DECIMAL, self.mantissas.svarint()?)
            }
            c if (CLASS_DELTA..=CLASS_DELTA + MAX_EXPONENT).contains(&c) => {
                let (delta, common) = (self.mantissas.svarint()?, c - CLASS_DELTA);
                let of_base = decimal(base).filter(|(k, _)| *k <= common);
                let (k, m) = of_base
                    .ok_or_else(|| self.raw.error("difference to a base that is no decimal"))?;
                let scaled = m.wrapping_mul(POW10[(common - k) as usize] as i64);
                from_decimal(common, scaled.wrapping_add(delta))
            }
            c if (CLASS_XOR..CLASS_XOR + 64).contains(&c) => {
                let (shift, len) = ((c - CLASS_XOR) / 8, (c - CLASS_XOR) % 8 + 1);
                let mut x = [0; 8];
                x[..len as usize].copy_from_slice(self.raw.take(len as usize)?);
                f64::from_bits(base.to_bits() ^ (u64::from_le_bytes(x) << (8 * shift)))
            }
            c => return Err(self.raw.error(format!("unknown value class {c}"))),
        })
    }
}

/// Ids, each written relative to one more than the one before.
#[derive(Debug, Default)]
pub(super) struct IdColumn {
    bytes: Vec<u8>,
    last: i64,
}

impl IdColumn {
    #[inline]
    pub(super) fn push(&mut self, id: SeriesId) {
        put_svarint(
            &mut self.bytes,
            i64::from(id).wrapping_sub(self.last.wrapping_add(1)),
        );
        self.last = i64::from(id);
    }

    pub(super) fn encode(&mut self, out: &mut Vec<u8>) {
        put_bytes(out, &self.bytes);
        self.bytes.clear();
        self.last = 0;
    }
}

/// Reads an id column.
#[derive(Clone)]
pub(super) struct Ids<'a> {
    r: Reader<'a>,
    last: i64,
}

impl<'a> Ids<'a> {
    pub(super) fn new(r: &mut Reader<'a>) -> Result<Self, DecodeError> {
        Ok(Self {
            r: Reader::new("series ids", r.bytes()?),
            last: 0,
        })
    }

    pub(super) fn next(&mut self) -> Result<SeriesId, DecodeError> {
        self.last = self.last.wrapping_add(self.r.svarint()?).wrapping_add(1);
        SeriesId::try_from(self.last).map_err(|_| {
            self.r
                .error(format!("series id {} is out of range", self.last))
        })
    }
}
