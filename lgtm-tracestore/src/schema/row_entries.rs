//! Which entries and values of a page some rows have.
//!
//! All columns of a list repeat alike, and most of their pages begin with the same rows: their levels of repetition are the same bytes. So these are
//! unpacked once for all of them; what was unpacked last of each depth is kept, and told by its bytes.

use std::ops::Range;

use lgtm_core::codec::{Allowance, DecodeFail};
use lgtm_core::error::DecodeError;

use crate::schema::Column;
use crate::schema::column::count_of;
use crate::schema::hybrid::decode_levels;
use crate::schema::row_pick::RowPick;

/// The levels of a page as they lie in it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PackedLevels<'a> {
    pub(crate) rep: &'a [u8],
    pub(crate) def: &'a [u8],
    pub(crate) entries: usize,
}

/// How many rows a page says it has, and which of them are wanted, counted from its first.
pub(crate) type PageRows = (usize, Vec<Range<usize>>);

/// Picks entries out of pages. Its memory serves page after page and column after column.
#[derive(Debug, Default)]
pub(crate) struct EntryPicker {
    def: Vec<u8>,
    /// The last page of each depth of lists.
    unpacked: Vec<UnpackedPage>,
}

/// A page's levels of repetition.
#[derive(Debug, Default)]
struct UnpackedPage {
    max_rep: u8,
    packed: Vec<u8>,
    rep: Vec<u8>,
    rows: usize,
    /// Rows that were wanted last, and their entries.
    wanted: Vec<Range<usize>>,
    picked: Vec<Range<usize>>,
}

/// The values of a page that belong to rows that are wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PickedValues {
    /// Values that the page has.
    pub(crate) count: usize,
    /// Those that are wanted, in order.
    pub(crate) wanted: Vec<Range<usize>>,
}

fn bad(reason: impl Into<String>) -> DecodeError {
    DecodeError::new("column rows", 0, reason)
}

impl EntryPicker {
    /// Bytes of memory that it holds.
    pub(crate) fn size_bytes(&self) -> usize {
        let page = |p: &UnpackedPage| {
            let ranges = p.wanted.capacity() + p.picked.capacity();
            p.packed.capacity() + p.rep.capacity() + ranges * size_of::<Range<usize>>()
        };
        self.def.capacity() + self.unpacked.iter().map(page).sum::<usize>()
    }

    /// Appends the levels of rows that are wanted of a page, whose values are to follow. `rows` are those that the page says it has, if it does.
    ///
    /// # Errors
    /// For levels that are none or do not fit the rows, a page that begins within a row, more rows than there are; what `allowance` refuses.
    pub(crate) fn pick(
        &mut self,
        levels: PackedLevels<'_>,
        rows: Option<PageRows>,
        pick: &mut RowPick<'_>,
        column: &mut Column,
        allowance: &mut Allowance<'_>,
    ) -> Result<PickedValues, DecodeFail> {
        let Self { def, unpacked } = self;
        let (wanted, rep): (Vec<Range<usize>>, &[u8]);
        let picked: &[Range<usize>] = if column.max_rep == 0 {
            wanted = wanted_of(levels.entries, rows, pick)?;
            rep = &[];
            &wanted
        } else {
            let page = unpack(unpacked, levels, column.max_rep, allowance)?;
            let now_wanted = wanted_of(page.rows, rows, pick)?;
            page.find(now_wanted);
            rep = &page.rep;
            &page.picked
        };
        let entries = picked.iter().map(Range::len).sum();
        if column.max_rep > 0 {
            allowance.reserve(&mut column.rep, entries)?;
            let some = picked.iter().map(|range| &rep[range.clone()]);
            some.for_each(|some| column.rep.extend_from_slice(some));
        }
        column.entries += entries;
        if column.max_def == 0 {
            return Ok(PickedValues {
                count: levels.entries,
                wanted: picked.to_vec(),
            });
        }
        refill(def, levels.entries, allowance)?;
        decode_levels(levels.def, column.max_def, levels.entries, def)?;
        allowance.reserve(&mut column.def, entries)?;
        Ok(values_of(def, column, picked))
    }
}

