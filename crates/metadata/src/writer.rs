//! The one who changes metadata: applies commands, makes them durable, shows them.
//!
//! No thread and no queue here: [`Writer::commit`] does one round, and whoever drives it decides
//! when.

use std::path::PathBuf;
use std::sync::Arc;

use parking_lot::RwLock;
use rafka_core::NodeId;
use rafka_core::rng::{Rng, RngExt as _};
use rafka_storage::disk::Disk;
use uuid::Uuid;

use crate::effect::Effect;
use crate::error::{OpenError, Outcome, ProposeError};
use crate::group::Group;
use crate::refused::Refused;
use crate::root::{self, Foundation};
use crate::settings::Settings;
use crate::state::{Command, State};
use crate::store::{Change, Saved, Store};
use crate::view::View;

/// A group is not snapshotted before its commands have cost this many bytes to keep and replay.
const LOG_COST_MIN: usize = 64 << 10;

/// What keeping a command costs beside its own bytes: key, seal, page.
const COMMAND_COST: usize = 32;

/// What replaying the change of one partition costs, as if it were bytes to read.
const PARTITION_COST: usize = 16;

/// Called with every command's effects, in order, once they are durable and the view shows them,
/// and before the proposer has its answer. On the thread that commits: while it runs nothing else
/// is agreed on. It must not wait for a proposal.
pub type Observer = Box<dyn FnMut(&View, &[Effect]) + Send>;

/// Where metadata is kept.
#[derive(Debug, Clone)]
pub enum Place {
    /// In a file; its directory exists, and no other process uses it.
    File {
        /// The disk.
        disk: Arc<dyn Disk>,
        /// The file, made at the first start.
        path: PathBuf,
    },
    /// In memory: gone with the process.
    Memory,
}

/// What has gathered in a group's log since its snapshot.
#[derive(Debug, Clone, Copy, Default)]
struct Tail {
    index: u64,
    log_cost: usize,
    snapshot_bytes: usize,
}

impl Tail {
    /// As much again as the snapshot: what is written stays within a few times what is agreed on.
    fn is_long(&self) -> bool {
        LOG_COST_MIN.max(self.snapshot_bytes) < self.log_cost
    }
}

/// A command with its bytes.
#[derive(Debug)]
pub(crate) struct Proposed {
    pub(crate) command: Command,
    pub(crate) bytes: Vec<u8>,
}

impl From<Command> for Proposed {
    fn from(command: Command) -> Self {
        let bytes = command.encode();
        Self { command, bytes }
    }
}

/// State, store and view.
pub(crate) struct Writer {
    store: Option<Store>,
    /// What is durable. The view shows the same.
    state: State,
    tails: Vec<Tail>,
    view: Arc<RwLock<View>>,
    observer: Observer,
    /// Why nothing is accepted any more.
    dead: Option<Arc<str>>,
}

impl Writer {
    /// Rebuilds the state from its place; founds the cluster there, with `node` as its first
    /// member, if there is none. Blocks.
    pub(crate) fn open(
        place: Place,
        node: Uuid,
        settings: &Settings,
        rng: &mut Rng,
        observer: Observer,
    ) -> Result<Self, OpenError> {
        let (mut store, saved, path) = match place {
            Place::Memory => (None, Vec::new(), PathBuf::from("memory")),
            Place::File { disk, path } => {
                let (store, saved) = Store::open(disk, &path)?;
                (Some(store), saved, path)
            }
        };
        let mut state = State::default();
        let mut tails = Vec::new();
        for group in &saved {
            replay(group, &mut state, &mut tails)
                .map_err(|cause| OpenError::Replay { path: path.clone(), cause })?;
        }
        if state.root().foundation().is_none() {
            found(node, settings, rng, &mut state, &mut tails, store.as_mut())?;
        }
        let (Some(foundation), Some(node_id)) =
            (state.root().foundation(), state.root().node_of(node))
        else {
            return Err(OpenError::Foreign { path, node });
        };
        let view = first_view(&state, &tails, (node_id, foundation), settings);
        Ok(Self { store, state, tails, view: Arc::new(RwLock::new(view)), observer, dead: None })
    }

    /// Where readers find the newest view.
    pub(crate) fn view(&self) -> Arc<RwLock<View>> {
        Arc::clone(&self.view)
    }

    /// Why nothing is accepted any more, if so.
    pub(crate) fn dead(&self) -> Option<&Arc<str>> {
        self.dead.as_ref()
    }

    /// Applies the commands in order and makes those that changed something durable together.
    /// Blocks. One answer for each command.
    pub(crate) fn commit(&mut self, proposed: &[Proposed]) -> Vec<Result<Outcome, ProposeError>> {
        if let Some(cause) = &self.dead {
            return proposed.iter().map(|_| Err(ProposeError::Dead(Arc::clone(cause)))).collect();
        }
        let mut state = self.state.clone();
        let mut tails = self.tails.clone();
        let mut changes = Vec::new();
        let mut results: Vec<Result<Vec<Effect>, Refused>> = Vec::new();
        for Proposed { command, bytes } in proposed {
            let result = state.apply(command);
            if let Ok(effects) = &result
                && !effects.is_empty()
            {
                let tail = tail_of(&mut tails, command.group());
                tail.index += 1;
                tail.log_cost += cost(bytes, effects);
                let (group, index) = (command.group(), tail.index);
                changes.push(Change::Append { group, index, command: bytes });
            }
            results.push(result);
        }
        if !changes.is_empty()
            && let Some(store) = &mut self.store
        {
            changes.extend(due_snapshots(&state, &mut tails));
            if let Err(error) = store.commit(&changes) {
                return self.fail(&error, proposed.len());
            }
        }
        self.state = state;
        self.tails = tails;
        self.publish(results)
    }

