//! A disk that can be pulled out from under a process at any moment.

mod file;
mod names;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::io;
use std::sync::Arc;

use parking_lot::Mutex;

use self::file::FileBytes;
use self::names::{Names, Node, folder_of, plain};
use super::Dice;
use crate::disk::{Disk, DiskFile, DiskLock};

/// Changes that a message about a failed test shows.
const REMEMBERED: usize = 32;

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Crash {
    /// The process died (`kill -9`, a panic, no memory) and the machine went on: everything that was written is there.
    Process,
    /// The power went, and nothing is there but what was synced.
    PowerStrict,
    /// The power went. Of what was not synced, these dice say what is there: of each file nothing, all, a beginning torn at any byte, or
    /// any of its pages; of creations, renames and removals the first few or any of them. What was synced is always there.
    Power(u64),
}

/// What a disk is asked to do that changes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum DiskOperation {
    /// A folder or a file is made.
    Create,
    /// Bytes are appended.
    Append,
    /// A file is cut.
    Truncate,
    /// A file is synced.
    Sync,
    /// A file gets another name.
    Rename,
    /// A file is removed.
    Remove,
    /// The names in a folder are synced.
    SyncDir,
}

/// A [`Disk`] in memory that knows what a crash would leave of it.
///
/// It is as strict as POSIX allows: bytes survive a power loss when their file was synced, names (of folders too) when the folder in
/// which they stand was. Clones are the same disk. Locks and open files end with [`CrashDisk::crash`].
///
/// Every operation that changes the disk has a number. A test runs its work once to learn how many there are and then once for each,
/// with [`CrashDisk::stop_at`]: so it sees every state in which a process can be interrupted. Reads have no number; between two changes a
/// process can read what it likes.
///
/// ```
/// use lgtm_core::disk::Disk;
/// use lgtm_core::testing::{Crash, CrashDisk};
///
/// let disk = CrashDisk::new(1);
/// let file = disk.open_append("log")?;
/// file.append(b"kept ")?;
/// file.sync()?;
/// disk.sync_dir("")?;
/// file.append(b"lost")?;
///
/// let killed = disk.crash(Crash::Process);
/// assert_eq!(killed.read("log")?, b"kept lost");
/// let unplugged = disk.crash(Crash::PowerStrict);
/// assert_eq!(unplugged.read("log")?, b"kept ");
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone)]
pub struct CrashDisk {
    state: Arc<Mutex<State>>,
}

struct State {
    seed: u64,
    dice: Dice,
    names: Names,
    files: BTreeMap<u64, FileBytes>,
    next_file: u64,
    /// Changes so far.
    operations: u64,
    /// The change at which the disk stops.
    stop_at: Option<u64>,
    stopped: bool,
    /// Bytes that fit.
    capacity: Option<u64>,
    faults: VecDeque<(DiskOperation, io::ErrorKind)>,
    /// Locked folders and who holds them: no bytes of the disk, as they end with the process.
    locks: BTreeMap<String, String>,
    history: VecDeque<String>,
}

impl CrashDisk {
    /// An empty disk. The seed decides where an interrupted append is torn.
    pub fn new(seed: u64) -> Self {
        Self::holding(seed, Names::default(), BTreeMap::new(), 0)
    }

    fn holding(seed: u64, names: Names, files: BTreeMap<u64, FileBytes>, next_file: u64) -> Self {
        let state = State {
            seed,
            dice: Dice::seeded(seed),
            names,
            files,
            next_file,
            operations: 0,
            stop_at: None,
            stopped: false,
            capacity: None,
            faults: VecDeque::new(),
            locks: BTreeMap::new(),
            history: VecDeque::new(),
        };
        Self {
            state: Arc::new(Mutex::new(state)),
        }
    }

