use proptest::prelude::*;

use super::*;
use crate::error::ErrorKind;

fn regex(pattern: &str) -> Matcher {
    Matcher::regex("l", pattern).unwrap()
}

#[test]
fn expressions_are_anchored_and_dots_match_newlines() {
    for (pattern, hits, misses) in [
        ("foo", vec!["foo"], vec!["foo ", "xfoo", "FOO", ""]),
        ("", vec![""], vec!["a"]),
        ("foo|bar", vec!["foo", "bar"], vec!["foobar", "foo|bar"]),
        ("foo.*", vec!["foo", "foo\nbar"], vec!["fo", "xfoo"]),
        (".*foo", vec!["foo", "\nfoo"], vec!["foox"]),
        (".*foo.*", vec!["foo", "afoob"], vec!["fo"]),
        (".+", vec!["a", "\n"], vec![""]),
        (".*", vec!["a", ""], vec![]),
        ("(?i)Foo", vec!["fOO"], vec!["fo"]),
        ("(?i:f)oo", vec!["Foo", "foo"], vec!["FOO"]),
        ("(?-s)a.b", vec!["axb"], vec!["a\nb"]),
        ("^foo$|^ba[rz]$", vec!["foo", "bar", "baz"], vec!["ba"]),
        (r"\d+", vec!["12"], vec!["٣", ""]),
        (r"\w", vec!["_"], vec!["ä"]),
        (r"\Qa.b\E", vec!["a.b"], vec!["axb"]),
        ("a{,2}", vec!["a{,2}"], vec!["aa"]),
        ("a.+b", vec!["axb", "aäb"], vec!["ab"]),
    ] {
        let matcher = regex(pattern);
        let not = Matcher::new(MatchOp::NotRegex, "l", pattern).unwrap();
        for hit in hits {
            assert!(
                matcher.matches(hit) && !not.matches(hit),
                "{pattern} {hit:?}"
            );
        }
        for miss in misses {
            assert!(
                !matcher.matches(miss) && not.matches(miss),
                "{pattern} {miss:?}"
            );
        }
    }
}

#[test]
fn finite_sets_are_known_and_sorted() {
    for (pattern, values) in [
        ("foo", vec!["foo"]),
        ("", vec![""]),
        ("b|a|b", vec!["a", "b"]),
        ("foo(?:1|2)?", vec!["foo", "foo1", "foo2"]),
        ("pod-[0-2]", vec!["pod-0", "pod-1", "pod-2"]),
        ("(?i)ab", vec!["AB", "Ab", "aB", "ab"]),
        ("(a|(b|c)d)", vec!["a", "bd", "cd"]),
        ("a{2}", vec!["aa"]),
        ("^(a|b)$", vec!["a", "b"]),
        (r"a\.b", vec!["a.b"]),
    ] {
        assert_eq!(
            regex(pattern).literal_values().unwrap(),
            values,
            "{pattern}"
        );
    }
    for open in ["a.*", "a+", "[a-z]{3}", r"\bfoo", "foo^"] {
        assert_eq!(regex(open).literal_values(), None, "{open}");
    }
    let not = Matcher::new(MatchOp::NotRegex, "l", "a|b").unwrap();
    assert_eq!((not.literal_values(), not.literal_prefix()), (None, ""));
    assert_eq!(Matcher::equal("l", "x").literal_values().unwrap(), ["x"]);
}

#[test]
fn prefixes_are_known() {
    for (pattern, prefix) in [
        ("foo.*", "foo"),
        ("foobar|foobaz", "fooba"),
        ("foo[a-z]+", "foo"),
        ("(foo|fob).*", "fo"),
        (".*foo", ""),
        ("(?i)foo.*", ""),
        ("ä.*|ö.*", ""),
        ("a+b", "a"),
    ] {
        assert_eq!(regex(pattern).literal_prefix(), prefix, "{pattern}");
    }
}

#[test]
fn a_long_list_of_names_with_bare_dots_is_accepted() {
    let hosts: Vec<_> = (0..5_000)
        .map(|i| format!("host-{i}.example.com:9100"))
        .collect();
    let matcher = regex(&hosts.join("|"));
    assert!(matcher.matches("host-4999.example.com:9100"));
    assert!(!matcher.matches("host-5000.example.com:9100"));
    assert!("host-".starts_with(matcher.literal_prefix()));
    assert!(
        matcher.literal_prefix().len() >= 4,
        "enough to narrow a scan"
    );
}

#[test]
fn patterns_past_their_bounds_are_refused_by_value_and_bound() {
    let deep = format!("{}a{}", "(".repeat(101), ")".repeat(101));
    let long = "a".repeat((1 << 20) + 1);
    for (pattern, wanted) in [
        (deep.as_str(), "(100)"),
        (long.as_str(), "1048577 bytes long, at most 1048576"),
        (r"(\pL{30}){30}", "exceeds 33554432 bytes"),
        (r"(\pL{500}){500}", "come to 250000, which exceeds 1000"),
        ("a**", "invalid nested repetition operator *"),
        (r"a\C", r"invalid escape sequence \C"),
        ("a)|(b", "unopened group"),
        ("*a", "repetition operator missing expression"),
    ] {
        let error = Matcher::regex("l", pattern).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        let text = error.to_string();
        assert!(
            text.contains(wanted) && text.len() < 500 && !text.contains('\n'),
            "{text}"
        );
    }
}

proptest! {
    #[test]
    fn arbitrary_patterns_never_panic(pattern in "\\PC{0,40}", value in "\\PC*") {
        if let Ok(matcher) = Matcher::regex("l", &pattern) {
            matcher.matches(&value);
        }
    }

    #[test]
    fn quoted_text_matches_itself_alone(text in "\\PC{0,10}", other in "\\PC{0,10}") {
        let escaped: String = text.chars().map(|c| if c.is_ascii_punctuation() { format!("\\{c}") } else { c.to_string() }).collect();
        let matcher = regex(&escaped);
        prop_assert_eq!(matcher.literal_values().unwrap(), [text.clone()]);
        prop_assert_eq!(matcher.matches(&other), text == other);
    }
}
