use proptest::prelude::*;

use super::*;

fn whole(pattern: &str) -> Re2 {
    Re2::new(pattern, Anchoring::Whole, Dot::Any).unwrap()
}

#[test]
fn anchoring_and_the_dot_are_the_callers() {
    for (pattern, text, anchoring, dot, hit) in [
        ("b", "abc", Anchoring::Whole, Dot::Any, false),
        ("b", "abc", Anchoring::Anywhere, Dot::Any, true),
        ("^b", "abc", Anchoring::Anywhere, Dot::Any, false),
        ("a|^b$", "xa", Anchoring::Anywhere, Dot::Any, true),
        ("a.c", "xa\nc", Anchoring::Anywhere, Dot::Any, true),
        ("a.c", "xa\nc", Anchoring::Anywhere, Dot::NotNewline, false),
        (
            "(?s)a.c",
            "xa\nc",
            Anchoring::Anywhere,
            Dot::NotNewline,
            true,
        ),
        ("a.*c", "a\nc", Anchoring::Whole, Dot::NotNewline, false),
        ("", "abc", Anchoring::Anywhere, Dot::NotNewline, true),
    ] {
        let re2 = Re2::new(pattern, anchoring, dot).unwrap();
        assert_eq!(re2.is_match(text), hit, "{pattern} {anchoring:?} {dot:?}");
        assert!(anchoring == Anchoring::Whole || re2.prefix().is_empty());
    }
}

#[test]
fn common_shapes_never_reach_the_engine() {
    let hosts: Vec<_> = (0..10_000).map(|i| format!(r"host-{i}\.example")).collect();
    let long = hosts.join("|");
    for pattern in [
        "foo", "", "a|b", "a.*", ".*a", ".*a.+b.*", ".*", ".+", "(a|b).*", "(.*)?", "(?i)abc",
        &long,
    ] {
        let re2 = whole(pattern);
        assert!(!re2.needs_engine(), "{re2:?}");
    }
    let re2 = whole(&long);
    assert!(re2.is_match("host-9999.example") && !re2.is_match("host-x"));
    assert!(whole("[a-z]+").needs_engine());
    let search = Re2::new("foo|bar", Anchoring::Anywhere, Dot::NotNewline).unwrap();
    assert!(!search.needs_engine() && search.is_match("a bar"));
}

/// Patterns of the shapes that have fast forms, and some that have none.
fn patterns() -> impl Strategy<Value = String> {
    let leaf = prop::sample::select(vec![
        "a", "b", "ä", "ab", ".*", ".+", ".", "[ab]", "[^a]", "", "^", "$", "(?i:a)", "\\n", "\\b",
        "\\w", "\\Qa.\\E", ".*?", "a{,2}",
    ]);
    leaf.prop_map(str::to_owned)
        .prop_recursive(4, 24, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 1..4).prop_map(|parts| parts.concat()),
                prop::collection::vec(inner.clone(), 1..4)
                    .prop_map(|p| format!("({})", p.join("|"))),
                (
                    inner,
                    prop::sample::select(vec!["?", "*", "+", "{2}", "{0,2}", "{1,}"])
                )
                    .prop_map(|(p, op)| format!("(?:{p}){op}")),
            ]
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn fast_forms_agree_with_the_engine(
        pattern in patterns(),
        texts in prop::collection::vec("[abAä.\n{}]{0,6}", 8),
        anchoring in prop::sample::select(vec![Anchoring::Whole, Anchoring::Anywhere]),
        dot in prop::sample::select(vec![Dot::Any, Dot::NotNewline]),
    ) {
        let fast = Re2::new(&pattern, anchoring, dot).unwrap();
        let plain = Re2::engine_only(&pattern, anchoring, dot).unwrap();
        for text in texts.iter().map(String::as_str).chain(["", "a", "ab"]) {
            let hit = plain.is_match(text);
            prop_assert_eq!(fast.is_match(text), hit, "{} on {:?}", pattern, text);
            prop_assert!(!hit || text.starts_with(fast.prefix()), "{} has no prefix {:?}", text, fast.prefix());
            if let Some(literals) = fast.literals() {
                prop_assert_eq!(literals.iter().any(|l| l == text), hit);
            }
        }
        for literal in fast.literals().unwrap_or_default() {
            prop_assert!(plain.is_match(literal));
        }
    }

    #[test]
    fn plain_alternatives_mean_what_the_parser_says(text in "[ab|ä-]{0,10}", value in "[abä-]{0,4}") {
        let fast = whole(&text);
        let parsed = Re2::parsed(&text, Anchoring::Whole, Dot::Any).unwrap();
        prop_assert!(plain_alternatives(&text).is_some());
        prop_assert_eq!(fast.literals(), parsed.literals());
        prop_assert_eq!(fast.prefix(), parsed.prefix());
        prop_assert_eq!(fast.is_match(&value), parsed.is_match(&value));
    }

    #[test]
    fn what_matches_holds_one_of_each_list(
        parts in prop::collection::vec(prop::sample::select(vec![
            "abcd", "(ab|ba)cd", "[ab]cda", ".*", "(?i:abcd)", "b?", "(abcd|.*dcba)", "(bcda)+", "^", "[cd]{2}", "\\b", "ä",
        ]), 1..4),
        texts in prop::collection::vec(prop::collection::vec(prop::sample::select(vec![
            "abcd", "bacd", "acda", "AbCd", "dcba", "bcda", "ccdd", "b", "ä", " ",
        ]), 0..5), 20),
    ) {
        let pattern = parts.concat();
        let re2 = Re2::new(&pattern, Anchoring::Anywhere, Dot::NotNewline).unwrap();
        for text in texts.iter().map(|t| t.concat()).filter(|t| re2.is_match(t)) {
            let lists = re2.required_any();
            prop_assert!(lists.iter().all(|l| l.iter().any(|one| text.contains(one))), "{} {:?} {}", pattern, lists, text);
            prop_assert!(re2.required().iter().all(|one| text.contains(one)), "{} {:?}", pattern, text);
        }
    }
}
