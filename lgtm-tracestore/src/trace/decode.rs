//! Traces out of protobuf. Nothing is copied; vectors are asked for before they grow.

use lgtm_core::codec::protobuf::{bytes_tag, fixed64_tag, skip, varint_tag};
use lgtm_core::codec::{Allowance, DecodeFail, Reader};
use lgtm_core::otlp::submessages;

use crate::trace::{Attribute, Event, Link, ResourceSpans, ScopeSpans, Span, Trace};

impl<'a> Trace<'a> {
    /// Reads `Trace { repeated ResourceSpans = 1 }`, which is what an OTLP request is as well.
    ///
    /// # Errors
    /// For bytes that are none; what `allowance` refuses.
    pub fn decode(bytes: &'a [u8], allowance: &mut Allowance<'_>) -> Result<Self, DecodeFail> {
        let mut out = Self::default();
        for resource in submessages("trace", bytes, 1) {
            let resource = ResourceSpans::decode(resource?, allowance)?;
            allowance.push(&mut out.resources, resource)?;
        }
        Ok(out)
    }
}

impl<'a> ResourceSpans<'a> {
    /// Reads a `ResourceSpans`.
    ///
    /// # Errors
    /// As [`Trace::decode`].
    pub fn decode(bytes: &'a [u8], allowance: &mut Allowance<'_>) -> Result<Self, DecodeFail> {
        let mut out = Self::default();
        let mut r = Reader::new("resource spans", bytes);
        while !r.is_empty() {
            match r.uvarint()? {
                tag if tag == bytes_tag(1) => out.decode_resource(r.bytes()?, allowance)?,
                tag if tag == bytes_tag(2) => {
                    let scope = ScopeSpans::decode(r.bytes()?, allowance)?;
                    allowance.push(&mut out.scopes, scope)?;
                }
                tag => skip(&mut r, tag)?,
            }
        }
        Ok(out)
    }

    /// Reads the `Resource` into `self`.
    ///
    /// # Errors
    /// As [`Trace::decode`].
    pub fn decode_resource(
        &mut self,
        bytes: &'a [u8],
        allowance: &mut Allowance<'_>,
    ) -> Result<(), DecodeFail> {
        let mut r = Reader::new("resource", bytes);
        while !r.is_empty() {
            match r.uvarint()? {
                tag if tag == bytes_tag(1) => push(&mut self.attributes, r.bytes()?, allowance)?,
                tag if tag == varint_tag(2) => self.dropped_attributes_count = r.uvarint()? as u32,
                tag => skip(&mut r, tag)?,
            }
        }
        Ok(())
    }
}

impl<'a> ScopeSpans<'a> {
    /// Reads a `ScopeSpans`.
    ///
    /// # Errors
    /// As [`Trace::decode`].
    pub fn decode(bytes: &'a [u8], allowance: &mut Allowance<'_>) -> Result<Self, DecodeFail> {
        let mut out = Self::default();
        let mut r = Reader::new("scope spans", bytes);
        while !r.is_empty() {
            match r.uvarint()? {
                tag if tag == bytes_tag(1) => out.decode_scope(r.bytes()?, allowance)?,
                tag if tag == bytes_tag(2) => {
                    let span = Span::decode(r.bytes()?, allowance)?;
                    allowance.push(&mut out.spans, span)?;
                }
                tag => skip(&mut r, tag)?,
            }
        }
        Ok(out)
    }

    /// Reads the `InstrumentationScope` into `self`.
    ///
    /// # Errors
    /// As [`Trace::decode`].
    pub fn decode_scope(
        &mut self,
        bytes: &'a [u8],
        allowance: &mut Allowance<'_>,
    ) -> Result<(), DecodeFail> {
        let mut r = Reader::new("scope", bytes);
        while !r.is_empty() {
            match r.uvarint()? {
                tag if tag == bytes_tag(1) => self.name = r.bytes()?,
                tag if tag == bytes_tag(2) => self.version = r.bytes()?,
                tag if tag == bytes_tag(3) => push(&mut self.attributes, r.bytes()?, allowance)?,
                tag if tag == varint_tag(4) => self.dropped_attributes_count = r.uvarint()? as u32,
                tag => skip(&mut r, tag)?,
            }
        }
        Ok(())
    }
}

