//! OTLP requests, in both spellings.

use lgtm_core::Result;
use lgtm_core::codec::{Allowance, SizeBound};
use lgtm_core::otlp::{OtlpSpelling, json_to_protobuf};

use crate::wire::batch::PushBatch;
use crate::wire::options::PushOptions;
use crate::wire::otlp::REQUEST;
use crate::wire::regroup::decode_with;

/// Writes the body of a request, which is decompressed already, as protobuf, replacing what was in `out`. An empty body is a request without spans
/// in both spellings.
///
/// # Errors
/// `InvalidInput` for JSON that is none; `LimitExceeded` beyond `bound`; those of `allowance`.
pub fn otlp_to_protobuf(
    spelling: OtlpSpelling,
    body: &[u8],
    bound: SizeBound,
    out: &mut Vec<u8>,
    allowance: &mut Allowance<'_>,
) -> Result<()> {
    out.clear();
    match spelling {
        OtlpSpelling::Json if body.trim_ascii().is_empty() => Ok(()),
        OtlpSpelling::Json => json_to_protobuf(&REQUEST, body, bound, out, allowance),
        OtlpSpelling::Protobuf => {
            allowance.reserve(out, body.len())?;
            out.extend_from_slice(body);
            Ok(())
        }
    }
}

/// Decodes a request, which `fill` writes as OTLP's protobuf into the buffer given, into spans by trace. The batch is empty afterwards if anything
/// fails; where ids are to blame, [`PushBatch::refused`] says how many spans that cost.
///
/// # Errors
/// `InvalidInput` for bytes that are no such request, and for ids of another length or all zero, in Tempo's words; those of `fill` and of
/// `allowance`.
pub fn decode_otlp(
    batch: &mut PushBatch,
    options: PushOptions,
    allowance: &mut Allowance<'_>,
    fill: impl FnOnce(&mut Vec<u8>, &mut Allowance<'_>) -> Result<()>,
) -> Result<()> {
    decode_with(batch, options, allowance, fill)
}
