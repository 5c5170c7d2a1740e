//! What a trace is: identifiers, and spans by scope and resource as OpenTelemetry has them. Pure.
//!
//! A trace that is kept or sent is bytes: the protobuf message `Trace { repeated ResourceSpans = 1 }`, which is also what an OTLP request is.
//! [`Trace`] is how they are looked at: every text of it borrows from those bytes. Whoever reads a trace out of a block writes such bytes
//! too, so that there is one shape between all doors and all holders.
//!
//! Texts are bytes: senders and other writers cut them where a length ends, within a character too.

mod decode;
mod encode;
mod id;
mod span;
#[cfg(test)]
mod tests;
mod value;

pub use id::{SpanId, TraceId};
pub use span::{Event, Link, ResourceSpans, ScopeSpans, Span, SpanKind, StatusCode, Trace};
pub use value::{Attribute, Value, Values};
