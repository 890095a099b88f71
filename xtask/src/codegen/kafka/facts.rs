//! Pure: reads `crates/kafka-wire/facts.txt`, whose head says how it is written.

use std::fmt;

use anyhow::{Context as _, bail, ensure};

/// An inclusive range of versions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) first: i16,
    pub(crate) last: i16,
}

impl Span {
    pub(crate) fn contains(self, version: i16) -> bool {
        self.first <= version && version <= self.last
    }

    pub(crate) fn versions(self) -> impl Iterator<Item = i16> {
        self.first..=self.last
    }

    /// Reads `3`, `3-5` or `3+`; an open end is that of `outer`.
    fn parse(text: &str, outer: Self) -> anyhow::Result<Self> {
        let number = |text: &str| -> anyhow::Result<i16> {
            text.parse().with_context(|| format!("{text:?} is no version"))
        };
        let span = if let Some(first) = text.strip_suffix('+') {
            Self { first: number(first)?, last: outer.last }
        } else if let Some((first, last)) = text.split_once('-') {
            Self { first: number(first)?, last: number(last)? }
        } else {
            Self { first: number(text)?, last: number(text)? }
        };
        let inside =
            outer.first <= span.first && span.first <= span.last && span.last <= outer.last;
        ensure!(inside, "versions {span} do not lie in {outer}");
        Ok(span)
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.first, self.last)
    }
}

/// What a field holds, or each element of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Kind {
    Bool,
    /// An integer, under Rust's name.
    Integer(&'static str),
    Uuid,
    String,
    Bytes,
    Records,
    Struct(String),
}

const INTEGERS: [&str; 6] = ["i8", "i16", "u16", "i32", "u32", "i64"];

impl Kind {
    fn parse(text: &str) -> Self {
        if let Some(integer) = INTEGERS.iter().find(|integer| **integer == text) {
            return Self::Integer(integer);
        }
        match text {
            "bool" => Self::Bool,
            "uuid" => Self::Uuid,
            "string" => Self::String,
            "bytes" => Self::Bytes,
            "records" => Self::Records,
            _ => Self::Struct(text.to_owned()),
        }
    }
}

/// A field of a message or struct.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Field {
    pub(crate) name: String,
    pub(crate) kind: Kind,
    pub(crate) is_list: bool,
    pub(crate) versions: Span,
    /// The versions in which it may be null.
    pub(crate) null: Option<Span>,
    pub(crate) tag: Option<u32>,
    /// The default where it is not the kind's own.
    pub(crate) default: Option<String>,
    pub(crate) is_ignorable: bool,
}

impl Field {
    /// Whether it is null where nobody says otherwise.
    pub(crate) fn is_null_by_default(&self) -> bool {
        self.default.as_deref() == Some("null") || self.null == Some(self.versions)
    }
}

/// A request, a response, or a struct in one of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Struct {
    pub(crate) name: String,
    /// Where it lies in its message, for errors: empty for the message itself.
    pub(crate) path: String,
    pub(crate) versions: Span,
    pub(crate) fields: Vec<Field>,
}

/// A request with its response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Api {
    pub(crate) key: i16,
    pub(crate) name: String,
    pub(crate) versions: Span,
    /// The first flexible version, if there is one.
    pub(crate) flexible: Option<i16>,
    /// The two messages, `Request` and `Response`, and all structs in them.
    pub(crate) structs: Vec<Struct>,
}

impl Api {
    pub(crate) fn is_flexible(&self, version: i16) -> bool {
        self.flexible.is_some_and(|first| first <= version)
    }

    /// # Errors
    /// If there is none of this name.
    pub(crate) fn find(&self, name: &str) -> anyhow::Result<&Struct> {
        let found = self.structs.iter().find(|known| known.name == name);
        found.with_context(|| format!("{} has no struct {name}", self.name))
    }
}

/// Reads the whole table.
///
/// # Errors
/// At the first line that is not as the head of the table says, with its number.
pub(crate) fn parse(text: &str) -> anyhow::Result<Vec<Api>> {
    let mut apis: Vec<Api> = Vec::new();
    // The structs that enclose the line, as indexes into the API's.
    let mut open: Vec<usize> = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let content = line.trim_start();
        if content.is_empty() || content.starts_with('#') {
            continue;
        }
        let depth = (line.len() - content.len()) / 2;
        let words: Vec<&str> = content.split_whitespace().collect();
        read_line(&mut apis, &mut open, depth, &words)
            .with_context(|| format!("facts.txt, line {}: {content}", index + 1))?;
    }
    for api in &mut apis {
        // What has no fields of its own is a mention of a shared struct.
        api.structs.retain(|known| known.path.is_empty() || !known.fields.is_empty());
    }
    for api in &apis {
        for field in api.structs.iter().flat_map(|known| &known.fields) {
            if let Kind::Struct(name) = &field.kind {
                api.find(name)?;
            }
        }
    }
    Ok(apis)
}