impl<'a> Span<'a> {
    /// Reads a `Span`.
    ///
    /// # Errors
    /// As [`Trace::decode`].
    pub fn decode(bytes: &'a [u8], allowance: &mut Allowance<'_>) -> Result<Self, DecodeFail> {
        let mut out = Self::default();
        let mut r = Reader::new("span", bytes);
        while !r.is_empty() {
            match r.uvarint()? {
                tag if tag == bytes_tag(1) => out.trace_id = r.bytes()?,
                tag if tag == bytes_tag(2) => out.span_id = r.bytes()?,
                tag if tag == bytes_tag(3) => out.trace_state = r.bytes()?,
                tag if tag == bytes_tag(4) => out.parent_span_id = r.bytes()?,
                tag if tag == bytes_tag(5) => out.name = r.bytes()?,
                tag if tag == varint_tag(6) => out.kind = r.uvarint()? as i32,
                tag if tag == fixed64_tag(7) => out.start_ns = r.u64_le()?,
                tag if tag == fixed64_tag(8) => out.end_ns = r.u64_le()?,
                tag if tag == bytes_tag(9) => push(&mut out.attributes, r.bytes()?, allowance)?,
                tag if tag == varint_tag(10) => out.dropped_attributes_count = r.uvarint()? as u32,
                tag if tag == bytes_tag(11) => {
                    let event = Event::decode(r.bytes()?, allowance)?;
                    allowance.push(&mut out.events, event)?;
                }
                tag if tag == varint_tag(12) => out.dropped_events_count = r.uvarint()? as u32,
                tag if tag == bytes_tag(13) => {
                    let link = Link::decode(r.bytes()?, allowance)?;
                    allowance.push(&mut out.links, link)?;
                }
                tag if tag == varint_tag(14) => out.dropped_links_count = r.uvarint()? as u32,
                tag if tag == bytes_tag(15) => out.decode_status(r.bytes()?)?,
                tag => skip(&mut r, tag)?,
            }
        }
        Ok(out)
    }

    fn decode_status(&mut self, bytes: &'a [u8]) -> Result<(), DecodeFail> {
        let mut r = Reader::new("status", bytes);
        while !r.is_empty() {
            match r.uvarint()? {
                tag if tag == bytes_tag(2) => self.status_message = r.bytes()?,
                tag if tag == varint_tag(3) => self.status_code = r.uvarint()? as i32,
                tag => skip(&mut r, tag)?,
            }
        }
        Ok(())
    }
}

impl<'a> Event<'a> {
    fn decode(bytes: &'a [u8], allowance: &mut Allowance<'_>) -> Result<Self, DecodeFail> {
        let mut out = Self::default();
        let mut r = Reader::new("event", bytes);
        while !r.is_empty() {
            match r.uvarint()? {
                tag if tag == fixed64_tag(1) => out.time_ns = r.u64_le()?,
                tag if tag == bytes_tag(2) => out.name = r.bytes()?,
                tag if tag == bytes_tag(3) => push(&mut out.attributes, r.bytes()?, allowance)?,
                tag if tag == varint_tag(4) => out.dropped_attributes_count = r.uvarint()? as u32,
                tag => skip(&mut r, tag)?,
            }
        }
        Ok(out)
    }
}

impl<'a> Link<'a> {
    fn decode(bytes: &'a [u8], allowance: &mut Allowance<'_>) -> Result<Self, DecodeFail> {
        let mut out = Self::default();
        let mut r = Reader::new("link", bytes);
        while !r.is_empty() {
            match r.uvarint()? {
                tag if tag == bytes_tag(1) => out.trace_id = r.bytes()?,
                tag if tag == bytes_tag(2) => out.span_id = r.bytes()?,
                tag if tag == bytes_tag(3) => out.trace_state = r.bytes()?,
                tag if tag == bytes_tag(4) => push(&mut out.attributes, r.bytes()?, allowance)?,
                tag if tag == varint_tag(5) => out.dropped_attributes_count = r.uvarint()? as u32,
                tag => skip(&mut r, tag)?,
            }
        }
        Ok(out)
    }
}

fn push<'a>(
    attributes: &mut Vec<Attribute<'a>>,
    bytes: &'a [u8],
    allowance: &mut Allowance<'_>,
) -> Result<(), DecodeFail> {
    let attribute = Attribute::decode(bytes)?;
    Ok(allowance.push(attributes, attribute)?)
}
