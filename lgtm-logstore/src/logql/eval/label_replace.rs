//! `label_replace`.

use lgtm_core::model::LabelBuilder;
use lgtm_core::re2::{Anchoring, Dot, Re2Groups, Template};

use super::vector::GridVector;
use crate::logql::ast::LabelReplaceArguments;
use crate::logql::query_error::{QueryError, Result};

/// Sets a label of each series whose other label matches. Series that become equal stay apart, as in Loki.
///
/// # Errors
/// `Execution` for an expression that is none.
pub(super) fn label_replace(
    arguments: &LabelReplaceArguments,
    mut vector: GridVector,
) -> Result<GridVector> {
    let regex = Re2Groups::new(&arguments.regex, Anchoring::Whole, Dot::Any)
        .map_err(|e| QueryError::Execution(e.to_string()))?;
    let replacement = Template::new(&arguments.replacement, &regex);
    for series in &mut vector {
        let value = series.labels.get(&arguments.from).unwrap_or("");
        let Some(found) = regex.find(value) else {
            continue;
        };
        let text: String = replacement.expand(&found).collect();
        let mut builder = LabelBuilder::from_labels(&series.labels);
        builder.set(&arguments.to, &text);
        series.labels = builder.build()?;
    }
    Ok(vector)
}
