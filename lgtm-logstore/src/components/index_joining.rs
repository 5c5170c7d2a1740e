//! Joins index files of a table: those of several tenants that ingesters write, and each tenant's own.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use lgtm_core::Result;
use lgtm_core::exec::CancelToken;
use lgtm_core::model::{TenantId, TextSet};

use super::compactor::{Compactor, in_table, is_damage};
use crate::compact::{
    CompactRules, CompactionMark, MergeSource, TableAge, TableFile, TablePlan, plan,
};
use crate::index::TENANT_LABEL;
use crate::schema::IndexTable;

impl Compactor {
    /// Joins files of a table, if there is anything to join. Gives those that are superseded then.
    pub(super) async fn join_table(
        &self,
        table: &IndexTable,
        files: &[TableFile],
        age: TableAge,
        cancel: &CancelToken,
    ) -> Result<Option<Vec<String>>> {
        let rules = CompactRules {
            min_files: self.settings.min_files,
            max_files: self.settings.max_files,
            max_bytes: self.settings.max_input_size.as_u64(),
        };
        let planned = plan(files, &BTreeSet::new(), age, &rules);
        self.tables.waits(table.day, files, planned.as_ref());
        let Some(planned) = planned else {
            return Ok(None);
        };
        let joined = self.join_readable(table, &planned, cancel).await?;
        let mut left = files.to_vec();
        left.retain(|f| !joined.contains(&f.path));
        let next = plan(&left, &BTreeSet::new(), age, &rules);
        self.tables.waits(table.day, &left, next.as_ref());
        if !joined.is_empty() {
            self.supersede(table, joined.clone()).await?;
            self.counts().tables.fetch_add(1, Ordering::Relaxed);
            tracing::info!(
                table = table.folder,
                files = joined.len(),
                "index files of a table joined"
            );
        }
        Ok(Some(joined))
    }

    /// Puts the mark that says that the contents of some files stand in others.
    pub(super) async fn supersede(&self, table: &IndexTable, files: Vec<String>) -> Result<()> {
        let mark = CompactionMark::new(self.clock.now_ms(), table.day, files);
        let bytes = Bytes::from(mark.encode()?);
        let name = |created_ns| mark.path(&self.instance, created_ns);
        self.put_new(name, &bytes).await?;
        for path in &mark.superseded {
            if let Some((Some(tenant), _)) = in_table(table, path) {
                self.tables.superseded(table.day, &tenant);
            }
        }
        Ok(())
    }

    /// [`Compactor::join`] without the files that turn out to be damaged: they stay where they are.
    async fn join_readable(
        &self,
        table: &IndexTable,
        plan: &TablePlan,
        cancel: &CancelToken,
    ) -> Result<Vec<String>> {
        let mut plan = plan.clone();
        loop {
            let error = match self.join(table, plan.clone(), cancel).await {
                Err(e) if is_damage(&e) => e,
                joined => return joined,
            };
            let text = error.to_string();
            let is_sound = |path: &String| !text.contains(path.as_str());
            let count = |plan: &TablePlan| {
                plan.shared.len() + plan.own.values().map(Vec::len).sum::<usize>()
            };
            let before = count(&plan);
            plan.shared.retain(is_sound);
            plan.own
                .values_mut()
                .for_each(|files| files.retain(is_sound));
            if count(&plan) == before {
                return Err(error);
            }
            self.counts().damaged.fetch_add(1, Ordering::Relaxed);
            tracing::error!(
                error = text,
                "index file cannot be read; it is not joined with others"
            );
        }
    }

    /// Writes the new files of a plan. Gives the files whose contents they have.
    async fn join(
        &self,
        table: &IndexTable,
        mut plan: TablePlan,
        cancel: &CancelToken,
    ) -> Result<Vec<String>> {
        let mut shared = Vec::new();
        let mut joined = Vec::new();
        let mut tenants = TextSet::new();
        for path in std::mem::take(&mut plan.shared) {
            let reader = self.open(&path).await?;
            tenants = tenants.union(reader.label_values(TENANT_LABEL).await?);
            shared.push(reader);
            joined.push(path);
        }
        let mut all: BTreeSet<TenantId> = BTreeSet::new();
        for tenant in tenants.iter() {
            // One that is none cannot have come through a door; its file stays as it is.
            all.insert(TenantId::new(tenant)?);
        }
        let in_shared = all.clone();
        all.extend(plan.own.keys().cloned());
        for tenant in all {
            cancel.check("compaction")?;
            let own = plan.own.remove(&tenant).unwrap_or_default();
            if own.len() < 2 && !in_shared.contains(&tenant) {
                continue;
            }
            let mut sources = Vec::new();
            let mut taken = Vec::new();
            for path in own {
                let reader = self.open(&path).await?;
                let references = reader.postings_all().await?;
                sources.push(MergeSource { reader, references });
                taken.push(path);
            }
            for reader in &shared {
                let references = reader.postings(TENANT_LABEL, tenant.as_str()).await?;
                if !references.is_empty() {
                    let reader = Arc::clone(reader);
                    sources.push(MergeSource { reader, references });
                }
            }
            if sources.len() > 1 || taken.is_empty() {
                self.write(table, &tenant, sources, None, cancel).await?;
                joined.append(&mut taken);
            }
        }
        Ok(joined)
    }
}
