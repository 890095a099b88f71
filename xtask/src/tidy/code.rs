//! Rust as the checks read it: without comments and literals, and the paths that it names.

/// A path that code names, with its line: `std::fs::File`, `tokio`, `a::*`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Named {
    pub(super) line: usize,
    pub(super) segments: Vec<String>,
    /// Whether it stands where only a path can: in a `use`, before `::`, as a macro or an attribute.
    pub(super) is_certain: bool,
}

/// Every path in the text, those of `use` with their braces opened.
pub(super) fn paths(text: &str) -> Vec<Named> {
    let tokens = tokens(&bare(text));
    let mut found = Vec::new();
    let mut at = 0;
    while let Some((line, token)) = tokens.get(at) {
        let before = at.checked_sub(1).and_then(|at| tokens.get(at)).map(|(_, token)| &**token);
        if token == "use" {
            at = tree(&tokens, at + 1, &[], &mut found);
        } else if is_name(token) && before != Some(".") {
            let (segments, end) = path(&tokens, at);
            let after = tokens.get(end).map(|(_, token)| &**token);
            let in_attribute =
                before == Some("[") && 2 <= at && matches!(&*tokens[at - 2].1, "#" | "#!");
            let is_certain = segments.len() > 1
                || matches!(after, Some("!"))
                || in_attribute
                || before == Some("crate") && 2 <= at && tokens[at - 2].1 == "extern";
            found.push(Named { line: *line, segments, is_certain });
            at = end;
        } else {
            at += 1;
        }
    }
    found
}

/// Reads names between `::` from `at` on; returns them and where they end.
fn path(tokens: &[(usize, String)], mut at: usize) -> (Vec<String>, usize) {
    let mut segments = vec![tokens[at].1.clone()];
    at += 1;
    while let [(_, colons), (_, name), ..] = &tokens[at..] {
        if colons != "::" || !is_name(name) {
            break;
        }
        segments.push(name.clone());
        at += 2;
    }
    (segments, at)
}

/// Opens one tree of a `use` into paths; returns where it ends.
fn tree(
    tokens: &[(usize, String)],
    mut at: usize,
    above: &[String],
    found: &mut Vec<Named>,
) -> usize {
    let mut segments = above.to_vec();
    let line = tokens.get(at).map_or(0, |(line, _)| *line);
    while let Some((_, token)) = tokens.get(at) {
        match &**token {
            "{" => {
                at += 1;
                while tokens.get(at).is_some_and(|(_, token)| token != "}") {
                    at = tree(tokens, at, &segments, found);
                    at += usize::from(tokens.get(at).is_some_and(|(_, token)| token == ","));
                }
                return at + 1;
            }
            "::" => at += 1,
            "as" => at += 2,
            "self" if !segments.is_empty() => at += 1,
            "*" => {
                segments.push("*".to_owned());
                at += 1;
            }
            name if is_name(name) => {
                segments.push(name.to_owned());
                at += 1;
            }
            ";" => {
                at += 1;
                break;
            }
            "," | "}" => break,
            // Not a use of ours: the `use<'a>` of a bound.
            _ => {
                at += 1;
                break;
            }
        }
    }
    found.push(Named { line, segments, is_certain: true });
    at
}

fn is_name(token: &str) -> bool {
    token.starts_with(|c: char| c.is_alphabetic() || c == '_')
}

/// Words, `::` and single signs, with their lines.
fn tokens(code: &str) -> Vec<(usize, String)> {
    let mut tokens = Vec::new();
    let mut line = 1;
    let mut rest = code.chars().peekable();
    while let Some(c) = rest.next() {
        if c == '\n' {
            line += 1;
        } else if c.is_alphanumeric() || c == '_' {
            let mut word = c.to_string();
            while let Some(more) = rest.next_if(|c| c.is_alphanumeric() || *c == '_') {
                word.push(more);
            }
            tokens.push((line, word));
        } else if c == ':' && rest.next_if_eq(&':').is_some() {
            tokens.push((line, "::".to_owned()));
        } else if c == '#' && rest.next_if_eq(&'!').is_some() {
            tokens.push((line, "#!".to_owned()));
        } else if !c.is_whitespace() {
            tokens.push((line, c.to_string()));
        }
    }
    tokens
}

/// The text with a blank for all that is in comments and literals; lines stay where they are.
fn bare(text: &str) -> String {
    let mut bare = String::with_capacity(text.len());
    let mut rest = text;
    // The end of a word is no beginning of a literal: the `r` of `bar"`.
    let mut in_word = false;
    while let Some(c) = rest.chars().next() {
        let hidden = if in_word { plain_literal(rest) } else { hidden(rest) };
        let length = hidden.unwrap_or(c.len_utf8());
        let (piece, after) = rest.split_at(length);
        if hidden.is_some() {
            bare.extend(piece.chars().map(|c| if c == '\n' { '\n' } else { ' ' }));
        } else {
            bare.push_str(piece);
        }
        in_word = hidden.is_none() && (c.is_alphanumeric() || c == '_');
        rest = after;
    }
    bare
}

