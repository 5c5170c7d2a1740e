//! Schema versions and the periods in which they hold: what a bucket's layout depends on.

use std::ops::Range;
use std::sync::Arc;

use lgtm_core::model::TimestampMs;
use lgtm_core::{Error, Result};
use serde::{Deserialize, Serialize};

/// Milliseconds of a day.
pub const DAY_MS: i64 = 24 * 60 * 60 * 1000;

/// A schema version. It decides the versions of chunks and index files and the form of chunk keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Schema {
    /// Version 9.
    V9,
    /// Version 10.
    V10,
    /// Version 11.
    V11,
    /// Version 12: keys with a folder per stream.
    V12,
    /// Version 13: structured metadata.
    V13,
    /// Version 14: index files that know when data was ingested.
    V14,
}

impl Schema {
    /// Version number of the chunks that are written under it.
    pub fn chunk_version(self) -> u8 {
        match self {
            Self::V9 | Self::V10 | Self::V11 | Self::V12 => 3,
            Self::V13 | Self::V14 => 4,
        }
    }

    /// Version number of the index files that are written under it.
    pub fn index_version(self) -> u8 {
        match self {
            Self::V9 | Self::V10 | Self::V11 | Self::V12 => 2,
            Self::V13 => 3,
            Self::V14 => 4,
        }
    }

    /// Whether entries may bear structured metadata.
    pub fn has_metadata(self) -> bool {
        self >= Self::V13
    }

    /// Whether chunk keys have a folder per stream.
    pub fn has_stream_folders(self) -> bool {
        self >= Self::V12
    }
}

/// Where index files stand.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct IndexSettings {
    /// In front of a table's number. Default `index_`, as in Loki's examples.
    pub prefix: String,
    /// Length of a table. Only `24h` exists.
    pub period: String,
    /// The folder of all tables; empty, or with a `/` at its end. Default `index/`, as in Loki.
    pub path_prefix: String,
}

impl Default for IndexSettings {
    fn default() -> Self {
        Self {
            prefix: "index_".into(),
            period: "24h".into(),
            path_prefix: "index/".into(),
        }
    }
}

/// A stretch of time under one schema, up to the next one's beginning.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PeriodSettings {
    /// The first day, UTC, as `2024-01-31`.
    pub from: String,
    /// The kind of index. Only `tsdb` exists.
    #[serde(default = "tsdb")]
    pub store: String,
    /// The store of the chunks. Read and kept for Loki's sake; the host's own setting decides.
    #[serde(default)]
    pub object_store: String,
    /// The schema version.
    pub schema: Schema,
    /// Where index files stand.
    #[serde(default)]
    pub index: IndexSettings,
}

fn tsdb() -> String {
    "tsdb".into()
}

/// Loki's `schema_config`: all periods, oldest first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SchemaSettings {
    /// The periods. Default: `v13` from 1970 on, which every Loki since 3.0 reads and writes.
    pub configs: Vec<PeriodSettings>,
}

impl Default for SchemaSettings {
    fn default() -> Self {
        Self {
            configs: vec![PeriodSettings {
                from: "1970-01-01".into(),
                store: tsdb(),
                object_store: String::new(),
                schema: Schema::V13,
                index: IndexSettings::default(),
            }],
        }
    }
}

impl SchemaSettings {
    /// Checks the settings.
    ///
    /// # Errors
    /// As [`SchemaPeriods::new`].
    pub fn validate(&self) -> Result<()> {
        SchemaPeriods::new(self).map(drop)
    }
}

/// One period, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SchemaPeriod {
    /// The times, milliseconds, that belong to it.
    pub range_ms: Range<TimestampMs>,
    /// The schema version.
    pub schema: Schema,
    /// In front of a table's number.
    pub table_prefix: Arc<str>,
    /// The folder of all tables, with a `/` at its end, or empty.
    pub index_folder: Arc<str>,
}

/// The periods of a bucket, checked: which schema and which index table a time belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SchemaPeriods(Vec<SchemaPeriod>);

