//! The handle that proposes and reads, and the owner of the thread that commits.

use std::fmt;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::{Mutex, RwLock};
use rafka_core::rng::Rng;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use uuid::Uuid;

use crate::error::{OpenError, Outcome, ProposeError};
use crate::refused::Refused;
use crate::root;
use crate::settings::Settings;
use crate::shard;
use crate::state::Command;
use crate::topic_config::{self, InvalidConfig};
use crate::view::View;
use crate::writer::{Observer, Place, Proposed, Writer};

/// The largest command: the largest topic with the most replicas fits.
const COMMAND_BYTES_MAX: usize = 16 << 20;
/// Commands that wait, in bytes; further proposers wait for room, in the order they came.
const QUEUE_BYTES_MAX: usize = 2 * COMMAND_BYTES_MAX;
/// Commands that wait, however small.
const QUEUE_COMMANDS_MAX: usize = 1024;
/// Commands that are made durable together.
const BATCH_COMMANDS_MAX: usize = 256;

/// What is agreed on: reads it, and has more agreed on. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Metadata {
    queue: mpsc::Sender<Message>,
    room: Arc<Semaphore>,
    view: Arc<RwLock<View>>,
    failure: Arc<Mutex<Option<Arc<str>>>>,
    pub(crate) settings: Arc<Settings>,
    pub(crate) rng: Arc<Mutex<Rng>>,
}

/// Owns the thread that commits. Dropped without [`Committer::stop`], it lets the thread end when
/// the last [`Metadata`] is gone.
pub struct Committer {
    queue: mpsc::Sender<Message>,
    thread: JoinHandle<()>,
}

impl fmt::Debug for Committer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Committer").finish_non_exhaustive()
    }
}

type Answer = oneshot::Sender<Result<Outcome, ProposeError>>;

#[derive(Debug)]
enum Message {
    Propose(Box<Waiting>),
    Stop { done: oneshot::Sender<()> },
}

/// A command that waits to be committed.
#[derive(Debug)]
struct Waiting {
    proposed: Proposed,
    answer: Answer,
    room: OwnedSemaphorePermit,
}

/// An answer that is on its way.
pub(crate) struct Pending(oneshot::Receiver<Result<Outcome, ProposeError>>);

impl Pending {
    pub(crate) async fn outcome(self) -> Result<Outcome, ProposeError> {
        // The thread answers whatever it took, unless it panicked over it.
        self.0.await.unwrap_or_else(|_dropped| Err(ProposeError::Failed("the writer ended".into())))
    }
}

impl Metadata {
    /// Opens what is agreed on; founds a cluster of one if there is nothing yet. Blocks.
    ///
    /// `node` is the identity of this node's data directory. `observer` is told of every change from
    /// now on, not of what was there before: that is in the view.
    ///
    /// # Errors
    /// If the file is damaged, foreign, or cannot be read or written.
    pub fn open(
        place: Place,
        node: Uuid,
        settings: Settings,
        mut rng: Rng,
        observer: Observer,
    ) -> Result<(Self, Committer), OpenError> {
        let writer = Writer::open(place, node, &settings, &mut rng, observer)?;
        let (queue, proposals) = mpsc::channel(QUEUE_COMMANDS_MAX);
        let metadata = Self {
            queue: queue.clone(),
            room: Arc::new(Semaphore::new(QUEUE_BYTES_MAX)),
            view: writer.view(),
            failure: Arc::new(Mutex::new(None)),
            settings: Arc::new(settings),
            rng: Arc::new(Mutex::new(rng)),
        };
        let failure = Arc::clone(&metadata.failure);
        let thread = std::thread::Builder::new()
            .name("metadata".to_owned())
            .spawn(move || run(writer, proposals, &failure))
            .map_err(OpenError::Thread)?;
        Ok((metadata, Committer { queue, thread }))
    }

    /// What is agreed on now. Later calls give the same or a newer view.
    #[must_use]
    pub fn view(&self) -> View {
        self.view.read().clone()
    }

    /// Why nothing is accepted any more; `None` as long as all is well.
    #[must_use]
    pub fn failure(&self) -> Option<Arc<str>> {
        self.failure.lock().clone()
    }

    /// Ends when nothing is agreed on any more, with the reason: a write failed, or it was stopped.
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub async fn ended(&self) -> Arc<str> {
        self.queue.closed().await;
        self.failure().unwrap_or_else(|| "the metadata writer was stopped".into())
    }

    /// Why a command is refused once the writer has ended.
    fn over(&self) -> ProposeError {
        self.failure().map_or(ProposeError::Stopped, ProposeError::Dead)
    }

    /// Has a command agreed on. When this returns it is durable, the view shows it, and the observer
    /// was told.
    ///
    /// # Errors
    /// Each variant of the error says whether the command was done.
    ///
    /// # Cancel safety
    /// Dropped early, the command is done or not; never half.
    pub async fn propose(&self, command: Command) -> Result<Outcome, ProposeError> {
        self.submit(command).await?.outcome().await
    }

