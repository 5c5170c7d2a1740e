//! Columns of which few rows were kept, in memory of their size.

use crate::schema::{Column, ColumnValues, Texts};

impl Column {
    /// The same in memory of its size, texts without their dictionary.
    pub(crate) fn compact(&self) -> Self {
        Self {
            def: self.def.as_slice().to_vec(),
            rep: self.rep.as_slice().to_vec(),
            values: self.values.compact(),
            max_def: self.max_def,
            max_rep: self.max_rep,
            entries: self.entries,
        }
    }
}

impl ColumnValues {
    fn compact(&self) -> Self {
        match self {
            Self::Int32(values) => Self::Int32(values.as_slice().to_vec()),
            Self::Int64(values) => Self::Int64(values.as_slice().to_vec()),
            Self::Double(values) => Self::Double(values.as_slice().to_vec()),
            Self::Bool(values) => Self::Bool(values.as_slice().to_vec()),
            Self::Texts(_) | Self::Indices { .. } => {
                let mut texts = Texts::default();
                (0..self.len()).for_each(|n| texts.push(self.text(n)));
                Self::Texts(texts)
            }
        }
    }
}
