//! The disk beside a model that copies everything at every sync, and each of its faults.

use std::collections::BTreeSet;
use std::io::ErrorKind;

use proptest::prelude::*;

use super::*;

/// A disk as simply as can be told: what is durable is what was seen at the last sync.
#[derive(Default)]
struct Model {
    /// Bytes by file, as seen and as synced.
    bytes: Vec<(Vec<u8>, Vec<u8>)>,
    /// Files by name, as seen and as synced.
    names: BTreeMap<String, usize>,
    synced_names: BTreeMap<String, usize>,
    /// Names that came, went or were given to another file since their folder was synced: also those that stand for the same file again.
    changed_names: BTreeSet<String>,
}

impl Model {
    fn seen(&self) -> BTreeMap<String, Vec<u8>> {
        let file = |(name, n): (&String, &usize)| (name.clone(), self.bytes[*n].0.clone());
        self.names.iter().map(file).collect()
    }

    fn durable(&self) -> BTreeMap<String, Vec<u8>> {
        let file = |(name, n): (&String, &usize)| (name.clone(), self.bytes[*n].1.clone());
        self.synced_names.iter().map(file).collect()
    }

    fn sync_dir(&mut self, dir: &str) {
        self.synced_names.retain(|name, _| folder_of(name) != dir);
        self.changed_names.retain(|name| folder_of(name) != dir);
        for (name, n) in &self.names {
            if folder_of(name) == dir {
                self.synced_names.insert(name.clone(), *n);
            }
        }
    }
}

fn contents(disk: &CrashDisk) -> BTreeMap<String, Vec<u8>> {
    let read = |name: String| {
        let bytes = disk.read(&name).unwrap();
        (name, bytes)
    };
    disk.files().into_iter().map(read).collect()
}

#[derive(Debug, Clone)]
enum Step {
    Append(usize, usize),
    Sync(usize),
    Rename(usize, usize),
    Remove(usize),
    SyncDir(bool),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let file = 0..6usize;
    let step = prop_oneof![
        4 => (file.clone(), 0..1500usize).prop_map(|(f, len)| Step::Append(f, len)),
        2 => file.clone().prop_map(Step::Sync),
        1 => (file.clone(), file.clone()).prop_map(|(a, b)| Step::Rename(a, b)),
        1 => file.prop_map(Step::Remove),
        2 => any::<bool>().prop_map(Step::SyncDir),
    ];
    proptest::collection::vec(step, 0..40)
}

