//! Rust as the checks read it: without comments and literals, and the paths that it names.

use proc_macro2::{Delimiter, TokenStream, TokenTree};

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
    let mut tokens = Vec::new();
    flatten(text.parse().expect("it compiles"), &mut tokens);
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

/// Words, `::`, `#!` and single signs, with their lines. Literals are left out, and so are comments, which
/// become attributes if they are documentation.
fn flatten(code: TokenStream, found: &mut Vec<(usize, String)>) {
    let mut rest = code.into_iter().peekable();
    while let Some(token) = rest.next() {
        let line = token.span().start().line;
        match token {
            TokenTree::Ident(name) => found.push((line, name.to_string())),
            TokenTree::Literal(_) => {}
            TokenTree::Punct(sign) => {
                let joins = |next: &TokenTree| match next {
                    TokenTree::Punct(next) => {
                        matches!((sign.as_char(), next.as_char()), (':', ':') | ('#', '!'))
                    }
                    _ => false,
                };
                let second = rest.next_if(joins).map(|second| second.to_string());
                let signs = sign.to_string() + &second.unwrap_or_default();
                let is_comment = signs.starts_with('#') && rest.next_if(is_documentation).is_some();
                if !is_comment {
                    found.push((line, signs));
                }
            }
            TokenTree::Group(group) => {
                let (open, close) = match group.delimiter() {
                    Delimiter::Parenthesis => ("(", ")"),
                    Delimiter::Brace => ("{", "}"),
                    Delimiter::Bracket => ("[", "]"),
                    Delimiter::None => ("", ""),
                };
                found.push((line, open.to_owned()));
                flatten(group.stream(), found);
                found.push((group.span_close().start().line, close.to_owned()));
            }
        }
    }
}

/// Whether this is the `[doc = "..."]` of an attribute.
fn is_documentation(token: &TokenTree) -> bool {
    let TokenTree::Group(group) = token else { return false };
    let mut inner = group.stream().into_iter();
    matches!(inner.next(), Some(TokenTree::Ident(name)) if name == "doc")
        && matches!(inner.next(), Some(TokenTree::Punct(sign)) if sign.as_char() == '=')
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
