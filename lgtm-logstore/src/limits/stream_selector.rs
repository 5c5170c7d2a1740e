//! Stream selectors in settings: `{namespace="dev", pod=~"a.*"}`.
//!
//! The matchers of LogQL without anything behind them. Limits stand below the language, so that they read them by themselves.

use lgtm_core::go;
use lgtm_core::model::{Labels, MatchOp, Matcher};
use lgtm_core::{Error, Result};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A stream selector with its text.
#[derive(Debug, Clone)]
pub struct StreamSelector {
    text: String,
    matchers: Vec<Matcher>,
}

impl StreamSelector {
    /// Reads `{name op "value", ...}`; texts may stand in backticks. `{}` is every stream.
    ///
    /// # Errors
    /// `InvalidInput` with the place of what is none.
    pub fn new(text: &str) -> Result<Self> {
        let mut rest = Rest { text, at: 0 };
        let matchers = rest.selector()?;
        Ok(Self {
            text: text.to_owned(),
            matchers,
        })
    }

    /// Its text, as it was given.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// All of them must pass.
    pub fn matchers(&self) -> &[Matcher] {
        &self.matchers
    }

    /// Whether a stream of these labels is meant. Costs a look-up per matcher.
    pub fn matches(&self, labels: &Labels) -> bool {
        let mut matchers = self.matchers.iter();
        matchers.all(|m| m.matches(labels.get(m.name()).unwrap_or("")))
    }
}

impl PartialEq for StreamSelector {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Default for StreamSelector {
    fn default() -> Self {
        Self {
            text: "{}".to_owned(),
            matchers: Vec::new(),
        }
    }
}

impl Serialize for StreamSelector {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

impl<'de> Deserialize<'de> for StreamSelector {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::new(&text).map_err(serde::de::Error::custom)
    }
}

/// What is not read yet.
struct Rest<'a> {
    text: &'a str,
    at: usize,
}

impl Rest<'_> {
    fn selector(&mut self) -> Result<Vec<Matcher>> {
        let mut matchers = Vec::new();
        self.expect("{")?;
        if !self.take("}") {
            loop {
                matchers.push(self.matcher()?);
                if self.take("}") {
                    break;
                }
                self.expect(",")?;
                if self.take("}") {
                    break;
                }
            }
        }
        match self.skip_space().is_empty() {
            true => Ok(matchers),
            false => Err(self.error("nothing")),
        }
    }

    fn matcher(&mut self) -> Result<Matcher> {
        let rest = self.skip_space();
        let is_name = |(n, c): (usize, char)| {
            c == '_' || c.is_ascii_alphabetic() || (n > 0 && c.is_ascii_digit())
        };
        let end = rest.char_indices().find(|at| !is_name(*at));
        let name = rest[..end.map_or(rest.len(), |(at, _)| at)].to_owned();
        if name.is_empty() {
            return Err(self.error("the name of a label"));
        }
        self.at += name.len();
        let ops = [
            ("=~", MatchOp::Regex),
            ("!~", MatchOp::NotRegex),
            ("!=", MatchOp::NotEqual),
            ("=", MatchOp::Equal),
        ];
        let Some((_, op)) = ops.iter().find(|(text, _)| self.take(text)) else {
            return Err(self.error("=, !=, =~ or !~"));
        };
        let value = self.quoted()?;
        Matcher::new(*op, &name, &value)
    }

    fn quoted(&mut self) -> Result<String> {
        let rest = self.skip_space();
        let quote = rest.chars().next().filter(|c| matches!(c, '"' | '`'));
        let Some(quote) = quote else {
            return Err(self.error("a text in quotes"));
        };
        let mut escaped = false;
        let end = rest[1..].char_indices().find(|(_, c)| {
            let is_end = !escaped && *c == quote;
            escaped = quote == '"' && !escaped && *c == '\\';
            is_end
        });
        let Some((end, _)) = end else {
            return Err(self.error("the end of a text"));
        };
        let token = &rest[..end + 2];
        let (value, length) = (String::from_utf8(go::unquote(token)), token.len());
        let value = value.map_err(|_| self.error("a text in UTF-8"))?;
        self.at += length;
        Ok(value)
    }

    fn skip_space(&mut self) -> &str {
        let rest = &self.text[self.at..];
        self.at += rest.len() - rest.trim_start().len();
        &self.text[self.at..]
    }

    fn take(&mut self, token: &str) -> bool {
        let is_next = self.skip_space().starts_with(token);
        self.at += if is_next { token.len() } else { 0 };
        is_next
    }

    fn expect(&mut self, token: &'static str) -> Result<()> {
        match self.take(token) {
            true => Ok(()),
            false => Err(self.error(token)),
        }
    }

    fn error(&self, wanted: &str) -> Error {
        Error::InvalidInput(format!(
            "stream selector {:?}: {wanted} must stand at byte {}",
            self.text, self.at
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn selectors_are_read_as_in_queries() {
        let labels = Labels::from_pairs([("app", "a\"b"), ("env", "dev-1")]).unwrap();
        for (text, matches) in [
            ("{}", true),
            (r#"{app="a\"b"}"#, true),
            (r#" { app = `a"b` , env=~"dev-.", } "#, true),
            (r#"{env!="dev-1"}"#, false),
            (r#"{env!~"prod.*"}"#, true),
            (r#"{gone=""}"#, true),
            (r#"{gone=~".+"}"#, false),
        ] {
            let selector = StreamSelector::new(text).unwrap();
            assert_eq!(selector.matches(&labels), matches, "{text}");
            let yaml = serde_json::to_string(&selector).unwrap();
            let back: StreamSelector = serde_json::from_str(&yaml).unwrap();
            assert_eq!(back, selector);
        }
    }

    #[test]
    fn what_is_none_is_refused_with_its_place() {
        for (text, at) in [
            ("", "byte 0"),
            ("{", "byte 1"),
            ("{a}", "byte 2"),
            ("{a=b}", "byte 3"),
            ("{a=\"b}", "byte 3"),
            ("{a=\"b\"} |= \"x\"", "byte 8"),
            ("{a=\"b\" c=\"d\"}", "byte 7"),
            ("{1=\"b\"}", "byte 1"),
        ] {
            let error = StreamSelector::new(text).unwrap_err().to_string();
            assert!(error.contains(at), "{text}: {error}");
        }
        assert!(StreamSelector::new("{a=~\"(\"}").is_err());
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_a_selector_or_an_error(text in "\\PC*") {
            let _ = StreamSelector::new(&text);
            let _ = StreamSelector::new(&format!("{{a=\"{text}\", {text}}}"));
        }
    }
}
