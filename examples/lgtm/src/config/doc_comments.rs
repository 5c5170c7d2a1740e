//! What settings are for, read from the sources: the first sentence of each field's doc comment.
//!
//! Tests only. It begins at `Config` and goes down wherever a field's type is a struct that is read from settings.

use std::collections::HashMap;
use std::path::Path;

use syn::{Attribute, Expr, Fields, Item, Lit, Meta, Type, UseTree};

/// Crates that have settings, with the folder of each beside the host's.
const CRATES: [(&str, &str); 6] = [
    ("crate", "src"),
    ("lgtm_core", "../../lgtm-core/src"),
    ("lgtm_ring", "../../lgtm-ring/src"),
    ("lgtm_tsdb", "../../lgtm-tsdb/src"),
    ("lgtm_logstore", "../../lgtm-logstore/src"),
    ("lgtm_tracestore", "../../lgtm-tracestore/src"),
];

/// A field, or a struct or enum: its name, what stands above it, and the type that it has.
struct SettingField {
    name: String,
    text: String,
    type_name: Option<TypeName>,
    /// The type of what stands in it by names of its own.
    named: Option<TypeName>,
}

/// A type by the crate where it is and its own name.
type TypeName = (&'static str, String);

/// Fields of everything that is read from settings, by type.
type Sections = HashMap<TypeName, Vec<SettingField>>;

/// The text of `settings.txt`.
pub(crate) fn settings_file() -> String {
    let mut sections = Sections::new();
    for (name, folder) in CRATES {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
        read_folder(name, &folder, &mut sections);
    }
    let mut out = String::new();
    write_section(&sections, &("crate", "Config".to_owned()), "", &mut out);
    out
}

fn write_section(sections: &Sections, of: &TypeName, path: &str, out: &mut String) {
    for field in &sections[of] {
        let path = format!("{path}{}", field.name);
        assert!(!field.text.is_empty(), "{path} has no doc comment");
        out.push_str(&format!("{path}: {}\n", first_sentence(&field.text)));
        if let Some(inner) = field
            .type_name
            .as_ref()
            .filter(|t| sections.contains_key(t))
        {
            write_section(sections, inner, &format!("{path}."), out);
        }
        if let Some(inner) = field.named.as_ref().filter(|t| sections.contains_key(t)) {
            write_section(sections, inner, &format!("{path}.NAME."), out);
        }
    }
}

/// The first sentence, and the one that says what 0 stands for.
fn first_sentence(text: &str) -> String {
    let text = text.replace("[`", "").replace("`]", "").replace('`', "");
    let mut sentences = text.split_inclusive(". ").map(str::trim);
    let first = sentences.next().unwrap_or_default().to_owned();
    let of_zero = sentences.find(|s| s.starts_with("0:") || s.starts_with("0 "));
    of_zero.map_or(first.clone(), |zero| format!("{first} {zero}"))
}

fn read_folder(of: &'static str, folder: &Path, sections: &mut Sections) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            read_folder(of, &path, sections);
        } else if path.extension().is_some_and(|e| e == "rs") {
            let file = syn::parse_file(&std::fs::read_to_string(&path).unwrap());
            read_file(of, &file.unwrap().items, sections);
        }
    }
}

fn read_file(of: &'static str, items: &[Item], sections: &mut Sections) {
    let mut imports = HashMap::new();
    for item in items {
        if let Item::Use(item) = item {
            read_import(&item.tree, None, &mut imports);
        }
    }
    let type_name = |ty: &Type| {
        let Type::Path(path) = ty else { return None };
        let first = path.path.segments.first()?.ident.to_string();
        let last = path.path.segments.last()?.ident.to_string();
        let from = if path.path.segments.len() > 1 {
            Some(first)
        } else {
            imports.get(&last).cloned()
        };
        let other = CRATES.iter().find(|(c, _)| Some(*c) == from.as_deref());
        // Whatever comes from elsewhere (std, say) is found in no crate.
        let krate = match from.as_deref() {
            None | Some("crate" | "super" | "self") => of,
            Some(_) => other?.0,
        };
        Some((krate, last))
    };
    let field = |field: &syn::Field| SettingField {
        name: field.ident.as_ref().unwrap().to_string(),
        text: doc_comment(&field.attrs),
        named: named_type(&field.ty).and_then(&type_name),
        type_name: type_name(&field.ty),
    };
    for item in items {
        let (name, fields) = match item {
            Item::Struct(item) if is_read(&item.attrs) => match &item.fields {
                Fields::Named(fields) => (&item.ident, fields.named.iter().map(field).collect()),
                _ => continue,
            },
            // A choice: its name stands in a field, beside the fields of what was chosen.
            Item::Enum(item) if is_read(&item.attrs) => {
                let Some(tag) = serde_tag(&item.attrs) else {
                    continue;
                };
                let mut fields = vec![SettingField {
                    name: tag,
                    text: doc_comment(&item.attrs),
                    type_name: None,
                    named: None,
                }];
                let of_variants = item
                    .variants
                    .iter()
                    .flat_map(|v| v.fields.iter().map(field));
                fields.extend(of_variants);
                (&item.ident, fields)
            }
            _ => continue,
        };
        let twice = sections.insert((of, name.to_string()), fields);
        assert!(
            twice.is_none(),
            "two structs of settings in {of} are called {name}"
        );
    }
}

/// What a map has by names.
fn named_type(ty: &Type) -> Option<&Type> {
    let Type::Path(path) = ty else { return None };
    let last = path
        .path
        .segments
        .last()
        .filter(|s| s.ident == "BTreeMap")?;
    let syn::PathArguments::AngleBracketed(arguments) = &last.arguments else {
        return None;
    };
    match arguments.args.last()? {
        syn::GenericArgument::Type(ty) => Some(ty),
        _ => None,
    }
}

/// Names that the file brings in, each with the first part of its path.
fn read_import(tree: &UseTree, from: Option<&str>, imports: &mut HashMap<String, String>) {
    match tree {
        UseTree::Path(path) => {
            let first = from.map_or_else(|| path.ident.to_string(), str::to_owned);
            read_import(&path.tree, Some(&first), imports);
        }
        UseTree::Group(group) => {
            for tree in &group.items {
                read_import(tree, from, imports);
            }
        }
        UseTree::Name(name) => {
            imports.insert(name.ident.to_string(), from.unwrap_or_default().to_owned());
        }
        UseTree::Rename(_) | UseTree::Glob(_) => {}
    }
}

fn is_read(attrs: &[Attribute]) -> bool {
    let derives = attrs.iter().filter(|a| a.path().is_ident("derive"));
    let mut lists = derives.filter_map(|a| a.meta.require_list().ok());
    lists.any(|list| list.tokens.to_string().contains("Deserialize"))
}

fn serde_tag(attrs: &[Attribute]) -> Option<String> {
    let lists = attrs.iter().filter(|a| a.path().is_ident("serde"));
    let mut lists = lists.filter_map(|a| a.meta.require_list().ok());
    lists.find_map(|list| {
        let text = list.tokens.to_string();
        let (_, rest) = text.split_once("tag = \"")?;
        Some(rest.split_once('"')?.0.to_owned())
    })
}

fn doc_comment(attrs: &[Attribute]) -> String {
    let mut lines = Vec::new();
    for attr in attrs.iter().filter(|a| a.path().is_ident("doc")) {
        if let Meta::NameValue(doc) = &attr.meta
            && let Expr::Lit(text) = &doc.value
            && let Lit::Str(text) = &text.lit
        {
            lines.push(text.value().trim().to_owned());
        }
    }
    lines.join(" ")
}
