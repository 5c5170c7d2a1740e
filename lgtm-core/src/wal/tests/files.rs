//! The log's folder: its owner, what is missing in it, what others put there, what was not read.

use super::*;

fn payloads(replay: WalReplay) -> (Vec<Vec<u8>>, ReplayReport) {
    let (records, report) = read(replay);
    (records.into_iter().map(|r| r.1).collect(), report)
}

async fn one_record(disk: &Arc<dyn Disk>, payload: &[u8]) {
    let (wal, replay) = open(disk.clone(), small());
    read(replay);
    write(&wal, &[(1, payload.to_vec())]).await;
}

#[tokio::test]
async fn a_log_has_one_owner() {
    let (_dir, disk) = folder();
    let (first, _) = open(disk.clone(), small());
    let clock = Arc::new(SystemClock::new());
    let refused = Wal::open(disk.clone(), "wal", small(), clock).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Conflict);
    let holder = format!("process {}", std::process::id());
    assert!(refused.to_string().contains(&holder), "{refused}");
    assert!(refused.to_string().contains("/wal"), "{refused}");
    write(&first, &[(1, b"mine".to_vec())]).await;
    // A closed log is free although somebody still holds it.
    first.close();
    assert!(first.append(1, b"late").is_err());
    let (_second, replay) = open(disk, small());
    assert_eq!(payloads(replay).0, [b"mine"]);
}

#[tokio::test]
async fn a_log_that_was_not_read_takes_no_checkpoint() {
    let (_dir, disk) = folder();
    one_record(&disk, b"a").await;
    {
        let (wal, _forgotten) = open(disk.clone(), small());
        let refused = wal.begin_checkpoint().await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Conflict);
        write(&wal, &[(1, b"b".to_vec())]).await;
    }
    {
        let (wal, replay) = open(disk.clone(), small());
        // Given up half way is not read.
        replay
            .for_each(|_| Err(crate::Error::InvalidInput("enough".into())))
            .unwrap_err();
        assert!(wal.begin_checkpoint().await.is_err());
    }
    let (wal, replay) = open(disk.clone(), small());
    assert_eq!(payloads(replay).0, [b"a", b"b"]);
    let mut checkpoint = wal.begin_checkpoint().await.unwrap();
    checkpoint.append(1, b"ab").unwrap();
    checkpoint.finish().unwrap();
    drop(wal);
    assert_eq!(payloads(open(disk, small()).1).0, [b"ab"]);
}

#[tokio::test]
async fn a_torn_tail_that_a_start_did_not_read_is_no_damage_to_the_next() {
    let (dir, disk) = folder();
    one_record(&disk, b"a").await;
    let path = dir.path().join("wal/00000001");
    let whole = std::fs::read(&path).unwrap();
    // Half a header, half a body, and what looks like a header.
    let frame = &whole[8..];
    for torn in [&frame[..10], &frame[..frame.len() - 1], b"LGWF half"] {
        std::fs::write(&path, [&whole, torn].concat()).unwrap();
        let _ = std::fs::remove_file(dir.path().join("wal/00000002"));
        let _ = std::fs::remove_file(dir.path().join("wal/00000003"));
        {
            let (wal, _not_read) = open(disk.clone(), small());
            write(&wal, &[(1, b"b".to_vec())]).await;
        }
        let (back, report) = payloads(open(disk.clone(), small()).1);
        assert_eq!(back, [b"a", b"b"]);
        assert!(report.set_aside.is_empty(), "{report:?}");
        assert_eq!(std::fs::read(&path).unwrap(), whole);
    }
}

