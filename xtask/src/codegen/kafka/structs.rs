//! Pure: what a struct of a message looks like in Rust: fields, defaults, its least size on the wire.

use anyhow::bail;

use super::code::Code;
use super::facts::{Api, Field, Kind, Span, Struct};

/// The declaration with its default.
///
/// # Errors
/// If the table names a struct that it does not have, or a default that does not fit.
pub(super) fn declare(code: &mut Code, api: &Api, known: &Struct) -> anyhow::Result<()> {
    let is_derived = known.fields.iter().all(is_natural);
    let default = if is_derived { ", Default" } else { "" };
    let name = &api.name;
    code.line(&match known.path.as_str() {
        "" => format!("/// The {} of `{name}`.", known.name.to_lowercase()),
        path if path.starts_with(&known.name) => {
            format!("/// `{}`, which several fields of `{name}` share.", known.name)
        }
        path => format!("/// `{}` of `{name}`.", path.trim_end_matches('.')),
    });
    code.line(&format!("#[derive(Debug, Clone, PartialEq, Eq{default})]"));
    code.open(&format!("pub struct {}{}", known.name, lifetime(api, known)?));
    for field in &known.fields {
        if field.versions != known.versions {
            let Span { first, last } = field.versions;
            code.line(&match first == last {
                true => format!("/// In version {first}."),
                false => format!("/// In versions {first}-{last}."),
            });
        }
        code.line(&format!("pub {}: {},", field.name, rust_type(api, field)?));
    }
    code.close();
    if is_derived {
        return Ok(());
    }
    let anonymous = if lifetime(api, known)?.is_empty() { "" } else { "<'_>" };
    code.blank();
    code.open(&format!("impl Default for {}{anonymous}", known.name));
    code.open("fn default() -> Self");
    code.open("Self");
    for field in &known.fields {
        code.line(&format!("{}: {},", field.name, default_of(field)?));
    }
    code.close();
    code.close();
    code.close();
    Ok(())
}

/// The fewest bytes of an element of an array on the wire, in plain and in flexible versions.
///
/// # Errors
/// If the table names a struct that it does not have.
pub(super) fn bytes_min(code: &mut Code, api: &Api, known: &Struct) -> anyhow::Result<()> {
    let mut least = [None::<usize>; 2];
    for version in known.versions.versions() {
        let size = size_min(api, known, version)?;
        let slot = &mut least[usize::from(api.is_flexible(version))];
        *slot = Some(slot.map_or(size, |least| least.min(size)));
    }
    // Where all versions are of one kind, the other number is never asked for.
    let [plain, compact] = least;
    let (plain, compact) = (plain.or(compact).unwrap_or(0), compact.or(plain).unwrap_or(0));
    code.line(&format!(
        "const BYTES_MIN: BytesMin = BytesMin {{ plain: {plain}, compact: {compact} }};"
    ));
    Ok(())
}

/// Whether arrays of it exist.
pub(super) fn is_element(api: &Api, known: &Struct) -> bool {
    let mut fields = api.structs.iter().flat_map(|known| &known.fields);
    fields.any(|field| field.is_list && field.kind == Kind::Struct(known.name.clone()))
}

fn size_min(api: &Api, known: &Struct, version: i16) -> anyhow::Result<usize> {
    let is_flexible = api.is_flexible(version);
    let mut size = usize::from(is_flexible);
    for field in &known.fields {
        if !field.versions.contains(version) || field.tag.is_some() {
            continue;
        }
        let of = |plain| if is_flexible { 1 } else { plain };
        size += match &field.kind {
            _ if field.is_list => of(4),
            Kind::Bool => 1,
            Kind::Integer(name) => integer_size(name)?,
            Kind::Uuid => 16,
            Kind::String => of(2),
            Kind::Bytes | Kind::Records => of(4),
            Kind::Struct(_) if field.null.is_some() => 1,
            Kind::Struct(name) => size_min(api, api.find(name)?, version)?,
        };
    }
    Ok(size)
}

