//! What one request may become in memory.
//!
//! A request of some KiB can name gigabytes: symbols that are referred to thousands of times, attributes that stand in every bucket of
//! a histogram, messages of two bytes that become forty. So a decoder asks here before it makes bytes. What it is given is bounded
//! for the request, and asked of a budget that all requests share, in steps, so that a sample costs a comparison and nothing more.

use crate::codec::size_bound::SizeBound;
use crate::error::{DecodeError, Error, Result};

/// What is asked of the budget at a time, at least: few enough bytes that small requests at once do not use it up.
const STEP_BYTES: usize = 64 << 10;
/// Most that a request may become whatever the settings say: places in a batch have 32 bits, and a batch may bring some memory along.
const MOST_BYTES: usize = u32::MAX as usize / 2;

/// Asks for so many bytes more of what all requests share; an error ends the decode.
pub type Grow<'a> = dyn FnMut(u64) -> Result<()> + Send + 'a;

/// What one request may become in memory. Memory that a batch kept from an earlier request is used without being asked for.
pub struct Allowance<'a> {
    max_bytes: usize,
    hint: &'static str,
    spent: usize,
    granted: usize,
    /// The most that was needed at a time for what is soon let go of.
    scratch: usize,
    grow: &'a mut Grow<'a>,
}

impl std::fmt::Debug for Allowance<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Allowance")
            .field("max_bytes", &self.max_bytes)
            .field("spent", &self.spent)
            .finish_non_exhaustive()
    }
}

impl<'a> Allowance<'a> {
    /// At most `max_bytes` (0: 2 GiB) for the request, asked of `grow`.
    pub fn new(max_bytes: usize, grow: &'a mut Grow<'a>) -> Self {
        Self {
            max_bytes: match max_bytes {
                0 => MOST_BYTES,
                max => max.min(MOST_BYTES),
            },
            hint: "",
            spent: 0,
            granted: 0,
            scratch: 0,
            grow,
        }
    }

    /// What a refusal says behind the bound: the setting's name, an id that clients know.
    #[must_use]
    pub fn hint(mut self, hint: &'static str) -> Self {
        self.hint = hint;
        self
    }

    /// Bytes taken so far.
    pub fn spent(&self) -> usize {
        self.spent
    }

    /// Takes bytes that are about to be made.
    ///
    /// # Errors
    /// `LimitExceeded` beyond the request's bound, naming it; those of the budget.
    #[inline]
    pub fn take(&mut self, bytes: usize) -> Result<()> {
        let spent = self.spent.saturating_add(bytes);
        if spent > self.max_bytes {
            let (max_bytes, hint) = (self.max_bytes, self.hint);
            let what = format!("the request takes at least {spent} bytes when it is decoded");
            return Err(SizeBound { max_bytes, hint }.exceeded(&what));
        }
        if spent > self.granted {
            let step = (spent - self.granted).max(STEP_BYTES);
            (self.grow)(step as u64)?;
            self.granted += step;
        }
        self.spent = spent;
        Ok(())
    }

    /// Takes bytes that are let go of before the next such call.
    ///
    /// # Errors
    /// As [`Allowance::take`].
    #[inline]
    pub fn scratch(&mut self, bytes: usize) -> Result<()> {
        if bytes > self.scratch {
            self.take(bytes - self.scratch)?;
            self.scratch = bytes;
        }
        Ok(())
    }

    /// Makes room for `additional` entries behind those of `vec`.
    ///
    /// # Errors
    /// As [`Allowance::take`].
    #[inline]
    pub fn reserve<T>(&mut self, vec: &mut Vec<T>, additional: usize) -> Result<()> {
        if additional > vec.capacity() - vec.len() {
            self.extend(vec, additional)
        } else {
            Ok(())
        }
    }

    /// Doubles the vector, or less where doubling it would use up the allowance.
    #[cold]
    fn extend<T>(&mut self, vec: &mut Vec<T>, additional: usize) -> Result<()> {
        let size = size_of::<T>().max(1);
        let left = (self.max_bytes - self.spent) / 2 / size;
        let step = vec.capacity().max(4).min(left);
        let needed = vec.len().saturating_add(additional);
        let wanted = needed.max(vec.capacity() + step);
        self.take((wanted - vec.capacity()).saturating_mul(size))?;
        vec.reserve_exact(wanted - vec.len());
        Ok(())
    }