/// Does the steps to both; files 0 to 2 stand in one folder, 3 to 5 in another, and renames stay in theirs.
fn run(steps: Vec<Step>) -> (CrashDisk, Model) {
    let (disk, mut model) = (CrashDisk::new(7), Model::default());
    let name = |file: usize| format!("{}/{}", ["a", "b"][file / 3], file % 3);
    for dir in ["a", "./b"] {
        disk.create_dir_all(dir).unwrap();
    }
    disk.sync_dir(".").unwrap();
    for (n, step) in steps.into_iter().enumerate() {
        match step {
            Step::Append(file, len) => {
                let bytes = vec![n as u8 + 1; len];
                let open = disk.open_append(&name(file)).unwrap();
                open.append(&bytes).unwrap();
                let next = model.bytes.len();
                let at = *model.names.entry(name(file)).or_insert(next);
                if at == next {
                    model.changed_names.insert(name(file));
                    model.bytes.push(Default::default());
                }
                model.bytes[at].0.extend(bytes);
            }
            Step::Sync(file) => {
                if let Some(at) = model.names.get(&name(file)) {
                    disk.open_read(&name(file)).unwrap().sync().unwrap();
                    model.bytes[*at].1 = model.bytes[*at].0.clone();
                }
            }
            Step::Rename(from, to) => {
                let to = from / 3 * 3 + to % 3;
                let there = model.names.remove(&name(from));
                let renamed = disk.rename(&name(from), &name(to));
                assert_eq!(renamed.is_ok(), there.is_some());
                if let Some(at) = there {
                    model.changed_names.extend([name(from), name(to)]);
                    model.names.insert(name(to), at);
                }
            }
            Step::Remove(file) => {
                let there = model.names.remove(&name(file)).is_some();
                model.changed_names.insert(name(file));
                assert_eq!(disk.remove(&name(file)).is_ok(), there);
            }
            Step::SyncDir(first) => {
                let dir = if first { "a" } else { "b" };
                disk.sync_dir(dir).unwrap();
                model.sync_dir(dir);
            }
        }
    }
    (disk, model)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]
    #[test]
    fn a_crash_leaves_what_the_model_says(steps in steps(), seed in any::<u64>()) {
        let (disk, model) = run(steps);
        prop_assert_eq!(contents(&disk.crash(Crash::Process)), model.seen());
        prop_assert_eq!(contents(&disk.crash(Crash::PowerStrict)), model.durable());
        let left = contents(&disk.crash(Crash::Power(seed)));
        prop_assert_eq!(&left, &contents(&disk.crash(Crash::Power(seed))), "a seed repeats");
        for (name, n) in &model.synced_names {
            // A name that was changed since its sync may stand for what it stood for before or after.
            if !model.changed_names.contains(name) {
                let (seen, synced) = &model.bytes[*n];
                let bytes = left.get(name).expect("a synced name");
                prop_assert!(bytes.starts_with(synced), "{}: synced bytes stay", name);
                prop_assert!(bytes.len() <= seen.len());
                let old_or_new = bytes.iter().zip(seen).all(|(b, s)| *b == 0 || b == s);
                prop_assert!(old_or_new, "{}: nothing is there that was not written", name);
            }
        }
    }
}

#[test]
fn unsynced_bytes_are_lost_torn_and_reordered() {
    let disk = CrashDisk::new(1);
    let file = disk.open_append("log").unwrap();
    file.append(&[1; 700]).unwrap();
    file.sync().unwrap();
    disk.sync_dir("").unwrap();
    file.append(&[2; 2000]).unwrap();
    let (mut lost, mut kept, mut torn, mut holes) = (0, 0, 0, 0);
    for seed in 0..200 {
        let bytes = disk.crash(Crash::Power(seed)).read("log").unwrap();
        assert_eq!(bytes[..700], [1; 700]);
        let new = &bytes[700..];
        let first_gap = new.iter().position(|b| *b == 0).unwrap_or(new.len());
        match (new.len(), new[first_gap..].contains(&2)) {
            (_, true) => holes += 1,
            (0, _) => lost += 1,
            (2000, _) if first_gap == 2000 => kept += 1,
            _ => torn += 1,
        }
    }
    for count in [lost, kept, torn, holes] {
        assert!(count > 10, "{lost} {kept} {torn} {holes}");
    }
}

#[test]
fn an_unsynced_rename_is_lost_or_done_but_never_half() {
    let disk = CrashDisk::new(1);
    disk.write("old", b"x");
    disk.write("replaced", b"y");
    disk.rename("old", "replaced").unwrap();
    let mut seen = std::collections::BTreeSet::new();
    for seed in 0..50 {
        let files = contents(&disk.crash(Crash::Power(seed)));
        seen.insert((files.get("old").cloned(), files["replaced"].clone()));
    }
    let before = (Some(b"x".to_vec()), b"y".to_vec());
    let after = (None, b"x".to_vec());
    assert_eq!(seen, [before, after].into());
}

#[test]
fn a_power_loss_after_the_death_of_a_process_undoes_what_that_did_not_sync() {
    let disk = CrashDisk::new(1);
    disk.write("removed", b"x");
    disk.write("longer", b"y");
    disk.remove("removed").unwrap();
    disk.open_append("longer").unwrap().append(b"z").unwrap();
    let killed = disk.crash(Crash::Process);
    assert_eq!(
        contents(&killed),
        [("longer".into(), b"yz".to_vec())].into()
    );
    let unplugged = killed.crash(Crash::PowerStrict);
    let before = [
        ("longer".into(), b"y".to_vec()),
        ("removed".into(), b"x".to_vec()),
    ];
    assert_eq!(contents(&unplugged), before.into());
}