impl SchemaPeriods {
    /// Checks `settings`.
    ///
    /// # Errors
    /// `InvalidInput`, naming the period: none at all, a day that is none, days that do not ascend, an index other than `tsdb` with
    /// tables of 24 h, names that are no part of a path.
    pub fn new(settings: &SchemaSettings) -> Result<Self> {
        if settings.configs.is_empty() {
            return Err(Error::InvalidInput("schema_config has no period".into()));
        }
        let mut periods: Vec<SchemaPeriod> = Vec::new();
        for config in &settings.configs {
            let from = &config.from;
            let fail = |what: String| {
                let message = format!("schema_config, period from {from:?}: {what}");
                Err(Error::InvalidInput(message))
            };
            let Some(day) = parse_day(from) else {
                return fail("from must be a day such as 2024-01-31".into());
            };
            let start = TimestampMs::new(day * DAY_MS);
            if config.store != "tsdb" {
                return fail(format!(
                    "store {:?}, only \"tsdb\" is supported",
                    config.store
                ));
            }
            if !matches!(config.index.period.as_str(), "24h" | "24h0m0s" | "1d") {
                return fail(format!(
                    "index.period {:?} must be 24h",
                    config.index.period
                ));
            }
            if config.index.prefix.is_empty() || config.index.prefix.contains('/') {
                return fail(format!(
                    "index.prefix {:?} must be a name",
                    config.index.prefix
                ));
            }
            let folder = &config.index.path_prefix;
            if !folder.is_empty() && (!folder.ends_with('/') || folder.starts_with('/')) {
                return fail(format!(
                    "index.path_prefix {folder:?} must end with / and not begin with it"
                ));
            }
            if let Some(last) = periods.last_mut() {
                if last.range_ms.start >= start {
                    return fail("it does not begin after the one before it".into());
                }
                last.range_ms.end = start;
            }
            periods.push(SchemaPeriod {
                range_ms: start..TimestampMs::MAX,
                schema: config.schema,
                table_prefix: config.index.prefix.as_str().into(),
                index_folder: folder.as_str().into(),
            });
        }
        Ok(Self(periods))
    }

    /// All periods, oldest first.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &SchemaPeriod> {
        self.0.iter()
    }

    /// The period of a time; the first one for times before all of them.
    pub fn at(&self, t_ms: TimestampMs) -> &SchemaPeriod {
        let after = self.0.partition_point(|p| p.range_ms.start <= t_ms);
        &self.0[after.saturating_sub(1)]
    }

    /// The tables in which a chunk from `from_ms` to `through_ms`, both inclusive, is listed: every day that it touches.
    pub fn tables(
        &self,
        from_ms: impl Into<TimestampMs>,
        through_ms: impl Into<TimestampMs>,
    ) -> impl Iterator<Item = IndexTable> + '_ {
        let day = |t_ms: TimestampMs| t_ms.get().div_euclid(DAY_MS);
        let days = day(from_ms.into())..=day(through_ms.into());
        days.map(|day| self.table_of_day(day))
    }

    /// The table of the day with this number since 1970.
    pub fn table_of_day(&self, day: i64) -> IndexTable {
        let period = self.at(TimestampMs::new(day.saturating_mul(DAY_MS)));
        IndexTable {
            day,
            folder: format!("{}{}{day}", period.index_folder, period.table_prefix),
            schema: period.schema,
        }
    }
}

/// The index of one day.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IndexTable {
    /// Days since 1970, UTC.
    pub day: i64,
    /// Its folder, as `index/index_19844`.
    pub folder: String,
    /// The schema of the day.
    pub schema: Schema,
}

impl IndexTable {
    /// The times, milliseconds, of its day.
    pub fn range_ms(&self) -> Range<TimestampMs> {
        TimestampMs::new(self.day * DAY_MS)..TimestampMs::new((self.day + 1) * DAY_MS)
    }
}

