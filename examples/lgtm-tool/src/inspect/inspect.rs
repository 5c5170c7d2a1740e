//! Which of the forms an object has.

use lgtm_core::storage::DataKind;
use lgtm_core::{Error, Result};

use super::{logs, metrics, traces};
use crate::arguments::Arguments;
use crate::place::Place;
use crate::report::Report;

pub(crate) async fn inspect(place: &Place, arguments: &Arguments) -> Result<Report> {
    let object = arguments.word(0).unwrap_or_default();
    let (kind, path) = place.locate(object)?;
    let name = path.rsplit('/').next().unwrap_or_default();
    let bucket = place.kind_bucket(kind);
    let second = path.split('/').nth(1).unwrap_or_default();
    let mut report = Report::default();
    match kind {
        DataKind::MetricBlocks if name == lgtm_tsdb::block::BucketIndex::FILE_NAME => {
            metrics::bucket_index(&bucket, &path, &mut report).await?;
        }
        DataKind::MetricBlocks if second.parse::<lgtm_tsdb::block::BlockId>().is_ok() => {
            let tenant = path.split('/').next().unwrap_or_default();
            metrics::block(&bucket, &format!("{tenant}/{second}"), &mut report).await?;
        }
        DataKind::Traces if [traces::INDEX_JSON, traces::INDEX_PROTOBUF].contains(&name) => {
            traces::tenant_index(&bucket, &path, &mut report).await?;
        }
        DataKind::Traces if second.parse::<lgtm_tracestore::block_id::BlockId>().is_ok() => {
            traces::block(place, &path, &mut report).await?;
        }
        DataKind::Logs if name.ends_with(".tsdb.gz") || name.ends_with(".tsdb") => {
            logs::index_file(place, &path, &mut report).await?;
        }
        DataKind::Logs => logs::chunk(place, &path, &mut report).await?,
        DataKind::LogSkip => logs::side_object(&bucket, &path, &mut report).await?,
        _ => {
            return Err(Error::InvalidInput(format!(
                "object {object:?}: nothing is known of objects of that name"
            )));
        }
    }
    Ok(report)
}
