//! Lists on their way to who has asked, in several messages.
//!
//! ```text
//! label sets: items that have nothing else
//! texts:      { texts = 1, each with its length; end = 3 }
//! end:        { is_cut = 1; warnings = 2, repeated }, in the last message
//! ```

use crate::Result;
use crate::codec::protobuf::{bytes_tag, put_message, put_varint_field};
use crate::codec::{Reader, put_bytes, put_uvarint};
use crate::model::{Labels, Listed, TextSet};
use crate::rpc::RpcMessage;
use crate::{DecodeError, Error};

use super::label_sets::{MESSAGE_BYTES, put_label_sets, read_label_sets};
use super::walk::{broken, put_text, walk};

/// How a list ended.
#[derive(Debug, Default, PartialEq)]
pub struct ListEnd {
    /// Whether there is more than the list has.
    pub is_cut: bool,
    /// What the list lacks.
    pub warnings: Vec<String>,
}

/// The end of a list; of a stream of label sets that has nothing to say, too.
pub fn put_list_end(out: &mut Vec<u8>, end: &ListEnd) {
    put_message(out, 3, |out| {
        put_varint_field(out, 1, u64::from(end.is_cut));
        end.warnings.iter().for_each(|w| put_text(out, 2, w));
    });
}

/// What [`put_list_end`] wrote.
///
/// # Errors
/// `InvalidInput` for bytes that are none.
pub fn list_end(message: &[u8]) -> Result<ListEnd> {
    let mut out = ListEnd::default();
    walk("end", message, |number, field| {
        match number {
            1 => out.is_cut = field.flag()?,
            2 => out.warnings.push(field.string()?),
            _ => {}
        }
        Ok(())
    })?;
    Ok(out)
}

/// The messages of a list.
pub trait SentList: Default + Sized {
    /// Takes the next message of a list from the entry `from` on, and says where the next one begins.
    fn put(&self, from: usize, out: &mut Vec<u8>) -> usize;

    /// Number of entries.
    fn count(&self) -> usize;

    /// Adds what a message brings; the end, if it has one.
    ///
    /// # Errors
    /// `InvalidInput` for bytes that are no such message.
    fn take(&mut self, message: &[u8]) -> Result<Option<ListEnd>>;
}

/// All messages of a list, one by one.
pub fn list_messages<T: SentList>(list: Listed<T>) -> impl Iterator<Item = RpcMessage> {
    let (mut from, mut is_done) = (0, false);
    let tail = ListEnd {
        is_cut: list.is_cut,
        warnings: list.warnings,
    };
    std::iter::from_fn(move || {
        if is_done {
            return None;
        }
        Some(RpcMessage::of(|out| {
            if from < list.items.count() {
                from = list.items.put(from, out);
            }
            is_done = from >= list.items.count();
            if is_done {
                put_list_end(out, &tail);
            }
        }))
    })
}

impl SentList for Vec<Labels> {
    fn put(&self, from: usize, out: &mut Vec<u8>) -> usize {
        from + put_label_sets(out, &self[from..])
    }

    fn count(&self) -> usize {
        self.len()
    }

    fn take(&mut self, message: &[u8]) -> Result<Option<ListEnd>> {
        let (sets, tail) = read_label_sets(message)?;
        self.extend(sets);
        tail.map(list_end).transpose()
    }
}

impl SentList for TextSet {
    fn put(&self, from: usize, out: &mut Vec<u8>) -> usize {
        let (mut at, begin) = (from, out.len());
        // The length of the field is not known before: it takes the five bytes that any length of a message fits.
        put_uvarint(out, bytes_tag(1));
        let length_at = out.len();
        out.extend_from_slice(&[0x80, 0x80, 0x80, 0x80, 0]);
        while let Some(text) = self.get(at) {
            if out.len() - begin >= MESSAGE_BYTES {
                break;
            }
            put_bytes(out, text.as_bytes());
            at += 1;
        }
        let length = out.len() - length_at - 5;
        for (n, byte) in out[length_at..length_at + 5].iter_mut().enumerate() {
            *byte |= (length >> (7 * n)) as u8 & 0x7f;
        }
        at
    }

    fn count(&self) -> usize {
        self.len()
    }

    fn take(&mut self, message: &[u8]) -> Result<Option<ListEnd>> {
        let mut tail = None;
        walk("texts", message, |number, field| {
            match number {
                1 => add_texts(self, field.bytes()?).map_err(broken)?,
                3 => tail = Some(list_end(field.bytes()?)?),
                _ => {}
            }
            Ok::<_, Error>(())
        })?;
        Ok(tail)
    }
}

fn add_texts(set: &mut TextSet, bytes: &[u8]) -> Result<(), DecodeError> {
    let mut r = Reader::new("texts", bytes);
    while !r.is_empty() {
        let text = r.str()?;
        set.push(text).map_err(|_| r.error("texts out of order"))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sent<T: SentList + Clone>(list: &Listed<T>) -> (Listed<T>, usize) {
        let (mut items, mut count) = (T::default(), 0);
        let mut tail = None;
        for message in list_messages(list.clone()) {
            assert!(tail.is_none(), "nothing comes behind the end");
            let mut message = message;
            let bytes = message.buffer().split_off(5);
            tail = items.take(&bytes).unwrap();
            count += 1;
        }
        let tail = tail.unwrap();
        let back = Listed {
            items,
            is_cut: tail.is_cut,
            warnings: tail.warnings,
        };
        (back, count)
    }

    #[test]
    fn lists_arrive_as_they_were() {
        for n in [0, 1, 2, 60_000] {
            let texts: TextSet = (0..n)
                .map(|n| format!("value-{n:08}-{}", "ä".repeat(n % 9)))
                .collect();
            let list = Listed {
                items: texts,
                is_cut: n == 1,
                warnings: vec![format!("warned {n}")],
            };
            let (back, count) = sent(&list);
            assert!(back == list && (count > 1) == (n > 2), "{n} {count}");
            let sets: Vec<Labels> = (0..n)
                .map(|n| Labels::from_pairs([("a", "b"), ("n", &n.to_string())]).unwrap())
                .collect();
            let list = Listed::whole(sets);
            let (back, count) = sent(&list);
            assert!(back == list && (count > 1) == (n > 2), "{n} {count}");
        }
    }

    #[test]
    fn texts_out_of_order_are_refused() {
        let mut out = Vec::new();
        put_message(&mut out, 1, |out| {
            put_bytes(out, b"b");
            put_bytes(out, b"a");
        });
        assert!(TextSet::new().take(&out).is_err());
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes: Vec<u8>) {
            let _ = TextSet::new().take(&bytes);
            let _ = Vec::<Labels>::new().take(&bytes);
        }
    }
}
