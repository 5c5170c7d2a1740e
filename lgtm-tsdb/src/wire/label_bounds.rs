//! How large the label set of a series may be: looked at before its bytes are copied anywhere.

use std::fmt::Write;

use lgtm_core::error::first_chars;

/// A label set that a rule refuses: the rule's stable id and what is wrong, naming the value and the bound.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LabelFault {
    /// Stable id of the rule, e.g. `label-name-too-long`.
    pub id: &'static str,
    /// What is wrong.
    pub message: String,
}

/// Bounds of a label set; 0: none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LabelBounds {
    /// Labels, the metric name included.
    pub max_names: usize,
    /// Bytes of a name.
    pub max_name_bytes: usize,
    /// Bytes of a value.
    pub max_value_bytes: usize,
}

/// Characters of a series that a message repeats, so that an error never sends a megabyte back.
const TOLD_CHARS: usize = 400;

pub(crate) fn over(actual: usize, limit: usize) -> bool {
    limit > 0 && actual > limit
}

impl LabelBounds {
    /// Whether a label is within the bounds.
    #[inline]
    pub(crate) fn admits(&self, name: &str, value: &str) -> bool {
        !over(name.len(), self.max_name_bytes) && !over(value.len(), self.max_value_bytes)
    }

    /// The rule that a label set in any order breaks, by its id; labels with empty values are none. Costs one walk.
    pub(crate) fn broken<'a>(
        &self,
        labels: impl Iterator<Item = (&'a str, &'a str)>,
    ) -> Option<&'static str> {
        let (mut count, mut too_long) = (0, None);
        for (name, value) in labels.filter(|(_, value)| !value.is_empty()) {
            count += 1;
            if too_long.is_none() && !self.admits(name, value) {
                too_long = Some(if over(name.len(), self.max_name_bytes) {
                    "label-name-too-long"
                } else {
                    "label-value-too-long"
                });
            }
        }
        if over(count, self.max_names) {
            Some("max-label-names-per-series")
        } else {
            too_long
        }
    }

    /// Checks a label set in any order; labels with empty values are none. Costs one walk and allocates for a fault only.
    ///
    /// # Errors
    /// The first rule that the labels break.
    pub fn check<'a>(
        &self,
        labels: impl Iterator<Item = (&'a str, &'a str)> + Clone,
    ) -> Result<(), LabelFault> {
        let Some(id) = self.broken(labels.clone()) else {
            return Ok(());
        };
        let given = labels.filter(|(_, value)| !value.is_empty());
        let series = shortened(given.clone());
        let message = match given.clone().find(|(n, v)| !self.admits(n, v)) {
            Some((name, _)) if id == "label-name-too-long" => format!(
                "received a series whose label name length of {} exceeds the limit of {}, label: '{name:.200}' series: '{series}'",
                name.len(),
                self.max_name_bytes,
            ),
            Some((name, value)) if id == "label-value-too-long" => format!(
                "received a series whose label value length of {} exceeds the limit of {}, label: '{name}', value: '{value:.200}' (truncated) series: '{series}'",
                value.len(),
                self.max_value_bytes,
            ),
            _ => format!(
                "received a series whose number of labels exceeds the limit (actual: {}, limit: {}) series: '{series}'",
                given.count(),
                self.max_names,
            ),
        };
        Err(LabelFault { id, message })
    }
}

/// The label set in words, as PromQL writes it, cut.
pub(crate) fn shortened<'a>(labels: impl Iterator<Item = (&'a str, &'a str)>) -> String {
    let mut out = "{".to_owned();
    for (i, (name, value)) in labels.enumerate() {
        if i > 0 {
            out.push_str(", ");
        }
        let _ = write!(out, "{name:.400}={:?}", first_chars(value, TOLD_CHARS));
        if out.len() > TOLD_CHARS {
            return first_chars(&out, TOLD_CHARS).to_owned();
        }
    }
    out.push('}');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_bound_is_named_with_the_value_that_broke_it() {
        let bounds = LabelBounds {
            max_names: 3,
            max_name_bytes: 8,
            max_value_bytes: 5,
        };
        let check = |pairs: &[(&'static str, &'static str)]| bounds.check(pairs.iter().copied());
        assert_eq!(
            check(&[("b", "1"), ("a", "2"), ("c", ""), ("d", "3")]),
            Ok(())
        );
        for (pairs, id, part) in [
            (
                &[("a", "1"), ("b", "1"), ("c", "1"), ("d", "1")][..],
                "max-label-names-per-series",
                "actual: 4, limit: 3",
            ),
            (
                &[("a23456789", "1")],
                "label-name-too-long",
                "length of 9 exceeds the limit of 8",
            ),
            (
                &[("a", "1"), ("b", "123456")],
                "label-value-too-long",
                r#"of 6 exceeds the limit of 5, label: 'b', value: '123456' (truncated) series: '{a="1", b="123456"}'"#,
            ),
        ] {
            let fault = check(pairs).unwrap_err();
            assert_eq!(fault.id, id);
            assert!(fault.message.contains(part), "{}", fault.message);
        }
        assert_eq!(
            LabelBounds::default().check([("a", "1")].into_iter()),
            Ok(())
        );
    }

    #[test]
    fn a_message_never_repeats_a_megabyte() {
        let long = "é".repeat(1 << 20);
        let bounds = LabelBounds {
            max_names: 1,
            max_name_bytes: 10,
            max_value_bytes: 10,
        };
        for pairs in [
            vec![("a", long.as_str())],
            vec![(long.as_str(), "a")],
            vec![("a", long.as_str()); 20],
        ] {
            let fault = bounds.check(pairs.into_iter()).unwrap_err();
            assert!(fault.message.len() < 3000, "{}", fault.message.len());
        }
        assert_eq!(shortened([("a", "x\"")].into_iter()), r#"{a="x\""}"#);
    }
}
