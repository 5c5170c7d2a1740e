//! Loki's push as JSON, and the older form of `/api/prom/push`; see `docs/format/push.md`.
//!
//! A text without escapes is noted where it stands; only others are copied.

use std::borrow::Cow;
use std::fmt;

use lgtm_core::codec::{Allowance, DecodeFail};
use lgtm_core::error::first_chars;
use lgtm_core::go::parse_rfc3339_ns;
use lgtm_core::model::TimestampNs;
use lgtm_core::{Error, Result};
use serde::de::{DeserializeSeed, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::batch::{Place, PushBatch};
use super::decoding::{Decoding, decode_with};
use super::options::PushOptions;
use super::push_protobuf::end_with_text;
use super::stream_labels::{LabelPairs, PAIR_BYTES};

/// Decodes `{"streams":[{"stream":{..},"values":[["ns","line",{..}]]}]}`, handed over through `fill` as in
/// [`decode_protobuf`](super::decode_protobuf).
///
/// # Errors
/// As there.
pub fn decode_json(
    batch: &mut PushBatch,
    options: &PushOptions<'_>,
    allowance: &mut Allowance<'_>,
    fill: impl FnOnce(&mut Vec<u8>, &mut Allowance<'_>) -> Result<()>,
) -> Result<()> {
    decode_form(batch, options, allowance, fill, Form::Current)
}

/// Decodes `{"streams":[{"labels":"{..}","entries":[{"ts":"RFC 3339","line":".."}]}]}`, handed over through `fill` as in
/// [`decode_protobuf`](super::decode_protobuf).
///
/// # Errors
/// As there.
pub fn decode_legacy_json(
    batch: &mut PushBatch,
    options: &PushOptions<'_>,
    allowance: &mut Allowance<'_>,
    fill: impl FnOnce(&mut Vec<u8>, &mut Allowance<'_>) -> Result<()>,
) -> Result<()> {
    decode_form(batch, options, allowance, fill, Form::Legacy)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Current,
    Legacy,
}

fn decode_form(
    batch: &mut PushBatch,
    options: &PushOptions<'_>,
    allowance: &mut Allowance<'_>,
    fill: impl FnOnce(&mut Vec<u8>, &mut Allowance<'_>) -> Result<()>,
    form: Form,
) -> Result<()> {
    decode_with(batch, options, allowance, fill, |decoding, body| {
        let mut de = serde_json::Deserializer::from_slice(body);
        let mut sink = Sink {
            decoding,
            form,
            refused: None,
        };
        let done = Request(&mut sink)
            .deserialize(&mut de)
            .and_then(|()| de.end());
        match (sink.refused, done) {
            (Some(refused), _) => Err(refused),
            (None, done) => Ok(done.map_err(|e| in_words(&e))?),
        }
    })
}

/// What is wrong with the JSON; a text that it repeats is cut.
fn in_words(e: &serde_json::Error) -> Error {
    let text = e.to_string();
    Error::InvalidInput(format!(
        "request is not a JSON push: {}",
        first_chars(&text, 400)
    ))
}

struct Sink<'s, 'd, 'b, 'g> {
    decoding: &'s mut Decoding<'d, 'b, 'g>,
    form: Form,
    /// Why the rest is not read, which the reader of JSON cannot tell.
    refused: Option<DecodeFail>,
}

impl Sink<'_, '_, '_, '_> {
    /// Ends the reading of the JSON when something else than the JSON is wrong.
    fn keep<T, E: serde::de::Error>(
        &mut self,
        done: std::result::Result<T, impl Into<DecodeFail>>,
    ) -> std::result::Result<T, E> {
        done.map_err(|e| {
            self.refused = Some(e.into());
            E::custom("refused")
        })
    }
}

/// Makes `$name` a value that is read by its visitor, in whatever shape it comes.
macro_rules! read_by_visitor {
    ($($name:ident),*) => {$(
        impl<'de> DeserializeSeed<'de> for $name<'_, '_, '_, '_, '_> {
            type Value = <Self as Visitor<'de>>::Value;

            fn deserialize<D: serde::Deserializer<'de>>(
                self,
                d: D,
            ) -> std::result::Result<Self::Value, D::Error> {
                d.deserialize_any(self)
            }
        }
    )*};
}

struct Request<'r, 's, 'd, 'b, 'g>(&'r mut Sink<'s, 'd, 'b, 'g>);
struct Streams<'r, 's, 'd, 'b, 'g>(&'r mut Sink<'s, 'd, 'b, 'g>);
struct Stream<'r, 's, 'd, 'b, 'g>(&'r mut Sink<'s, 'd, 'b, 'g>);
struct StreamMap<'r, 's, 'd, 'b, 'g>(&'r mut Sink<'s, 'd, 'b, 'g>);
struct Entries<'r, 's, 'd, 'b, 'g>(&'r mut Sink<'s, 'd, 'b, 'g>);
struct Entry<'r, 's, 'd, 'b, 'g>(&'r mut Sink<'s, 'd, 'b, 'g>);
struct Metadata<'r, 's, 'd, 'b, 'g>(&'r mut Sink<'s, 'd, 'b, 'g>);
/// A text, whatever bytes it has.
struct Text<'r, 's, 'd, 'b, 'g>(&'r mut Sink<'s, 'd, 'b, 'g>);

