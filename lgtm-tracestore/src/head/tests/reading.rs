//! What readers see, whatever happens to traces meanwhile.

use super::*;

#[tokio::test]
async fn a_trace_is_whole_wherever_its_parts_lie() {
    let s = Store::new(small_settings(), Limits::default());
    let name = "n".repeat(300);
    let mut rows = Vec::new();
    for part in 0..4u8 {
        let some: Vec<Row> = (0..20).map(|t| row(t, part, "shop", &name)).collect();
        s.put(&some).await;
        rows.extend(some);
        assert_eq!(s.all(), sorted(&rows));
        // Cut, and packed since there are enough of them.
        s.pass(6).await;
        assert_eq!(s.all(), sorted(&rows));
    }
    let tenants = s.heads.traces_by_tenant();
    assert_eq!((tenants[0].live_traces, tenants[0].batches), (0, 4));
    assert_eq!(s.heads.live_bytes(), 0);
    // A part that is cut and waits, and a live one.
    s.put(&[row(3, 9, "cart", "x")]).await;
    s.pass(6).await;
    s.put(&[row(3, 10, "cart", "y"), row(200, 1, "cart", "z")])
        .await;
    rows.extend([
        row(3, 9, "cart", "x"),
        row(3, 10, "cart", "y"),
        row(200, 1, "cart", "z"),
    ]);
    assert_eq!(s.all(), sorted(&rows));
    let reader = s.heads.reader();
    let mut traces = s.heads.traces(&tenant(), &reader).unwrap();
    assert!(!traces.find(trace_id(99), &mut Vec::new()));
    let stranger = TenantId::new("other").unwrap();
    let mut none = s.heads.traces(&stranger, &reader).unwrap();
    assert_eq!(none.next_trace((0, u64::MAX), &mut Vec::new()), None);
}

#[tokio::test]
async fn frames_outside_the_range_are_left_out() {
    let s = Store::new(small_settings(), Limits::default());
    let name = "n".repeat(300);
    s.put(
        &(0..20)
            .map(|t| row(t, 1, "shop", &name))
            .collect::<Vec<_>>(),
    )
    .await;
    s.heads.pack_live(None).await.unwrap();
    let reader = s.heads.reader();
    let start = NOW_S as u64 * 1_000_000_000;
    for (range, count) in [
        ((start + 1000, u64::MAX), 20),
        ((start + 1001, u64::MAX), 0),
        ((0, start), 20),
        ((0, start - 1), 0),
    ] {
        let mut traces = s.heads.traces(&tenant(), &reader).unwrap();
        let mut found = 0;
        while traces.next_trace(range, &mut Vec::new()).is_some() {
            found += 1;
        }
        assert_eq!(found, count, "{range:?}");
        let mut traces = s.heads.traces(&tenant(), &reader).unwrap();
        let (mut ordered, mut found) = (OrderedTraces::new(range, None), 0);
        while ordered.next_trace(&mut traces, &mut Vec::new()).is_some() {
            found += 1;
        }
        assert_eq!(found, count, "in order, {range:?}");
    }
}

#[tokio::test]
async fn what_a_flush_moves_is_seen_once_by_every_reader() {
    let s = Store::new(small_settings(), Limits::default());
    let rows: Vec<Row> = (0..10).map(|t| row(t, 1, "shop", "a")).collect();
    s.put(&rows).await;
    s.heads.pack_live(Some(&tenant())).await.unwrap();
    let before = s.heads.reader();
    let leaving = s.heads.begin_flush(&tenant(), block(1)).unwrap();
    assert!(s.heads.begin_flush(&tenant(), block(2)).is_none());
    // In the order of ids, each once.
    let (mut merge, mut merged, mut ids) = (leaving.merge(), Vec::new(), Vec::new());
    let mut bytes = Vec::new();
    while let Some(id) = merge.next_trace(&mut bytes).unwrap() {
        rows_of(id, &bytes, &mut merged);
        ids.push(id);
        bytes.clear();
    }
    assert!(ids.is_sorted() && ids.len() == 10);
    assert_eq!((sorted(&merged), merge.lost_batches()), (sorted(&rows), 0));
    assert_eq!(s.all(), sorted(&rows), "the store may not have it yet");
    s.heads.give(leaving);
    assert_eq!(s.all(), [], "the store has it");
    let mut traces = s.heads.traces(&tenant(), &before).unwrap();
    let mut found = 0;
    while traces.next_trace((0, u64::MAX), &mut Vec::new()).is_some() {
        found += 1;
    }
    assert_eq!(found, 10, "who began before may not know the block");
    drop((traces, before));
    s.heads.maintain().await.unwrap();
    assert_eq!(s.heads.traces_by_tenant()[0].batches, 0);
    assert!(s.heads.get(&tenant()).unwrap().lock().is_empty());
}

