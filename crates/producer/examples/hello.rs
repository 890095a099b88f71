//! Sends a few records and prints where they were stored:
//! `cargo run -p rafka-producer --example hello -- ADDRESS`.
#![expect(clippy::print_stdout, reason = "an example talks to its user")]

use std::error::Error;
use std::time::Duration;

use rafka_producer::{Compression, Producer, Record};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:9192".to_owned());
    let producer = Producer::builder(&address).compression(Compression::Lz4).build()?;
    let mut deliveries = Vec::new();
    for number in 0..10 {
        // One key, one partition: the greetings stay in order.
        let record = Record::new("hello").key("greeting").value(format!("hello, world {number}"));
        deliveries.push(producer.send(record).await?);
    }
    for delivery in deliveries {
        let stored = delivery.await?;
        let offset = stored.offset.map_or(-1, |offset| offset.0);
        println!("stored in partition {} at offset {offset}", stored.partition);
    }
    producer.close(Duration::from_secs(10)).await?;
    Ok(())
}
