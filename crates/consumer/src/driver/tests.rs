//! What holds even when there is always something to give.

use rafka_client::Client;
use rafka_core::PartitionIndex;

use super::*;
use crate::partitions::Need;
use crate::rebalance::Listener;
use crate::settings::Settings;

fn driver() -> Driver {
    // Nobody listens there, and nobody is asked before the runtime gets a turn.
    let client = Client::new(rafka_client::Settings::new("127.0.0.1:1")).expect("sound settings");
    Driver::new(Arc::new(Shared::new(client, Settings::default(), Listener::default())))
}

#[tokio::test]
async fn polls_that_always_find_records_care_for_the_other_partitions_nevertheless() {
    let mut driver = driver();
    let partition = TopicPartition::new(TopicName::new("t").expect("valid"), PartitionIndex(0));
    driver.poll(Duration::ZERO, |_| Ok(Some(()))).await.expect("no failure");
    assert!(driver.learning.is_none());
    let shared = Arc::clone(&driver.shared);
    shared.partitions.lock().assign(std::slice::from_ref(&partition), Need::Committed);
    shared.partitions.lock().seek(&partition, Offset(0)).expect("assigned");
    shared.changed();
    driver.poll(Duration::ZERO, |_| Ok(Some(()))).await.expect("no failure");
    assert!(driver.learning.is_some(), "its leader is asked for");
}