fn read_line(
    apis: &mut Vec<Api>,
    open: &mut Vec<usize>,
    depth: usize,
    words: &[&str],
) -> anyhow::Result<()> {
    if let ["api", key, name, versions, "flexible", flexible] = *words {
        apis.push(read_api(key, name, versions, flexible)?);
        open.clear();
        return Ok(());
    }
    let api = apis.last_mut().context("it stands before the first api")?;
    let (name, path) = match *words {
        ["request"] => ("Request", String::new()),
        ["response"] => ("Response", String::new()),
        ["struct", name] => (name, format!("{name}.")),
        _ => return read_field(api, open, depth, words),
    };
    api.structs.push(Struct {
        name: name.to_owned(),
        path,
        versions: api.versions,
        fields: Vec::new(),
    });
    *open = vec![api.structs.len() - 1];
    Ok(())
}

fn read_api(key: &str, name: &str, versions: &str, flexible: &str) -> anyhow::Result<Api> {
    let all = Span { first: 0, last: i16::MAX };
    Ok(Api {
        key: key.parse().context("the key is no number")?,
        name: name.to_owned(),
        versions: Span::parse(versions, all)?,
        flexible: match flexible {
            "never" => None,
            _ => Some(Span::parse(flexible, all)?.first),
        },
        structs: Vec::new(),
    })
}

fn read_field(
    api: &mut Api,
    open: &mut Vec<usize>,
    depth: usize,
    words: &[&str],
) -> anyhow::Result<()> {
    let level = depth.checked_sub(2).context("it is not indented as a field")?;
    ensure!(level < open.len(), "it is indented deeper than its struct");
    open.truncate(level + 1);
    let parent = &mut api.structs[open[level]];
    let field = parse_field(words, parent.versions)?;
    let path = format!("{}{}.", parent.path, field.name);
    let (kind, versions) = (field.kind.clone(), field.versions);
    parent.fields.push(field);
    // Its fields follow, unless it is one of those that several fields share.
    if let Kind::Struct(name) = kind {
        api.structs.push(Struct { name, path, versions, fields: Vec::new() });
        open.push(api.structs.len() - 1);
    }
    Ok(())
}

fn parse_field(words: &[&str], outer: Span) -> anyhow::Result<Field> {
    let [name, kind, rest @ ..] = words else { bail!("a field has a name and a type") };
    let mut rest = rest.iter().peekable();
    let is_versions = |word: &&&str| word.starts_with(|first: char| first.is_ascii_digit());
    let versions = match rest.next_if(is_versions) {
        Some(text) => Span::parse(text, outer)?,
        None => outer,
    };
    let (list, kind) = match kind.strip_prefix("[]") {
        Some(element) => (true, element),
        None => (false, *kind),
    };
    let mut field = Field {
        name: (*name).to_owned(),
        kind: Kind::parse(kind),
        is_list: list,
        versions,
        null: None,
        tag: None,
        default: None,
        is_ignorable: false,
    };
    while let Some(word) = rest.next() {
        match *word {
            "null" => {
                field.null = Some(match rest.next_if(is_versions) {
                    Some(text) => Span::parse(text, versions)?,
                    None => versions,
                });
            }
            "tag" => {
                let tag = rest.next().context("the tag has no number")?;
                field.tag = Some(tag.parse().with_context(|| format!("{tag:?} is no tag"))?);
            }
            "default" => {
                let value = rest.next().context("the default has no value")?;
                field.default = Some((*value).to_owned());
            }
            "ignorable" => field.is_ignorable = true,
            _ => bail!("{word:?} says nothing about a field"),
        }
    }
    Ok(field)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_that_is_not_understood_is_named() {
        let check = |text: &str, expected: &str| {
            let error = format!("{:#}", parse(text).expect_err(text));
            assert!(error.contains(expected), "{error}");
        };
        check("x i32\n", "line 1: x i32: it stands before the first api");
        let start = "api 0 Produce 3-9 flexible 9+\n  request\n";
        check(&format!("{start}    acks i16 2+\n"), "versions 2-9 do not lie in 3-9");
        check(&format!("{start}    acks i16 nul\n"), "\"nul\" says nothing about a field");
        check(&format!("{start}      acks i16\n"), "indented deeper");
        check(&format!("{start}    topics []Topic\n"), "has no struct");
    }

    #[test]
    fn fields_inherit_the_versions_of_what_encloses_them() {
        let text = "api 0 Produce 3-9 flexible 9+\n  request\n    topics []Topic 5+ null 7+\n      \
                    name string 6\n      id uuid\n    acks i16 default -1\n";
        let apis = parse(text).expect("well-formed");
        let span = |first, last| Span { first, last };
        let topic = apis[0].find("Topic").expect("known");
        assert_eq!(topic.path, "topics.");
        let spans: Vec<Span> = topic.fields.iter().map(|field| field.versions).collect();
        assert_eq!(spans, [span(6, 6), span(5, 9)]);
        let request = apis[0].find("Request").expect("known");
        assert_eq!(request.fields[0].null, Some(span(7, 9)));
        assert_eq!(request.fields[1].default.as_deref(), Some("-1"));
    }
}
