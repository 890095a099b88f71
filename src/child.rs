//! A node of our own as a child process: for the demo and the benchmarks.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context as _, bail};
use rustix::process::{Pid, Signal, kill_process};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::process::{ChildStdout, Command};

/// How long a node may take from the start of its process until it is ready. It takes milliseconds;
/// this is for machines that are out of breath.
const READY_LIMIT: Duration = Duration::from_mins(1);
/// How much of a failed node's log is shown.
const LOG_TAIL_LINES: usize = 12;

/// What a node says on standard output when it is ready, under `--output json`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Ready {
    /// Where gRPC listens.
    pub(crate) grpc: SocketAddr,
    /// Where the Kafka protocol listens.
    pub(crate) kafka: SocketAddr,
    /// Where health and metrics listen.
    pub(crate) http: SocketAddr,
    /// The process.
    pub(crate) pid: u32,
    /// Milliseconds from the start of the process's main function until now.
    pub(crate) ready_ms: f64,
}

/// How to start a node.
#[derive(Debug, Clone)]
pub(crate) struct Spec {
    /// Its data directory. Its log stands beside it, as `<data_dir>.log`.
    pub(crate) data_dir: PathBuf,
    /// Where gRPC shall listen.
    pub(crate) grpc: SocketAddr,
    /// Further arguments of `rafka serve`.
    pub(crate) args: Vec<String>,
}

impl Spec {
    /// A node in `data_dir` at a port that the system chooses.
    pub(crate) fn new(data_dir: PathBuf) -> Self {
        Self { data_dir, grpc: SocketAddr::from(([127, 0, 0, 1], 0)), args: Vec::new() }
    }

    fn log(&self) -> PathBuf {
        self.data_dir.with_added_extension("log")
    }
}

/// A running node. Dropped, it is killed; when this process dies, it stops on its own.
#[derive(Debug)]
pub(crate) struct Node {
    process: tokio::process::Child,
    _stdout: Lines<BufReader<ChildStdout>>,
    /// What it said of itself.
    pub(crate) ready: Ready,
}

impl Node {
    /// Starts a node and waits until it is ready.
    pub(crate) async fn start(spec: &Spec) -> anyhow::Result<Self> {
        let program = std::env::current_exe().context("cannot find the program's own file")?;
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(spec.log())
            .with_context(|| format!("cannot write {}", spec.log().display()))?;
        let mut process = Command::new(&program)
            .args(["serve", "--output", "json", "--stop-with-stdin", "--http-listen"])
            .args([
                "127.0.0.1:0",
                "--kafka-listen",
                "127.0.0.1:0",
                "--grpc-listen",
                &spec.grpc.to_string(),
                "--data-dir",
            ])
            .arg(&spec.data_dir)
            .args(&spec.args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("cannot start {}", program.display()))?;
        let stdout = process.stdout.take().context("the child has no standard output")?;
        let mut lines = BufReader::new(stdout).lines();
        let ready = tokio::time::timeout(READY_LIMIT, wait_ready(&mut lines)).await;
        match ready {
            Ok(Ok(ready)) => Ok(Self { process, _stdout: lines, ready }),
            Ok(Err(error)) => Err(error.context(tail(&spec.log()))),
            Err(_elapsed) => bail!("the node was not ready in time\n{}", tail(&spec.log())),
        }
    }

    /// Kills it with SIGKILL, as the kernel does when memory is short, and waits until it is gone.
    pub(crate) async fn kill(mut self) -> anyhow::Result<()> {
        self.process.kill().await.context("cannot kill the node")
    }

    /// Asks it with SIGTERM to stop, and waits for that.
    pub(crate) async fn stop(mut self, limit: Duration) -> anyhow::Result<ExitStatus> {
        let id = i32::try_from(self.ready.pid).context("the node's process id is out of range")?;
        let pid = Pid::from_raw(id).context("the node's process id is zero")?;
        // Waiting closes the child's input, which asks it to stop as well: two demands are an abort.
        let _input = self.process.stdin.take();
        kill_process(pid, Signal::TERM).context("cannot signal the node")?;
        let ended = tokio::time::timeout(limit, self.process.wait()).await;
        ended.context("the node did not stop in time")?.context("cannot wait for the node")
    }
}

async fn wait_ready(lines: &mut Lines<BufReader<ChildStdout>>) -> anyhow::Result<Ready> {
    while let Some(line) = lines.next_line().await.context("cannot read from the node")? {
        if let Ok(ready) = serde_json::from_str(&line) {
            return Ok(ready);
        }
    }
    bail!("the node ended before it was ready")
}

/// The end of a node's log.
pub(crate) fn tail(log: &Path) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    let skipped = lines.len().saturating_sub(LOG_TAIL_LINES);
    format!("the node's log ends with:\n{}", lines[skipped..].join("\n"))
}
