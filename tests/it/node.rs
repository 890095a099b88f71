//! A node as a process, and the program's commands against it.

use std::fmt::Debug;
use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::time::Duration;

use rafka_core::{Clock as _, SystemClock};
use tempfile::TempDir;

/// The program under test.
pub(crate) const RAFKA: &str = env!("CARGO_BIN_EXE_rafka");

/// How long a process or an answer may take when the machine is out of breath.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);

/// A node in a directory of its own. Dropped, it is killed and its files are removed.
pub(crate) struct Node {
    process: Option<Running>,
    grpc: SocketAddr,
    kafka: SocketAddr,
    http: SocketAddr,
    flags: Vec<String>,
    /// How many files its process may open, if not as many as this one.
    files: Option<u32>,
    dir: TempDir,
}

struct Running {
    child: Child,
    _stdin: ChildStdin,
}

/// What a command did.
#[derive(Debug)]
pub(crate) struct Done {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Node {
    /// Starts a node with further flags of `rafka serve`.
    pub(crate) fn start(flags: &[&str]) -> Self {
        Self::start_with(flags, None)
    }

    /// Starts a node whose process may open so many files.
    pub(crate) fn start_with_files(files: u32) -> Self {
        Self::start_with(&[], Some(files))
    }

    fn start_with(flags: &[&str], files: Option<u32>) -> Self {
        let dir = tempfile::tempdir().expect("there is a place for temporary files");
        let unset = SocketAddr::from(([127, 0, 0, 1], 0));
        let flags = flags.iter().map(|flag| (*flag).to_owned()).collect();
        let mut node =
            Self { process: None, grpc: unset, kafka: unset, http: unset, flags, files, dir };
        node.run();
        node
    }

    fn run(&mut self) {
        let log = File::options().create(true).append(true).open(self.log_path());
        let mut command = match self.files {
            None => Command::new(RAFKA),
            Some(files) => {
                let mut shell = Command::new("sh");
                shell.args(["-c", &format!("ulimit -n {files} && exec \"$0\" \"$@\""), RAFKA]);
                shell
            }
        };
        let mut child = command
            .args(["serve", "--output", "json", "--stop-with-stdin"])
            .args(["--kafka-listen", &self.kafka.to_string()])
            .args(["--http-listen", "127.0.0.1:0", "--grpc-listen", &self.grpc.to_string()])
            .arg("--data-dir")
            .arg(self.data_dir())
            .args(&self.flags)
            .env_remove("RAFKA_CONFIG")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log.expect("the log can be written"))
            .spawn()
            .expect("the program can be started");
        let stdin = child.stdin.take().expect("it was piped");
        let stdout = child.stdout.take().expect("it was piped");
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line).expect("the node speaks UTF-8");
        let Ok(ready) = serde_json::from_str::<serde_json::Value>(&line) else {
            panic!("the node did not become ready: {}", self.log());
        };
        let address = |name: &str| {
            ready[name].as_str().and_then(|text| text.parse().ok()).expect("it says its addresses")
        };
        self.grpc = address("grpc");
        (self.kafka, self.http) = (address("kafka"), address("http"));
        self.process = Some(Running { child, _stdin: stdin });
    }

    /// Starts it again, at the same address.
    pub(crate) fn restart(&mut self) {
        assert!(self.process.is_none(), "it still runs");
        self.run();
    }

    /// SIGKILL.
    pub(crate) fn kill(&mut self) {
        let mut running = self.process.take().expect("it runs");
        running.child.kill().expect("it can be killed");
        running.child.wait().expect("it can be waited for");
    }

    /// SIGTERM; returns how it ended.
    pub(crate) fn stop(&mut self) -> ExitStatus {
        let mut running = self.process.take().expect("it runs");
        signal("TERM", running.child.id());
        running.child.wait().expect("it can be waited for")
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process.as_ref().expect("it runs").child.id()
    }

    pub(crate) fn grpc(&self) -> SocketAddr {
        self.grpc
    }

    pub(crate) fn kafka(&self) -> SocketAddr {
        self.kafka
    }

    pub(crate) fn data_dir(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// A directory beside the node's data.
    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    fn log_path(&self) -> PathBuf {
        self.dir.path().join("node.log")
    }

    /// What the node has logged.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    /// Waits until the node has logged a line with all of these words.
    #[track_caller]
    pub(crate) fn expect_logged(&self, words: &[&str]) {
        let clock = SystemClock::new();
        let deadline = clock.now() + LIMIT;
        while !self.log().lines().any(|line| words.iter().all(|word| line.contains(word))) {
            assert!(clock.now() < deadline, "no line with {words:?} is logged");
            std::thread::park_timeout(Duration::from_millis(10));
        }
    }

    /// A command of the program, aimed at this node.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(RAFKA);
        command.args(args).env("RAFKA_BROKERS", self.grpc.to_string()).env_remove("RAFKA_CONFIG");
        command
    }

    /// Runs a command to its end.
    pub(crate) fn run_command(&self, args: &[&str]) -> Done {
        run(self.command(args), "")
    }

    /// Runs a command that must succeed; returns what it printed.
    #[track_caller]
    pub(crate) fn ok(&self, args: &[&str]) -> String {
        self.run_command(args).ok(args)
    }

    /// Runs a command with lines on standard input; it must succeed.
    #[track_caller]
    pub(crate) fn ok_with(&self, args: &[&str], input: &str) -> String {
        run(self.command(args), input).ok(args)
    }

    /// Asks the HTTP listener; returns status and body.
    pub(crate) fn get(&self, path: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(self.http).expect("HTTP listens");
        stream.set_read_timeout(Some(LIMIT)).expect("the limit is not zero");
        write!(stream, "GET {path} HTTP/1.1\r\nhost: test\r\n\r\n").expect("it reads");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("it answers text and closes");
        let (head, body) = answer.split_once("\r\n\r\n").expect("an answer has a head");
        let status = head.split(' ').nth(1).and_then(|code| code.parse().ok());
        (status.expect("a head has a status"), body.to_owned())
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Some(mut running) = self.process.take() {
            // It may have ended on its own; then there is nothing to kill.
            let _gone = running.child.kill();
            let _gone = running.child.wait();
        }
        if std::thread::panicking() {
            eprintln!("the node said:\n{}", self.log());
        }
    }
}

