//! Files that open with `//! Pure:` name no clock, socket, disk, thread or runtime.

use super::code::{self, Named};
use super::{Finding, Source};

/// Where what acts lives: nothing below these is named.
const FORBIDDEN: &[&[&str]] = &[
    &["tokio"],
    &["std", "fs"],
    &["std", "net"],
    &["std", "os"],
    &["std", "thread"],
    &["std", "env"],
    &["std", "process"],
    &["std", "io", "stdin"],
    &["std", "io", "stdout"],
    &["std", "io", "stderr"],
    &["rand", "rng"],
    &["rustix"],
    &["parking_lot"],
];

/// What is only data, although it lives there.
const DATA: &[&[&str]] = &[
    &["std", "net", "AddrParseError"],
    &["std", "net", "IpAddr"],
    &["std", "net", "Ipv4Addr"],
    &["std", "net", "Ipv6Addr"],
    &["std", "net", "SocketAddr"],
    &["std", "net", "SocketAddrV4"],
    &["std", "net", "SocketAddrV6"],
];

/// Names that act wherever they come from.
const ACTORS: &[&str] = &[
    "Instant",
    "SystemTime",
    "UNIX_EPOCH",
    "SystemClock",
    "TcpStream",
    "TcpListener",
    "UdpSocket",
    "from_system",
];

pub(super) fn check(source: &Source) -> Vec<Finding> {
    if !source.text.starts_with("//! Pure:") {
        return Vec::new();
    }
    let lines = source.text.lines().take_while(|line| !line.starts_with("#[cfg(test)]"));
    let code: String = lines.flat_map(|line| [line, "\n"]).collect();
    let mut findings: Vec<Finding> = code::paths(&code)
        .iter()
        .filter(|named| acts(named))
        .map(|named| {
            let path = named.segments.join("::");
            let what = format!("a pure file names {path}: take it as an argument");
            Finding::new(&source.path, named.line, what)
        })
        .collect();
    findings.dedup();
    findings
}

fn acts(named: &Named) -> bool {
    let mut path: Vec<&str> = named.segments.iter().map(String::as_str).collect();
    if path.first() == Some(&"core") {
        path[0] = "std";
    }
    let below = |paths: &[&[&str]]| paths.iter().any(|above| path.starts_with(above));
    let hides = match path.split_last() {
        // All that lies there is named, what acts as well; or the root itself, by whatever name.
        Some((&"*", above)) => FORBIDDEN.iter().any(|deep| deep.starts_with(above)),
        _ => named.is_certain && path == ["std"],
    };
    let actor = path.iter().any(|segment| ACTORS.contains(segment));
    actor || hides || named.is_certain && below(FORBIDDEN) && !below(DATA)
}

#[cfg(test)]
mod tests {
    use super::super::testing::{lines, source};
    use super::*;

    fn pure(body: &str) -> Vec<usize> {
        lines(&check(&source("a.rs", &format!("//! Pure: a.\n{body}"))))
    }

    #[test]
    fn only_pure_files_are_held_to_it_and_only_their_code() {
        let body = "use tokio::sync;\n// tokio::sync\n#[cfg(test)]\nuse std::fs;\n";
        assert_eq!(pure(body), [2]);
        assert!(check(&source("a.rs", &format!("//! Drives it.\n{body}"))).is_empty());
    }

    #[test]
    fn what_acts_is_found_however_it_is_written() {
        for body in [
            "use std::{fs, fmt};",
            "use std::{fmt, net};",
            "use std::net;",
            "use std::net::*;",
            "use std::*;",
            "use std as s;",
            "use core::net::{SocketAddr, TcpStream};",
            "use tokio;",
            "use tokio as t;",
            "use ::tokio::{self, sync::mpsc};",
            "extern crate tokio;",
            "use std::time::{Duration, Instant};",
            "use std::{\n    fmt,\n    time::SystemTime,\n};",
            "use std::time;\nfn f() { time::Instant::now() }",
            "fn f() { std::net::TcpStream::connect(a) }",
            "fn f() { std::thread::sleep(a) }",
            "fn f() -> std::process::ExitCode {}",
            "fn f() { std::env::var(a) }",
            "fn f() { rand::rng() }",
            "fn f() { core::rng::from_system() }",
            "#[tokio::main]\nasync fn main() {}",
        ] {
            assert_ne!(pure(body), [0; 0], "{body}");
        }
    }

    #[test]
    fn what_is_data_may_be_named() {
        for body in [
            "use std::net::{IpAddr, SocketAddr};",
            "fn f(a: std::net::SocketAddr) {}",
            "use std::time::Duration;",
            "use std::io::{self, Read};",
            "fn f(env: u8, process: u8) { a.thread() }",
            "const A: &str = \"std::fs Instant\";",
        ] {
            assert_eq!(pure(body), [0; 0], "{body}");
        }
    }
}
