//! Lines of JSON, each the body of a push to Loki, become chunks.

use lgtm_core::Result;
use lgtm_core::codec::Allowance;
use lgtm_core::limits::Overrides;
use lgtm_core::model::TenantId;
use lgtm_logstore::LogStore;
use lgtm_logstore::limits::Limits;
use lgtm_logstore::wire::decode_json;

use super::import::Imported;
use super::text::TextLines;
use crate::place::{Place, scratch};

/// Memory for one push.
const MAX_PUSH_BYTES: usize = 512 << 20;
/// Bytes of pushes that are in memory before they are written.
const BYTES_AT_ONCE: u64 = 256 << 20;

pub(super) async fn import(
    place: &Place,
    tenant: &TenantId,
    lines: &mut TextLines,
) -> Result<Imported> {
    let folder = scratch()?;
    let limits = Limits {
        accept_late_entries: true,
        // The streams are what they are: nothing is added to them.
        discover_service_name: Vec::new(),
        discover_log_levels: false,
        ..Limits::default()
    };
    let options = limits.clone();
    let db = LogStore::builder(folder.path(), place.backend())
        .layout(place.layout().clone())
        .schema(place.schema.clone())
        .limits(Overrides::fixed(limits))
        .without_housekeeping()
        .open()
        .await?;
    let mut done = Imported::default();
    let mut unwritten = 0u64;
    while let Some(line) = lines.next()? {
        if line.trim_ascii().is_empty() {
            continue;
        }
        unwritten += line.len() as u64;
        let mut batch = db.batch();
        let decoded = {
            let (batch, _) = batch.parts();
            let mut grow = |_| Ok(());
            let mut allowance = Allowance::new(MAX_PUSH_BYTES, &mut grow);
            decode_json(
                batch,
                &options.push_options(),
                &mut allowance,
                |out, room| {
                    room.take(line.len())?;
                    out.extend_from_slice(line);
                    Ok(())
                },
            )
        };
        decoded.map_err(|e| lines.wrong(&e))?;
        let report = db.push(tenant, batch).await?;
        if let Some(whole) = report.whole {
            return Err(lines.wrong(&whole.message));
        }
        done.items += report.entries + report.duplicates;
        for (rule, refused) in &report.refused {
            done.refuse(rule.id(), refused.entries);
        }
        for ignored in &report.ignored {
            done.refuse(ignored.rule.id(), ignored.ignored);
        }
        if unwritten >= BYTES_AT_ONCE {
            done.objects += db.flush().await?.chunks;
            unwritten = 0;
        }
    }
    done.objects += db.flush().await?.chunks;
    db.close().await?;
    Ok(done)
}