    /// The disk as the next process finds it. This one stops: whoever still holds it is of the process that died.
    ///
    /// A stopped disk can be asked again, so that one run shows what several crashes at the same moment would leave.
    pub fn crash(&self, crash: Crash) -> Self {
        let mut state = self.state.lock();
        state.stopped = true;
        let seed = match crash {
            // Files without a name stay too: a power loss may yet undo that they were removed.
            Crash::Process => {
                let (names, files) = (state.names.clone(), state.files.clone());
                return Self::holding(state.seed, names, files, state.next_file);
            }
            Crash::PowerStrict => None,
            Crash::Power(seed) => Some(seed),
        };
        let mut dice = seed.map(Dice::seeded);
        let names = match &mut dice {
            Some(dice) => state.names.after_power_loss(dice),
            None => state.names.after_strict_power_loss(),
        };
        let mut files = BTreeMap::new();
        for (_, node) in names.all() {
            if let Node::File(number) = node {
                let file = &state.files[&number];
                let left = match &mut dice {
                    Some(dice) => file.after_power_loss(dice),
                    None => file.after_strict_power_loss(),
                };
                files.insert(number, left);
            }
        }
        Self::holding(seed.unwrap_or(state.seed), names, files, state.next_file)
    }

    /// Changes asked for so far, by [`CrashDisk::stop_at`]'s count: from 1, what failed too.
    pub fn operations(&self) -> u64 {
        self.state.lock().operations
    }

    /// Stops the disk at a change: those before it are done, it fails (an append may have reached the disk in part), and so does everything
    /// after it, reads too.
    pub fn stop_at(&self, operation: u64) {
        self.state.lock().stop_at = Some(operation);
    }

    /// Whether the disk has stopped.
    pub fn is_stopped(&self) -> bool {
        self.state.lock().stopped
    }

    /// The next operations of a kind that are asked for fail in turn with these errors. A failed append leaves a part of its bytes, a failed
    /// sync makes the machine forget what it should have written (a later sync succeeds and does not bring it back), as Linux does.
    pub fn fail_next(
        &self,
        operation: DiskOperation,
        errors: impl IntoIterator<Item = io::ErrorKind>,
    ) {
        let errors = errors.into_iter().map(|e| (operation, e));
        self.state.lock().faults.extend(errors);
    }

    /// Appends beyond so many bytes in all files fail with `StorageFull`, after what fits; `None`: no bound.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.state.lock().capacity = bytes;
    }

    /// The bytes of a file.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn read(&self, path: &str) -> io::Result<Vec<u8>> {
        let state = self.state.lock();
        match state.names.get(&plain(path)) {
            Some(Node::File(number)) => Ok(state.files[&number].seen().to_vec()),
            _ => Err(not_found(path)),
        }
    }

    /// Puts a file there, durable with its name: what a test begins with, or damages.
    pub fn write(&self, path: &str, bytes: &[u8]) {
        let mut state = self.state.lock();
        let path = plain(path);
        let mut folder = String::new();
        for part in folder_of(&path).split('/').filter(|p| !p.is_empty()) {
            let above = folder.clone();
            folder = plain(&format!("{folder}/{part}"));
            if state.names.get(&folder).is_none() {
                state
                    .names
                    .change(vec![(folder.clone(), Some(Node::Folder))]);
            }
            state.names.sync(&above);
        }
        let number = state.file_named(&path);
        let file = state.files.entry(number).or_default();
        file.truncate(0);
        file.append(bytes);
        file.sync();
        state.names.sync(folder_of(&path));
    }

    /// Paths of all files, in order.
    pub fn files(&self) -> Vec<String> {
        let state = self.state.lock();
        let file =
            |(path, node): (&str, Node)| matches!(node, Node::File(_)).then(|| path.to_owned());
        state.names.all().filter_map(file).collect()
    }

    /// The last changes, one a line, oldest first: what to print when a test fails.
    pub fn history(&self) -> String {
        let state = self.state.lock();
        let lines: Vec<&str> = state.history.iter().map(String::as_str).collect();
        lines.join("\n")
    }
}

fn not_found(path: &str) -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, format!("no file {path}"))
}

/// What becomes of a change.
enum Fate {
    Done,
    /// The disk stops, or fails this once.
    Fails(io::Error),
}

impl State {
    fn check_running(&self) -> io::Result<()> {
        if self.stopped {
            Err(io::Error::other("the disk has stopped"))
        } else {
            Ok(())
        }
    }

