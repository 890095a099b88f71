//! The listener: bounds of connections, deadlines, health, reflection, the end.

use std::time::Duration;

use rafka_grpc::Settings;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_stream::StreamExt as _;
use tonic::Code;
use tonic_health::pb::health_client::HealthClient;
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus};
use tonic_reflection::pb::v1::ServerReflectionRequest;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;

use crate::support::{LIMIT, Node, Producing, batch, fetch, raw, settings, soon};

async fn node(settings: Settings) -> Node {
    let node = Node::with(settings, rafka_broker::Settings::default()).await;
    rafka_broker::testing::create_topic(&node.broker, "orders", 1, &[]).await;
    node
}

/// Waits until the node closes the connection.
async fn closed(stream: &mut TcpStream) {
    let mut rest = Vec::new();
    // A reset is an end, too.
    drop(soon(stream.read_to_end(&mut rest)).await);
}

#[tokio::test]
async fn connections_beyond_the_bounds_are_closed_and_the_others_serve() {
    for bounds in [
        Settings { connections_max: 2, ..settings() },
        Settings { connections_per_address_max: 2, ..settings() },
    ] {
        let node = node(bounds).await;
        let mut log = node.log().await;
        let address = node.handle.local_addr();
        let _second = TcpStream::connect(address).await.expect("it listens");
        let mut third = TcpStream::connect(address).await.expect("the system accepts");
        closed(&mut third).await;
        log.fetch(fetch("orders", &[0])).await.expect("the first is served");
    }
}

