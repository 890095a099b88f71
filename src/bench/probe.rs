//! What the machine itself can do, measured in the same minute: a TCP sink, a TCP echo, the disk.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::Context as _;
use rafka_core::Clock;
use rafka_storage::disk::{AlignedBuffer, Disk as _, File, Mode, Open, OsDisk};
use serde::Serialize;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use super::load::{histogram, nanos};
use super::report::Latency;
use crate::number::rate;

/// How long each probe runs.
const SPAN: Duration = Duration::from_millis(700);
/// How much the sink is sent at once.
const SINK_WRITE: usize = 64 << 10;
/// What the echo carries.
const ECHO_BYTES: usize = 100;
/// The threads that write to disk at once: as many as the node's journal has.
const DISK_WRITERS: u64 = 4;
/// What each of them writes at once: the size of a full group of the journal.
const DISK_WRITE: usize = 256 << 10;
/// The file that is written over and over.
const DISK_FILE: u64 = 64 << 20;

/// The limits of the machine.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Limits {
    /// Loopback TCP into nothing, bytes a second.
    pub(super) sink_bytes_per_second: f64,
    /// Loopback TCP there and back, 100 bytes.
    pub(super) echo: Latency,
    /// Durable writes of 256 KiB by four threads, bytes a second. Nothing for a node elsewhere.
    pub(super) disk_bytes_per_second: Option<f64>,
}

/// Measures the machine. `dir` lies on the disk that is meant.
pub(super) async fn run(
    connections: u32,
    dir: Option<&Path>,
    clock: &Arc<dyn Clock>,
) -> anyhow::Result<Limits> {
    let sink_bytes_per_second = sink(connections, clock.as_ref()).await?;
    let echo = echo(clock.as_ref()).await?;
    let disk_bytes_per_second = match dir {
        Some(dir) => {
            let (path, clock) = (dir.join("probe"), Arc::clone(clock));
            let written = tokio::task::spawn_blocking(move || disk(&path, clock.as_ref()));
            Some(written.await.context("the disk probe failed")??)
        }
        None => None,
    };
    Ok(Limits { sink_bytes_per_second, echo, disk_bytes_per_second })
}

async fn sink(connections: u32, clock: &dyn Clock) -> anyhow::Result<f64> {
    let listener = TcpListener::bind("127.0.0.1:0").await.context("cannot listen on loopback")?;
    let address = listener.local_addr()?;
    let received = Arc::new(AtomicU64::new(0));
    let mut tasks = JoinSet::new();
    for _ in 0..connections {
        let mut sender = TcpStream::connect(address).await?;
        let (mut receiver, _) = listener.accept().await?;
        let received = Arc::clone(&received);
        tasks.spawn(async move {
            let zeros = vec![0; SINK_WRITE];
            while sender.write_all(&zeros).await.is_ok() {}
        });
        tasks.spawn(async move {
            let mut buffer = vec![0; SINK_WRITE];
            while let Ok(read @ 1..) = receiver.read(&mut buffer).await {
                received.fetch_add(read as u64, Ordering::Relaxed);
            }
        });
    }
    let start = clock.now();
    tokio::time::sleep(SPAN).await;
    let count = received.load(Ordering::Relaxed);
    let span = clock.now() - start;
    tasks.shutdown().await;
    Ok(rate(count, span))
}

async fn echo(clock: &dyn Clock) -> anyhow::Result<Latency> {
    let listener = TcpListener::bind("127.0.0.1:0").await.context("cannot listen on loopback")?;
    let mut near = TcpStream::connect(listener.local_addr()?).await?;
    let (mut far, _) = listener.accept().await?;
    near.set_nodelay(true)?;
    far.set_nodelay(true)?;
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let mut buffer = [0; ECHO_BYTES];
        while far.read_exact(&mut buffer).await.is_ok() && far.write_all(&buffer).await.is_ok() {}
    });
    let mut latencies = histogram();
    let mut buffer = [0; ECHO_BYTES];
    let end = clock.now() + SPAN;
    let mut sent = clock.now();
    while sent < end {
        near.write_all(&buffer).await?;
        near.read_exact(&mut buffer).await?;
        let back = clock.now();
        latencies.saturating_record(nanos(back - sent));
        sent = back;
    }
    tasks.shutdown().await;
    Ok(Latency::of(&latencies))
}

fn disk(path: &Path, clock: &dyn Clock) -> anyhow::Result<f64> {
    let named = || format!("cannot probe the disk with {}", path.display());
    let disk = OsDisk;
    let file = disk.open(path, Open { create: true, mode: Mode::Direct }).with_context(named)?;
    file.allocate(DISK_FILE).with_context(named)?;
    file.sync_data().with_context(named)?;
    let start = clock.now();
    let end = start + SPAN;
    let file = file.as_ref();
    let written: std::io::Result<u64> = thread::scope(|scope| {
        let writers: Vec<_> = (0..DISK_WRITERS)
            .map(|writer| scope.spawn(move || overwrite(file, writer, || clock.now() < end)))
            .collect();
        writers.into_iter().map(|writer| writer.join().expect("a writer does not panic")).sum()
    });
    let rate = rate(written.with_context(named)?, clock.now() - start);
    disk.remove(path).with_context(named)?;
    Ok(rate)
}

/// Writes a quarter of the file over and over; every write is durable when it returns.
fn overwrite(
    file: &dyn File,
    writer: u64,
    mut goes_on: impl FnMut() -> bool,
) -> std::io::Result<u64> {
    let mut buffer = AlignedBuffer::zeroed(DISK_WRITE);
    buffer.as_mut_slice().fill(0xa5);
    let quarter = DISK_FILE / DISK_WRITERS;
    let mut written = 0;
    while goes_on() {
        file.write_at(writer * quarter + written % quarter, buffer.as_slice())?;
        written += buffer.as_slice().len() as u64;
    }
    Ok(written)
}