/// The page whose levels these are, unpacked now or before.
fn unpack<'u>(
    unpacked: &'u mut Vec<UnpackedPage>,
    levels: PackedLevels<'_>,
    max_rep: u8,
    allowance: &mut Allowance<'_>,
) -> Result<&'u mut UnpackedPage, DecodeFail> {
    let of_depth = |depth| unpacked.iter().position(|page| page.max_rep == depth);
    let at = of_depth(max_rep).or_else(|| of_depth(0));
    let at = at.unwrap_or_else(|| {
        unpacked.push(UnpackedPage::default());
        unpacked.len() - 1
    });
    let page = &mut unpacked[at];
    let is_same =
        page.max_rep == max_rep && page.rep.len() == levels.entries && page.packed == levels.rep;
    if is_same {
        return Ok(page);
    }
    // What fails below leaves a page that no other is taken for.
    page.max_rep = 0;
    page.picked.clear();
    page.wanted.clear();
    refill(&mut page.rep, levels.entries, allowance)?;
    decode_levels(levels.rep, max_rep, levels.entries, &mut page.rep)?;
    if page.rep.first().is_some_and(|rep| *rep > 0) {
        return Err(bad("a page that begins within a row").into());
    }
    page.rows = count_of(&page.rep, 0);
    refill(&mut page.packed, levels.rep.len(), allowance)?;
    page.packed.extend_from_slice(levels.rep);
    page.max_rep = max_rep;
    Ok(page)
}

impl UnpackedPage {
    /// Finds the entries of rows.
    fn find(&mut self, wanted: Vec<Range<usize>>) {
        if self.wanted == wanted {
            return;
        }
        self.picked.clear();
        let (mut entry, mut row) = (0, 0);
        for rows in &wanted {
            let begin = entry + start_of_row(&self.rep[entry..], rows.start - row);
            let end = begin + start_of_row(&self.rep[begin..], rows.end - rows.start);
            self.picked.push(begin..end);
            (entry, row) = (end, rows.end);
        }
        self.wanted = wanted;
    }
}

/// Which of a page's rows are wanted.
fn wanted_of(
    count: usize,
    said: Option<PageRows>,
    pick: &mut RowPick<'_>,
) -> Result<Vec<Range<usize>>, DecodeError> {
    match said {
        Some((said, _)) if said != count => {
            Err(bad(format!("{count} rows by levels, {said} by the header")))
        }
        Some((_, wanted)) => Ok(wanted),
        None => pick.take(count),
    }
}

/// Appends the definition levels of some entries of a page, all of whose levels `def` are; which values are theirs.
fn values_of(def: &[u8], column: &mut Column, picked: &[Range<usize>]) -> PickedValues {
    let max = column.max_def;
    let mut wanted: Vec<Range<usize>> = Vec::new();
    let (mut entry, mut value) = (0, 0);
    for range in picked {
        value += count_of(&def[entry..range.start], max);
        let some = &def[range.clone()];
        let there = count_of(some, max);
        match wanted.last_mut() {
            _ if there == 0 => {}
            Some(last) if last.end == value => last.end += there,
            _ => wanted.push(value..value + there),
        }
        value += there;
        column.def.extend_from_slice(some);
        entry = range.end;
    }
    PickedValues {
        count: value + count_of(&def[entry..], max),
        wanted,
    }
}

/// Makes room for so many bytes instead of those that are there.
fn refill(
    vec: &mut Vec<u8>,
    bytes: usize,
    allowance: &mut Allowance<'_>,
) -> Result<(), DecodeFail> {
    vec.clear();
    if bytes > vec.capacity() {
        allowance.scratch(bytes)?;
        vec.reserve_exact(bytes);
    }
    Ok(())
}