/// Days since 1970 of a date of four, two and two digits.
fn parse_day(text: &str) -> Option<i64> {
    let mut parts = text.split('-');
    let mut number = |digits: usize| {
        let part = parts.next()?;
        let is_number = part.len() == digits && part.bytes().all(|b| b.is_ascii_digit());
        is_number.then(|| part.parse::<i64>().ok()).flatten()
    };
    let (year, month, day) = (number(4)?, number(2)?, number(2)?);
    let is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let days = [
        31,
        28 + i64::from(is_leap),
        31,
        30,
        31,
        30,
        31,
        31,
        30,
        31,
        30,
        31,
    ];
    let of_month = *days.get(usize::try_from(month).ok()?.checked_sub(1)?)?;
    if parts.next().is_some() || year < 1970 || day < 1 || day > of_month {
        return None;
    }
    let leaps = |year: i64| year / 4 - year / 100 + year / 400;
    let before = days[..month as usize - 1].iter().sum::<i64>();
    Some((year - 1970) * 365 + leaps(year - 1) - leaps(1969) + before + day - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_counted_from_1970() {
        for (text, day) in [
            ("1970-01-01", Some(0)),
            ("1972-03-01", Some(790)),
            ("2000-02-29", Some(11_016)),
            ("2024-05-01", Some(19_844)),
            ("2100-03-01", Some(47_541)),
            ("2023-02-29", None),
            ("2024-13-01", None),
            ("2024-00-01", None),
            ("2024-1-01", None),
            ("2024-01-01-", None),
            ("1969-12-31", None),
        ] {
            assert_eq!(parse_day(text), day, "{text}");
        }
    }

    #[test]
    fn a_time_belongs_to_the_last_period_that_began() {
        let text = "
configs:
  - {from: 2024-01-01, store: tsdb, object_store: s3, schema: v12, index: {prefix: old_, period: 24h}}
  - {from: 2024-05-02, schema: v13, index: {prefix: index_, period: 24h, path_prefix: ''}}
";
        let settings: SchemaSettings = serde_norway::from_str(text).unwrap();
        let periods = SchemaPeriods::new(&settings).unwrap();
        let from = 19_844 * DAY_MS + 5;
        assert_eq!(periods.at(TimestampMs::EPOCH).schema, Schema::V12);
        assert_eq!(periods.at(TimestampMs::new(from)).schema, Schema::V12);
        assert_eq!(
            periods.at(TimestampMs::new(from + DAY_MS)).schema,
            Schema::V13
        );
        let tables: Vec<_> = periods.tables(from, 19_845 * DAY_MS).collect();
        let folders: Vec<_> = tables.iter().map(|t| t.folder.as_str()).collect();
        assert_eq!(folders, ["index/old_19844", "index_19845"]);
        assert_eq!(tables[1].range_ms().start, 19_845 * DAY_MS);
        assert_eq!(periods.iter().count(), 2);
    }

    #[test]
    fn faults_are_named() {
        let with = |change: &dyn Fn(&mut SchemaSettings)| {
            let mut settings = SchemaSettings::default();
            change(&mut settings);
            settings.validate().map_err(|e| e.to_string())
        };
        assert!(with(&|_| ()).is_ok());
        type Change = fn(&mut SchemaSettings);
        let faults: [(Change, &str); 7] = [
            (|s| s.configs.clear(), "no period"),
            (|s| s.configs[0].from = "yesterday".into(), "yesterday"),
            (|s| s.configs[0].store = "boltdb".into(), "boltdb"),
            (|s| s.configs[0].index.period = "168h".into(), "168h"),
            (|s| s.configs[0].index.prefix = "a/b".into(), "a/b"),
            (
                |s| s.configs[0].index.path_prefix = "index".into(),
                "end with /",
            ),
            (
                |s| s.configs.push(s.configs[0].clone()),
                "after the one before",
            ),
        ];
        for (change, wanted) in faults {
            let error = with(&change).unwrap_err();
            assert!(error.contains(wanted), "{error}");
        }
    }
}