    /// What of the batch was durable is not known: nothing of it is shown, and unless there was
    /// just no room, nothing more is accepted.
    fn fail(
        &mut self,
        error: &crate::store::Error,
        count: usize,
    ) -> Vec<Result<Outcome, ProposeError>> {
        let answer = if error.is_disk_full() {
            tracing::warn!(error = %error, "metadata not written, the disk is full");
            ProposeError::DiskFull
        } else {
            let cause = std::error::Error::source(error);
            let text: Arc<str> = match cause {
                Some(cause) => format!("{error}: {cause}").into(),
                None => error.to_string().into(),
            };
            tracing::error!(error = %text, "metadata stopped after a failed write");
            self.dead = Some(Arc::clone(&text));
            ProposeError::Failed(text)
        };
        (0..count).map(|_| Err(answer.clone())).collect()
    }

    fn publish(
        &mut self,
        results: Vec<Result<Vec<Effect>, Refused>>,
    ) -> Vec<Result<Outcome, ProposeError>> {
        let version = version_of(&self.tails);
        let view = self.view.read().clone();
        let view = if version == view.version() {
            view
        } else {
            let view = view.next(version, self.state.clone());
            *self.view.write() = view.clone();
            view
        };
        let mut answers = Vec::with_capacity(results.len());
        for result in results {
            answers.push(match result {
                Ok(effects) => {
                    if !effects.is_empty() {
                        (self.observer)(&view, &effects);
                    }
                    Ok(Outcome { version, effects })
                }
                Err(refused) => Err(ProposeError::Refused(refused)),
            });
        }
        answers
    }
}

/// Rises by one with every command that changed something.
fn version_of(tails: &[Tail]) -> u64 {
    tails.iter().map(|tail| tail.index).sum()
}

fn first_view(
    state: &State,
    tails: &[Tail],
    (node, foundation): (NodeId, Foundation),
    settings: &Settings,
) -> View {
    let topic_defaults = Arc::new(settings.topic_defaults.clone());
    View::new(version_of(tails), node, foundation, state.clone(), topic_defaults)
}

fn tail_of(tails: &mut Vec<Tail>, group: Group) -> &mut Tail {
    let place = usize::try_from(group.number()).expect("a group's number is below 2^17");
    if tails.len() <= place {
        tails.resize(place + 1, Tail::default());
    }
    &mut tails[place]
}

/// What a command costs to keep and to replay.
fn cost(bytes: &[u8], effects: &[Effect]) -> usize {
    let partitions = |effect: &Effect| match effect {
        Effect::PartitionsChanged { partitions, .. } => partitions.len(),
        _ => 0,
    };
    COMMAND_COST + bytes.len() + PARTITION_COST * effects.iter().map(partitions).sum::<usize>()
}

fn due_snapshots(state: &State, tails: &mut Vec<Tail>) -> Vec<Change<'static>> {
    let mut changes = Vec::new();
    for group in state.groups() {
        let tail = tail_of(tails, group);
        if tail.is_long() {
            let snapshot = state.snapshot(group);
            tail.snapshot_bytes = snapshot.len();
            tail.log_cost = 0;
            changes.push(Change::Snapshot { group, index: tail.index, snapshot });
        }
    }
    changes
}

/// The state that the saved groups say.
pub(crate) fn rebuild(saved: &[Saved]) -> Result<State, crate::state::RestoreError> {
    let mut state = State::default();
    let mut tails = Vec::new();
    saved.iter().try_for_each(|group| replay(group, &mut state, &mut tails))?;
    Ok(state)
}

fn replay(
    saved: &Saved,
    state: &mut State,
    tails: &mut Vec<Tail>,
) -> Result<(), crate::state::RestoreError> {
    let tail = tail_of(tails, saved.group);
    tail.index = saved.last();
    if let Some((_, snapshot)) = &saved.snapshot {
        state.restore(saved.group, snapshot)?;
        tail.snapshot_bytes = snapshot.len();
    }
    for (_, bytes) in &saved.commands {
        let effects = state.apply(&Command::decode(saved.group, bytes)?)?;
        tail.log_cost += cost(bytes, &effects);
    }
    Ok(())
}

/// Brings a cluster of one into being.
fn found(
    node: Uuid,
    settings: &Settings,
    rng: &mut Rng,
    state: &mut State,
    tails: &mut Vec<Tail>,
    store: Option<&mut Store>,
) -> Result<(), OpenError> {
    let cluster = uuid::Builder::from_random_bytes(rng.random()).into_uuid();
    let commands = [
        root::Command::Found { cluster, shards: settings.shards },
        root::Command::Join { uuid: node },
    ];
    let proposed = commands.map(|command| Proposed::from(Command::Root(command)));
    let mut changes = Vec::new();
    for Proposed { command, bytes } in &proposed {
        let effects = state.apply(command).expect("an empty state refuses neither of the two");
        let tail = tail_of(tails, Group::Root);
        tail.index += 1;
        tail.log_cost += cost(bytes, &effects);
        changes.push(Change::Append { group: Group::Root, index: tail.index, command: bytes });
    }
    if let Some(store) = store {
        store.commit(&changes)?;
    }
    tracing::info!(cluster = %cluster, shards = settings.shards.count(), "cluster of one founded");
    Ok(())
}

#[cfg(test)]
mod tests;
