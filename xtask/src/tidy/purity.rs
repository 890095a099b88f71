//! Files that open with `//! Pure:` name no clock, socket, disk, thread or runtime.

use super::{Finding, Source};

const FORBIDDEN: &[&str] = &[
    "tokio::",
    "std::fs",
    "TcpStream",
    "TcpListener",
    "UdpSocket",
    "std::thread",
    "std::env",
    "std::process",
    "std::time::Instant",
    "std::time::SystemTime",
    "SystemTime::now",
    "Instant::now",
    "SystemClock",
    "rng::from_system",
    "rand::rng",
    "parking_lot",
];

pub(super) fn check(source: &Source) -> Vec<Finding> {
    if !source.text.starts_with("//! Pure:") {
        return Vec::new();
    }
    source
        .lines()
        .take_while(|(_, line)| !line.starts_with("#[cfg(test)]"))
        .filter_map(|(number, line)| {
            let code = line.split("//").next().unwrap_or("");
            let found = FORBIDDEN.iter().find(|word| code.contains(**word))?;
            let what = format!("a pure file names {found}: take it as an argument");
            Some(Finding::new(&source.path, number, what))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::testing::{lines, source};
    use super::*;

    #[test]
    fn only_pure_files_are_held_to_it_and_only_their_code() {
        let body = "use tokio::sync;\n// tokio::sync\n#[cfg(test)]\nuse std::fs;\n";
        let pure = source("a.rs", &format!("//! Pure: a.\n{body}"));
        assert_eq!(lines(&check(&pure)), [2]);
        assert!(check(&source("a.rs", &format!("//! Drives it.\n{body}"))).is_empty());
    }
}