    /// Counts a change and says what becomes of it.
    fn begin(&mut self, operation: DiskOperation, what: &str) -> io::Result<Fate> {
        self.check_running()?;
        self.operations += 1;
        let number = self.operations;
        let mut note = |text: String| {
            if self.history.len() == REMEMBERED {
                self.history.pop_front();
            }
            self.history.push_back(text);
        };
        if self.stop_at == Some(number) {
            self.stopped = true;
            note(format!("{number}: {operation:?} {what}: the disk stops"));
            let e = io::Error::other(format!("the disk stops at operation {number}"));
            return Ok(Fate::Fails(e));
        }
        let fault = self.faults.iter().position(|(o, _)| *o == operation);
        if let Some((_, kind)) = fault.and_then(|at| self.faults.remove(at)) {
            note(format!("{number}: {operation:?} {what}: fails"));
            let e = io::Error::new(kind, format!("{operation:?} {what} (injected)"));
            return Ok(Fate::Fails(e));
        }
        note(format!("{number}: {operation:?} {what}"));
        Ok(Fate::Done)
    }

    /// [`State::begin`] for what is done or not, and never in part.
    fn begin_whole(&mut self, operation: DiskOperation, what: &str) -> io::Result<()> {
        match self.begin(operation, what)? {
            Fate::Done => Ok(()),
            Fate::Fails(e) => Err(e),
        }
    }

    /// The number of the file with this name, which is made if there is none.
    fn file_named(&mut self, path: &str) -> u64 {
        if let Some(Node::File(number)) = self.names.get(path) {
            return number;
        }
        let number = self.next_file;
        self.next_file += 1;
        self.files.insert(number, FileBytes::default());
        let node = Some(Node::File(number));
        self.names.change(vec![(path.to_owned(), node)]);
        number
    }

    fn file(&mut self, number: u64) -> &mut FileBytes {
        self.files.entry(number).or_default()
    }

    fn bytes_used(&self) -> u64 {
        let file = |(_, node): (&str, Node)| match node {
            Node::File(number) => self.files[&number].seen().len() as u64,
            Node::Folder => 0,
        };
        self.names.all().map(file).sum()
    }

    fn append(&mut self, number: u64, path: &str, bytes: &[u8]) -> io::Result<()> {
        let what = format!("{path} +{}", bytes.len());
        if let Fate::Fails(e) = self.begin(DiskOperation::Append, &what)? {
            let kept = self.dice.below(bytes.len() as u64 + 1) as usize;
            self.file(number).append(&bytes[..kept]);
            return Err(e);
        }
        let room = match self.capacity {
            Some(capacity) => capacity.saturating_sub(self.bytes_used()) as usize,
            None => usize::MAX,
        };
        self.file(number).append(&bytes[..bytes.len().min(room)]);
        if bytes.len() <= room {
            Ok(())
        } else {
            Err(io::Error::new(
                io::ErrorKind::StorageFull,
                format!("no room for {what} (injected)"),
            ))
        }
    }
}

impl Disk for CrashDisk {
    fn create_dir_all(&self, dir: &str) -> io::Result<()> {
        let mut state = self.state.lock();
        state.check_running()?;
        let dir = plain(dir);
        let mut folder = String::new();
        for part in dir.split('/').filter(|p| !p.is_empty()) {
            folder = plain(&format!("{folder}/{part}"));
            match state.names.get(&folder) {
                Some(Node::Folder) => {}
                Some(Node::File(_)) => return Err(io::ErrorKind::AlreadyExists.into()),
                None => {
                    state.begin_whole(DiskOperation::Create, &folder)?;
                    let node = Some(Node::Folder);
                    state.names.change(vec![(folder.clone(), node)]);
                }
            }
        }
        Ok(())
    }

    fn list(&self, dir: &str) -> io::Result<Vec<String>> {
        let state = self.state.lock();
        state.check_running()?;
        let dir = plain(dir);
        match state.names.get(&dir) {
            Some(Node::Folder) => Ok(state.names.files_in(&dir).map(str::to_owned).collect()),
            _ => Err(not_found(&dir)),
        }
    }

    fn open_append(&self, path: &str) -> io::Result<Box<dyn DiskFile>> {
        let mut state = self.state.lock();
        state.check_running()?;
        let path = plain(path);
        if state.names.get(folder_of(&path)) != Some(Node::Folder) {
            return Err(not_found(&path));
        }
        let number = match state.names.get(&path) {
            Some(Node::File(number)) => number,
            Some(Node::Folder) => return Err(io::ErrorKind::IsADirectory.into()),
            None => {
                state.begin_whole(DiskOperation::Create, &path)?;
                state.file_named(&path)
            }
        };
        Ok(Box::new(CrashFile {
            disk: self.clone(),
            number,
            path,
        }))
    }

