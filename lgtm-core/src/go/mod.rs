//! Values as Go spells them, since the peers, their languages and their files do: quoted text, numbers, durations, floats, times, JSON.

mod duration;
mod float;
pub mod json;
mod number;
mod quote;
mod time;

pub use duration::{ns_to_seconds, parse_duration_ns};
pub use float::{
    format_open_metrics, format_plain, format_short, format_two_digits, push_float,
    push_json_float, push_plain_float, push_whole,
};
pub use number::parse_number;
pub use quote::{code_point, quote, quote_bytes, quote_char, unquote};
pub use time::{format_rfc3339, format_time, parse_rfc3339_ms, parse_rfc3339_ns};
