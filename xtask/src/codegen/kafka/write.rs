//! Pure: code that writes a struct to a frame.

use super::code::Code;
use super::facts::{Field, Kind, Struct};
use super::read::condition;
use super::structs::differs;

/// The function `write` of a struct.
///
/// # Errors
/// If the table has a default that does not fit its type.
pub(super) fn body(code: &mut Code, known: &Struct) -> anyhow::Result<()> {
    code.open("fn write(&self, version: i16, out: &mut Writer) -> Result<(), EncodeError>");
    for field in known.fields.iter().filter(|field| field.tag.is_none()) {
        let value = value(known, field);
        let Some(condition) = condition(field.versions, known.versions) else {
            code.line(&format!("{value};"));
            continue;
        };
        code.open(&format!("if {condition}"));
        code.line(&format!("{value};"));
        if !field.is_ignorable {
            code.turn("} else {");
            code.line(&format!("{};", absence(known, field)?));
        }
        code.close();
    }
    tags(code, known)?;
    code.line("Ok(())");
    code.close();
    Ok(())
}

/// The check of a field that the version does not have.
fn absence(known: &Struct, field: &Field) -> anyhow::Result<String> {
    Ok(format!("absent({}, \"{}{}\", version)?", differs(field)?, known.path, field.name))
}

/// Tagged fields are written only if they hold something: readers know the defaults, and some old
/// ones cannot skip what they do not know.
fn tags(code: &mut Code, known: &Struct) -> anyhow::Result<()> {
    let mut tagged: Vec<(u32, &Field)> =
        known.fields.iter().filter_map(|field| Some((field.tag?, field))).collect();
    tagged.sort_by_key(|(tag, _)| *tag);
    if tagged.is_empty() {
        code.line("out.tags(0);");
        return Ok(());
    }
    for (tag, field) in &tagged {
        let differs = differs(field)?;
        match condition(field.versions, known.versions) {
            None => code.line(&format!("let has_{tag} = {differs};")),
            Some(condition) => {
                code.line(&format!("let has_{tag} = {condition} && {differs};"));
                if !field.is_ignorable {
                    let absence = absence(known, field)?;
                    code.line(&format!("if !({condition}) {{ {absence}; }}"));
                }
            }
        }
    }
    let count: Vec<String> =
        tagged.iter().map(|(tag, _)| format!("u32::from(has_{tag})")).collect();
    code.line(&format!("out.tags({});", count.join(" + ")));
    for (tag, field) in &tagged {
        code.open(&format!("if has_{tag}"));
        code.open(&format!("out.tag({tag}, |out|"));
        code.line(&format!("{};", value(known, field)));
        code.line("Ok(())");
        code.close_with("})?;");
        code.close();
    }
    Ok(())
}

/// An expression that writes a field, null or not.
fn value(known: &Struct, field: &Field) -> String {
    let path = format!("\"{}{}\"", known.path, field.name);
    let name = &field.name;
    let Some(null) = field.null else { return plain(field, &format!("self.{name}"), &path) };
    let by_reference = match &field.kind {
        Kind::String => format!("self.{name}.as_deref()"),
        _ if field.is_list => format!("self.{name}.as_deref()"),
        _ => format!("self.{name}.as_ref()"),
    };
    let element = element(field, "item", &path);
    let nullable = match &field.kind {
        _ if field.is_list => {
            format!("out.nullable_array({by_reference}, {path}, |out, item| {element})?")
        }
        Kind::Struct(_) => format!("out.nullable({by_reference}, |out, item| {element})?"),
        Kind::Bytes => format!("out.nullable_bytes({by_reference}, {path})?"),
        Kind::Records => format!("out.nullable_records({by_reference}, {path})?"),
        _ => format!("out.nullable_string({by_reference}, {path})?"),
    };
    match condition(null, field.versions) {
        None => nullable,
        Some(condition) => {
            let required = format!("required(&self.{name}, {path}, version)?");
            let plain = plain(field, &required, &path);
            format!("if {condition} {{ {nullable} }} else {{ {plain} }}")
        }
    }
}

/// An expression that writes what is not null.
fn plain(field: &Field, value: &str, path: &str) -> String {
    let by_reference =
        if value.starts_with("self") { format!("&{value}") } else { value.to_owned() };
    if field.is_list {
        let element = element(field, "item", path);
        return format!("out.array({by_reference}, {path}, |out, item| {element})?");
    }
    match &field.kind {
        Kind::Bool => format!("out.bool({value})"),
        Kind::Integer(name) => format!("out.{name}({value})"),
        Kind::Uuid => format!("out.uuid({value})"),
        Kind::String => format!("out.string({by_reference}, {path})?"),
        Kind::Bytes => format!("out.bytes({by_reference}, {path})?"),
        Kind::Records => format!("out.records({by_reference}, {path})?"),
        Kind::Struct(_) => format!("{value}.write(version, out)?"),
    }
}

/// An expression that writes an element behind a reference and tells whether that went well.
fn element(field: &Field, name: &str, path: &str) -> String {
    match &field.kind {
        Kind::Bool => format!("Ok(out.bool(*{name}))"),
        Kind::Integer(integer) => format!("Ok(out.{integer}(*{name}))"),
        Kind::Uuid => format!("Ok(out.uuid(*{name}))"),
        Kind::String => format!("out.string({name}, {path})"),
        Kind::Bytes => format!("out.bytes({name}, {path})"),
        Kind::Records => format!("out.records({name}, {path})"),
        Kind::Struct(_) => format!("{name}.write(version, out)"),
    }
}
