//! One produce stream to one node.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures_util::StreamExt as _;
use rafka_client::{Error, Node, v1};
use rafka_core::Time;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use tokio_stream::wrappers::ReceiverStream;

use crate::accumulator::Slot;
use crate::flight::LinkId;

/// Requests handed to a stream that the transport has not taken yet: enough that it never waits for
/// us. The batches in them are bounded by the producer's buffer, except with acks=none: there this
/// many requests may be held beside it.
pub(crate) const LINK_REQUESTS_MAX: usize = 8;

/// News from a stream.
#[derive(Debug)]
pub(crate) enum LinkNews {
    /// The node answers a request.
    Answer(v1::ProduceResponse),
    /// The stream is over.
    Lost {
        /// Why.
        error: Error,
        /// Whether requests may have reached the node: those not answered may be stored then.
        in_doubt: bool,
    },
}

/// A request without its answer.
#[derive(Debug)]
pub(crate) struct Outstanding {
    pub(crate) request: u64,
    pub(crate) slots: Vec<Slot>,
    /// When the answer is late.
    pub(crate) deadline: Time,
}

/// A request that still grows.
#[derive(Debug)]
pub(crate) struct Growing {
    pub(crate) request: u64,
    pub(crate) slots: Vec<Slot>,
    pub(crate) partitions: Vec<v1::ProducePartition>,
    pub(crate) bytes: usize,
}

/// The sending side's end of a stream.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) id: LinkId,
    pub(crate) requests: mpsc::Sender<v1::ProduceRequest>,
    /// In the order of sending, which is that of the answers.
    pub(crate) outstanding: VecDeque<Outstanding>,
    pub(crate) growing: Option<Growing>,
    pub(crate) task: AbortHandle,
}

/// Runs a stream until it breaks or `requests` ends and all answers are in.
pub(crate) async fn run(
    node: Arc<Node>,
    id: LinkId,
    requests: mpsc::Receiver<v1::ProduceRequest>,
    news: mpsc::Sender<(LinkId, LinkNews)>,
) {
    let taken = Arc::new(AtomicBool::new(false));
    let error = talk(&node, id, requests, &news, Arc::clone(&taken)).await;
    let in_doubt = taken.load(Ordering::Acquire);
    let _sending_side_is_gone = news.send((id, LinkNews::Lost { error, in_doubt })).await;
}

/// Returns how the stream ended. Sets `taken` when the transport takes the first request: it does
/// so only over a connection that stands.
async fn talk(
    node: &Node,
    id: LinkId,
    requests: mpsc::Receiver<v1::ProduceRequest>,
    news: &mpsc::Sender<(LinkId, LinkNews)>,
    taken: Arc<AtomicBool>,
) -> Error {
    let requests =
        ReceiverStream::new(requests).inspect(move |_request| taken.store(true, Ordering::Release));
    let mut log = node.log();
    let mut answers = match node.ask("produce", log.produce(requests)).await {
        Ok(answers) => answers,
        Err(error) => return error,
    };
    let ended = |message: &str| Error::Unreachable {
        operation: "produce",
        address: node.address().clone(),
        message: message.to_owned(),
    };
    loop {
        match answers.message().await {
            Ok(Some(answer)) => {
                if news.send((id, LinkNews::Answer(answer))).await.is_err() {
                    return ended("the producer is gone");
                }
            }
            Ok(None) => return ended("the node ended the stream"),
            Err(status) => return Error::from_status("produce", node.address(), &status),
        }
    }
}
