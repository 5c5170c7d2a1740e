//! Chunks of logs as lines of JSON, each the body of a push to Loki.

use std::borrow::Cow;
use std::fmt::Write;

use futures::TryStreamExt;
use lgtm_core::codec::DecodeFail;
use lgtm_core::go::json::push_quoted;
use lgtm_core::storage::Bucket;
use lgtm_core::{DecodeError, Error, Result};
use lgtm_logstore::bucket::key_of_object;
use lgtm_logstore::chunk::{ChunkCodec, ChunkKey, read_object};

use super::export::Exported;
use crate::arguments::Arguments;
use crate::output::Output;
use crate::place::{Place, Signal};
use crate::progress::Progress;
use crate::times::Window;

/// A push ends with the entry that goes beyond it.
const PUSH_BYTES: usize = 1 << 20;

pub(super) async fn export(
    place: &Place,
    arguments: &Arguments,
    window: Window,
    out: &mut Output,
) -> Result<Exported> {
    let bucket = place.bucket(Signal::Logs);
    let chunks = chunks(place, arguments, &bucket, window).await?;
    let bar = Progress::new("chunks", chunks.len());
    let mut done = Exported::default();
    let mut codec = ChunkCodec::default();
    for (_, path) in chunks {
        chunk(&bucket, &path, window, &mut codec, out, &mut done).await?;
        done.objects += 1;
        bar.step(&path);
    }
    Ok(done)
}

/// The chunks that are asked for, the oldest first.
async fn chunks(
    place: &Place,
    arguments: &Arguments,
    bucket: &Bucket,
    window: Window,
) -> Result<Vec<(ChunkKey, String)>> {
    if let Some(object) = arguments.word(0) {
        let (_, path) = place.locate(object)?;
        let key = key_of_object(bucket, &path);
        let key = key.ok_or_else(|| Error::InvalidInput(format!("{object:?} is no chunk")))?;
        return Ok(vec![(key, path)]);
    }
    let tenant = place.one_tenant().await?;
    let mut objects = bucket.list(tenant.as_str());
    let mut wanted = Vec::new();
    let range = window.range_ms();
    while let Some(object) = objects.try_next().await? {
        let key = key_of_object(bucket, &object.path);
        let is_wanted = |k: &ChunkKey| {
            k.tenant == tenant.as_str() && k.from_ms < range.max_ms && k.through_ms >= range.min_ms
        };
        wanted.extend(key.filter(is_wanted).map(|key| (key, object.path)));
    }
    wanted.sort_by(|(a, x), (b, y)| (a.from_ms, x).cmp(&(b.from_ms, y)));
    Ok(wanted)
}

async fn chunk(
    bucket: &Bucket,
    path: &str,
    window: Window,
    codec: &mut ChunkCodec,
    out: &mut Output,
    done: &mut Exported,
) -> Result<()> {
    let object = bucket.get(path).await?;
    let told = |e: DecodeError| Error::corrupt(path, e);
    let fails = |e: DecodeFail| match e {
        DecodeFail::Broken(e) => told(e),
        DecodeFail::Refused(e) => e,
    };
    let (meta, chunk) = read_object(&object, &mut codec.decompressor).map_err(told)?;
    let symbols = chunk.symbols(codec).map_err(fails)?;
    let mut begin = String::from("{\"streams\":[{\"stream\":");
    push_object(&mut begin, meta.labels.iter());
    begin.push_str(",\"values\":[");
    let mut text = String::new();
    for place in chunk.blocks() {
        let block = chunk.read_block(place, &symbols, codec).map_err(fails)?;
        for entry in block.iter().filter(|e| window.has(e.t_ns)) {
            text.push_str(if text.is_empty() { &begin } else { "," });
            let _ = write!(text, "[\"{}\",", entry.t_ns.get());
            let line = String::from_utf8_lossy(entry.line);
            // JSON has no other bytes.
            done.left_out += u64::from(matches!(line, Cow::Owned(_)));
            push_quoted(&mut text, &line);
            if entry.has_metadata() {
                text.push(',');
                push_object(&mut text, entry.metadata());
            }
            text.push(']');
            done.items += 1;
            if text.len() >= PUSH_BYTES {
                end(&mut text, out)?;
            }
        }
    }
    end(&mut text, out)
}

/// Ends a push, if there is one.
fn end(text: &mut String, out: &mut Output) -> Result<()> {
    if !text.is_empty() {
        text.push_str("]}]}\n");
        out.write(text.as_bytes())?;
        text.clear();
    }
    Ok(())
}

fn push_object<'a>(out: &mut String, pairs: impl Iterator<Item = (&'a str, &'a str)>) {
    out.push('{');
    for (n, (name, value)) in pairs.enumerate() {
        if n > 0 {
            out.push(',');
        }
        push_quoted(out, name);
        out.push(':');
        push_quoted(out, value);
    }
    out.push('}');
}
