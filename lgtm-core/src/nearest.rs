//! Finding what somebody meant by a name that does not exist.

/// Names longer than this are not compared: nobody meant them, and the cost is quadratic.
const MAX_LEN: usize = 128;

/// The candidate that is fewest edits away from `name`, if it is near enough to be a slip of the pen.
///
/// Near enough is a third of the name's length, rounded up. Of equally near ones the first wins.
pub fn nearest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    if name.len() > MAX_LEN {
        return None;
    }
    let name: Vec<char> = name.chars().collect();
    let limit = name.len().div_ceil(3);
    candidates
        .into_iter()
        .filter(|candidate| candidate.len() <= MAX_LEN)
        .map(|candidate| (edits(&name, candidate), candidate))
        .filter(|&(edits, _)| edits <= limit)
        .min_by_key(|&(edits, _)| edits)
        .map(|(_, candidate)| candidate)
}

/// ` (did you mean "x"?)`, or nothing: the end of a message about an unknown name.
pub fn did_you_mean<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> String {
    nearest(name, candidates).map_or_else(String::new, |near| format!(" (did you mean {near:?}?)"))
}

/// As [`did_you_mean`], for names that stand somewhere: of each path only what follows the last dot is compared, and all of it is told.
pub fn did_you_mean_path<'a>(name: &str, paths: impl IntoIterator<Item = &'a str>) -> String {
    let last = |path: &'a str| path.rsplit('.').next().unwrap_or(path);
    let paths: Vec<&str> = paths.into_iter().collect();
    let near = nearest(name, paths.iter().map(|p| last(p)));
    let found = near.and_then(|near| paths.iter().find(|p| last(p) == near));
    found.map_or_else(String::new, |path| format!(" (did you mean {path:?}?)"))
}

/// Levenshtein distance, with one row of the matrix at a time.
fn edits(a: &[char], b: &str) -> usize {
    let mut row: Vec<usize> = (0..=a.len()).collect();
    for (i, cb) in b.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, &ca) in a.iter().enumerate() {
            let replace = diagonal + usize::from(ca != cb);
            diagonal = row[j + 1];
            row[j + 1] = replace.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[a.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_are_levenshteins() {
        let distance = |a: &str, b: &str| edits(&a.chars().collect::<Vec<_>>(), b);
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("abc", ""), 3);
        assert_eq!(distance("ä", "a"), 1);
    }

    #[test]
    fn a_slip_is_found_and_a_stranger_is_not() {
        let paths = ["metrics", "metrics.rate", "logs.size"];
        assert_eq!(
            did_you_mean_path("rte", paths),
            " (did you mean \"metrics.rate\"?)"
        );
        assert_eq!(
            did_you_mean_path("metrcs", paths),
            " (did you mean \"metrics\"?)"
        );
        assert_eq!(did_you_mean_path("something", paths), "");
        let names = ["ingester", "distributor", "querier"];
        assert_eq!(nearest("ingster", names), Some("ingester"));
        assert_eq!(nearest("xyz", names), None);
        assert_eq!(
            did_you_mean("querrier", names),
            " (did you mean \"querier\"?)"
        );
        assert_eq!(did_you_mean("", names), "");
    }
}
