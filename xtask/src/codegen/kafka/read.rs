//! Pure: code that reads a struct from a frame.

use super::code::Code;
use super::facts::{Api, Field, Kind, Span, Struct};

/// The function `read` of a struct.
///
/// # Errors
/// If the table names a struct that it does not have.
pub(super) fn body(code: &mut Code, api: &Api, known: &Struct) -> anyhow::Result<()> {
    let lifetime = if super::structs::lifetime(api, known)?.is_empty() { "<'_>" } else { "<'a>" };
    code.open(&format!(
        "fn read(version: i16, input: &mut Reader{lifetime}) -> Result<Self, DecodeError>"
    ));
    code.line("let mut read = Self::default();");
    for field in known.fields.iter().filter(|field| field.tag.is_none()) {
        let name = &field.name;
        let value = value(known, field);
        match condition(field.versions, known.versions) {
            None => code.line(&format!("read.{name} = {value};")),
            Some(condition) => {
                code.open(&format!("if {condition}"));
                code.line(&format!("read.{name} = {value};"));
                code.close();
            }
        }
    }
    tags(code, known);
    code.line("Ok(read)");
    code.close();
    Ok(())
}

fn tags(code: &mut Code, known: &Struct) {
    let whole = match known.path.trim_end_matches('.') {
        "" => "message",
        path => path,
    };
    if known.fields.iter().all(|field| field.tag.is_none()) {
        code.line(&format!("input.skip_tags(\"{whole}\")?;"));
        return;
    }
    code.open(&format!("for _ in 0..input.tags(\"{whole}\")?"));
    code.line(&format!("let (tag, mut value) = input.tag(\"{whole}\")?;"));
    code.line("let input = &mut value;");
    code.open("match tag");
    for field in &known.fields {
        let Some(tag) = field.tag else { continue };
        let guard = condition(field.versions, known.versions)
            .map_or(String::new(), |condition| format!(" if {condition}"));
        code.line(&format!("{tag}{guard} => read.{} = {},", field.name, value(known, field)));
    }
    code.line("_ => continue,");
    code.close();
    code.line("input.finish()?;");
    code.close();
}

/// An expression that reads a field, null or not.
fn value(known: &Struct, field: &Field) -> String {
    let path = format!("\"{}{}\"", known.path, field.name);
    let plain = format!("{}?", call(field, &path, ""));
    let Some(null) = field.null else { return plain };
    let nullable = format!("{}?", call(field, &path, "nullable_"));
    match condition(null, field.versions) {
        None => nullable,
        Some(condition) => format!("if {condition} {{ {nullable} }} else {{ Some({plain}) }}"),
    }
}

/// The call that reads a field or, with the prefix, its nullable form.
fn call(field: &Field, path: &str, prefix: &str) -> String {
    let element = match &field.kind {
        Kind::Bool => format!("input.bool({path})"),
        Kind::Integer(name) => format!("input.{name}({path})"),
        Kind::Uuid => format!("input.uuid({path})"),
        Kind::String => format!("input.string({path})"),
        Kind::Bytes => format!("input.bytes({path})"),
        Kind::Records => format!("input.records({path})"),
        Kind::Struct(name) => format!("{name}::read(version, input)"),
    };
    if field.is_list {
        let least = match &field.kind {
            Kind::Bool => "BytesMin::I8".to_owned(),
            Kind::Integer(name) => format!("BytesMin::{}", name.to_uppercase()),
            Kind::Uuid => "BytesMin::UUID".to_owned(),
            Kind::String => "BytesMin::STRING".to_owned(),
            Kind::Bytes | Kind::Records => "BytesMin::BYTES".to_owned(),
            Kind::Struct(name) => format!("{name}::BYTES_MIN"),
        };
        return format!("input.{prefix}array({least}, {path}, |input| {element})");
    }
    match &field.kind {
        Kind::Struct(_) if !prefix.is_empty() => {
            format!("input.nullable({path}, |input| {element})")
        }
        _ => element.replacen("input.", &format!("input.{prefix}"), 1),
    }
}

/// A condition on `version` that holds in `inner`, given that it lies in `outer`.
pub(super) fn condition(inner: Span, outer: Span) -> Option<String> {
    let (first, last) = (inner.first, inner.last);
    match (outer.first < first, last < outer.last) {
        (false, false) => None,
        (true, false) => Some(format!("{first} <= version")),
        (false, true) => Some(format!("version <= {last}")),
        (true, true) => Some(format!("({first}..={last}).contains(&version)")),
    }
}
