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

    use rustix::mm::{Advice, madvise};

    pub(super) fn give_back() {
        if let Some(code) = own_code() {
            let_go(code);
        }
    }

    /// Where the code of this program lies.
    fn own_code() -> Option<Range<usize>> {
        let mappings = std::fs::read("/proc/self/maps").ok()?;
        code_at(give_back as *const () as usize, &mappings)
    }

    /// Addresses of what lies at `address`, if it is mapped from a file to be run and cannot be written, as `/proc/self/maps` tells it.
    fn code_at(address: usize, mappings: &[u8]) -> Option<Range<usize>> {
        mappings.split(|b| *b == b'\n').find_map(|line| {
            let mut fields = line.splitn(6, |b| *b == b' ');
            let addresses = addresses(fields.next()?)?;
            let is_code = fields.next()? == b"r-xp";
            let is_of_file = fields.nth(3)?.trim_ascii_start().first() == Some(&b'/');
            (is_code && is_of_file && addresses.contains(&address)).then_some(addresses)
        })
    }

    fn addresses(field: &[u8]) -> Option<Range<usize>> {
        let (from, to) = std::str::from_utf8(field).ok()?.split_once('-')?;
        let address = |hex| usize::from_str_radix(hex, 16).ok();
        Some(address(from)?..address(to)?)
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
                6000-7000 r-xp 00000000 00:00 0\n\
                7000-8000 r-xp 00000000 00:00 0   [vdso]\n\
                zz-9000 r-xp 00000000 fe:00 7   /bin/a b\n\
                9000 r-xp\n\n\
                a000-b000 r-xp 00000000 fe:00 9   /lib/c (deleted)\n";
            for (address, code) in [
                (0x2000, Some(0x2000..0x5000)),
                (0x4fff, Some(0x2000..0x5000)),
                (0xa800, Some(0xa000..0xb000)),
                (0x1800, None),
                (0x5800, None),
                (0x6800, None),
                (0x7800, None),
                (0x8800, None),
                (0xb000, None),
            ] {
                assert_eq!(code_at(address, mappings), code, "{address:x}");
            }
            assert_eq!(code_at(0, b""), None);
        }

        /// How much of `code` is mapped into memory. The system's count for the whole process is rounded, by some hundred pages for each CPU.
        fn resident_kib(code: &Range<usize>) -> u64 {
            let all = std::fs::read_to_string("/proc/self/smaps").unwrap();
            let mut lines = all.lines().skip_while(|line| {
                let first = line.split(' ').next().unwrap_or_default();
                addresses(first.as_bytes()).as_ref() != Some(code)
            });
            let size = lines.find_map(|line| line.strip_prefix("Rss:")).unwrap();
            size.trim().trim_end_matches(" kB").parse().unwrap()
        }

        #[allow(unsafe_code, reason = "asks for pages of a file that is mapped")]
        fn fetch(code: &Range<usize>) {
            let start = std::ptr::without_provenance_mut(code.start);
            // SAFETY: the range is a whole mapping that may be read; its pages are mapped, nothing else happens.
            let done = unsafe { madvise(start, code.len(), Advice::LinuxPopulateRead) };
            // Systems older than the call: what has run until here must do.
            if let Err(error) = done {
                assert_eq!(error, rustix::io::Errno::INVAL);
            }
        }

        /// Most pages are not mapped afterwards, and the program goes on.
        #[test]
        fn pages_go_and_come_back() {
            let code = own_code().unwrap();
            fetch(&code);
            let before = resident_kib(&code);
            give_back();
            let after = resident_kib(&code);
            assert!(
                after < before / 2 && after > 0,
                "{after} KiB of the code are resident, {before} KiB before"
            );
        }
    }
}
