//! A worker that loses no job: it commits after the work, never before. Start several: they share
//! the partitions. Kill one: the others do again what it had not committed.
//!
//! `cargo run -p rafka-consumer --example at_least_once_worker -- ADDRESS TOPIC`
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "an example talks to its user")]

use std::error::Error;
use std::time::Duration;

use rafka_consumer::{
    Consumer, ConsumerRecord, Error as ConsumerError, OffsetReset, Rebalance, TopicPartition,
};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let bootstrap = args.next().unwrap_or_else(|| "127.0.0.1:9192".to_owned());
    let topic = args.next().unwrap_or_else(|| "jobs".to_owned());

    let consumer = Consumer::builder(&bootstrap)
        .group("workers")
        .offset_reset(OffsetReset::Earliest)
        .auto_commit(None)
        .on_rebalance(|change| match change {
            Rebalance::Assigned(partitions) => eprintln!("working on {}", names(partitions)),
            Rebalance::Revoked(partitions) => eprintln!("done with {}", names(partitions)),
            Rebalance::Lost(partitions) => eprintln!("others work on {} now", names(partitions)),
            other => eprintln!("{other:?}"),
        })
        .build()?;
    consumer.subscribe(&[&topic]).await?;

    let mut signal = std::pin::pin!(tokio::signal::ctrl_c());
    loop {
        let records = tokio::select! {
            biased;
            _ = &mut signal => break,
            records = consumer.poll(Duration::from_secs(1)) => records,
        };
        for record in &records? {
            work(record);
        }
        match consumer.commit().await {
            Ok(()) => {}
            // Too slow: others have these partitions by now, and do this work again.
            Err(error @ ConsumerError::NotMember { .. }) => eprintln!("{error}"),
            Err(error) => return Err(error.into()),
        }
    }
    consumer.close(Duration::from_secs(10)).await?;
    Ok(())
}

/// The work. It may be done twice after a failure, so it must not matter if it is.
fn work(record: &ConsumerRecord) {
    let job = record.value.as_deref().map(String::from_utf8_lossy).unwrap_or_default();
    println!("did {job} ({} at {})", record.partition, record.offset);
}

fn names(partitions: &[TopicPartition]) -> String {
    let names: Vec<String> = partitions.iter().map(TopicPartition::to_string).collect();
    names.join(" ")
}