#[tokio::test]
async fn a_place_is_free_again_when_a_connection_ends() {
    let node = node(Settings { connections_max: 1, ..settings() }).await;
    let first = TcpStream::connect(node.handle.local_addr()).await.expect("it listens");
    soon(async {
        while node.handle.connections().open() != 1 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    drop(first);
    soon(async {
        while node.handle.connections().open() != 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
    node.log().await.fetch(fetch("orders", &[0])).await.expect("there is a place");
}

#[tokio::test]
async fn connections_without_a_call_are_closed_in_time() {
    let short = Duration::from_millis(200);
    let node = node(Settings { handshake_timeout: short, ..settings() }).await;
    let address = node.handle.local_addr();
    let mut silent = TcpStream::connect(address).await.expect("it listens");
    let mut garbage = TcpStream::connect(address).await.expect("it listens");
    garbage.write_all(b"GET / HTTP/1.1\r\n\r\n").await.expect("written");
    let mut greeted = TcpStream::connect(address).await.expect("it listens");
    greeted
        .write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0")
        .await
        .expect("written");
    for stream in [&mut silent, &mut garbage, &mut greeted] {
        closed(stream).await;
    }
}

#[tokio::test]
async fn a_connection_is_closed_some_time_after_its_last_call() {
    let bounds = Settings { idle_timeout: Duration::from_millis(200), ..settings() };
    let node = node(bounds).await;
    let mut log = node.log().await;
    let stream = log.fetch(fetch("orders", &[0])).await.expect("it begins").into_inner();
    assert_eq!(node.handle.connections().open(), 1);
    drop(stream);
    soon(async {
        while node.handle.connections().open() != 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
    drop(log);
}

#[tokio::test]
async fn a_connection_stays_as_long_as_it_has_a_call() {
    let bounds = Settings {
        handshake_timeout: Duration::from_millis(200),
        idle_timeout: Duration::from_secs(1),
        ..settings()
    };
    let node = node(bounds).await;
    let mut log = node.log().await;
    let mut stream = log.fetch(fetch("orders", &[0])).await.expect("it begins").into_inner();
    tokio::time::sleep(Duration::from_millis(1500)).await;
    node.append("orders", 0, &["late"]).await;
    loop {
        let message = soon(stream.message()).await.expect("no status").expect("goes on");
        if message.partitions.iter().any(|partition| !partition.records.is_empty()) {
            break;
        }
    }
    drop(stream);
    drop(log);
}

#[tokio::test]
async fn health_and_reflection_answer() {
    let node = Node::start().await;
    let mut health = HealthClient::new(node.channel().await);
    for service in
        ["", "rafka.v1.Log", "rafka.v1.Groups", "rafka.v1.Transactions", "rafka.v1.Admin"]
    {
        let request = HealthCheckRequest { service: service.to_owned() };
        let answer = health.check(request).await.expect("known").into_inner();
        assert_eq!(answer.status(), ServingStatus::Serving, "{service}");
    }
    let mut reflection = ServerReflectionClient::new(node.channel().await);
    let request = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let answers = reflection.server_reflection_info(tokio_stream::once(request)).await;
    let answer = answers.expect("it begins").into_inner().next().await.expect("an answer");
    let Some(MessageResponse::ListServicesResponse(list)) =
        answer.expect("no status").message_response
    else {
        panic!("asked for services")
    };
    let names: Vec<String> = list.service.into_iter().map(|service| service.name).collect();
    for service in ["rafka.v1.Log", "rafka.v1.Groups", "rafka.v1.Transactions", "rafka.v1.Admin"] {
        assert!(names.iter().any(|name| name == service), "{names:?}");
    }
}

#[tokio::test]
async fn a_stop_lets_streams_finish_and_says_why_they_end() {
    let node = node(settings()).await;
    let mut log = node.log().await;
    let mut producing = Producing::on(&mut log).await;
    producing.send(raw("orders", 0, &batch(&["a"]))).await;
    assert_eq!(producing.answer().await.partitions[0].base_offset, 0);
    let mut fetching = log.fetch(fetch("orders", &[0])).await.expect("it begins").into_inner();
    let mut health = HealthClient::new(node.channel().await);
    let request = HealthCheckRequest { service: String::new() };
    let mut watching = health.watch(request).await.expect("it begins").into_inner();
    assert_eq!(
        soon(watching.message()).await.expect("ok").expect("first").status(),
        ServingStatus::Serving
    );

    let mut stopping = JoinSet::new();
    let address = node.handle.local_addr();
    stopping.spawn(node.handle.stop(LIMIT));
    let status = soon(producing.answers.message()).await.expect_err("the stream ends");
    assert_eq!(status.code(), Code::Unavailable);
    let status = soon(async {
        loop {
            match fetching.message().await {
                Ok(Some(_)) => {}
                Ok(None) => panic!("the end has a reason"),
                Err(status) => return status,
            }
        }
    })
    .await;
    assert_eq!(status.code(), Code::Unavailable);
    let last = soon(watching.message()).await.expect("ok").expect("told");
    assert_eq!(last.status(), ServingStatus::NotServing);
    drop((log, health, producing, fetching, watching));
    let stopped = soon(stopping.join_next()).await.expect("one").expect("no panic");
    assert_eq!(stopped.connections_cut, 0);
    assert!(TcpStream::connect(address).await.is_err(), "nobody listens any more");
}

#[tokio::test]
async fn what_does_not_end_within_the_limit_is_cut() {
    let node = node(settings()).await;
    let mut silent = TcpStream::connect(node.handle.local_addr()).await.expect("it listens");
    // Greets, and then never reacts to being told to go.
    let greeting = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
    silent.write_all(greeting).await.expect("written");
    let mut settings_frame = [0; 9];
    soon(silent.read_exact(&mut settings_frame)).await.expect("the node greets back");
    let call = unanswered_call(&mut silent).await;
    assert!(call, "the call is open");
    let stopped = soon(node.handle.stop(Duration::from_millis(200))).await;
    assert_eq!(stopped.connections_cut, 1);
    closed(&mut silent).await;
}

/// Opens a call and never finishes its request: `POST /rafka.v1.Log/ListOffsets`, in the plainest
/// HPACK there is (literals without indexing).
async fn unanswered_call(stream: &mut TcpStream) -> bool {
    let literal = |name: &str, value: &str| {
        let mut bytes = vec![0];
        for text in [name, value] {
            bytes.push(u8::try_from(text.len()).expect("short"));
            bytes.extend(text.as_bytes());
        }
        bytes
    };
    let headers = [
        literal(":method", "POST"),
        literal(":scheme", "http"),
        literal(":path", "/rafka.v1.Log/ListOffsets"),
        literal(":authority", "node"),
        literal("content-type", "application/grpc"),
        literal("te", "trailers"),
    ]
    .concat();
    let len = u32::try_from(headers.len()).expect("short").to_be_bytes();
    let mut frame = len[1..].to_vec();
    // HEADERS, END_HEADERS, stream 1.
    frame.extend([1, 4, 0, 0, 0, 1]);
    frame.extend(headers);
    stream.write_all(&frame).await.is_ok()
}
