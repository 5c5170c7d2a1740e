//! What a match must hold, where it is not one text but one of a few: `status=50[0-9]`, `refused|reset`.

use regex_syntax::hir::literal::Extractor;
use regex_syntax::hir::{Hir, HirKind, Repetition};

/// Texts of a list: whoever asks a filter for each of them is told wrongly that one is there the more often, the more there are.
const MAX_TEXTS: usize = 16;
/// Bytes that each text of a list must have to tell anything.
const MIN_BYTES: usize = 4;
/// Lists of an expression.
const MAX_LISTS: usize = 8;
/// Parts of a sequence that are looked at together, and places where a list may begin: bounds the work, as parts are copied.
const MAX_PARTS: usize = 32;

/// Lists of texts: every match holds one of each list. Only lists of several, as a single text is a required literal.
pub(super) fn alternatives(hir: &Hir) -> Vec<Vec<String>> {
    let mut out = Vec::new();
    visit(hir, &mut out);
    out.retain(|list| list.len() > 1);
    out
}

/// Recursion is bounded by the nesting limit of the parser.
fn visit(hir: &Hir, out: &mut Vec<Vec<String>>) {
    match hir.kind() {
        HirKind::Capture(capture) => visit(&capture.sub, out),
        HirKind::Repetition(Repetition { min: 1.., sub, .. }) => visit(sub, out),
        HirKind::Concat(parts) => {
            let mut goes_on = false;
            for (n, part) in parts.iter().take(MAX_PARTS).enumerate() {
                if !goes_on {
                    let end = parts.len().min(n + MAX_PARTS);
                    add(list_of(&Hir::concat(parts[n..end].to_vec())), out);
                }
                goes_on = is_finite(part);
                if !goes_on {
                    visit(part, out);
                }
            }
        }
        HirKind::Alternation(branches) => {
            let list = list_of(hir).or_else(|| of_branches(branches));
            add(list, out);
        }
        HirKind::Literal(_) | HirKind::Class(_) => add(list_of(hir), out),
        _ => {}
    }
}

fn add(list: Option<Vec<String>>, out: &mut Vec<Vec<String>>) {
    if out.len() < MAX_LISTS {
        out.extend(list.filter(|list| !out.contains(list)));
    }
}

/// Texts one of which every match begins with.
fn list_of(hir: &Hir) -> Option<Vec<String>> {
    let mut extractor = Extractor::new();
    extractor.limit_total(MAX_TEXTS);
    let found = extractor.extract(hir);
    let texts = found.literals()?.iter();
    let texts = texts.map(|text| String::from_utf8(text.as_bytes().to_vec()).ok());
    let mut texts: Vec<String> = texts.collect::<Option<_>>()?;
    texts.sort_unstable();
    texts.dedup();
    let is_telling = |text: &String| text.len() >= MIN_BYTES;
    (!texts.is_empty() && texts.iter().all(is_telling)).then_some(texts)
}

/// Of each branch a list, all of them together.
fn of_branches(branches: &[Hir]) -> Option<Vec<String>> {
    let mut all = Vec::new();
    for branch in branches {
        let mut lists = Vec::new();
        visit(branch, &mut lists);
        let shortest = |list: &Vec<String>| list.iter().map(String::len).min();
        let best = lists.into_iter().max_by_key(|l| (shortest(l), l.len()));
        all.extend(best?);
        if all.len() > MAX_TEXTS {
            return None;
        }
    }
    Some(all)
}

/// Whether an expression stands for a few texts, so that a list that began before goes on behind it.
fn is_finite(hir: &Hir) -> bool {
    let mut extractor = Extractor::new();
    extractor.limit_total(MAX_TEXTS);
    extractor.extract(hir).is_exact()
}

#[cfg(test)]
mod tests {
    use crate::re2::{Anchoring, Dot, Re2};

    fn lists(pattern: &str) -> Vec<Vec<String>> {
        let re2 = Re2::new(pattern, Anchoring::Anywhere, Dot::NotNewline).expect("a good pattern");
        re2.required_any().to_vec()
    }

    #[test]
    fn classes_and_alternations_are_written_out() {
        let all = lists(r#"status=50[0-9].*dur=[0-9]{3,}"#);
        assert_eq!(all[0].len(), 10, "{all:?}");
        assert_eq!(
            (&*all[0][0], &*all[0][9]),
            ("status=500", "status=509"),
            "{all:?}"
        );
        assert!(all[1].iter().all(|t| t.starts_with("dur=")), "{all:?}");
        assert_eq!(lists("us[ei]r-[12]").concat().len(), 4);
        assert_eq!(
            lists("connection (refused|reset) by")[0],
            ["connection refused by", "connection reset by"]
        );
        assert_eq!(lists("(.*refused|.*reset)")[0], ["refused", "reset"]);
        // As much of the beginning as few texts can say.
        let any_case = lists("(?i)timeout").concat();
        assert_eq!(any_case.len(), 16, "{any_case:?}");
        assert!(any_case.iter().all(|t| t.eq_ignore_ascii_case("time")));
    }

    #[test]
    fn what_tells_nothing_gives_no_list() {
        for pattern in [
            "(?i)ok",
            ".*",
            "a|b",
            "[a-z]+",
            "(x|refused)?",
            "reset|[0-9]+",
            "",
        ] {
            assert_eq!(lists(pattern), Vec::<Vec<String>>::new(), "{pattern}");
        }
    }
}
