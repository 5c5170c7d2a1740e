//! Uploads in parts, under the same rules.
//!
//! A part is not repeated here: sent again through this interface it would become a further part. Network back ends repeat a part
//! below it, by the rule that [`BackendKind::with_part_retries`](super::BackendKind) hands them.

use object_store::{MultipartUpload, PutPayload, PutResult, Result, UploadPart};

use crate::storage::guarded::Guarded;
use crate::storage::meter::Operation;

#[derive(Debug)]
pub(super) struct GuardedUpload {
    guarded: Guarded,
    upload: Box<dyn MultipartUpload>,
}

impl GuardedUpload {
    pub(super) fn new(guarded: Guarded, upload: Box<dyn MultipartUpload>) -> Self {
        Self { guarded, upload }
    }
}

#[async_trait::async_trait]
impl MultipartUpload for GuardedUpload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        let guarded = self.guarded.clone();
        let len = data.content_length();
        // The part's number is given here and now, in the order of the calls.
        let part = self.upload.put_part(data);
        Box::pin(async move {
            let limit = guarded.settings().upload_timeout;
            guarded.once(Operation::MultipartPart, limit, part).await?;
            guarded.meter().written(len);
            Ok(())
        })
    }

    async fn complete(&mut self) -> Result<PutResult> {
        let limit = self.guarded.settings().upload_timeout;
        let work = self.upload.complete();
        let (result, _slot) = self
            .guarded
            .once(Operation::MultipartComplete, limit, work)
            .await?;
        Ok(result)
    }

    async fn abort(&mut self) -> Result<()> {
        let limit = self.guarded.settings().request_timeout;
        let work = self.upload.abort();
        self.guarded
            .once(Operation::MultipartAbort, limit, work)
            .await?;
        Ok(())
    }
}