#[test]
fn a_folder_that_was_not_synced_takes_its_files_with_it() {
    let disk = CrashDisk::new(1);
    disk.create_dir_all("data/wal").unwrap();
    let file = disk.open_append("data/wal/1").unwrap();
    file.append(b"x").unwrap();
    file.sync().unwrap();
    disk.sync_dir("data/wal").unwrap();
    assert!(disk.crash(Crash::PowerStrict).files().is_empty());
    assert_eq!(disk.crash(Crash::Process).files(), ["data/wal/1"]);
}

#[test]
fn a_disk_stops_at_every_operation_in_turn() {
    let work = |disk: &CrashDisk| -> io::Result<()> {
        disk.create_dir_all("d")?;
        let file = disk.open_append("d/f")?;
        file.append(b"0123456789")?;
        file.sync()?;
        disk.rename("d/f", "d/g")?;
        disk.sync_dir("d")
    };
    let whole = CrashDisk::new(0);
    work(&whole).unwrap();
    assert_eq!(whole.operations(), 6);
    let mut torn = 0;
    for n in 1..=whole.operations() {
        let disk = CrashDisk::new(n);
        disk.stop_at(n);
        assert!(work(&disk).is_err());
        assert!(disk.is_stopped() && disk.open_append("d/f").is_err());
        assert!(
            disk.history().ends_with("the disk stops"),
            "{}",
            disk.history()
        );
        let left = disk.crash(Crash::Process);
        let name = if n == 6 { "d/g" } else { "d/f" };
        match left.read(name) {
            Ok(bytes) if n == 3 => torn += usize::from((1..10).contains(&bytes.len())),
            Ok(bytes) => assert_eq!(bytes, b"0123456789", "stopped at {n}"),
            Err(_) => assert!(n <= 2, "stopped at {n}"),
        }
        left.open_append("f")
            .unwrap()
            .append(b"the next process")
            .unwrap();
    }
    assert_eq!(torn, 1, "the append was interrupted in the middle");
}

#[test]
fn a_crashed_process_writes_no_more() {
    let disk = CrashDisk::new(1);
    let file = disk.open_append("f").unwrap();
    let left = disk.crash(Crash::Process);
    assert!(file.append(b"x").is_err() && file.sync().is_err() && file.size().is_err());
    assert_eq!(left.read("f").unwrap(), b"");
}

#[test]
fn a_full_disk_takes_what_fits() {
    let disk = CrashDisk::new(1);
    disk.set_capacity(Some(5));
    let file = disk.open_append("f").unwrap();
    file.append(b"123").unwrap();
    let e = file.append(b"456").unwrap_err();
    assert_eq!(e.kind(), ErrorKind::StorageFull);
    assert_eq!(disk.read("f").unwrap(), b"12345");
    file.truncate(3).unwrap();
    disk.set_capacity(None);
    file.append(b"456").unwrap();
    assert_eq!(disk.read("f").unwrap(), b"123456");
}

#[test]
fn a_sync_after_a_failed_one_does_not_bring_back_what_was_forgotten() {
    let disk = CrashDisk::new(1);
    let file = disk.open_append("f").unwrap();
    disk.sync_dir("").unwrap();
    file.append(b"lost").unwrap();
    disk.fail_next(DiskOperation::Sync, [ErrorKind::Other]);
    assert!(file.sync().is_err());
    file.append(b"kept").unwrap();
    file.sync().unwrap();
    assert_eq!(disk.read("f").unwrap(), b"lostkept");
    let left = disk.crash(Crash::PowerStrict);
    assert_eq!(left.read("f").unwrap(), b"\0\0\0\0kept");
}
