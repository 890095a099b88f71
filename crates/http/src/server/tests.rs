//! What a client of the listener sees.

use std::sync::atomic::{AtomicU64, Ordering};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::*;
use crate::{Family, Page};

const LIMIT: Duration = Duration::from_secs(10);

struct Node {
    handle: Handle,
    state: watch::Sender<State>,
    metrics: Metrics,
}

async fn node(change: impl FnOnce(&mut Settings)) -> Node {
    let mut settings = Settings { listen: ([127, 0, 0, 1], 0).into(), ..Settings::default() };
    change(&mut settings);
    let (state, watched) = watch::channel(State::Starting);
    let metrics = Metrics::default();
    let handle = start(&settings, watched, Arc::clone(&metrics)).await.expect("port 0 is free");
    Node { handle, state, metrics }
}

impl Node {
    async fn send(&self, request: &str) -> String {
        let mut stream = TcpStream::connect(self.handle.local_addr()).await.expect("it listens");
        stream.write_all(request.as_bytes()).await.expect("it reads");
        let mut answer = String::new();
        tokio::time::timeout(LIMIT, stream.read_to_string(&mut answer))
            .await
            .expect("every answer ends its connection")
            .expect("the answer is text");
        answer
    }

    async fn get(&self, path: &str) -> (String, String) {
        let answer = self.send(&format!("GET {path} HTTP/1.1\r\nhost: test\r\n\r\n")).await;
        let (head, body) = answer.split_once("\r\n\r\n").expect("an answer has a head");
        let status = head.split(' ').nth(1).expect("a head has a status");
        (status.to_owned(), body.to_owned())
    }
}

#[tokio::test]
async fn readiness_follows_the_state_and_health_only_its_failure() {
    let node = node(|_| ()).await;
    for (state, health, ready) in [
        (State::Starting, "200", "503"),
        (State::Ready, "200", "200"),
        (State::Stopping, "200", "503"),
        (State::Failed("the journal stopped".to_owned()), "503", "503"),
    ] {
        node.state.send_replace(state.clone());
        assert_eq!(node.get("/healthz").await.0, health, "{state:?}");
        assert_eq!(node.get("/readyz").await.0, ready, "{state:?}");
    }
    assert!(node.get("/readyz").await.1.contains("the journal stopped"));
}

#[tokio::test]
async fn metrics_are_gathered_for_each_scrape_once_there_are_any() {
    let node = node(|_| ()).await;
    assert_eq!(node.get("/metrics").await.0, "503", "there are none yet");
    let scrapes = Arc::new(AtomicU64::new(6));
    let gather: Gather = Arc::new(move |page| {
        let count = scrapes.fetch_add(1, Ordering::Relaxed) + 1;
        let name = if page == Page::Node { "test_events" } else { "other_events" };
        Box::pin(async move { vec![Family::counter(name, "Events of the test", count)] })
    });
    assert!(node.metrics.set(gather).is_ok());
    let (status, body) = node.get("/metrics").await;
    assert_eq!(status, "200");
    assert!(body.contains("\nrafka_test_events_total 7\n"), "{body}");
    assert!(body.ends_with("# EOF\n"), "{body}");
    assert!(node.get("/metrics").await.1.contains("\nrafka_test_events_total 8\n"));
    assert!(node.get("/metrics/kafka").await.1.contains("\nkafka_other_events_total 9\n"));
}

#[tokio::test]
async fn only_exact_routes_exist() {
    let node = node(|_| ()).await;
    for path in ["/", "/metrics/", "/healthz/../metrics", "//metrics", "/%6detrics", "/HEALTHZ"] {
        assert_eq!(node.get(path).await.0, "404", "{path}");
    }
    let answer = node.send("POST /metrics HTTP/1.1\r\nhost: test\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 405"), "{answer}");
    let answer = node.send("\0\u{1}\u{2}garbage\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
}

#[tokio::test]
async fn a_client_that_never_finishes_its_request_is_dropped_and_makes_room() {
    let node = node(|settings| {
        settings.connections_max = 1;
        settings.request_timeout = Duration::from_millis(100);
    })
    .await;
    let mut slow = TcpStream::connect(node.handle.local_addr()).await.expect("it listens");
    slow.write_all(b"GET /healthz HTTP/1.1\r\nx: ").await.expect("it reads");
    // The one place is taken; this answer comes only because the slow client loses it.
    assert_eq!(node.get("/healthz").await.0, "200");
}

#[tokio::test]
async fn a_stop_closes_the_port_and_an_address_in_use_is_named() {
    let node = node(|_| ()).await;
    let listen = node.handle.local_addr();
    let settings = Settings { listen, ..Settings::default() };
    let (_state, watched) = watch::channel(State::Ready);
    let error = start(&settings, watched, Metrics::default()).await.expect_err("it is in use");
    assert!(error.to_string().contains(&listen.to_string()), "{error}");
    assert!(node.handle.stop(LIMIT).await);
    assert!(TcpStream::connect(listen).await.is_err());
}
