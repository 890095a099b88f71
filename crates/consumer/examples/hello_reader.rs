//! Reads topic `hello`, which the producer's example fills, from start to end:
//! `cargo run -p rafka-consumer --example hello_reader -- ADDRESS`.
#![expect(clippy::print_stdout, reason = "an example talks to its user")]

use std::error::Error;
use std::time::Duration;

use rafka_consumer::{Consumer, OffsetReset, TopicPartition};
use rafka_core::{PartitionIndex, TopicName};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:9192".to_owned());
    let name = TopicName::new("hello")?;
    let consumer = Consumer::builder(&address).offset_reset(OffsetReset::Earliest).build()?;
    let topics = consumer.client().admin().describe_topics(std::slice::from_ref(&name)).await?;
    let topic = topics.into_iter().next().ok_or("one topic was asked for")??;
    let partition = |index: PartitionIndex| TopicPartition::new(name.clone(), index);
    let partitions: Vec<_> =
        topic.partitions.iter().map(|described| partition(described.partition)).collect();
    consumer.assign(&partitions)?;

    while !consumer.is_at_end() {
        for record in consumer.poll(Duration::from_millis(100)).await? {
            let value = record.value.as_deref().map(String::from_utf8_lossy).unwrap_or_default();
            println!("{} at {}: {value}", record.partition, record.offset);
        }
    }
    consumer.close(Duration::from_secs(10)).await?;
    Ok(())
}
