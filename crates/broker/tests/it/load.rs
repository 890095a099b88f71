//! More than the node can take at once: every bound has an answer.

use std::time::Duration;

use rafka_broker::offsets::Spec;
use rafka_core::{Batch, ByteSize, ErrorCode};
use tokio::time::Instant;

use crate::client::{
    PRODUCER, WAIT, answer, batch, bound, code, fetch, from, numbered, position, produce, produced,
    read_all, send, values,
};
use crate::node::{Node, small};

#[tokio::test(start_paused = true)]
async fn an_append_not_durable_in_time_is_told_so_and_its_repetition_finds_it() {
    let node = Node::new(small()).await;
    let topic = node.create_topic("orders", 1, &[]).await;
    let begun = Instant::now();
    let late = answer(send(&node, &topic, 0, numbered(&node, PRODUCER, 0)).await).await;
    assert_eq!(code(&late), Some(ErrorCode::RequestTimedOut));
    assert_eq!(begun.elapsed().as_secs(), WAIT.as_secs());
    assert_eq!(bound(&node, &topic, 0, Spec::Latest).await, 0, "nor is it shown");
    node.engine.step();
    assert_eq!(produce(&node, &topic, numbered(&node, PRODUCER, 0)).await, Ok(0));
    assert_eq!(values(&read_all(&node, &topic, 0).await), [(0, "9/0".to_owned())]);
}

#[tokio::test(start_paused = true)]
async fn appends_wait_for_memory_and_are_refused_undone_when_none_comes() {
    let node = Node::new(small()).await;
    let topic = node.create_topic("orders", 1, &[]).await;
    let large = || batch(node.place.clock.truth(), &[1; 64 << 10]);
    let mut taken = 0;
    while rafka_storage::Engine::has_room(&*node.engine) {
        let pending = send(&node, &topic, 0, large()).await;
        node.write_journal();
        assert_eq!(answer(pending).await, Ok(taken));
        taken += 1;
    }
    assert!(taken < 16, "half of a budget of 1 MiB, not {taken} x 64 KiB");
    let begun = Instant::now();
    let refused = answer(send(&node, &topic, 0, large()).await).await;
    assert_eq!(code(&refused), Some(ErrorCode::RequestTimedOut));
    assert!(WAIT <= begun.elapsed());
    let message = refused.expect_err("it was refused").message;
    assert!(message.contains("nothing was appended"), "{message}");
    node.write_journal();
    assert_eq!(bound(&node, &topic, 0, Spec::Latest).await, taken);
    // Whoever waits goes on as soon as there is room.
    let begun = Instant::now();
    let waiting = async {
        let pending = send(&node, &topic, 0, large()).await;
        node.write_journal();
        answer(pending).await
    };
    let relief = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        node.engine.tick();
    };
    let (result, ()) = tokio::join!(waiting, relief);
    assert_eq!(result, Ok(taken));
    assert_eq!(begun.elapsed().as_secs(), 1);
}

#[tokio::test(start_paused = true)]
async fn fetches_beyond_the_bound_are_answered_with_what_there_is() {
    let mut settings = small();
    settings.broker.fetch_waits_max = 2;
    let node = Node::new(settings).await;
    let topic = node.create_topic("orders", 1, &[]).await;
    let wait = || async {
        let begun = Instant::now();
        let data = node.broker.fetch(from(position(&topic, 0, 0), WAIT)).await;
        let found = data[0].result.as_ref().expect("no error").batches.len();
        (found, begun.elapsed())
    };
    let append = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        produced(&node, &topic, b"a").await;
    };
    let (first, second, third, ()) = tokio::join!(wait(), wait(), wait(), append);
    assert_eq!((first.0, second.0), (1, 1));
    assert_eq!(third, (0, Duration::ZERO));
    // A fetch that is given up gives its place back.
    tokio::time::timeout(Duration::from_millis(10), async {
        tokio::join!(
            node.broker.fetch(from(position(&topic, 0, 1), WAIT)),
            node.broker.fetch(from(position(&topic, 0, 1), WAIT)),
        )
    })
    .await
    .expect_err("they wait");
    let begun = Instant::now();
    node.broker.fetch(from(position(&topic, 0, 1), WAIT)).await;
    assert!(WAIT <= begun.elapsed(), "it could wait");
}

#[tokio::test]
async fn a_consumer_far_behind_costs_a_bounded_memory_and_holds_up_nobody() {
    const BATCHES: i64 = 200;
    let mut settings = small();
    settings.broker.fetch_bytes_max = ByteSize::kib(256);
    let node = Node::new(settings).await;
    let topic = node.create_topic("orders", 1, &[("segment.bytes", "1048576")]).await;
    let mut behind = 0;
    for offset in 0..BATCHES {
        assert_eq!(produced(&node, &topic, &[3; 64 << 10]).await, offset);
        let tail = fetch(&node, &topic, 0, offset).await.expect("it is there");
        assert_eq!(tail.batches.len(), 1);
        if offset % 8 == 7 {
            let slow = fetch(&node, &topic, 0, behind).await.expect("it is there");
            let bytes: usize = slow.batches.iter().map(Batch::len).sum();
            assert!(bytes <= 256 << 10, "{bytes} bytes, whatever it asked for");
            behind = slow.batches.last().expect("there is more").next_offset().0;
        }
        let memory = node.engine.stats().sidecar;
        let held = memory.pinned.0 + memory.cached.0;
        assert!(held <= memory.budget.0, "{held} of {}", memory.budget);
    }
    assert!(behind < BATCHES, "it is behind");
    assert_eq!(read_all(&node, &topic, 0).await.len(), 200, "and misses nothing");
}

#[tokio::test]
async fn a_batch_too_large_is_refused_alone() {
    let node = Node::new(small()).await;
    let topic = node.create_topic("orders", 1, &[("max.message.bytes", "2000")]).await;
    let too_large = produce(&node, &topic, batch(node.place.clock.truth(), &[1; 3000])).await;
    assert_eq!(code(&too_large), Some(ErrorCode::MessageTooLarge));
    assert_eq!(produced(&node, &topic, b"fits").await, 0);
    // The topic allows it, the journal of this node does not: that is an answer too.
    let topic = node.create_topic("huge", 1, &[("max.message.bytes", "20000000")]).await;
    let too_large = produce(&node, &topic, batch(node.place.clock.truth(), &[1; 1 << 20])).await;
    assert!(too_large.is_err(), "{too_large:?}");
    assert_eq!(node.broker.failure(), None);
    assert_eq!(produced(&node, &topic, b"fits").await, 0);
}
