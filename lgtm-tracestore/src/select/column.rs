//! Columns: values of one field over many rows, by type.

/// The values of a field. A row has at most one value, of one type, or an array; or none. Text is bytes, UTF-8 only where nobody cut it.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Column {
    /// Rows that have a text.
    pub texts: Option<TextColumn>,
    /// Rows that have an integer; of intrinsics: durations, times, kinds, status codes too.
    pub ints: Option<NumberColumn<i64>>,
    /// Rows that have a float.
    pub floats: Option<NumberColumn<f64>>,
    /// Rows that have `true` or `false`.
    pub bools: Option<NumberColumn<bool>>,
    /// Rows that have an array of one of these types.
    pub arrays: Option<Box<ArrayColumn>>,
    /// Rows, ascending, that have a value which no query sees (a map, bytes, an empty array), so that only the name is known. May be left empty where
    /// names are not asked for.
    pub unseen: Vec<u32>,
}

/// Texts by number.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct TextColumn {
    /// The texts, some of them perhaps twice, some perhaps in no row.
    pub dictionary: TextDictionary,
    /// For each row the number of its text, or the dictionary's length when it has none.
    pub codes: Vec<u32>,
}

/// Texts one after the other.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TextDictionary {
    bytes: Vec<u8>,
    ends: Vec<u32>,
}

/// Numbers by row.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct NumberColumn<T> {
    /// For each row its value, or anything when it has none.
    pub values: Vec<T>,
    /// Which rows have one; all if this is not there.
    pub present: Option<Vec<bool>>,
}

/// The few rows that have arrays.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ArrayColumn {
    /// These rows, ascending.
    pub rows: Vec<u32>,
    /// For each of them where its elements end; they begin where the ones before end.
    pub ends: Vec<u32>,
    /// The elements, which have no arrays.
    pub elements: Column,
}

impl TextDictionary {
    /// Appends a text and tells its number; `None` beyond 4 GiB.
    pub fn push(&mut self, text: &[u8]) -> Option<u32> {
        let code = u32::try_from(self.ends.len()).ok()?;
        let end = u32::try_from(self.bytes.len() + text.len()).ok()?;
        self.bytes.extend_from_slice(text);
        self.ends.push(end);
        Some(code)
    }

    /// Number of texts.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// The text of a number; `None` for the one that means none.
    pub fn get(&self, code: u32) -> Option<&[u8]> {
        let code = code as usize;
        let end = *self.ends.get(code)? as usize;
        let start = code.checked_sub(1).map_or(0, |before| self.ends[before]);
        self.bytes.get(start as usize..end)
    }

    /// All texts, by number.
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        (0..self.len() as u32).filter_map(|code| self.get(code))
    }

    /// Bytes that it takes.
    pub fn size_bytes(&self) -> usize {
        self.bytes.len() + self.ends.len() * 4
    }
}

impl<T: Copy> NumberColumn<T> {
    /// The value of a row.
    #[inline]
    pub fn get(&self, row: usize) -> Option<T> {
        let is_there = self
            .present
            .as_ref()
            .is_none_or(|p| p.get(row) == Some(&true));
        self.values.get(row).copied().filter(|_| is_there)
    }
}

impl ArrayColumn {
    /// The elements of the `n`th array.
    pub fn elements_of(&self, n: usize) -> std::ops::Range<usize> {
        let start = n.checked_sub(1).map_or(0, |before| self.ends[before]);
        start as usize..self.ends[n] as usize
    }

    /// The elements of a row's array; `None` where it has none.
    pub fn of_row(&self, row: usize) -> Option<std::ops::Range<usize>> {
        let n = self.rows.binary_search(&(row as u32)).ok()?;
        Some(self.elements_of(n))
    }
}

impl Column {
    /// Whether no row has a value.
    pub fn is_absent(&self) -> bool {
        self.texts.is_none()
            && self.ints.is_none()
            && self.floats.is_none()
            && self.bools.is_none()
            && self.arrays.is_none()
            && self.unseen.is_empty()
    }

    /// Sets those rows of a mask that have a value, an array included.
    pub fn mark_present(&self, mask: &mut [bool]) {
        if let Some(texts) = &self.texts {
            let none = texts.dictionary.len() as u32;
            for (hit, code) in mask.iter_mut().zip(&texts.codes) {
                *hit |= *code != none;
            }
        }
        let presences = [
            self.ints.as_ref().map(|c| &c.present),
            self.floats.as_ref().map(|c| &c.present),
            self.bools.as_ref().map(|c| &c.present),
        ];
        for present in presences.into_iter().flatten() {
            match present {
                None => mask.fill(true),
                Some(present) => {
                    for (hit, present) in mask.iter_mut().zip(present) {
                        *hit |= present;
                    }
                }
            }
        }
        if let Some(arrays) = &self.arrays {
            for row in &arrays.rows {
                if let Some(hit) = mask.get_mut(*row as usize) {
                    *hit = true;
                }
            }
        }
    }

    /// Bytes that it takes, about.
    pub fn size_bytes(&self) -> usize {
        fn of<T>(column: Option<&NumberColumn<T>>) -> usize {
            column.map_or(0, |c| {
                size_of_val(c.values.as_slice()) + c.present.as_ref().map_or(0, Vec::len)
            })
        }
        let texts = self.texts.as_ref();
        texts.map_or(0, |t| t.dictionary.size_bytes() + t.codes.len() * 4)
            + of(self.ints.as_ref())
            + of(self.floats.as_ref())
            + of(self.bools.as_ref())
            + self.unseen.len() * 4
            + self.arrays.as_ref().map_or(0, |a| {
                a.rows.len() * 4 + a.ends.len() * 4 + a.elements.size_bytes()
            })
    }
}
