//! What decoding a page takes beside its column.

use crate::schema::page::Inflater;
use crate::schema::row_entries::EntryPicker;

/// Memory that serves page after page, of one column and of others.
#[derive(Debug, Default)]
pub(crate) struct PageScratch {
    pub(crate) inflater: Inflater,
    pub(crate) picker: EntryPicker,
}

impl PageScratch {
    /// Bytes of its buffers; 0 before it was used.
    pub(crate) fn buffer_bytes(&self) -> usize {
        self.inflater.buffer_bytes() + self.picker.size_bytes()
    }
}
