//! The settings in words: what `-config.print` and `-help` show.

use std::collections::HashMap;

use lgtm_core::secret::mask_setting;
use serde_norway::Value;

use super::config::Config;

/// What each setting and section is for, a line each: its path in the YAML, a colon, its text. Made from the doc comments of the fields.
const TEXTS: &str = include_str!("../../settings.txt");

/// Paths and their texts, in the order of the fields.
fn texts() -> impl Iterator<Item = (&'static str, &'static str)> {
    TEXTS.lines().filter_map(|line| line.split_once(": "))
}

/// Puts stars in place of secrets, however deep they stand.
fn mask(name: &str, value: &mut Value) {
    match value {
        Value::String(text) => {
            let masked = mask_setting(name, text).into_owned();
            *text = masked;
        }
        Value::Sequence(all) => all.iter_mut().for_each(|v| mask(name, v)),
        Value::Mapping(map) => {
            for (key, v) in map.iter_mut() {
                mask(key.as_str().unwrap_or_default(), v);
            }
        }
        Value::Tagged(tagged) => mask(name, &mut tagged.value),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// The settings as YAML, each with what it is for. Secrets are masked.
pub(crate) fn documented(config: &Config) -> String {
    let mut value = serde_norway::to_value(config).expect("settings are plain data");
    mask("", &mut value);
    let yaml = serde_norway::to_string(&value).expect("settings are plain data");
    let texts: HashMap<_, _> = texts().collect();
    let mut out = String::from(
        "# Settings of lgtm. Every value may also be given as a flag: -server.http-listen-port=9009\n",
    );
    let mut path: Vec<&str> = Vec::new();
    for line in yaml.lines() {
        let indent = line.len() - line.trim_start().len();
        let key = line.trim_start().split(':').next().unwrap_or_default();
        path.truncate(indent / 2);
        path.push(key);
        // Caches have names of their own.
        let shown = match path[..] {
            ["caches", _, ..] => [&["caches", "NAME"], &path[2..]].concat(),
            _ => path.clone(),
        };
        if let Some(text) = texts.get(shown.join(".").as_str()) {
            out.push_str(&format!("{}# {text}\n", " ".repeat(indent)));
        }
        out.push_str(line);
        out.push('\n');
    }
    out
}

/// The short help: a line for each setting, below those of its section.
pub(crate) fn help() -> String {
    let mut out = String::from(
        "usage: lgtm [-target=all] [-config.file=FILE] [-config.print] [-config.verify] [-SETTING=VALUE ...]\n\nsettings:\n",
    );
    let mut all = texts().peekable();
    while let Some((path, text)) = all.next() {
        let is_section = all
            .peek()
            .and_then(|(next, _)| next.strip_prefix(path))
            .is_some_and(|rest| rest.starts_with('.'));
        let line = if is_section {
            format!("\n  {path}: {text}\n")
        } else {
            format!("  -{:<48} {text}\n", path.replace('_', "-"))
        };
        out.push_str(&line);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::doc_comments;

    fn paths(value: &Value, path: &str, out: &mut Vec<String>) {
        let Value::Mapping(map) = value else {
            return;
        };
        for (key, inner) in map {
            let name = key.as_str().unwrap();
            let full = if path.is_empty() {
                name.to_owned()
            } else {
                format!("{path}.{name}")
            };
            out.push(full.clone());
            paths(inner, &full, out);
        }
    }

    /// The command that writes the file anew, for whoever has changed a comment.
    const ANEW: &str = "LGTM_WRITE_SETTINGS=1 cargo test -p lgtm settings_file";

    #[test]
    fn the_settings_file_says_what_the_doc_comments_say() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/settings.txt");
        let wanted = doc_comments::settings_file();
        if std::env::var_os("LGTM_WRITE_SETTINGS").is_some() {
            std::fs::write(path, &wanted).unwrap();
        }
        let found = std::fs::read_to_string(path).unwrap();
        let mut lines = wanted.lines().zip(found.lines());
        let first = lines.find(|(wanted, found)| wanted != found);
        assert!(
            wanted == found,
            "settings.txt differs from the doc comments of the settings, first at {first:?}; `{ANEW}` writes it anew"
        );
    }

    #[test]
    fn every_setting_has_a_text_and_what_is_printed_reads_back() {
        let value = serde_norway::to_value(Config::default()).unwrap();
        let mut all = Vec::new();
        paths(&value, "", &mut all);
        for path in &all {
            assert!(
                texts().any(|(p, text)| p == path && !text.is_empty()),
                "{path} has no text; `{ANEW}`"
            );
        }
        for (path, _) in texts() {
            let of_a_choice =
                path.starts_with("storage.backend.credentials.") || path.starts_with("caches.NAME");
            assert!(
                of_a_choice || all.iter().any(|p| p == path),
                "{path} has a text but is no setting"
            );
        }
        let printed = documented(&Config::default());
        let again: Config = serde_norway::from_str(&printed).unwrap();
        assert_eq!(again, Config::default());
        let help = help();
        for (path, text) in texts() {
            assert!(help.contains(text), "{path}");
        }
    }

    #[test]
    fn secrets_are_masked_wherever_they_stand() {
        let text = concat!(
            "storage: {url: 's3://AKID:HUSH@bkt?session_token=HUSH&region=eu', ",
            "backend: {credentials: {from: static, id: AK, secret: HUSH}}}\n",
            "overrides: {a: {x: 'https://u:HUSH@h', list: ['https://h?sig=HUSH'], deep: {password: HUSH}}}\n",
        );
        let config: Config = serde_norway::from_str(text).unwrap();
        let shown = documented(&config);
        assert!(!shown.contains("HUSH"), "{shown}");
        assert!(
            shown.contains("bkt?session_token=********&region=eu"),
            "{shown}"
        );
    }
}