/// How many bytes from here on are a comment or a literal, if one begins here.
fn hidden(rest: &str) -> Option<usize> {
    if rest.starts_with("//") {
        return Some(rest.find('\n').unwrap_or(rest.len()));
    }
    if rest.starts_with("/*") {
        return Some(block_comment(rest));
    }
    let marks = ["br", "cr", "r", "b", "c", ""];
    let mark = marks.into_iter().find(|mark| {
        let after = rest.strip_prefix(mark).unwrap_or("");
        let raw = mark.ends_with('r') && after.trim_start_matches('#').starts_with('"');
        raw || after.starts_with('"')
    });
    let Some(mark) = mark else { return plain_literal(rest) };
    let after = rest.strip_prefix(mark)?;
    if !mark.ends_with('r') {
        return Some(mark.len() + plain_literal(after)?);
    }
    let hashes = after.len() - after.trim_start_matches('#').len();
    let end = format!("\"{}", "#".repeat(hashes));
    let begin = mark.len() + hashes + 1;
    let length = rest.get(begin..)?.find(&end).map_or(rest.len(), |at| begin + at + end.len());
    Some(length)
}

/// The length of a string or a character with its quotes; a lifetime is neither.
fn plain_literal(rest: &str) -> Option<usize> {
    let quote = rest.chars().next().filter(|c| matches!(c, '"' | '\''))?;
    let mut inner = rest.char_indices().skip(1);
    if quote == '\'' {
        let (_, first) = inner.next()?;
        if first != '\\' {
            let (at, second) = inner.next()?;
            return (second == '\'').then_some(at + 1);
        }
        inner.next();
    }
    while let Some((at, c)) = inner.next() {
        if c == '\\' {
            inner.next();
        } else if c == quote {
            return Some(at + 1);
        }
    }
    Some(rest.len())
}

fn block_comment(rest: &str) -> usize {
    let mut depth = 0_usize;
    let mut at = 0;
    while let Some(piece) = rest.get(at..).filter(|piece| !piece.is_empty()) {
        if piece.starts_with("/*") {
            depth += 1;
            at += 2;
        } else if piece.starts_with("*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                break;
            }
        } else {
            at += piece.chars().next().map_or(1, char::len_utf8);
        }
    }
    at
}

#[cfg(test)]
mod tests {
    use super::*;

    fn certain(text: &str) -> Vec<String> {
        let named = paths(text);
        named.iter().filter(|named| named.is_certain).map(|n| n.segments.join("::")).collect()
    }

    #[test]
    fn every_shape_of_a_use_is_opened() {
        let cases: &[(&str, &[&str])] = &[
            ("use std::{fs, net};", &["std::fs", "std::net"]),
            ("use tokio;", &["tokio"]),
            ("use ::tokio::sync as s;", &["tokio::sync"]),
            (
                "pub(crate) use std::time::{Duration, Instant};",
                &["std::time::Duration", "std::time::Instant"],
            ),
            ("use std::io::{self, Read};", &["std::io", "std::io::Read"]),
            (
                "use a::{b::{c, d::*}, e as _,};\nuse f::*;",
                &["a::b::c", "a::b::d::*", "a::e", "f::*"],
            ),
        ];
        for (text, expected) in cases {
            assert_eq!(certain(text), *expected, "{text}");
        }
    }

    #[test]
    fn a_name_is_a_path_only_where_it_can_be_nothing_else() {
        assert_eq!(certain("let bytes = a.bytes(); bytes"), [""; 0]);
        assert_eq!(certain("bytes::Bytes::new()"), ["bytes::Bytes::new"]);
        assert_eq!(certain("#[serde(default)] struct A;"), ["serde"]);
        assert_eq!(certain("json!({})"), ["json"]);
        assert_eq!(certain("extern crate tokio;"), ["tokio"]);
    }

    #[test]
    fn comments_and_literals_hide_what_they_hold_and_nothing_more() {
        let hidden = [
            "// a::b",
            "/* a::b /* a::b */ a::b */",
            "\"a::b \\\" a::b\"",
            "r#\"a::b \" a::b\"#",
            "b\"a::b\"",
            "br\"a::b\\\"",
            "/// a::b\n",
        ];
        for text in hidden {
            let all = format!("{text}\nc::d");
            assert_eq!(certain(&all), ["c::d"], "{text}");
            assert_eq!(paths(&all).last().map(|n| n.line), Some(all.lines().count()), "{text}");
        }
        assert_eq!(certain("f::<'a>('\"', '\\'', b'\"', c::d)"), ["c::d"]);
        assert_eq!(certain("fn f<'a>(x: &'a c::d) {}"), ["c::d"]);
    }
}
