//! What a command prints: tables for people, or the same as JSON.

use lgtm_core::model::{TimestampMs, TimestampNs};
use serde_json::{Map, Value};

/// A value in a table.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Cell {
    Text(String),
    Count(u64),
    Bytes(u64),
    Number(f64),
    Time(TimestampMs),
    TimeNs(TimestampNs),
    Flag(bool),
    None,
}

impl Cell {
    fn shown(&self) -> String {
        match self {
            Self::Text(text) => text.clone(),
            Self::Count(n) => n.to_string(),
            Self::Bytes(n) => bytes(*n),
            Self::Number(n) => format!("{n:.2}"),
            Self::Time(t) => time(t.to_ns()),
            Self::TimeNs(t) => time(*t),
            Self::Flag(yes) => if *yes { "yes" } else { "no" }.to_owned(),
            Self::None => "-".to_owned(),
        }
    }

    fn json(&self) -> Value {
        match self {
            Self::Text(text) => Value::from(text.as_str()),
            Self::Count(n) | Self::Bytes(n) => Value::from(*n),
            Self::Number(n) => Value::from(*n),
            Self::Time(_) | Self::TimeNs(_) => Value::from(self.shown()),
            Self::Flag(yes) => Value::from(*yes),
            Self::None => Value::Null,
        }
    }

    fn is_right(&self) -> bool {
        matches!(self, Self::Count(_) | Self::Bytes(_) | Self::Number(_))
    }
}

impl From<&str> for Cell {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for Cell {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<u64> for Cell {
    fn from(n: u64) -> Self {
        Self::Count(n)
    }
}

impl From<usize> for Cell {
    fn from(n: usize) -> Self {
        Self::Count(n as u64)
    }
}

impl From<TimestampMs> for Cell {
    fn from(t: TimestampMs) -> Self {
        Self::Time(t)
    }
}

impl From<TimestampNs> for Cell {
    fn from(t: TimestampNs) -> Self {
        Self::TimeNs(t)
    }
}

/// Bytes as people read them, to three digits.
fn bytes(n: u64) -> String {
    let units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
    let mut value = n as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < units.len() {
        value /= 1024.0;
        unit += 1;
    }
    match unit {
        0 => format!("{n}B"),
        _ => format!("{value:.1}{}", units[unit]),
    }
}

/// A time in RFC 3339, with as much of a second as there is.
fn time(t: TimestampNs) -> String {
    let mut text = lgtm_core::go::format_rfc3339(t);
    let ns = t.get().rem_euclid(1_000_000_000);
    if ns > 0 {
        text.pop();
        text += format!(".{ns:09}").trim_end_matches('0');
        text.push('Z');
    }
    text
}

/// Rows under the names of their columns.
#[derive(Debug, Clone, Default)]
pub(crate) struct Table {
    columns: Vec<&'static str>,
    rows: Vec<Vec<Cell>>,
}

impl Table {
    pub(crate) fn new(columns: &[&'static str]) -> Self {
        Self {
            columns: columns.to_vec(),
            rows: Vec::new(),
        }
    }

    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = Cell>) {
        self.rows.push(cells.into_iter().collect());
    }

    fn print(&self, out: &mut String) {
        let heads = self.columns.iter().map(|c| c.chars().count());
        let mut widths: Vec<usize> = heads.collect();
        let shown = |row: &Vec<Cell>| row.iter().map(Cell::shown).collect::<Vec<_>>();
        let rows: Vec<Vec<String>> = self.rows.iter().map(shown).collect();
        for row in &rows {
            for (width, text) in widths.iter_mut().zip(row) {
                *width = (*width).max(text.chars().count());
            }
        }
        let mut line = |cells: &mut dyn Iterator<Item = (String, bool)>| {
            let mut text = String::new();
            for ((cell, is_right), width) in cells.zip(&widths) {
                let pad = width.saturating_sub(cell.chars().count());
                let pad = " ".repeat(pad);
                text += &match is_right {
                    true => format!("{pad}{cell}  "),
                    false => format!("{cell}{pad}  "),
                };
            }
            out.push_str(text.trim_end());
            out.push('\n');
        };
        let is_right = |n: usize| {
            let mut cells = self.rows.iter().filter_map(|row| row.get(n));
            cells.any(Cell::is_right)
        };
        let heads = self.columns.iter().enumerate();
        line(&mut heads.map(|(n, c)| ((*c).to_owned(), is_right(n))));
        for (row, cells) in rows.into_iter().zip(&self.rows) {
            line(&mut row.into_iter().zip(cells.iter().map(Cell::is_right)));
        }
    }

