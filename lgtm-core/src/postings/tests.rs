//! Every operation against the same one on `BTreeSet`.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

type Set = BTreeSet<u32>;

fn list(set: &Set) -> List<Vec<u32>> {
    List::new(set.iter().copied().collect()).unwrap()
}

fn sets() -> impl Strategy<Value = Vec<Set>> {
    let small = prop::collection::btree_set(0u32..60, 0..40);
    let sparse = prop::collection::btree_set(0u32..2000, 0..200);
    prop::collection::vec(prop_oneof![small, sparse], 0..6)
}

/// Steps through `postings` by a mixture of advance and seek, beside the model.
fn check(mut postings: impl Postings<Id = u32>, model: &Set, moves: &[Option<u32>]) {
    let mut at = 0;
    assert_eq!(postings.current(), model.first().copied());
    for step in moves {
        let Some(now) = model.range(at..).next().copied() else {
            break;
        };
        assert!(postings.len_bound() >= model.range(at..).count());
        match *step {
            None => {
                postings.advance();
                at = now + 1;
            }
            Some(target) => {
                at = now.max(target);
                let found = postings.seek(target);
                assert_eq!(found, model.range(at..).next().copied());
            }
        }
        assert_eq!(postings.current(), model.range(at..).next().copied());
    }
    let rest: Vec<_> = model.range(at..).copied().collect();
    assert_eq!(postings.collect_ids(), rest);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn operations_are_those_of_sets(
        sets in sets(),
        without in prop::collection::btree_set(0u32..500, 0..100),
        moves in prop::collection::vec(prop::option::of(0u32..2100), 0..20),
    ) {
        let lists = || sets.iter().map(list).collect::<Vec<_>>();
        let any: Set = sets.iter().flatten().copied().collect();
        let all: Set = any.iter().copied().filter(|id| sets.iter().all(|s| s.contains(id))).collect();
        let rest: Set = any.difference(&without).copied().collect();
        for set in &sets {
            check(list(set), set, &moves);
        }
        check(union(lists()), &any, &moves);
        check(intersect(lists()), &all, &moves);
        check(subtract(union(lists()), list(&without)), &rest, &moves);
    }

    #[test]
    fn operations_nest_as_boxed_postings(a in prop::collection::btree_set(0u32..99, 0..50), b in prop::collection::btree_set(0u32..99, 0..50)) {
        let lists: Vec<Box<dyn Postings<Id = u32>>> = vec![
            Box::new(union(vec![list(&a), list(&b)])),
            Box::new(list(&a)),
            Box::new(subtract(list(&a), list(&b))),
        ];
        let model: Set = a.difference(&b).copied().collect();
        check(intersect(lists), &model, &[]);
    }
}

#[test]
fn lists_that_do_not_ascend_are_refused() {
    let error = List::new(vec![1u64, 3, 3]).unwrap_err().to_string();
    assert_eq!(error, "postings must ascend, 3 stands before 3");
    assert!(List::new(&[2u32, 1][..]).is_err());
    assert!(List::new(&[][..] as &[u64]).is_ok());
}

#[test]
fn the_end_is_the_end() {
    let mut list = List::new(vec![u64::MAX]).unwrap();
    assert_eq!(list.seek(u64::MAX), Some(u64::MAX));
    list.advance();
    list.advance();
    assert_eq!(
        (list.current(), list.seek(0), list.len_bound()),
        (None, None, 0)
    );
    assert_eq!(intersect(Vec::<List<Vec<u64>>>::new()).current(), None);
    assert_eq!(union(Vec::<List<Vec<u64>>>::new()).current(), None);
}