#[tokio::test]
async fn limits_refuse_spans_and_tell_why() {
    let mut limits = Limits::default();
    limits.global.max_bytes_per_trace = ByteSize::bytes(2000);
    limits.ingestion.max_traces_per_user = 3;
    let s = Store::new(small_settings(), limits);
    let name = "n".repeat(1000);
    s.put(&[row(1, 1, "shop", &name)]).await;
    let report = s
        .push(&[row(1, 2, "shop", &name), row(2, 1, "shop", "b")])
        .await;
    let report = report.unwrap();
    assert_eq!((report.spans, report.refused_spans()), (1, 1));
    let message = report.partial_success().unwrap().1;
    assert!(message.contains("max_bytes_per_trace is 2000"), "{message}");
    // What was cut counts as well.
    s.heads.pack_live(None).await.unwrap();
    assert_eq!(
        s.push(&[row(1, 3, "shop", &name)])
            .await
            .unwrap()
            .refused_spans(),
        1
    );
    let many: Vec<Row> = (10..15).map(|t| row(t, 1, "shop", "a")).collect();
    let report = s.push(&many).await.unwrap();
    assert_eq!((report.spans, report.refused_spans()), (3, 2));
    let message = report.partial_success().unwrap().1;
    assert!(message.contains("max_traces_per_user is 3"), "{message}");
    // A trace that is live already goes on.
    s.put(&[row(10, 2, "shop", "b")]).await;
}

#[tokio::test]
async fn memory_keeps_its_bound() {
    let settings = HeadSettings {
        max_live_traces_bytes: ByteSize::kib(64),
        ..small_settings()
    };
    let s = Store::new(settings, Limits::default());
    let name = "n".repeat(500);
    let mut rows = Vec::new();
    for push in 0..20u8 {
        let some: Vec<Row> = (0..10)
            .map(|t| row(push * 10 + t, push, "shop", &name))
            .collect();
        s.put(&some).await;
        rows.extend(some);
        assert!(s.heads.live_bytes() < 64 << 10, "{}", s.heads.live_bytes());
    }
    assert!(s.heads.traces_by_tenant()[0].batches > 0);
    assert_eq!(s.all(), sorted(&rows));
    s.heads.pack_live(None).await.unwrap();
    assert_eq!(s.heads.live_bytes(), 0);
}

#[tokio::test]
async fn a_trace_that_is_twice_in_a_batch_comes_once() {
    let s = Store::new(small_settings(), Limits::default());
    s.put(&[row(1, 1, "shop", "a"), row(2, 1, "shop", "a")])
        .await;
    // Cut, but too little for a batch; then more of it comes.
    s.pass(6).await;
    s.put(&[row(1, 2, "shop", "b")]).await;
    s.heads.pack_live(None).await.unwrap();
    assert_eq!(s.heads.traces_by_tenant()[0].batches, 1);
    let mut traces = s.heads.traces(&tenant(), &s.heads.reader()).unwrap();
    let (mut ids, mut bytes) = (Vec::new(), Vec::new());
    while let Some(id) = traces.next_trace((0, u64::MAX), &mut bytes) {
        ids.push(id);
    }
    ids.sort_unstable();
    let mut expected = vec![trace_id(1), trace_id(2)];
    expected.sort_unstable();
    assert_eq!(ids, expected);
}

#[tokio::test]
async fn what_several_pack_at_once_is_given_back_once() {
    let s = Store::new(HeadSettings::default(), Limits::default());
    for round in 0..20u8 {
        let name = "a name ".repeat(40);
        let rows: Vec<Row> = (0..200).map(|n| row(n, round, "a", &name)).collect();
        s.put(&rows).await;
        let head = s.heads.get(&tenant()).unwrap();
        // As a round of housekeeping finds what relief has begun.
        let batches = {
            let mut state = head.lock();
            state.cut_all();
            state.begin_batches(&head.parts);
            state.batches.clone()
        };
        let begin = std::sync::Barrier::new(3);
        let pack = || {
            begin.wait();
            super::super::heads::pack_all(&batches, &head.parts).unwrap();
            assert!(batches.iter().all(|batch| batch.is_packed()));
        };
        std::thread::scope(|threads| (0..3).for_each(|_| drop(threads.spawn(pack))));
        assert_eq!(s.heads.live_bytes(), 0, "{round}");
    }
    assert_eq!(s.all().len(), 200 * 20);
}