read_by_visitor!(
    Request, Streams, Stream, StreamMap, Entries, Entry, Metadata
);

/// A text of the grammar (a key, a time, a label), borrowed where it has no escapes.
struct Key<'de>(Cow<'de, str>);

impl std::ops::Deref for Key<'_> {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl<'de> serde::Deserialize<'de> for Key<'de> {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> std::result::Result<Self, D::Error> {
        struct KeyVisitor;
        impl<'de> Visitor<'de> for KeyVisitor {
            type Value = Key<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text")
            }

            fn visit_borrowed_str<E>(self, v: &'de str) -> std::result::Result<Key<'de>, E> {
                Ok(Key(Cow::Borrowed(v)))
            }

            fn visit_str<E>(self, v: &str) -> std::result::Result<Key<'de>, E> {
                Ok(Key(Cow::Owned(v.to_owned())))
            }
        }
        d.deserialize_str(KeyVisitor)
    }
}

impl<'de> Visitor<'de> for Request<'_, '_, '_, '_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with streams")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<(), A::Error> {
        while let Some(key) = map.next_key::<Key<'de>>()? {
            match &*key {
                "streams" => map.next_value_seed(Streams(&mut *self.0))?,
                _ => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(())
    }
}

impl<'de> Visitor<'de> for Streams<'_, '_, '_, '_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of streams")
    }

    fn visit_unit<E>(self) -> std::result::Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> std::result::Result<(), A::Error> {
        while seq.next_element_seed(Stream(&mut *self.0))?.is_some() {}
        Ok(())
    }
}

impl<'de> Visitor<'de> for Stream<'_, '_, '_, '_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a stream")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<(), A::Error> {
        let sink = self.0;
        sink.decoding.batch.streams_sent += 1;
        let (mut pairs, mut text) = (LabelPairs::default(), None::<Key<'de>>);
        while let Some(key) = map.next_key::<Key<'de>>()? {
            match (&*key, sink.form) {
                ("stream", Form::Current) => {
                    pairs = map.next_value_seed(StreamMap(&mut *sink))?;
                }
                ("labels", Form::Legacy) => text = Some(map.next_value()?),
                ("values", Form::Current) | ("entries", Form::Legacy) => {
                    map.next_value_seed(Entries(&mut *sink))?;
                }
                _ => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        if !sink.decoding.has_entries() {
            return Ok(());
        }
        let ended = match text {
            Some(text) => end_with_text(sink.decoding, text.as_bytes()),
            None => match pairs.check_names() {
                Ok(()) => sink.decoding.end_stream(pairs),
                Err(e) => Err(e.into()),
            },
        };
        sink.keep(ended)
    }
}

impl<'de> Visitor<'de> for StreamMap<'_, '_, '_, '_, '_> {
    type Value = LabelPairs<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of labels, all texts")
    }

    fn visit_unit<E>(self) -> std::result::Result<Self::Value, E> {
        Ok(LabelPairs::default())
    }

    fn visit_map<A: MapAccess<'de>>(
        self,
        mut map: A,
    ) -> std::result::Result<Self::Value, A::Error> {
        let sink = self.0;
        let mut pairs = LabelPairs::default();
        let mut bytes = 0;
        while let Some((name, value)) = map.next_entry::<Key<'de>, Key<'de>>()? {
            // Twice, as the list grows by doubling.
            bytes += 2 * PAIR_BYTES + name.len() + value.len();
            let room = sink.decoding.allowance.scratch(bytes);
            sink.keep(room)?;
            pairs.push(name.0, value.0);
        }
        Ok(pairs)
    }
}

