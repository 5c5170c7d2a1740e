//! The regular expressions of a request, compiled.

use std::collections::HashMap;
use std::sync::OnceLock;

use lgtm_core::exec::is_abandoned;
use lgtm_core::re2::{Anchoring, Dot, Re2};

use super::request::{Condition, SpanFilter, SpanRequest, Test};

/// The regular expressions of a request: each is compiled when it is first asked for, and once, however many row groups are tested.
#[derive(Debug, Default)]
pub(crate) struct Patterns {
    by_text: HashMap<String, OnceLock<Option<Re2>>>,
}

impl Patterns {
    /// Those of a filter.
    pub(crate) fn of_filter(filter: &SpanFilter) -> Self {
        let mut out = Self::default();
        out.add(filter);
        out
    }

    /// Those of what is asked for.
    pub(crate) fn of(request: &SpanRequest) -> Self {
        let mut out = Self::of_filter(&request.filter);
        out.add(&request.anchor);
        out
    }

    fn add(&mut self, filter: &SpanFilter) {
        lgtm_core::exec::with_room(|| match filter {
            SpanFilter::Everything | SpanFilter::Nothing => {}
            SpanFilter::All(all) | SpanFilter::Any(all) => all.iter().for_each(|f| self.add(f)),
            SpanFilter::Test(Condition { test, .. }) => {
                if let Test::Matches(patterns) = test {
                    let new = patterns.iter().map(|p| (p.clone(), OnceLock::new()));
                    self.by_text.extend(new);
                }
            }
        });
    }

    /// The expressions of a test of the request; none once nobody waits for the answer.
    pub(crate) fn of_test(&self, test: &Test) -> Vec<&Re2> {
        let patterns = match test {
            Test::Matches(patterns) => patterns.as_slice(),
            _ => &[],
        };
        let compiled = patterns.iter().take_while(|_| !is_abandoned());
        let compiled = compiled.filter_map(|text| {
            let pattern = self.by_text.get(text)?;
            let pattern = pattern.get_or_init(|| Re2::new(text, Anchoring::Whole, Dot::Any).ok());
            pattern.as_ref()
        });
        compiled.collect()
    }
}
