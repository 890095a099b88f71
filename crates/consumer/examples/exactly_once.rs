//! Consume, transform, produce: whatever dies in between, the outcome is as if every record had been
//! processed exactly once. Offsets and results are committed in one transaction. Start several, each
//! under an id of its own: they share the partitions.
//!
//! `cargo run -p rafka-consumer --example exactly_once -- ADDRESS SOURCE SINK ID`
#![expect(clippy::print_stderr, reason = "an example talks to its user")]

use std::error::Error;
use std::time::Duration;

use rafka_consumer::{Consumer, ConsumerRecord, Isolation, OffsetReset};
use rafka_producer::{Error as ProducerError, Producer, Record, Transaction};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let mut next = |default: &str| args.next().unwrap_or_else(|| default.to_owned());
    let bootstrap = next("127.0.0.1:9192");
    let (source, sink, id) = (next("orders"), next("invoices"), next("invoicing-1"));

    let consumer = Consumer::builder(&bootstrap)
        .group("invoicing")
        .offset_reset(OffsetReset::Earliest)
        .isolation(Isolation::ReadCommitted)
        // Only transactions commit.
        .auto_commit(None)
        .build()?;
    consumer.subscribe(&[&source]).await?;
    // Whoever had the id is fenced, and what that one had open is aborted.
    let producer = Producer::builder(&bootstrap).linger(Duration::ZERO);
    let mut producer = producer.build_transactional(&id, Duration::from_secs(60)).await?;

    let mut signal = std::pin::pin!(tokio::signal::ctrl_c());
    let mut has_failed = false;
    loop {
        // When this returns, it is decided what became of the last transaction.
        let transaction = match producer.begin().await {
            Ok(transaction) => transaction,
            Err(error @ ProducerError::FencedId { .. }) => return Err(error.into()),
            Err(error) => {
                eprintln!("{error}");
                continue;
            }
        };
        if has_failed {
            consumer.seek_to_committed();
        }
        let outcome = tokio::select! {
            biased;
            _ = &mut signal => break,
            outcome = process(&consumer, transaction, &sink) => outcome,
        };
        has_failed = outcome.is_err();
        if let Err(error) = outcome {
            eprintln!("{error}");
        }
    }
    consumer.close(Duration::from_secs(10)).await?;
    Ok(())
}

/// Processes what is given next, in one transaction. Dropped before it is committed, it is aborted.
async fn process(
    consumer: &Consumer,
    mut transaction: Transaction<'_>,
    sink: &str,
) -> Result<(), Box<dyn Error>> {
    for record in consumer.poll(Duration::from_secs(1)).await? {
        transaction.send(invoice(&record, sink)).await?;
    }
    let offsets = consumer.uncommitted();
    if !offsets.is_empty() {
        transaction.commit_offsets(&consumer.group_metadata()?, &offsets).await?;
    }
    Ok(transaction.commit().await?)
}

fn invoice(order: &ConsumerRecord, sink: &str) -> Record {
    let what = order.value.as_deref().map(String::from_utf8_lossy).unwrap_or_default();
    let invoice = Record::new(sink).value(format!("invoice for {what}"));
    match &order.key {
        Some(key) => invoice.key(key.clone()),
        None => invoice,
    }
}