impl Done {
    #[track_caller]
    pub(crate) fn ok(self, what: &(impl Debug + ?Sized)) -> String {
        assert_eq!(self.code, Some(0), "{what:?} failed: {}{}", self.stdout, self.stderr);
        self.stdout
    }

    /// The command must have ended with this code and have said all of these.
    #[track_caller]
    pub(crate) fn failed(&self, code: i32, said: &[&str]) {
        assert_eq!(self.code, Some(code), "{self:?}");
        for words in said {
            assert!(self.stderr.contains(words), "{words:?} is not in {:?}", self.stderr);
        }
    }
}

/// Runs a command with this on standard input.
pub(crate) fn run(mut command: Command, input: &str) -> Done {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program can be started");
    let mut stdin = child.stdin.take().expect("it was piped");
    let input = input.to_owned();
    // A program that ends early does not read its input: that is for the test to judge by the code.
    let writer = std::thread::Builder::new().spawn(move || drop(stdin.write_all(input.as_bytes())));
    let output = child.wait_with_output().expect("it can be waited for");
    writer.expect("threads are there").join().expect("the writer does not panic");
    Done {
        code: output.status.code(),
        stdout: String::from_utf8(output.stdout).expect("it prints text here"),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// Runs the program without a node.
pub(crate) fn rafka(args: &[&str]) -> Done {
    let mut command = Command::new(RAFKA);
    command.args(args).env_remove("RAFKA_CONFIG").env_remove("RAFKA_BROKERS");
    run(command, "")
}

/// Sends a signal, by its name.
pub(crate) fn signal(name: &str, pid: u32) {
    let status = Command::new("kill").args([&format!("-{name}"), &pid.to_string()]).status();
    assert!(status.expect("there is a kill command").success(), "{name} to {pid}");
}

/// A line for each number, as `key:number`.
pub(crate) fn numbered(key: &str, numbers: std::ops::Range<u32>) -> String {
    numbers.map(|number| format!("{key}:{number}\n")).collect()
}