impl<'de> Visitor<'de> for Entries<'_, '_, '_, '_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of entries")
    }

    fn visit_unit<E>(self) -> std::result::Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> std::result::Result<(), A::Error> {
        while seq.next_element_seed(Entry(&mut *self.0))?.is_some() {}
        Ok(())
    }
}

impl<'de> Visitor<'de> for Entry<'_, '_, '_, '_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0.form {
            Form::Current => "a list of time, line and perhaps metadata",
            Form::Legacy => "an object with ts and line",
        })
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> std::result::Result<(), A::Error> {
        let sink = self.0;
        if sink.form == Form::Legacy {
            return Err(A::Error::custom("an entry is an object with ts and line"));
        }
        let short = || A::Error::custom("an entry is a list of time, line and perhaps metadata");
        let time: Key<'de> = seq.next_element()?.ok_or_else(short)?;
        let t_ns = time.parse::<i64>().map_err(|_| {
            let time = first_chars(&time, 100);
            A::Error::custom(format!("{time:?} is no time in nanoseconds"))
        })?;
        let line = seq.next_element_seed(Text(&mut *sink))?;
        let line = line.ok_or_else(short)?;
        let pairs = seq.next_element_seed(Metadata(&mut *sink))?;
        if pairs.is_some() {
            while seq.next_element::<IgnoredAny>()?.is_some() {}
        }
        let added = sink.decoding.entry(TimestampNs::new(t_ns), line);
        sink.keep(added)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<(), A::Error> {
        let sink = self.0;
        if sink.form == Form::Current {
            return Err(A::Error::custom("an entry is a list of time and line"));
        }
        let (mut t_ns, mut line) = (None, Place::default());
        while let Some(key) = map.next_key::<Key<'de>>()? {
            match &*key {
                "ts" => {
                    let time: Key<'de> = map.next_value()?;
                    t_ns = Some(parse_rfc3339_ns(&time).ok_or_else(|| {
                        let time = first_chars(&time, 100);
                        A::Error::custom(format!("{time:?} is no RFC 3339 time"))
                    })?);
                }
                "line" => line = map.next_value_seed(Text(&mut *sink))?,
                _ => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        let t_ns = t_ns.ok_or_else(|| A::Error::custom("an entry has no ts"))?;
        let added = sink.decoding.entry(t_ns, line);
        sink.keep(added)
    }
}

impl<'de> Visitor<'de> for Metadata<'_, '_, '_, '_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of structured metadata, all texts")
    }

    fn visit_unit<E>(self) -> std::result::Result<(), E> {
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<(), A::Error> {
        let sink = self.0;
        while let Some(name) = map.next_key::<Key<'de>>()? {
            let name = sink.decoding.place(name.as_bytes());
            let name = sink.keep(name)?;
            let value = map.next_value_seed(ValidText(&mut *sink))?;
            let added = sink.decoding.pair(name, value);
            sink.keep(added)?;
        }
        Ok(())
    }
}

impl<'de> DeserializeSeed<'de> for Text<'_, '_, '_, '_, '_> {
    type Value = Place;

    fn deserialize<D: serde::Deserializer<'de>>(
        self,
        d: D,
    ) -> std::result::Result<Place, D::Error> {
        d.deserialize_bytes(self)
    }
}

impl<'de> Visitor<'de> for Text<'_, '_, '_, '_, '_> {
    type Value = Place;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text")
    }

    fn visit_bytes<E: serde::de::Error>(self, v: &[u8]) -> std::result::Result<Place, E> {
        let place = self.0.decoding.place(v);
        self.0.keep(place)
    }
}

/// A text that becomes UTF-8.
struct ValidText<'r, 's, 'd, 'b, 'g>(&'r mut Sink<'s, 'd, 'b, 'g>);

impl<'de> DeserializeSeed<'de> for ValidText<'_, '_, '_, '_, '_> {
    type Value = Place;

    fn deserialize<D: serde::Deserializer<'de>>(
        self,
        d: D,
    ) -> std::result::Result<Place, D::Error> {
        d.deserialize_bytes(self)
    }
}

impl<'de> Visitor<'de> for ValidText<'_, '_, '_, '_, '_> {
    type Value = Place;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text")
    }

    fn visit_bytes<E: serde::de::Error>(self, v: &[u8]) -> std::result::Result<Place, E> {
        let place = self.0.decoding.valid(v);
        self.0.keep(place)
    }
}
