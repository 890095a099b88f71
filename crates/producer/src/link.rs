//! One produce stream to one node.

use std::collections::VecDeque;
use std::sync::Arc;

use rafka_client::{Error, Node, v1};
use rafka_core::Time;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use tokio_stream::wrappers::ReceiverStream;

use crate::accumulator::Slot;
use crate::flight::LinkId;

/// Requests handed to a stream that the transport has not taken yet. The batches in them are
/// bounded by the producer's buffer; this bounds the messages.
pub(crate) const LINK_REQUESTS_MAX: usize = 64;

/// News from a stream.
#[derive(Debug)]
pub(crate) enum LinkNews {
    /// The node answers a request.
    Answer(v1::ProduceResponse),
    /// The stream is over. What was not answered may or may not be stored.
    Lost(Error),
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
    let mut log = node.log();
    let opening = log.produce(ReceiverStream::new(requests));
    let mut answers = match node.ask("produce", opening).await {
        Ok(answers) => answers,
        Err(error) => {
            let _ended = news.send((id, LinkNews::Lost(error))).await;
            return;
        }
    };
    loop {
        let heard = match answers.message().await {
            Ok(Some(answer)) => LinkNews::Answer(answer),
            Ok(None) => LinkNews::Lost(Error::Unreachable {
                operation: "produce",
                address: node.address().clone(),
                message: "the node ended the stream".to_owned(),
            }),
            Err(status) => LinkNews::Lost(Error::from_status("produce", node.address(), &status)),
        };
        let over = matches!(heard, LinkNews::Lost(_));
        if news.send((id, heard)).await.is_err() || over {
            return;
        }
    }
}
