//! What the messages of several signals have in common: walking them field by field, matchers, label sets, lists.

mod label_sets;
mod list;
mod matchers;
mod walk;

pub use label_sets::{
    LabelledMessage, MESSAGE_BYTES, SymbolReader, SymbolWriter, put_label_sets, read_label_sets,
};
pub use list::{ListEnd, SentList, list_end, list_messages, put_list_end};
pub use matchers::{matcher, put_matcher};
pub use walk::{
    Field, broken, count, put_counts, put_double, put_text, put_time, put_time_ns, walk,
};