    /// Appends an entry.
    ///
    /// # Errors
    /// As [`Allowance::take`].
    #[inline]
    pub fn push<T>(&mut self, vec: &mut Vec<T>, entry: T) -> Result<()> {
        self.reserve(vec, 1)?;
        vec.push(entry);
        Ok(())
    }

    /// Makes room for `additional` bytes behind those of `text`.
    ///
    /// # Errors
    /// As [`Allowance::take`].
    #[inline]
    pub fn reserve_text(&mut self, text: &mut String, additional: usize) -> Result<()> {
        if additional <= text.capacity() - text.len() {
            return Ok(());
        }
        let wanted = (text.len().saturating_add(additional)).max(text.capacity().saturating_mul(2));
        self.take(wanted - text.capacity())?;
        text.reserve_exact(wanted - text.len());
        Ok(())
    }
}

/// What ends a decode.
#[derive(Debug)]
pub enum DecodeFail {
    /// The bytes are not what they should be.
    Broken(DecodeError),
    /// There is no room for what they mean.
    Refused(Error),
}

impl From<DecodeError> for DecodeFail {
    fn from(e: DecodeError) -> Self {
        Self::Broken(e)
    }
}

impl From<Error> for DecodeFail {
    fn from(e: Error) -> Self {
        Self::Refused(e)
    }
}

impl From<DecodeFail> for Error {
    fn from(e: DecodeFail) -> Self {
        match e {
            DecodeFail::Broken(e) => Self::InvalidInput(format!("request does not decode: {e}")),
            DecodeFail::Refused(e) => e,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;

    #[test]
    fn bytes_are_asked_for_in_steps_and_before_they_are_made() {
        let mut asked = Vec::new();
        let mut grow = |bytes: u64| {
            asked.push(bytes);
            Ok(())
        };
        let mut allowance = Allowance::new(1 << 20, &mut grow);
        let mut vec = Vec::<u64>::new();
        for n in 0..10_000 {
            allowance.push(&mut vec, n).unwrap();
        }
        assert!(vec.capacity() * 8 <= allowance.spent());
        assert_eq!(allowance.spent(), 16_384 * 8);
        assert_eq!(asked, [64 << 10, 64 << 10]);
    }

    #[test]
    fn the_bound_is_named_and_can_be_filled() {
        let mut grow = |_| Ok(());
        let mut allowance = Allowance::new(1000, &mut grow);
        let mut vec = Vec::<u8>::new();
        let error = loop {
            if let Err(e) = allowance.push(&mut vec, 0) {
                break e;
            }
        };
        assert_eq!(error.kind(), ErrorKind::LimitExceeded);
        let text = error.to_string();
        assert!(
            text.contains("at least 1001 bytes") && text.contains("limit is 1000"),
            "{text}"
        );
        assert_eq!((vec.len(), vec.capacity()), (1000, 1000));
        assert!(allowance.reserve(&mut vec, usize::MAX).is_err());
        assert!(
            allowance
                .reserve_text(&mut String::new(), usize::MAX)
                .is_err()
        );
    }

    #[test]
    fn what_is_let_go_of_counts_once() {
        let mut grow = |_| Ok(());
        let mut allowance = Allowance::new(1000, &mut grow);
        for bytes in [100, 300, 200] {
            allowance.scratch(bytes).unwrap();
        }
        assert_eq!(allowance.spent(), 300);
        assert!(allowance.scratch(1001).is_err());
    }

    #[test]
    fn a_budget_that_is_used_up_ends_the_decode() {
        let mut left = 100u64 << 10;
        let mut grow = |bytes: u64| {
            left = left
                .checked_sub(bytes)
                .ok_or_else(|| Error::Unavailable("full".into()))?;
            Ok(())
        };
        let mut allowance = Allowance::new(0, &mut grow);
        let mut vec = Vec::<u8>::new();
        allowance.reserve(&mut vec, 60 << 10).unwrap();
        let error = allowance.reserve(&mut vec, 120 << 10).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        assert_eq!(vec.capacity(), 60 << 10, "nothing was made");
    }
}