/// The entry that a row begins at, by its level of 0; their number where there is no such row.
pub(super) fn start_of_row(rep: &[u8], row: usize) -> usize {
    let (mut at, mut left) = (0, row);
    // Whole runs are counted before single entries are looked at.
    while let Some(run) = rep.get(at..at + 255) {
        let starts = count_of(run, 0);
        if starts > left {
            break;
        }
        (at, left) = (at + run.len(), left - starts);
    }
    let rest = rep[at..].iter().enumerate();
    let mut starts = rest.filter(|(_, rep)| **rep == 0);
    starts.nth(left).map_or(rep.len(), |(n, _)| at + n)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::schema::encode::put_hybrid;
    use crate::schema::hybrid::width_of;
    use crate::schema::{ColumnValues, Texts};

    /// A row: an empty list, or elements, of which some have no value.
    type Row = Vec<Option<i64>>;

    fn rows() -> impl Strategy<Value = Vec<Row>> {
        let row = proptest::collection::vec(proptest::option::of(any::<i64>()), 0..4);
        proptest::collection::vec(row, 1..60)
    }

    fn empty(is_text: bool) -> Column {
        Column {
            max_def: 2,
            max_rep: 1,
            def: Vec::new(),
            rep: Vec::new(),
            entries: 0,
            values: if is_text {
                ColumnValues::Texts(Texts::default())
            } else {
                ColumnValues::Int64(Vec::new())
            },
        }
    }

    /// Levels of repetition and of definition.
    fn levels_of(rows: &[Row]) -> (Vec<u8>, Vec<u8>) {
        let elements = rows.iter().flat_map(|row| {
            let first = [(0, row.first().map_or(0, |v| 1 + u8::from(v.is_some())))];
            let rest = row.iter().skip(1).map(|v| (1, 1 + u8::from(v.is_some())));
            first.into_iter().chain(rest)
        });
        elements.unzip()
    }

    fn packed(levels: &[u8], max: u8) -> Vec<u8> {
        let mut out = Vec::new();
        put_hybrid(levels, width_of(max), &mut out);
        out
    }

    fn push(values: &mut ColumnValues, value: i64) {
        match values {
            ColumnValues::Int64(values) => values.push(value),
            ColumnValues::Texts(texts) => texts.push(value.to_string().as_bytes()),
            _ => unreachable!(),
        }
    }

    /// Appends what is wanted of a page, with levels and values as decoding it does.
    fn pick_page(
        picker: &mut EntryPicker,
        column: &mut Column,
        page: &[Row],
        says_rows: bool,
        pick: &mut RowPick<'_>,
    ) {
        let (rep, def) = levels_of(page);
        let levels = PackedLevels {
            rep: &packed(&rep, column.max_rep),
            def: &packed(&def, column.max_def),
            entries: rep.len(),
        };
        let rows = says_rows.then(|| (page.len(), pick.take(page.len()).unwrap()));
        let mut grow = |_| Ok(());
        let mut allowance = Allowance::new(0, &mut grow);
        let picked = picker.pick(levels, rows, pick, column, &mut allowance);
        let picked = picked.unwrap();
        let all: Vec<_> = page.iter().flatten().flatten().collect();
        assert_eq!(picked.count, all.len());
        let kept = picked.wanted.into_iter().flat_map(|range| &all[range]);
        kept.for_each(|value| push(&mut column.values, **value));
    }

    proptest! {
        #[test]
        fn rows_are_kept_with_their_levels_and_values(
            rows in rows(),
            page_rows in 1usize..9,
            fetched in proptest::collection::vec(any::<bool>(), 60),
            wanted in proptest::collection::vec(any::<bool>(), 60),
            (is_text, says_rows) in any::<(bool, bool)>(),
        ) {
            let pages: Vec<&[Row]> = rows.chunks(page_rows).collect();
            let runs = |is_in: &dyn Fn(usize) -> bool| {
                let numbers = (0..rows.len()).filter(|n| is_in(*n));
                let mut out: Vec<Range<u64>> = Vec::new();
                for n in numbers.map(|n| n as u64) {
                    match out.last_mut() {
                        Some(last) if last.end == n => last.end += 1,
                        _ => out.push(n..n + 1),
                    }
                }
                out
            };
            let have = runs(&|n| fetched[n / page_rows]);
            let is_wanted = |n: usize| fetched[n / page_rows] && wanted[n];
            let wanted = runs(&is_wanted);
            let mut expected = empty(is_text);
            let some: Vec<Row> = (0..rows.len()).filter(|n| is_wanted(*n)).map(|n| rows[n].clone()).collect();
            (expected.rep, expected.def) = levels_of(&some);
            expected.entries = expected.rep.len();
            some.iter().flatten().flatten().for_each(|value| push(&mut expected.values, *value));
            // The second column finds pages of the first unpacked, or others in their place.
            let mut picker = EntryPicker::default();
            for _ in 0..2 {
                let mut pick = RowPick::of_runs(&have, &wanted);
                let mut column = empty(is_text);
                for n in (0..pages.len()).filter(|n| fetched[*n]) {
                    pick_page(&mut picker, &mut column, pages[n], says_rows, &mut pick);
                }
                pick.finish().unwrap();
                prop_assert_eq!(&column, &expected);
            }
        }
    }

    #[test]
    fn pages_of_equal_bytes_are_unpacked_once_and_others_are_not_taken_for_them() {
        let mut grow = |_| Ok(());
        let mut allowance = Allowance::new(0, &mut grow);
        let mut picker = EntryPicker::default();
        let mut pick = |rep: &[u8], entries: usize, max_rep: u8, wanted: Range<u64>| {
            let have = std::slice::from_ref(&(0..9));
            let wanted = std::slice::from_ref(&wanted);
            let mut column = empty(false);
            (column.max_rep, column.max_def) = (max_rep, 0);
            let levels = PackedLevels {
                rep,
                def: &[],
                entries,
            };
            let mut rows = RowPick::of_runs(have, wanted);
            let picked = picker.pick(levels, None, &mut rows, &mut column, &mut allowance);
            picked.map(|picked| {
                let [values] = &picked.wanted[..] else {
                    panic!("{picked:?}");
                };
                (picked.count, (values.start, values.end), column.rep)
            })
        };
        let page = packed(&[0, 1, 1, 0, 1, 0, 0, 1], 1);
        assert_eq!(pick(&page, 8, 1, 1..2).unwrap(), (8, (3, 5), vec![0, 1]));
        // The same bytes: another row, fewer entries, another depth.
        assert_eq!(pick(&page, 8, 1, 3..4).unwrap(), (8, (6, 8), vec![0, 1]));
        assert_eq!(pick(&page, 4, 1, 1..2).unwrap(), (4, (3, 4), vec![0]));
        let deep = packed(&[0, 1, 2, 0, 3, 0, 0, 1], 3);
        assert_eq!(pick(&deep, 8, 3, 0..1).unwrap(), (8, (0, 3), vec![0, 1, 2]));
        // Damage is told each time, and is forgotten.
        let within = packed(&[1, 0], 1);
        for _ in 0..2 {
            assert!(pick(&within, 2, 1, 0..1).is_err());
            assert!(pick(&[], 2, 1, 0..1).is_err());
        }
        assert_eq!(pick(&page, 8, 1, 0..1).unwrap(), (8, (0, 3), vec![0, 1, 1]));
        assert_eq!(picker.unpacked.len(), 2);
    }

    #[test]
    fn a_header_that_says_other_rows_than_the_levels_is_told() {
        let mut grow = |_| Ok(());
        let mut allowance = Allowance::new(0, &mut grow);
        let (rep, def) = (packed(&[0, 1, 0], 1), packed(&[2, 2, 2], 2));
        let levels = PackedLevels {
            rep: &rep,
            def: &def,
            entries: 3,
        };
        let (have, wanted) = (0..3, 0..1);
        let (have, wanted) = (std::slice::from_ref(&have), std::slice::from_ref(&wanted));
        let mut pick = RowPick::of_runs(have, wanted);
        let rows = Some((3, pick.take(3).unwrap()));
        let mut column = empty(false);
        let mut picker = EntryPicker::default();
        let picked = picker.pick(levels, rows, &mut pick, &mut column, &mut allowance);
        let told = format!("{:?}", picked.unwrap_err());
        assert!(told.contains("2 rows by levels, 3 by the header"), "{told}");
    }
}
