//! What `label_replace` does to a value: a pattern that must match all of it, and a template with the pattern's groups.

use lgtm_core::re2::{Anchoring, Dot, Re2Groups, Refused, Template};

/// A pattern and a template.
#[derive(Debug)]
pub(super) struct Replacement {
    pattern: Re2Groups,
    template: Template,
}

impl Replacement {
    pub(super) fn new(pattern: &str, template: &str) -> Result<Self, Refused> {
        let pattern = Re2Groups::new(pattern, Anchoring::Whole, Dot::Any)?;
        let template = Template::new(template, &pattern);
        Ok(Self { pattern, template })
    }

    /// The new value; `None` when the pattern does not match. `room` is asked before a value of so many bytes is made.
    pub(super) fn of<E>(
        &self,
        value: &str,
        room: impl FnOnce(usize) -> Result<(), E>,
    ) -> Result<Option<String>, E> {
        let Some(found) = self.pattern.find(value) else {
            return Ok(None);
        };
        let parts = self.template.expand(&found);
        room(parts.clone().map(str::len).sum())?;
        Ok(Some(parts.collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_is_asked_for_before_a_value_is_made() {
        let doubled = Replacement::new("(.*)", "$1$1").unwrap();
        assert_eq!(doubled.of("abc", Err), Err(6));
        assert_eq!(
            doubled.of("abc", |_| Ok::<_, ()>(())),
            Ok(Some("abcabc".into()))
        );
    }
}
