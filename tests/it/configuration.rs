//! How a node is configured, and what it says when that is wrong.

use std::fs;
use std::process::Command;

use crate::node::{Node, RAFKA, rafka, run};

#[test]
fn mistakes_end_with_the_code_for_configuration_and_say_where_they_are() {
    let dir = tempfile::tempdir().expect("there is a place for temporary files");
    let file = dir.path().join("rafka.yaml");
    let check = |text: &str, said: &[&str]| {
        fs::write(&file, text).expect("it can be written");
        let path = file.to_str().expect("temporary names are text");
        for command in [&["config", "check"][..], &["serve"]] {
            rafka(&[command, &["--config", path]].concat()).failed(3, said);
        }
    };
    check("node:\n  data_dri: /tmp\n", &["rafka.yaml:2:3", "data_dri", "did you mean data_dir?"]);
    check("grpc:\n  listen: nowhere\n", &["rafka.yaml:2:11"]);
    check("node: {stop_timeout: 0 s}\n", &["node.stop_timeout is 0 s", "from 1 s to 10 min"]);
    check("storage:\n  open_files_max: 1\n", &["storage.open_files_max is 1"]);
    check("broker:\n  groups: 7\n", &["rafka.yaml:2:"]);
    rafka(&["serve", "--config", "/nonexistent/rafka.yaml"])
        .failed(3, &["cannot read the configuration file /nonexistent/rafka.yaml"]);
}

#[test]
fn an_address_that_the_host_does_not_have_is_told_as_that() {
    let dir = tempfile::tempdir().expect("there is a place for temporary files");
    let data = dir.path().join("data");
    let any = "127.0.0.1:0";
    // Kept for documentation: no host has it.
    let nowhere = "192.0.2.1:9644";
    let listen = ["--grpc-listen", any, "--kafka-listen", any, "--http-listen", nowhere];
    let data = ["--data-dir", data.to_str().expect("temporary names are text")];
    rafka(&[&["serve", "--insecure-bind"], &listen[..], &data].concat())
        .failed(1, &["this host has no such address"]);
}

#[test]
fn a_listener_that_others_can_reach_is_refused_while_security_is_off() {
    for flag in ["--grpc-listen", "--kafka-listen", "--http-listen"] {
        for address in ["0.0.0.0:0", "[::]:0", "192.0.2.1:80"] {
            rafka(&["serve", flag, address]).failed(3, &[address, "--insecure-bind"]);
        }
    }
}

#[test]
fn the_environment_configures_a_node_and_its_mistakes_are_named() {
    let with = |name: &str, value: &str| {
        let mut command = Command::new(RAFKA);
        command.args(["config", "show"]).env(name, value).env_remove("RAFKA_CONFIG");
        run(command, "")
    };
    assert!(with("RAFKA__NODE__PORT_OFFSET", "7").ok("show").contains("port_offset: 7"));
    assert!(with("RAFKA_PORT", "tcp://10.0.0.1:9192").ok("show").contains("port_offset: 0"));
    with("RAFKA__NODE__PORTOFFSET", "7")
        .failed(3, &["RAFKA__NODE__PORTOFFSET", "node.port_offset"]);
}

#[test]
fn a_flag_beats_the_environment_which_beats_the_file() {
    let dir = tempfile::tempdir().expect("there is a place for temporary files");
    let file = dir.path().join("rafka.yaml");
    let text = "node:\n  port_offset: 1\n  advertise: file\n  data_dir: /file\n";
    fs::write(&file, text).expect("it can be written");
    let show = |flags: &[&str], config: &str| {
        let mut command = Command::new(RAFKA);
        command.args(["config", "show"]).args(flags).env("RAFKA_CONFIG", config);
        command.env("RAFKA__NODE__ADVERTISE", "environment");
        command.env("RAFKA__NODE__DATA_DIR", "/environment");
        run(command, "")
    };
    let path = file.to_str().expect("temporary names are text");
    for (flags, config) in [
        (&["--data-dir", "/flag"][..], path),
        (&["--data-dir", "/flag", "--config", path], "/none"),
    ] {
        let shown = show(flags, config).ok("show");
        for value in ["port_offset: 1\n", "advertise: environment\n", "data_dir: /flag\n"] {
            assert!(shown.contains(value), "{value} is not in {shown}");
        }
    }
    show(&[], "/none").failed(3, &["cannot read the configuration file /none"]);
}

#[test]
fn what_config_show_prints_can_be_used_as_a_file() {
    let dir = tempfile::tempdir().expect("there is a place for temporary files");
    let file = dir.path().join("shown.yaml");
    let shown = rafka(&["config", "show", "--port-offset", "3"]).ok("show");
    fs::write(&file, &shown).expect("it can be written");
    let path = file.to_str().expect("temporary names are text");
    assert_eq!(rafka(&["config", "show", "--config", path]).ok("show again"), shown);
    assert!(rafka(&["config", "schema"]).ok("schema").contains("node.data_dir"));
}

#[test]
fn a_data_directory_serves_one_node_at_a_time() {
    let node = Node::start(&[]);
    let dir = node.data_dir();
    let dir = dir.to_str().expect("temporary names are text");
    let second = rafka(&[
        "serve",
        "--data-dir",
        dir,
        "--kafka-listen",
        "127.0.0.1:0",
        "--grpc-listen",
        "127.0.0.1:0",
        "--http-listen",
        "127.0.0.1:0",
    ]);
    second.failed(1, &["is in use by another process", "--data-dir"]);
    assert_eq!(node.get("/readyz").0, 200, "the first goes on");
}

#[test]
fn an_address_in_use_is_named_with_what_to_do() {
    let node = Node::start(&[]);
    let taken = node.grpc().to_string();
    let dir = node.dir().join("other");
    let dir = dir.to_str().expect("temporary names are text");
    let free = "127.0.0.1:0";
    let listeners = ["--grpc-listen", &taken, "--kafka-listen", free, "--http-listen", free];
    rafka(&[&["serve", "--data-dir", dir], &listeners[..]].concat())
        .failed(1, &[&taken, "--port-offset"]);
}
