//! Which pages of the program itself stay with the process.
//!
//! A start runs much code that never runs again: settings are read, components are joined, logs are replayed. Its pages stay mapped and count as
//! resident memory of the process until the system runs short: more than half of what an idle process has. They are let go once, when everything
//! runs. What is needed again comes back from the page cache, some pages at a time, at about five microseconds each time.
//!
//! On other systems than Linux nothing is done.

/// Lets the pages of the program's code go. To be called when the start is over.
pub(crate) fn give_back() {
    #[cfg(target_os = "linux")]
    linux::give_back();
}

#[cfg(target_os = "linux")]
mod linux {
    use std::ops::Range;
    use std::os::unix::ffi::OsStrExt;

    use rustix::mm::{Advice, madvise};

    pub(super) fn give_back() {
        let (Ok(program), Ok(mappings)) =
            (std::env::current_exe(), std::fs::read("/proc/self/maps"))
        else {
            return;
        };
        for code in code_of(program.as_os_str().as_bytes(), &mappings) {
            let_go(code);
        }
    }

    /// Addresses of what is mapped from the file `program` to be run and cannot be written, as `/proc/self/maps` tells them.
    fn code_of(program: &[u8], mappings: &[u8]) -> Vec<Range<usize>> {
        let of_line = |line: &[u8]| {
            let line = line.strip_suffix(program)?.strip_suffix(b" ")?;
            let mut fields = line.split(|b| *b == b' ');
            let addresses = std::str::from_utf8(fields.next()?).ok()?;
            let (from, to) = addresses.split_once('-')?;
            let address = |hex| usize::from_str_radix(hex, 16).ok();
            (fields.next()? == b"r-xp").then_some(address(from)?..address(to)?)
        };
        mappings
            .split(|b| *b == b'\n')
            .filter_map(of_line)
            .collect()
    }

    #[allow(
        unsafe_code,
        reason = "whether memory may be dropped is ours to know: it is a file's, mapped to be read and run only, and comes back as it was"
    )]
    fn let_go(code: Range<usize>) {
        let start = std::ptr::without_provenance_mut(code.start);
        // SAFETY: the range is a whole mapping of the program's file that nobody can write, so that nothing is lost with its pages; the next
        // instruction that lies in it has them mapped again.
        let done = unsafe { madvise(start, code.len(), Advice::LinuxDontNeed) };
        if let Err(error) = done {
            tracing::debug!(%error, "the pages of the program stay");
        }
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn code_is_what_cannot_be_written() {
            let mappings = b"1000-2000 r--p 00000000 fe:00 7   /bin/a b\n\
                2000-5000 r-xp 00001000 fe:00 7   /bin/a b\n\
                5000-6000 rwxp 00004000 fe:00 7   /bin/a b\n\
                6000-7000 r-xp 00000000 fe:00 8   /bin/aa b\n\
                7000-8000 r-xp 00000000 fe:00 9   /other/bin/a b\n\
                zz-8000 r-xp 00000000 fe:00 7   /bin/a b\n\
                9000 r-xp\n\n\
                9000-a000 rw-p 00000000 00:00 0\n";
            let code = code_of(b"/bin/a b", mappings);
            assert_eq!((code.len(), code[0].clone()), (1, 0x2000..0x5000));
            assert!(code_of(b"", b"").is_empty());
        }

        /// Fewer pages are mapped afterwards, and the program goes on.
        #[test]
        fn pages_go_and_come_back() {
            let resident = || {
                let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
                let line = status.lines().find_map(|l| l.strip_prefix("RssFile:"));
                let kib = line.and_then(|l| l.trim().trim_end_matches(" kB").parse::<u64>().ok());
                kib.unwrap_or_default()
            };
            let before = resident();
            give_back();
            let after = resident();
            assert!(
                after < before,
                "{after} KiB of files are resident, {before} KiB before"
            );
        }
    }
}