    /// Queues a command behind all that were queued before it.
    pub(crate) async fn submit(&self, command: Command) -> Result<Pending, ProposeError> {
        self.check(&command)?;
        let proposed = Proposed::from(command);
        let bytes = proposed.bytes.len();
        let permits = u32::try_from(bytes).ok().filter(|_| bytes <= COMMAND_BYTES_MAX);
        let permits = permits.ok_or(Refused::TooLarge { bytes, max: COMMAND_BYTES_MAX })?;
        let room = Arc::clone(&self.room).acquire_many_owned(permits).await;
        let room = room.map_err(|_closed| self.over())?;
        let (answer, pending) = oneshot::channel();
        let message = Message::Propose(Box::new(Waiting { proposed, answer, room }));
        self.queue.send(message).await.map_err(|_ended| self.over())?;
        Ok(Pending(pending))
    }

    /// Judges names and values of configs. The machines do not: a command that is in the log is done
    /// by every node, whatever configs its version knows.
    pub(crate) fn check(&self, command: &Command) -> Result<(), Refused> {
        match command {
            Command::Shard(_, shard::Command::CreateTopic(topic)) => {
                for (name, value) in &topic.configs {
                    topic_config::check(name, value)?;
                }
            }
            Command::Shard(_, shard::Command::AlterConfigs { topic, changes }) => {
                let view = self.view();
                for (name, value) in changes {
                    match value {
                        Some(value) => topic_config::check(name, value).map(drop)?,
                        // What a newer version set can be removed.
                        None if has_config(&view, *topic, name) => {}
                        None => topic_config::find(name).map(drop)?,
                    }
                }
            }
            Command::Root(root::Command::AlterConfigs { changes, .. }) => {
                for (name, value) in changes {
                    check_default(name, value.as_deref())?;
                }
            }
            Command::Root(_) | Command::Shard(..) => {}
        }
        Ok(())
    }
}

fn has_config(view: &View, topic: rafka_core::TopicId, name: &str) -> bool {
    view.topic_by_id(topic).is_some_and(|topic| topic.configs.contains_key(name))
}

fn check_default(broker_name: &str, value: Option<&str>) -> Result<(), InvalidConfig> {
    let key = topic_config::find_default(broker_name)?;
    value.map_or(Ok(()), |value| topic_config::check_value(key, value))
}

impl Committer {
    /// Commits what was proposed so far, and accepts nothing more.
    ///
    /// # Errors
    /// If that takes longer than `limit`: a write hangs, and its outcome is unknown.
    ///
    /// # Cancel safety
    /// Dropped early, the thread stops all the same, if it had been told yet.
    pub async fn stop(self, limit: Duration) -> Result<(), StopError> {
        let (done, stopped) = oneshot::channel();
        let stop = async {
            // Both fail only when the thread has ended already.
            if self.queue.send(Message::Stop { done }).await.is_ok() {
                stopped.await.ok();
            }
        };
        tokio::time::timeout(limit, stop).await.map_err(|_elapsed| StopError::Hung { limit })?;
        self.thread.join().map_err(|_panic| StopError::Panicked)
    }
}

/// The thread that commits did not end well.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum StopError {
    /// It still runs.
    #[error("the metadata writer did not stop within {} ms", .limit.as_millis())]
    Hung {
        /// How long it was waited for.
        limit: Duration,
    },
    /// It had panicked.
    #[error("the metadata writer panicked")]
    Panicked,
}

/// Marks a writer as failed that ends unasked.
struct Watch<'a> {
    failure: &'a Mutex<Option<Arc<str>>>,
    is_done: bool,
}

impl Drop for Watch<'_> {
    fn drop(&mut self) {
        if !self.is_done {
            *self.failure.lock() = Some("the metadata writer panicked".into());
        }
    }
}

fn run(
    mut writer: Writer,
    mut proposals: mpsc::Receiver<Message>,
    failure: &Mutex<Option<Arc<str>>>,
) {
    let mut watch = Watch { failure, is_done: false };
    let mut stop = None;
    while stop.is_none()
        && let Some(first) = proposals.blocking_recv()
    {
        let mut batch = Vec::new();
        let mut answers = Vec::new();
        let mut message = Some(first);
        // What queued up while the last batch was written becomes one batch.
        while let Some(next) = message {
            match next {
                Message::Propose(waiting) => {
                    let Waiting { proposed, answer, room } = *waiting;
                    batch.push(proposed);
                    answers.push((answer, room));
                }
                Message::Stop { done } => {
                    stop = Some(done);
                    break;
                }
            }
            let has_room = batch.len() < BATCH_COMMANDS_MAX;
            message = if has_room { proposals.try_recv().ok() } else { None };
        }
        for (result, (answer, room)) in writer.commit(&batch).into_iter().zip(answers) {
            drop(room);
            // A proposer that is gone does not want to know.
            answer.send(result).ok();
        }
        if let Some(reason) = writer.dead() {
            *failure.lock() = Some(Arc::clone(reason));
            break;
        }
    }
    // Closes the file before anybody hears that it is closed.
    drop(writer);
    drop(proposals);
    watch.is_done = true;
    if let Some(done) = stop {
        done.send(()).ok();
    }
}

#[cfg(test)]
mod tests;