    fn create_new(&self, path: &str) -> io::Result<Box<dyn DiskFile>> {
        let is_taken = {
            let state = self.state.lock();
            state.check_running()?;
            state.names.get(&plain(path)).is_some()
        };
        if is_taken {
            Err(io::ErrorKind::AlreadyExists.into())
        } else {
            self.open_append(path)
        }
    }

    fn open_read(&self, path: &str) -> io::Result<Box<dyn DiskFile>> {
        let state = self.state.lock();
        state.check_running()?;
        let path = plain(path);
        let Some(Node::File(number)) = state.names.get(&path) else {
            return Err(not_found(&path));
        };
        Ok(Box::new(CrashFile {
            disk: self.clone(),
            number,
            path,
        }))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut state = self.state.lock();
        let (from, to) = (plain(from), plain(to));
        let node = state.names.get(&from).ok_or_else(|| not_found(&from))?;
        state.begin_whole(DiskOperation::Rename, &format!("{from} to {to}"))?;
        if from != to {
            state.names.change(vec![(to, Some(node)), (from, None)]);
        }
        Ok(())
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        let mut state = self.state.lock();
        let path = plain(path);
        let Some(Node::File(_)) = state.names.get(&path) else {
            return Err(not_found(&path));
        };
        state.begin_whole(DiskOperation::Remove, &path)?;
        state.names.change(vec![(path, None)]);
        Ok(())
    }

    fn sync_dir(&self, dir: &str) -> io::Result<()> {
        let mut state = self.state.lock();
        let dir = plain(dir);
        if state.names.get(&dir) != Some(Node::Folder) {
            return Err(not_found(&dir));
        }
        state.begin_whole(DiskOperation::SyncDir, &dir)?;
        state.names.sync(&dir);
        Ok(())
    }

    fn lock(&self, dir: &str, holder: &str) -> io::Result<Box<dyn DiskLock>> {
        self.create_dir_all(dir)?;
        let mut state = self.state.lock();
        state.check_running()?;
        let dir = plain(dir);
        if let Some(other) = state.locks.get(&dir) {
            return Err(io::Error::new(
                io::ErrorKind::WouldBlock,
                format!("folder {dir} is held by {other}"),
            ));
        }
        state.locks.insert(dir.clone(), holder.to_owned());
        Ok(Box::new(CrashLock {
            disk: self.clone(),
            dir,
        }))
    }
}

/// A locked folder of a [`CrashDisk`].
#[derive(Debug)]
struct CrashLock {
    disk: CrashDisk,
    dir: String,
}

impl DiskLock for CrashLock {}

impl Drop for CrashLock {
    fn drop(&mut self) {
        self.disk.state.lock().locks.remove(&self.dir);
    }
}

/// An open file of a [`CrashDisk`].
#[derive(Debug)]
struct CrashFile {
    disk: CrashDisk,
    number: u64,
    path: String,
}

impl DiskFile for CrashFile {
    fn append(&self, bytes: &[u8]) -> io::Result<()> {
        self.disk
            .state
            .lock()
            .append(self.number, &self.path, bytes)
    }

    fn read_exact_at(&self, out: &mut [u8], offset: u64) -> io::Result<()> {
        let mut state = self.disk.state.lock();
        state.check_running()?;
        let seen = state.file(self.number).seen();
        let from = usize::try_from(offset).unwrap_or(usize::MAX);
        let found = from
            .checked_add(out.len())
            .and_then(|end| seen.get(from..end));
        out.copy_from_slice(found.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn size(&self) -> io::Result<u64> {
        let mut state = self.disk.state.lock();
        state.check_running()?;
        Ok(state.file(self.number).seen().len() as u64)
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        let mut state = self.disk.state.lock();
        state.begin_whole(DiskOperation::Truncate, &format!("{} to {len}", self.path))?;
        state.file(self.number).truncate(len as usize);
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        let mut state = self.disk.state.lock();
        match state.begin(DiskOperation::Sync, &self.path)? {
            Fate::Done => state.file(self.number).sync(),
            Fate::Fails(e) => {
                if !state.stopped {
                    state.file(self.number).fail_sync();
                }
                return Err(e);
            }
        }
        Ok(())
    }
}

impl fmt::Debug for CrashDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.state.lock();
        f.debug_struct("CrashDisk")
            .field("seed", &state.seed)
            .field("operations", &state.operations)
            .field("stopped", &state.stopped)
            .finish_non_exhaustive()
    }
}
