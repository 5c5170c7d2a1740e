//! Which attributes of a block have a column of their own.
//!
//! The list stands in a block's `meta.json`, as JSON: `[{"s":"resource","n":"cluster"},{"n":"http.status_code","t":"int"}]`. A scope left out is
//! `span`, a type left out is `string`. Its order decides which column an attribute gets. Source: `docs/format/block.md`.

use serde::de::{Deserializer, Error as _};
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh64::Xxh64;

/// What an attribute belongs to.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Serialize, Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum ColumnScope {
    /// A resource.
    Resource,
    /// A span.
    #[default]
    Span,
    /// An event of a span.
    Event,
}

/// What values go into the column; others stay where they would be without it.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Serialize, Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum ColumnKind {
    /// Text.
    #[default]
    String,
    /// Integers.
    Int,
}

/// How the column is written; vParquet5 knows options.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ColumnOption {
    /// Values may be lists. Without effect.
    Array,
    /// Long texts: compressed by zstd, without dictionary and bounds.
    Blob,
}

/// An attribute with a column of its own.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct DedicatedColumn {
    /// What the attribute belongs to.
    #[serde(rename = "s", default, skip_serializing_if = "is_default")]
    pub scope: ColumnScope,
    /// Its key.
    #[serde(rename = "n")]
    pub name: String,
    /// Its type.
    #[serde(rename = "t", default, skip_serializing_if = "is_default")]
    pub kind: ColumnKind,
    /// How it is written.
    #[serde(rename = "o", default, skip_serializing_if = "Vec::is_empty")]
    pub options: Vec<ColumnOption>,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// The attributes of a block that have columns of their own, in the order in which they get them.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Serialize)]
#[serde(transparent)]
pub struct DedicatedColumns(Vec<DedicatedColumn>);

impl ColumnScope {
    /// Its name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Resource => "resource",
            Self::Span => "span",
            Self::Event => "event",
        }
    }
}

impl ColumnKind {
    /// Its name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::String => "string",
            Self::Int => "int",
        }
    }
}

impl ColumnOption {
    /// Its name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Array => "array",
            Self::Blob => "blob",
        }
    }
}

/// Tempo's list: scope, name, type.
const STANDARD: [(ColumnScope, &str, ColumnKind); 14] = {
    use ColumnKind::{Int, String};
    use ColumnScope::{Resource, Span};
    [
        (Resource, "k8s.cluster.name", String),
        (Resource, "k8s.namespace.name", String),
        (Resource, "k8s.pod.name", String),
        (Resource, "k8s.container.name", String),
        (Span, "http.request.method", String),
        (Span, "http.response.status_code", Int),
        (Span, "url.path", String),
        (Span, "url.route", String),
        (Span, "server.address", String),
        (Span, "server.port", Int),
        (Span, "http.method", String),
        (Span, "http.url", String),
        (Span, "http.route", String),
        (Span, "http.status_code", Int),
    ]
};

impl DedicatedColumns {
    /// The attributes that Tempo gives columns of their own when nothing else is set. Formats that have no room for some of them leave these out.
    pub fn standard() -> Self {
        let column = |(scope, name, kind): (ColumnScope, &str, ColumnKind)| DedicatedColumn {
            scope,
            name: name.to_owned(),
            kind,
            options: Vec::new(),
        };
        Self(STANDARD.into_iter().map(column).collect())
    }

    /// These attributes.
    pub fn new(columns: Vec<DedicatedColumn>) -> Self {
        Self(columns)
    }

    /// The attributes, in order.
    pub fn as_slice(&self) -> &[DedicatedColumn] {
        &self.0
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What equal lists have in common, and different ones hardly ever: XXH64 of scopes, names, types and options, 0 for the empty list. It is
    /// Tempo's, and stored nowhere.
    pub fn hash(&self) -> u64 {
        if self.0.is_empty() {
            return 0;
        }
        const BETWEEN: &[u8] = &[0xff];
        let mut hash = Xxh64::new(0);
        for column in &self.0 {
            hash.update(column.scope.as_str().as_bytes());
            hash.update(BETWEEN);
            hash.update(column.name.as_bytes());
            hash.update(BETWEEN);
            hash.update(column.kind.as_str().as_bytes());
            for option in &column.options {
                hash.update(BETWEEN);
                hash.update(option.as_str().as_bytes());
            }
        }
        hash.digest()
    }
}

impl<'de> Deserialize<'de> for DedicatedColumns {
    /// Takes `null` for the empty list, as Go writes it. A column without a name is refused, so is one that stands twice.
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let columns = Option::<Vec<DedicatedColumn>>::deserialize(from)?.unwrap_or_default();
        for (n, column) in columns.iter().enumerate() {
            let name = &column.name;
            if name.is_empty() {
                return Err(D::Error::custom("a dedicated column has no name"));
            }
            let is_same = |c: &DedicatedColumn| (c.scope, &c.name) == (column.scope, name);
            if columns[..n].iter().any(is_same) {
                let scope = column.scope.as_str();
                return Err(D::Error::custom(format!(
                    "dedicated column {scope}.{name:?} stands twice"
                )));
            }
        }
        Ok(Self(columns))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_out_has_its_default_and_is_left_out_again() {
        let json = r#"[{"s":"resource","n":"a"},{"n":"b","t":"int","o":["array","blob"]}]"#;
        let columns: DedicatedColumns = serde_json::from_str(json).unwrap();
        let [a, b] = columns.as_slice() else { panic!() };
        assert_eq!(
            (a.scope, a.kind),
            (ColumnScope::Resource, ColumnKind::String)
        );
        assert_eq!((b.scope, b.kind), (ColumnScope::Span, ColumnKind::Int));
        assert_eq!(b.options, [ColumnOption::Array, ColumnOption::Blob]);
        assert_eq!(serde_json::to_string(&columns).unwrap(), json);
        let none: DedicatedColumns = serde_json::from_str("null").unwrap();
        assert!(none.is_empty() && none.hash() == 0);
    }

    #[test]
    fn lists_that_name_no_column_are_refused() {
        for (json, why) in [
            (r#"[{"n":""}]"#, "no name"),
            (r#"[{"s":"span"}]"#, "missing field `n`"),
            (r#"[{"n":"a"},{"s":"span","n":"a","t":"int"}]"#, "twice"),
            (r#"[{"n":"a","s":"link"}]"#, "link"),
            (r#"[{"n":"a","t":"float"}]"#, "float"),
        ] {
            let e = serde_json::from_str::<DedicatedColumns>(json).unwrap_err();
            assert!(e.to_string().contains(why), "{json}: {e}");
        }
    }
}
