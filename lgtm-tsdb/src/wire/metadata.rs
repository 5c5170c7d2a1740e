//! Metadata on its way into a batch, by Mimir's rules: a help text that is too long is cut, a name or unit that is too long is refused.

use lgtm_core::Result;
use lgtm_core::codec::Allowance;
use lgtm_core::model::{Metadata, MetricType};

use super::batch::{MetadataEntry, WriteBatch};
use super::label_bounds::over;

/// What is said of a metric, as it stands in the request.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct MetadataView<'a> {
    pub(super) name: &'a str,
    pub(super) metric_type: MetricType,
    pub(super) help: &'a str,
    pub(super) unit: &'a str,
}

impl WriteBatch {
    /// Takes metadata whose texts have at most `max_length` bytes each (0: any), and only as much as that of the help.
    pub(super) fn take_metadata(
        &mut self,
        view: MetadataView<'_>,
        max_length: usize,
        allowance: &mut Allowance<'_>,
    ) -> Result<()> {
        let MetadataView { name, unit, .. } = view;
        let fault = if name.is_empty() {
            Some((
                "metadata-missing-metric-name",
                "received a metric metadata with no metric name".to_owned(),
            ))
        } else if over(name.len(), max_length) {
            Some((
                "metric-name-too-long",
                format!(
                    "received a metric metadata whose metric name length of {} exceeds the limit of {max_length}, metric name: '{name:.200}'",
                    name.len()
                ),
            ))
        } else if over(unit.len(), max_length) {
            Some((
                "unit-too-long",
                format!(
                    "received a metric metadata whose unit name length of {} exceeds the limit of {max_length}, unit: '{unit:.200}' metric name: '{name:.200}'",
                    unit.len()
                ),
            ))
        } else {
            None
        };
        if let Some((id, message)) = fault {
            self.refuse(id, 0, || message);
            return Ok(());
        }
        let mut help = view.help;
        if over(help.len(), max_length) {
            help = &help[..help.floor_char_boundary(max_length)];
        }
        allowance.take(name.len() + help.len() + unit.len())?;
        let entry = MetadataEntry {
            name: name.to_owned(),
            metadata: Metadata {
                metric_type: view.metric_type,
                help: help.to_owned(),
                unit: unit.to_owned(),
            },
        };
        allowance.push(&mut self.metadata, entry)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn helps_are_cut_and_names_and_units_refused() {
        let mut batch = WriteBatch::default();
        let mut grow = |_| Ok(());
        let mut allowance = Allowance::new(1 << 20, &mut grow);
        let view = MetadataView {
            name: "m",
            metric_type: MetricType::Counter,
            help: "ab\u{e9}d",
            unit: "s",
        };
        let mut push = |view, max| batch.take_metadata(view, max, &mut allowance).unwrap();
        push(view, 0);
        push(view, 5);
        push(view, 4);
        push(view, 3);
        for view in [
            MetadataView { name: "", ..view },
            MetadataView {
                name: "long",
                ..view
            },
            MetadataView {
                unit: "long",
                ..view
            },
        ] {
            push(view, 3);
        }
        let helps: Vec<_> = batch
            .metadata()
            .iter()
            .map(|m| m.metadata.help.as_str())
            .collect();
        assert_eq!(helps, ["ab\u{e9}d", "ab\u{e9}d", "ab\u{e9}", "ab"]);
        let ids: Vec<_> = batch.malformed().iter().map(|m| m.id).collect();
        assert_eq!(
            ids,
            [
                "metadata-missing-metric-name",
                "metric-name-too-long",
                "unit-too-long"
            ]
        );
        let message = &batch.malformed()[2].message;
        assert!(message.contains("of 4 exceeds the limit of 3"), "{message}");
    }
}
