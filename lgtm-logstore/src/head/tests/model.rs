//! Random pushes against a naive model.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

/// A step of a run.
#[derive(Debug, Clone)]
enum Step {
    /// Stream, time, line, metadata of each entry.
    Push(Vec<(u8, i64, u8, u8)>),
    Checkpoint,
    Finish,
    Maintain,
    Crash,
}

fn step() -> impl Strategy<Value = Step> {
    let entry = (0u8..3, 0i64..60, 0u8..20, 0u8..3);
    prop_oneof![
        8 => prop::collection::vec(entry, 1..30).prop_map(Step::Push),
        1 => Just(Step::Checkpoint),
        1 => Just(Step::Finish),
        1 => Just(Step::Maintain),
        1 => Just(Step::Crash),
    ]
}

async fn run(steps: &[Step]) {
    let mut s = Store::new(small_settings(), limits());
    let mut model: BTreeSet<Row> = BTreeSet::new();
    for step in steps {
        match step {
            Step::Push(entries) => {
                let rows: Vec<(String, i64, String, String)> = entries
                    .iter()
                    .map(|(stream, t, line, m)| {
                        let m = if *m == 0 {
                            String::new()
                        } else {
                            m.to_string()
                        };
                        let line = "ab".repeat(usize::from(*line) * 4);
                        (format!("s{stream}"), NOW + t * SECOND, line, m)
                    })
                    .collect();
                let rows: Vec<(&str, i64, &str, &str)> = rows
                    .iter()
                    .map(|(s, t, l, m)| (s.as_str(), *t, l.as_str(), m.as_str()))
                    .collect();
                let report = s.push(&rows).await.unwrap();
                assert_eq!(report.refusal("t"), None);
                assert_eq!(report.entries + report.duplicates, rows.len() as u64);
                model.extend(sorted(&rows));
            }
            Step::Checkpoint => drop(s.heads.checkpoint().await.unwrap()),
            Step::Finish => {
                s.heads.finish_all().await.unwrap();
                assert_eq!(s.heads.open_chunk_bytes(), 0);
            }
            Step::Maintain => s.heads.maintain().await.unwrap(),
            Step::Crash => {
                s.reopen(Crash::Process);
                assert!(s.report.is_whole(), "{:?}", s.report);
            }
        }
        let all = s.all();
        let first = model.iter().zip(&all).find(|(a, b)| a != b);
        assert_eq!((first, all.len()), (None, model.len()));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn the_head_holds_what_was_acknowledged_each_entry_once(steps in prop::collection::vec(step(), 1..14)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(run(&steps));
    }
}
