use lgtm_core::model::TimestampNs;
use proptest::prelude::*;

use super::{Fields, Template, TemplateScratch};

struct Entry;

impl Fields for Entry {
    fn get(&self, name: &str) -> Option<&str> {
        match name {
            "app" => Some("web"),
            "n" => Some("42"),
            "js" => Some(r#"{"a":[1,2,3],"o":{"k":true}}"#),
            _ => None,
        }
    }

    fn sorted(&self) -> Vec<(String, String)> {
        vec![("app".into(), "web".into()), ("n".into(), "42".into())]
    }

    fn line(&self) -> &str {
        "the line"
    }

    fn t_ns(&self) -> TimestampNs {
        TimestampNs::new(1_714_642_200_000_000_000)
    }

    fn now_ns(&self) -> TimestampNs {
        TimestampNs::EPOCH
    }
}

fn fill(text: &str) -> Result<String, String> {
    let template = Template::new("line", text, 1 << 16)?;
    let mut out = String::new();
    template.execute(&Entry, &TemplateScratch::default(), &mut out)?;
    Ok(out)
}

#[test]
fn templates_are_filled_as_go_does() {
    for (text, wanted) in [
        ("{{.app}}-{{ .nope }}-{{.n}}", "web--42"),
        ("a {{- .app -}} b{{/* c */}}", "awebb"),
        (
            "{{ if eq .app \"web\" }}y{{ else if .n }}z{{ else }}x{{ end }}",
            "y",
        ),
        ("{{ with $x := .n }}{{ $x }}{{ . }}{{ end }}", "4242"),
        (
            "{{ range $k, $v := . }}{{ $k }}={{ $v }} {{ end }}",
            "app=web n=42 ",
        ),
        (
            "{{ range fromJson \"[]\" }}x{{ else }}none{{ end }}",
            "none",
        ),
        (
            "{{ $s := \"a\" }}{{ range fromJson \"[1,2]\" }}{{ $s = print $s . }}{{ end }}{{ $s }}",
            "a12",
        ),
        (
            "{{ (fromJson .js).o.k }} {{ index (fromJson .js).a 1 }}",
            "true 2",
        ),
        (
            "{{ printf \"%5.2f|%-4s|%04d|%q\" 3.14159 \"a\" 7 \"x\" }}",
            " 3.14|a   |0007|\"x\"",
        ),
        (
            "{{ add 1 .n | mul 2 }} {{ div 7 2 }} {{ round 2.5 0 }}",
            "86 3 3",
        ),
        (
            "{{ __timestamp__ | date \"2006-01-02T15:04:05.000Z07:00\" }}",
            "2024-05-02T09:30:00.000Z",
        ),
        (
            "{{ toDateInZone \"2006-01-02 15:04\" \"Europe/Paris\" \"2024-05-02 12:00\" | unixEpoch }}",
            "1714644000",
        ),
        (
            "{{ and .app .nope }}|{{ or .nope .n }}|{{ not .nope }}",
            "|42|true",
        ),
        (
            "{{ define \"T\" }}<{{ . }}>{{ end }}{{ template \"T\" .n }}{{ block \"B\" . }}b{{ end }}",
            "<42>b",
        ),
    ] {
        assert_eq!(fill(text).as_deref(), Ok(wanted), "{text}");
    }
}

#[test]
fn bombs_end_with_an_error() {
    for text in [
        "{{ repeat 1000000000 \"x\" }}",
        "{{ alignLeft 1000000000 \"x\" }}",
        "{{ indent 1000000000 \"x\" }}",
        "{{ define \"T\" }}{{ template \"T\" . }}{{ end }}{{ template \"T\" . }}",
        "{{ range $i := 100000 }}{{ range $j := 100000 }}x{{ end }}{{ end }}",
        "{{ $s := repeat 1000 \"ab\" }}{{ $t := replace \"a\" $s $s }}{{ replace \"b\" $t $t }}",
    ] {
        assert!(fill(text).is_err(), "{text}");
    }
    assert!(fill(&"{{ if .n }}".repeat(500)).is_err());
    assert!(
        fill(&format!(
            "{{{{ {}1{} }}}}",
            "(".repeat(500),
            ")".repeat(500)
        ))
        .is_err()
    );
}

#[test]
fn faults_say_what_go_says() {
    for (text, wanted) in [
        ("{{ .level", "template: line:1: unclosed action"),
        (
            "{{ .x | nofunc }}",
            "template: line:1: function \"nofunc\" not defined",
        ),
        (
            "{{ div 1 0 }}",
            "template: line:1:3: executing \"line\" at <div 1 0>: error calling div: runtime error: integer divide by zero",
        ),
    ] {
        assert_eq!(fill(text).unwrap_err(), wanted);
    }
}

proptest! {
    #[test]
    fn any_text_is_a_template_or_an_error(text: String) {
        let _ = fill(&text);
        let _ = fill(&format!("{{{{ {text} }}}}"));
    }

    #[test]
    fn pieces_of_templates_never_panic(pieces in prop::collection::vec(prop::sample::select(vec![
        "{{", "}}", "{{-", "-}}", "if", "else", "end", "range", "with", "define", "template", "\"T\"", ".", ".n", "$x",
        ":=", "=", "|", "(", ")", ",", "add", "1", "-2.5", "printf", "\"%d %s %v %[1]*x\"", "substr", "trunc", "slice",
        "index", "date", "toDate", "\"2006-01-02 Jan _2 .000 MST Z07:00\"", "fromJson", "regexReplaceAll", "`(a)|b`",
        " ", "/*", "*/", "break", "continue", "nil", "true", "round", "unixToTime", "\"é\"", "alignRight", "title",
    ]), 0..24)) {
        let _ = fill(&pieces.join(" "));
        let _ = fill(&format!("{{{{ {} }}}}", pieces.join(" ")));
    }
}
