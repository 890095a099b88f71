//! Retries are bounded, go to other nodes, and leave alone what fails again and again.

use std::sync::atomic::Ordering;
use std::time::Duration;

use rafka_client::{Client, Error, Settings};
use tonic::Code;

use crate::flaky::Node;

fn settings(bootstrap: &str) -> Settings {
    let mut settings = Settings::new(bootstrap);
    settings.retry.backoff_min = Duration::from_millis(1);
    settings.retry.backoff_max = Duration::from_millis(5);
    settings
}

/// A breaker that never opens, for tests of something else.
fn patient(bootstrap: &str) -> Settings {
    let mut settings = settings(bootstrap);
    settings.breaker.calls = 1000;
    settings
}

fn client(settings: Settings) -> Client {
    Client::new(settings).expect("sound settings")
}

#[tokio::test]
async fn a_passing_failure_is_not_the_users_business() {
    let node = Node::start().await;
    node.fail(5, Code::Unavailable);
    let client = client(patient(&node.address.to_string()));
    client.admin().describe_cluster().await.expect("the sixth attempt succeeds");
    assert_eq!(node.calls(), 6);
}

#[tokio::test]
async fn attempts_are_bounded_and_the_last_failure_is_told() {
    let node = Node::start().await;
    node.fail(usize::MAX, Code::ResourceExhausted);
    let mut settings = patient(&node.address.to_string());
    settings.retry.attempts_max = 4;
    let failed = client(settings).admin().describe_cluster().await.expect_err("it never works");
    let Error::GaveUp { attempts: 4, last, .. } = &failed else { panic!("{failed}") };
    assert!(matches!(**last, Error::Status { code: Code::ResourceExhausted, .. }), "{last}");
    assert!(failed.to_string().contains("as scripted"), "{failed}");
    assert!(failed.is_retriable());
    assert_eq!(node.calls(), 4);
}

#[tokio::test]
async fn what_will_not_pass_is_told_at_once() {
    let node = Node::start().await;
    node.fail(usize::MAX, Code::InvalidArgument);
    let client = client(patient(&node.address.to_string()));
    let failed = client.admin().describe_cluster().await.expect_err("it is refused");
    assert!(matches!(failed, Error::Status { code: Code::InvalidArgument, .. }), "{failed}");
    assert_eq!(node.calls(), 1);
}

#[tokio::test]
async fn all_attempts_together_have_a_time() {
    let node = Node::start().await;
    node.script.silent.store(usize::MAX, Ordering::SeqCst);
    let mut settings = patient(&node.address.to_string());
    settings.request_timeout = Duration::from_millis(20);
    settings.retry.total = Duration::from_millis(200);
    settings.retry.attempts_max = u32::MAX;
    let limit = Duration::from_secs(10);
    let client = client(settings);
    let admin = client.admin();
    let failed = tokio::time::timeout(limit, admin.describe_cluster()).await.expect("in time");
    let Err(Error::GaveUp { last, .. }) = &failed else { panic!("{failed:?}") };
    assert!(matches!(**last, Error::NoAnswer { .. }), "{last}");
}

#[tokio::test]
async fn another_address_is_tried_when_one_is_dead() {
    let node = Node::start().await;
    let client = client(patient(&format!("127.0.0.1:1,{}", node.address)));
    client.admin().describe_cluster().await.expect("the second address answers");
    client.admin().describe_cluster().await.expect("and is kept");
    assert_eq!(node.calls(), 2);
}

#[tokio::test]
async fn the_breaker_opens_after_failures_and_closes_after_successes() {
    let node = Node::start().await;
    let mut settings = settings(&node.address.to_string());
    settings.retry.attempts_max = 1;
    settings.breaker.calls = 4;
    settings.breaker.trial_calls = 1;
    settings.breaker.open_for = Duration::from_millis(100);
    let client = client(settings);
    let admin = client.admin();
    node.fail(usize::MAX, Code::Unavailable);
    let opened = async {
        loop {
            let failed = admin.describe_cluster().await.expect_err("it never works");
            let Error::GaveUp { last, .. } = failed else { panic!("{failed}") };
            if matches!(*last, Error::BreakerOpen { .. }) {
                return;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(10), opened).await.expect("it opens");
    let calls = node.calls();
    assert!((4..=6).contains(&calls), "{calls}");
    admin.describe_cluster().await.expect_err("it is open");
    assert_eq!(node.calls(), calls, "an open breaker asks nobody");

    node.fail(0, Code::Ok);
    let closed = async {
        while admin.describe_cluster().await.is_err() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), closed).await.expect("it lets calls through");
    for _ in 0..10 {
        admin.describe_cluster().await.expect("it is closed");
    }
}

#[tokio::test]
async fn an_answer_that_makes_no_sense_is_an_error_of_its_own() {
    let node = Node::start().await;
    let client = client(patient(&node.address.to_string()));
    let failed = client.admin().topic_configs("t").await.expect_err("no answer in the answer");
    assert!(matches!(failed, Error::Malformed { .. }), "{failed}");
    assert!(!failed.is_retriable());
}