#[tokio::test]
async fn missing_segments_are_reported() {
    let (dir, disk) = folder();
    for n in 0..7u8 {
        one_record(&disk, &[n]).await;
    }
    let path = |n: u64| dir.path().join(format!("wal/{n:08}"));
    std::fs::remove_file(path(3)).unwrap();
    std::fs::remove_file(path(4)).unwrap();
    std::fs::remove_file(path(1)).unwrap();
    let (wal, replay) = open(disk.clone(), small());
    let (back, report) = payloads(replay);
    assert_eq!(back, [[1], [4], [5], [6]]);
    let missing: Vec<(&str, &str)> = report
        .set_aside
        .iter()
        .map(|s| (s.file.as_str(), s.reason.as_str()))
        .collect();
    assert_eq!(
        missing,
        [
            (
                "wal/00000001",
                "1 segments of the log are missing, 00000001 to 00000001"
            ),
            (
                "wal/00000003",
                "2 segments of the log are missing, 00000003 to 00000004"
            )
        ]
    );
    // A checkpoint replaces them all; the segment that it was cut at belongs to it.
    wal.begin_checkpoint().await.unwrap().finish().unwrap();
    drop(wal);
    assert_eq!(payloads(open(disk.clone(), small()).1).1.set_aside, []);
    for path in segments(dir.path()) {
        std::fs::remove_file(path).unwrap();
    }
    let report = payloads(open(disk, small()).1).1;
    assert_eq!(report.set_aside.len(), 1, "{report:?}");
}

#[tokio::test]
async fn foreign_files_neither_stop_a_start_nor_are_touched() {
    let (dir, disk) = folder();
    one_record(&disk, b"a").await;
    let names = [
        "+103",
        "5",
        "0000000000000000000000000000",
        "18446744073709551615",
        "checkpoint.+0000009",
        "checkpoint.18446744073709551615",
        "00000009.bak",
    ];
    for name in names {
        std::fs::write(dir.path().join("wal").join(name), "not ours").unwrap();
    }
    // Folders and links that bear the names of the next segments and checkpoints.
    std::fs::create_dir(dir.path().join("wal/00000002")).unwrap();
    std::fs::create_dir(dir.path().join("wal/checkpoint.00000002")).unwrap();
    for n in 0..3u8 {
        let (wal, replay) = open(disk.clone(), small());
        let (back, _) = payloads(replay);
        assert_eq!(back.len(), usize::from(n) + 1, "what came is there");
        write(&wal, &[(1, vec![n])]).await;
    }
    let (wal, replay) = open(disk.clone(), small());
    read(replay);
    wal.begin_checkpoint().await.unwrap().finish().unwrap();
    for name in names {
        assert_eq!(
            std::fs::read(dir.path().join("wal").join(name)).unwrap(),
            b"not ours",
            "{name}"
        );
    }
}

#[tokio::test]
async fn segments_that_were_moved_and_linked_are_read_and_kept() {
    let (dir, disk) = folder();
    let elsewhere = tempfile::tempdir().unwrap();
    for n in 0..4u8 {
        one_record(&disk, &[n]).await;
    }
    let path = |n: u64| dir.path().join(format!("wal/{n:08}"));
    let moved = |n: u64| elsewhere.path().join(n.to_string());
    for n in [3, 4] {
        std::fs::copy(path(n), moved(n)).unwrap();
        std::fs::remove_file(path(n)).unwrap();
        std::os::unix::fs::symlink(moved(n), path(n)).unwrap();
    }
    let before = [3, 4].map(|n| std::fs::read(moved(n)).unwrap());
    let (wal, replay) = open(disk.clone(), small());
    let (back, report) = payloads(replay);
    assert_eq!(back, [[0], [1], [2], [3]]);
    assert!(report.set_aside.is_empty(), "{report:?}");
    write(&wal, &[(1, vec![4])]).await;
    drop(wal);
    assert_eq!([3, 4].map(|n| std::fs::read(moved(n)).unwrap()), before);
    // A link that leads nowhere is told of, and nothing is written through it.
    std::fs::remove_file(moved(4)).unwrap();
    std::os::unix::fs::symlink(moved(6), path(6)).unwrap();
    let (wal, replay) = open(disk.clone(), small());
    let (back, report) = payloads(replay);
    assert_eq!(back, [[0], [1], [2], [4]]);
    let files: Vec<&str> = report.set_aside.iter().map(|s| s.file.as_str()).collect();
    assert_eq!(files, ["wal/00000004", "wal/00000006"]);
    write(&wal, &[(1, vec![5])]).await;
    assert!(!moved(6).exists());
}