    fn json(&self) -> Value {
        let object = |row: &Vec<Cell>| {
            let members = self.columns.iter().zip(row);
            let members = members.map(|(name, cell)| (name.replace(' ', "_"), cell.json()));
            Value::Object(members.collect::<Map<_, _>>())
        };
        Value::Array(self.rows.iter().map(object).collect())
    }
}

/// Facts and tables, each under its name, in order.
#[derive(Debug, Clone, Default)]
pub(crate) struct Report {
    parts: Vec<(&'static str, Part)>,
}

#[derive(Debug, Clone)]
enum Part {
    Facts(Vec<(&'static str, Cell)>),
    Table(Table),
}

impl Report {
    pub(crate) fn facts(
        &mut self,
        name: &'static str,
        facts: impl IntoIterator<Item = (&'static str, Cell)>,
    ) {
        self.parts
            .push((name, Part::Facts(facts.into_iter().collect())));
    }

    pub(crate) fn table(&mut self, name: &'static str, table: Table) {
        self.parts.push((name, Part::Table(table)));
    }

    /// As text: facts a line each, tables with their heads.
    pub(crate) fn text(&self) -> String {
        let mut out = String::new();
        for (name, part) in &self.parts {
            match part {
                Part::Table(table) if table.rows.is_empty() => continue,
                Part::Facts(facts) if facts.is_empty() => continue,
                _ => {}
            }
            if !out.is_empty() {
                out.push('\n');
            }
            out.push_str(name);
            out.push('\n');
            match part {
                Part::Facts(facts) => {
                    let widths = facts.iter().map(|(name, _)| name.chars().count());
                    let width = widths.max().unwrap_or(0);
                    for (name, cell) in facts {
                        out += &format!("  {name:<width$}  {}\n", cell.shown());
                    }
                }
                Part::Table(table) => {
                    let mut text = String::new();
                    table.print(&mut text);
                    text.lines().for_each(|line| out += &format!("  {line}\n"));
                }
            }
        }
        out
    }

    /// As one JSON object: a member for each part.
    pub(crate) fn json(&self) -> String {
        let mut members = Map::new();
        for (name, part) in &self.parts {
            let value = match part {
                Part::Table(table) => table.json(),
                Part::Facts(facts) => {
                    let facts = facts.iter().map(|(n, c)| (n.replace(' ', "_"), c.json()));
                    Value::Object(facts.collect::<Map<_, _>>())
                }
            };
            members.insert(name.replace(' ', "_"), value);
        }
        let mut text = Value::Object(members).to_string();
        text.push('\n');
        text
    }
}

/// Adds what a query's answer lacks.
pub(crate) fn warnings(report: &mut Report, all: impl IntoIterator<Item = String>) {
    let mut table = Table::new(&["warning"]);
    for warning in all {
        table.row([warning.into()]);
    }
    report.table("warnings", table);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_text_and_json() {
        let mut table = Table::new(&["name", "size"]);
        table.row(["a".into(), Cell::Bytes(1536)]);
        table.row(["long".into(), Cell::Bytes(3)]);
        let mut report = Report::default();
        let first = Cell::from(TimestampMs::new(1_700_000_000_123));
        report.facts("block", [("first time", first), ("ok", Cell::Flag(true))]);
        report.table("files of it", table);
        report.table("nothing", Table::new(&["x"]));
        assert_eq!(
            report.text(),
            "block\n  first time  2023-11-14T22:13:20.123Z\n  ok          yes\n\nfiles of it\n  name    size\n  a     1.5KiB\n  long      3B\n"
        );
        let json: Value = serde_json::from_str(&report.json()).unwrap();
        assert_eq!(json["files_of_it"][0]["size"], 1536);
        assert_eq!(json["block"]["ok"], true);
        assert_eq!(json["nothing"], Value::Array(Vec::new()));
    }
}