fn integer_size(name: &str) -> anyhow::Result<usize> {
    Ok(match name {
        "i8" => 1,
        "i16" | "u16" => 2,
        "i32" | "u32" => 4,
        "i64" => 8,
        _ => bail!("{name} is no integer"),
    })
}

/// `<'a>` if something in the struct borrows from the frame.
///
/// # Errors
/// If the table names a struct that it does not have.
pub(super) fn lifetime(api: &Api, known: &Struct) -> anyhow::Result<&'static str> {
    for field in &known.fields {
        match &field.kind {
            Kind::String => return Ok("<'a>"),
            Kind::Struct(name) if !lifetime(api, api.find(name)?)?.is_empty() => {
                return Ok("<'a>");
            }
            _ => {}
        }
    }
    Ok("")
}

fn rust_type(api: &Api, field: &Field) -> anyhow::Result<String> {
    let mut name = match &field.kind {
        Kind::Bool => "bool".to_owned(),
        Kind::Integer(name) => (*name).to_owned(),
        Kind::Uuid => "Uuid".to_owned(),
        Kind::String => "Cow<'a, str>".to_owned(),
        Kind::Bytes => "Bytes".to_owned(),
        Kind::Records => "Records".to_owned(),
        Kind::Struct(name) => format!("{name}{}", lifetime(api, api.find(name)?)?),
    };
    if field.is_list {
        name = format!("Vec<{name}>");
    }
    if field.null.is_some() {
        name = format!("Option<{name}>");
    }
    Ok(name)
}

/// Whether the default is the one that Rust's types have anyway.
fn is_natural(field: &Field) -> bool {
    match field.null {
        Some(_) => field.is_null_by_default(),
        None => field.default.is_none(),
    }
}

/// The default as an expression.
///
/// # Errors
/// If the table has a default that does not fit the type.
pub(super) fn default_of(field: &Field) -> anyhow::Result<String> {
    if field.null.is_some() && field.is_null_by_default() {
        return Ok("None".to_owned());
    }
    let value = match (&field.kind, field.default.as_deref()) {
        (_, None) if field.is_list => "Vec::new()".to_owned(),
        (Kind::Bool, value) => value.unwrap_or("false").to_owned(),
        (Kind::Integer(_), value) => value.unwrap_or("0").to_owned(),
        (Kind::Uuid, None) => "Uuid::nil()".to_owned(),
        (Kind::String, None) => "Cow::Borrowed(\"\")".to_owned(),
        (Kind::Bytes, None) => "Bytes::new()".to_owned(),
        (Kind::Records, None) => "Records::default()".to_owned(),
        (Kind::Struct(name), None) => format!("{name}::default()"),
        (_, Some(value)) => bail!("{} cannot be {value:?} by default", field.name),
    };
    Ok(if field.null.is_some() { format!("Some({value})") } else { value })
}

/// An expression that is true if the field of `self` is not its default.
///
/// # Errors
/// If the table has a default that does not fit the type.
pub(super) fn differs(field: &Field) -> anyhow::Result<String> {
    let name = &field.name;
    if field.null.is_some() && field.is_null_by_default() {
        return Ok(format!("self.{name}.is_some()"));
    }
    if field.null.is_some() {
        return Ok(format!("self.{name} != {}", default_of(field)?));
    }
    Ok(match (&field.kind, field.default.as_deref()) {
        _ if field.is_list => format!("!self.{name}.is_empty()"),
        (Kind::String | Kind::Bytes | Kind::Records, _) => format!("!self.{name}.is_empty()"),
        (Kind::Uuid, _) => format!("!self.{name}.is_nil()"),
        (Kind::Bool, Some("true")) => format!("!self.{name}"),
        (Kind::Bool, _) => format!("self.{name}"),
        _ => format!("self.{name} != {}", default_of(field)?),
    })
}
