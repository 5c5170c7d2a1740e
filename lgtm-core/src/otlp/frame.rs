//! The frame around the items of a request: resources and scopes, as borrowed bytes.

use crate::codec::protobuf::{bytes_tag, skip, varint_tag};
use crate::codec::{Allowance, DecodeFail, Reader};
use crate::error::DecodeError;

/// What one resource sent.
#[derive(Debug, Default)]
pub struct Resource<'a> {
    /// Its attributes, each a `KeyValue`.
    pub attributes: Vec<&'a [u8]>,
    /// Its scopes; see [`Scoped`].
    pub scopes: Vec<&'a [u8]>,
}

/// What one instrumentation scope sent.
#[derive(Debug, Default)]
pub struct Scoped<'a> {
    /// The scope's name.
    pub name: &'a str,
    /// Its version.
    pub version: &'a str,
    /// The schema that its items keep to.
    pub schema_url: &'a str,
    /// Its attributes, each a `KeyValue`.
    pub attributes: Vec<&'a [u8]>,
    /// Attributes that the sender left out.
    pub dropped_attributes_count: u64,
    /// Metrics, log records or spans.
    pub items: Vec<&'a [u8]>,
}

/// The messages of a field of `message`, in order.
///
/// Each may be an error, and then is the last: for bytes that are no message.
pub fn submessages<'a>(
    what: &'static str,
    message: &'a [u8],
    number: u64,
) -> impl Iterator<Item = Result<&'a [u8], DecodeError>> + use<'a> {
    let mut r = Reader::new(what, message);
    let mut next = move || {
        while !r.is_empty() {
            match r.uvarint()? {
                tag if tag == bytes_tag(number) => return r.bytes().map(Some),
                tag => skip(&mut r, tag)?,
            }
        }
        Ok(None)
    };
    let mut failed = false;
    std::iter::from_fn(move || {
        if failed {
            return None;
        }
        let item = next().transpose();
        failed = matches!(item, Some(Err(_)));
        item
    })
}

impl<'a> Resource<'a> {
    /// Reads `ResourceMetrics`, `ResourceLogs` or `ResourceSpans`; `what` names it in errors.
    ///
    /// # Errors
    /// For bytes that are none; what `allowance` refuses.
    pub fn decode(
        what: &'static str,
        bytes: &'a [u8],
        allowance: &mut Allowance<'_>,
    ) -> Result<Self, DecodeFail> {
        let mut out = Self::default();
        let mut r = Reader::new(what, bytes);
        while !r.is_empty() {
            match r.uvarint()? {
                tag if tag == bytes_tag(1) => {
                    for attribute in submessages("resource", r.bytes()?, 1) {
                        allowance.push(&mut out.attributes, attribute?)?;
                    }
                }
                tag if tag == bytes_tag(2) => allowance.push(&mut out.scopes, r.bytes()?)?,
                tag => skip(&mut r, tag)?,
            }
        }
        Ok(out)
    }
}

impl<'a> Scoped<'a> {
    /// Reads `ScopeMetrics`, `ScopeLogs` or `ScopeSpans`; `what` names it in errors.
    ///
    /// # Errors
    /// For bytes that are none; what `allowance` refuses.
    pub fn decode(
        what: &'static str,
        bytes: &'a [u8],
        allowance: &mut Allowance<'_>,
    ) -> Result<Self, DecodeFail> {
        let mut out = Self::default();
        let mut r = Reader::new(what, bytes);
        while !r.is_empty() {
            match r.uvarint()? {
                tag if tag == bytes_tag(1) => out.scope(r.bytes()?, allowance)?,
                tag if tag == bytes_tag(2) => allowance.push(&mut out.items, r.bytes()?)?,
                tag if tag == bytes_tag(3) => out.schema_url = r.str()?,
                tag => skip(&mut r, tag)?,
            }
        }
        Ok(out)
    }

    fn scope(&mut self, bytes: &'a [u8], allowance: &mut Allowance<'_>) -> Result<(), DecodeFail> {
        let mut r = Reader::new("scope", bytes);
        while !r.is_empty() {
            match r.uvarint()? {
                tag if tag == bytes_tag(1) => self.name = r.str()?,
                tag if tag == bytes_tag(2) => self.version = r.str()?,
                tag if tag == bytes_tag(3) => allowance.push(&mut self.attributes, r.bytes()?)?,
                tag if tag == varint_tag(4) => self.dropped_attributes_count = r.uvarint()?,
                tag => skip(&mut r, tag)?,
            }
        }
        Ok(())
    }
}
