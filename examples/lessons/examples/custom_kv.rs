//! A key-value back end of your own: implement six methods, run the suite, and every ring works on it.
//!
//! This one keeps values in the files of a folder. One process may use it at a time.

use std::io::ErrorKind;
use std::path::PathBuf;

use async_trait::async_trait;
use bytes::Bytes;
use lgtm_core::{Error, Result};
use lgtm_ring::kv::{Kv, KvWatch, KvWatchSender, check_key};
use lgtm_ring::testing::kv_suite;
use tokio::sync::Mutex;

#[tokio::main]
async fn main() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let kv = FolderKv::new(folder.path().into());
    // What the suite does not check, the trait does not promise; what it checks, a ring relies on.
    kv_suite(&kv).await;

    kv.cas("ring", &mut |_| Ok(Some(Bytes::from_static(b"kept"))))
        .await
        .expect("a write");
    let reopened = FolderKv::new(folder.path().into());
    let value = reopened.get("ring").await.expect("a read");
    assert_eq!(value.as_deref(), Some(&b"kept"[..]));
}

#[derive(Debug)]
struct FolderKv {
    folder: PathBuf,
    /// Held while a value is read, changed and written: that makes `cas` atomic without any version.
    watches: Mutex<Vec<(String, bool, KvWatchSender)>>,
}

impl FolderKv {
    fn new(folder: PathBuf) -> Self {
        let watches = Mutex::new(Vec::new());
        Self { folder, watches }
    }

    /// Keys may hold anything, file names may not: they are written in hexadecimal digits, halves of long ones in a folder each.
    fn path(&self, key: &str) -> PathBuf {
        let hex: String = key.bytes().map(|b| format!("{b:02x}")).collect();
        let (front, back) = hex.split_at(hex.len().min(200));
        let mut path = self.folder.join(front);
        for part in back.as_bytes().chunks(200) {
            path.push(std::str::from_utf8(part).expect("digits"));
        }
        path.join("value")
    }

    fn read(&self, key: &str) -> Result<Option<Bytes>> {
        check_key(key)?;
        match std::fs::read(self.path(key)) {
            Ok(bytes) => Ok(Some(bytes.into())),
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
            Err(e) => Err(Error::Unavailable(format!("{key}: {e}"))),
        }
    }

    fn write(&self, key: &str, value: &[u8]) -> std::io::Result<()> {
        let path = self.path(key);
        std::fs::create_dir_all(path.parent().expect("a folder"))?;
        std::fs::write(path.with_extension("tmp"), value)?;
        std::fs::rename(path.with_extension("tmp"), path)
    }

    async fn watch(&self, scope: &str, prefix: bool) -> Result<KvWatch> {
        let mut watches = self.watches.lock().await;
        let (sender, watch) = KvWatch::channel();
        for key in self.list(scope).await? {
            if prefix || key == scope {
                sender.send(&key, self.read(&key)?);
            }
        }
        watches.push((scope.to_owned(), prefix, sender));
        Ok(watch)
    }
}

/// Tells those whom it concerns, and forgets who listens no more.
fn tell(watches: &mut Vec<(String, bool, KvWatchSender)>, key: &str, value: Option<&Bytes>) {
    watches.retain(|(scope, prefix, sender)| {
        let concerns = key == scope || *prefix && key.starts_with(scope.as_str());
        !concerns || sender.send(key, value.cloned())
    });
}

#[async_trait]
impl Kv for FolderKv {
    async fn get(&self, key: &str) -> Result<Option<Bytes>> {
        self.read(key)
    }

    async fn list(&self, prefix: &str) -> Result<Vec<String>> {
        let mut keys = Vec::new();
        let mut folders = vec![self.folder.clone()];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
                if entry.path().is_dir() {
                    folders.push(entry.path());
                } else if entry.file_name() == "value" {
                    let inside = folder.strip_prefix(&self.folder).unwrap_or(&folder);
                    let hex = inside.to_string_lossy().replace('/', "");
                    let byte = |i| u8::from_str_radix(&hex[i..i + 2], 16).ok();
                    let bytes: Option<Vec<u8>> = (0..hex.len()).step_by(2).map(byte).collect();
                    keys.extend(bytes.and_then(|b| String::from_utf8(b).ok()));
                }
            }
        }
        keys.retain(|key| key.starts_with(prefix));
        keys.sort();
        Ok(keys)
    }

    async fn delete(&self, key: &str) -> Result<()> {
        check_key(key)?;
        let mut watches = self.watches.lock().await;
        if std::fs::remove_file(self.path(key)).is_ok() {
            tell(&mut watches, key, None);
        }
        Ok(())
    }

    async fn cas(
        &self,
        key: &str,
        change: &mut (dyn FnMut(Option<Bytes>) -> Result<Option<Bytes>> + Send),
    ) -> Result<()> {
        let mut watches = self.watches.lock().await;
        let Some(value) = change(self.read(key)?)? else {
            return Ok(());
        };
        let written = self.write(key, &value);
        written.map_err(|e| Error::Unavailable(format!("{key}: {e}")))?;
        tell(&mut watches, key, Some(&value));
        Ok(())
    }

    async fn watch_key(&self, key: &str) -> Result<KvWatch> {
        check_key(key)?;
        self.watch(key, false).await
    }

    async fn watch_prefix(&self, prefix: &str) -> Result<KvWatch> {
        self.watch(prefix, true).await
    }
}
