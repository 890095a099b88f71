//! Rust clients against a node: says of each check whether it holds.

mod krafka;
mod rdkafka;

use std::fmt::Debug;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};

const LIMIT: Duration = Duration::from_secs(60);

/// What the checks of a client came to.
#[derive(Default)]
struct Checks {
    failed: bool,
}

impl Checks {
    async fn run(&mut self, name: &str, check: impl Future<Output = Result<()>>) {
        let outcome = tokio::time::timeout(LIMIT, check).await;
        match outcome.context("not within a minute").flatten() {
            Ok(()) => println!("ok {name}"),
            Err(error) => {
                self.failed = true;
                println!("failed {name}: {error:#}");
            }
        }
    }
}

#[tokio::main]
async fn main() -> Result<ExitCode> {
    let mut args = std::env::args().skip(1);
    let (Some(client), Some(node)) = (args.next(), args.next()) else {
        bail!("usage: rafka-compat CLIENT ADDRESS");
    };
    let mut checks = Checks::default();
    match client.as_str() {
        "krafka" => krafka::check(&mut checks, &node).await,
        "rdkafka" => rdkafka::check(&mut checks, &node).await,
        _ => bail!("no client is called {client}"),
    }
    Ok(if checks.failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn unique(kind: &str) -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    format!("{kind}-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed))
}

fn equal<T: PartialEq + Debug>(found: T, expected: T) -> Result<()> {
    ensure!(found == expected, "found {found:?}, expected {expected:?}");
    Ok(())
}
