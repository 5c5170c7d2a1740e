//! The settings as a tree of YAML: read, with what the environment fills in, and checked for names that nobody knows.

use lgtm_core::nearest::did_you_mean_path;
use lgtm_core::{Error, Result};
use serde_norway::{Mapping, Value};

/// The text as a mapping; an empty one for nothing. `what` names it in errors.
pub(super) fn parse(what: &str, text: &str) -> Result<Value> {
    let bad = |e: &dyn std::fmt::Display| Error::InvalidInput(format!("{what}: {e}"));
    match serde_norway::from_str(text).map_err(|e| bad(&e))? {
        Value::Null => Ok(Value::Mapping(Mapping::new())),
        value @ Value::Mapping(_) => Ok(value),
        _ => Err(bad(&"not a mapping")),
    }
}

/// Replaces `${NAME}` and `${NAME:default}`.
pub(super) fn expand(text: &str, env: impl Fn(&str) -> Option<String>) -> Result<String> {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find("${") {
        out.push_str(&rest[..at]);
        let Some(end) = rest[at..].find('}') else {
            return Err(Error::InvalidInput("config file: ${ without }".into()));
        };
        let inside = &rest[at + 2..at + end];
        let (name, default) = inside
            .split_once(':')
            .map_or((inside, None), |(n, d)| (n, Some(d)));
        let value = env(name).or(default.map(str::to_owned));
        let missing = || {
            Error::InvalidInput(format!(
                "config file: environment variable {name} is not set"
            ))
        };
        out.push_str(&value.ok_or_else(missing)?);
        rest = &rest[at + end + 1..];
    }
    out.push_str(rest);
    Ok(out)
}

/// What stands where `path` leads.
pub(super) fn get<'a>(from: &'a Value, path: &str) -> Option<&'a Value> {
    path.split('.').try_fold(from, |at, key| at.get(key))
}

/// The value of a flag, written as in YAML. Where a text is expected, `memory:` is one and no section without a value.
pub(super) fn flag_value(text: String, is_text: bool) -> Value {
    match serde_norway::from_str(&text) {
        Ok(Value::Mapping(_) | Value::Null) if is_text => Value::String(text),
        Ok(value) => value,
        Err(_) => Value::String(text),
    }
}

/// Puts `value` where `path` leads, with all sections on the way there.
pub(super) fn set(into: &mut Value, path: &str, value: Value) -> Result<()> {
    let mut at = into;
    for key in path.split('.') {
        let Value::Mapping(map) = at else {
            return Err(Error::InvalidInput(format!(
                "setting {path}: {key:?} is inside of something that is no section"
            )));
        };
        at = map
            .entry(Value::String(key.to_owned()))
            .or_insert_with(|| Value::Mapping(Mapping::new()));
    }
    *at = value;
    Ok(())
}

/// Finds a name that no default has, and the nearest that one has.
pub(super) fn check_known(asked: &Value, known: &Value, path: &str) -> Result<()> {
    let (Value::Mapping(asked), Value::Mapping(known)) = (asked, known) else {
        return Ok(());
    };
    if matches!(path, "overrides" | "caches" | "storage.backend.credentials") {
        // Keys of the first are tenants, those of the second names, those of the third depend on where credentials come from.
        return Ok(());
    }
    for (key, value) in asked {
        let name = key.as_str().unwrap_or_default();
        let full = if path.is_empty() {
            name.to_owned()
        } else {
            format!("{path}.{name}")
        };
        match known.get(key) {
            Some(inner) => check_known(value, inner, &full)?,
            None => {
                return Err(Error::InvalidInput(format!(
                    "unknown setting {full}{}",
                    near(name, known)
                )));
            }
        }
    }
    Ok(())
}

/// The nearest name of a section or one step below it: a limit whose signal was left out, say.
fn near(name: &str, known: &Mapping) -> String {
    let here = known.keys().filter_map(Value::as_str);
    let below = known
        .iter()
        .filter_map(|(s, v)| Some((s.as_str()?, v.as_mapping()?)));
    let below = below.flat_map(|(section, names)| {
        let names = names.keys().filter_map(Value::as_str);
        names.map(move |name| format!("{section}.{name}"))
    });
    let paths: Vec<String> = here.map(str::to_owned).chain(below).collect();
    did_you_mean_path(name, paths.iter().map(String::as_str))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_names_are_told_with_the_nearest() {
        let known = serde_norway::from_str("{a: {port: 1}, limits: {metrics: {rate: 1}}}").unwrap();
        for (asked, wanted) in [
            (
                "a: {prt: 1}",
                "unknown setting a.prt (did you mean \"port\"?)",
            ),
            (
                "limits: {rat: 1}",
                "limits.rat (did you mean \"metrics.rate\"?)",
            ),
            (
                "limits: {metrics: {rte: 1}}",
                "limits.metrics.rte (did you mean \"rate\"?)",
            ),
            ("nothing_like_it: 1", "unknown setting nothing_like_it"),
        ] {
            let asked = serde_norway::from_str(asked).unwrap();
            let error = check_known(&asked, &known, "").unwrap_err().to_string();
            assert!(error.ends_with(wanted), "{error}");
        }
    }

    #[test]
    fn the_environment_fills_in() {
        let env = |n: &str| (n == "PORT").then(|| "81".to_owned());
        assert_eq!(expand("a: ${PORT}\nb: ${X:y}", env).unwrap(), "a: 81\nb: y");
        assert!(expand("a: ${X}", env).is_err() && expand("a: ${X", env).is_err());
    }
}
