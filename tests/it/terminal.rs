//! What a command shows on a terminal, and what elsewhere.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::process::Stdio;

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

use crate::node::{Node, RAFKA};

/// A terminal: what is written to it, and its other end.
pub(crate) fn terminal() -> (File, File) {
    let shown = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("there are terminals");
    grantpt(&shown).expect("it is ours");
    unlockpt(&shown).expect("it is ours");
    let name = ptsname(&shown, Vec::new()).expect("it has a name");
    let name = name.to_str().expect("a path in ASCII");
    let end = File::options().read(true).write(true).open(name).expect("it can be opened");
    (File::from(shown), end)
}

/// Reads until the text is there; returns all of it.
pub(crate) fn read_until(from: &mut File, expected: &str) -> String {
    let mut text = String::new();
    while !text.contains(expected) {
        let mut buffer = [0; 4096];
        let len = from.read(&mut buffer).unwrap_or_else(|error| panic!("{error} after {text:?}"));
        text.push_str(&String::from_utf8_lossy(&buffer[..len]));
    }
    text
}

#[test]
fn progress_is_shown_on_a_terminal_and_nowhere_else() {
    let node = Node::start(&[]);
    let (mut shown, end) = terminal();
    let mut child = node
        .command(&["produce", "watched"])
        .stdin(Stdio::piped())
        .stderr(end)
        .spawn()
        .expect("the program can be started");
    let mut stdin = child.stdin.take().expect("it was piped");
    stdin.write_all(b"one\ntwo\n").expect("it reads");
    read_until(&mut shown, "2 records acknowledged, ");
    drop(stdin);
    assert!(child.wait().expect("it ends").success());
    read_until(&mut shown, "2 records acknowledged\r\n");

    let input = "line\n".repeat(1000);
    let piped = crate::node::run(node.command(&["produce", "watched"]), &input);
    assert_eq!(piped.stderr, "1000 records acknowledged\n");
    let quiet = crate::node::run(node.command(&["-q", "produce", "watched"]), &input);
    assert_eq!(quiet.stderr, "");
}

#[test]
fn a_node_to_develop_with_creates_topics_and_says_how_to_go_on() {
    let dir = tempfile::tempdir().expect("there is a place for temporary files");
    let mut child = std::process::Command::new(RAFKA)
        .args(["dev", "--grpc-listen", "127.0.0.1:0", "--http-listen", "127.0.0.1:0"])
        .args(["--kafka-listen", "127.0.0.1:0"])
        .args(["--stop-with-stdin", "--data-dir"])
        .arg(dir.path())
        .env("RAFKA__BROKER__AUTO_CREATE_TOPICS_ENABLE", "false")
        .env_remove("RAFKA_CONFIG")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program can be started");
    let mut stdout = child.stdout.take().expect("it was piped");
    let mut banner = String::new();
    while !banner.contains("what was written stays") {
        let mut buffer = [0; 4096];
        let len = stdout.read(&mut buffer).expect("it can be read");
        assert_ne!(len, 0, "it ended after {banner:?}");
        banner.push_str(&String::from_utf8_lossy(&buffer[..len]));
    }
    // The commands work as they stand there.
    let line = |start: &str| {
        let found = banner.lines().find(|line| line.trim().starts_with(start));
        found.unwrap_or_else(|| panic!("no {start:?} in {banner:?}")).trim().to_owned()
    };
    let produce = line("echo hello | rafka produce greetings");
    let consume = line("rafka consume greetings -o beginning");
    let brokers = consume.rsplit(' ').next().expect("it names the address");
    assert!(produce.ends_with(brokers), "{produce:?}");
    let rafka = |args: &[&str], input: &str| {
        let mut command = std::process::Command::new(RAFKA);
        command.args(args).env_remove("RAFKA_CONFIG").env_remove("RAFKA_BROKERS");
        crate::node::run(command, input)
    };
    rafka(&["produce", "greetings", "-b", brokers], "hello\n").ok("produce");
    let consume = ["consume", "greetings", "-o", "beginning", "-e", "-b", brokers];
    assert_eq!(rafka(&consume, "").ok("consume"), "hello\n");
    drop(child.stdin.take());
    let ended = child.wait_with_output().expect("it ends");
    assert!(ended.status.success());
    assert_eq!(String::from_utf8_lossy(&ended.stderr), "", "a node in order has nothing to say");
}
