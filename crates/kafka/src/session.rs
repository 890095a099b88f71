//! Fetch sessions (KIP-227): a reader names its partitions once, then only what changes.
//!
//! A session belongs to its connection: clients that reconnect begin a new one, as they do with Kafka.
//! So it needs no lock, and goes with the connection.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use rafka_core::{ErrorCode, TopicName};
use rafka_kafka_wire::fetch::{Partition, PartitionData, Request, Topic};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use uuid::Uuid;

/// The id of no session.
pub(crate) const NONE: i32 = 0;

/// The epoch of a request that begins a session, and of one that is part of none.
const FIRST: i32 = 0;
const LAST: i32 = -1;

/// The partitions that a reader has named, in the order in which they are read.
#[derive(Debug)]
pub(crate) struct Session {
    id: i32,
    /// Of the next request.
    epoch: i32,
    names_ids: bool,
    pub(crate) places: Vec<Place>,
    /// A permit for each partition that it ever named.
    room: OwnedSemaphorePermit,
}

/// A topic as a request names it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Named {
    pub(crate) name: String,
    pub(crate) id: Uuid,
}

/// A partition that is read.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    pub(crate) topic: Arc<Named>,
    pub(crate) asked: Partition,
    /// What the reader was told last; nothing if it must be told again.
    told: Option<Marks>,
}

/// Where a partition stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Marks {
    high_watermark: i64,
    last_stable_offset: i64,
    log_start_offset: i64,
}

/// What a request asks for.
#[derive(Debug)]
pub(crate) enum Asked {
    /// Everything it names, to be answered in full.
    All(Vec<Place>),
    /// What the session holds, to be answered where there is news.
    News(Session),
}

impl Named {
    /// Whether a topic can be called that. A session keeps no others: they may be of any length.
    fn is_possible(&self) -> bool {
        !self.id.is_nil() || TopicName::new(&self.name).is_ok()
    }
}

impl Place {
    /// Whether the reader must hear of what was found; notes it as told.
    fn is_news(&mut self, found: &PartitionData) -> bool {
        let has_records = found.records.as_ref().is_some_and(|records| !records.is_empty());
        let marks = (found.error_code == 0).then_some(Marks {
            high_watermark: found.high_watermark,
            last_stable_offset: found.last_stable_offset,
            log_start_offset: found.log_start_offset,
        });
        // An error is told each time.
        let is_changed = marks.is_none() || self.told != marks;
        self.told = marks;
        has_records || is_changed
    }
}

/// The partitions that a request names, in its order. Of those that it names twice the last mention
/// counts, as with Kafka.
fn places(topics: Vec<Topic<'_>>) -> Vec<Place> {
    let mut places: Vec<Place> = Vec::new();
    let mut known: BTreeMap<(Arc<Named>, i32), usize> = BTreeMap::new();
    for Topic { topic, topic_id, partitions } in topics {
        let topic = Arc::new(Named { name: topic.into_owned(), id: topic_id });
        for asked in partitions {
            match known.entry((Arc::clone(&topic), asked.partition)) {
                Entry::Occupied(at) => places[*at.get()].asked = asked,
                Entry::Vacant(free) => {
                    free.insert(places.len());
                    places.push(Place { topic: Arc::clone(&topic), asked, told: None });
                }
            }
        }
    }
    places
}

/// Finds out what a request asks for. `held` is the connection's session, which is given back by
/// [`Session::answered`].
///
/// # Errors
/// If the session is not known, or the request is not its next one. The reader then begins another.
pub(crate) fn ask(
    held: &mut Option<Session>,
    request: Request<'_>,
    names_ids: bool,
) -> Result<Asked, ErrorCode> {
    let epoch = request.session_epoch;
    if epoch == FIRST || epoch == LAST {
        *held = None;
        return Ok(Asked::All(places(request.topics)));
    }
    let Some(session) = held.take_if(|held| held.id == request.session_id) else {
        return Err(ErrorCode::FetchSessionIdNotFound);
    };
    if epoch != session.epoch {
        *held = Some(session);
        return Err(ErrorCode::InvalidFetchSessionEpoch);
    }
    if names_ids != session.names_ids {
        return Err(ErrorCode::FetchSessionTopicIdError);
    }
    session.changed(request).map(Asked::News)
}

impl Session {
    /// Begins a session with what was read, if the reader wants one, there is room for it, and all of it
    /// can exist.
    pub(crate) fn begin(
        (epoch, names_ids): (i32, bool),
        places: Vec<Place>,
        room: &Arc<Semaphore>,
        id: impl FnOnce() -> i32,
    ) -> Option<Self> {
        if epoch != FIRST || places.is_empty() {
            return None;
        }
        if !places.iter().all(|place| place.topic.is_possible()) {
            return None;
        }
        let count = u32::try_from(places.len()).ok()?;
        let room = Arc::clone(room).try_acquire_many_owned(count).ok()?;
        Some(Self { id: id(), epoch: FIRST, names_ids, places, room })
    }

    pub(crate) fn id(&self) -> i32 {
        self.id
    }

    /// Takes in what a request changes.
    fn changed(mut self, request: Request<'_>) -> Result<Self, ErrorCode> {
        let mut known: BTreeMap<(Named, i32), usize> = BTreeMap::new();
        let is_changed = !request.topics.is_empty() || !request.forgotten_topics_data.is_empty();
        if is_changed {
            for (index, place) in self.places.iter().enumerate() {
                known.insert(((*place.topic).clone(), place.asked.partition), index);
            }
        }
        for place in places(request.topics) {
            let key = ((*place.topic).clone(), place.asked.partition);
            match known.get(&key) {
                Some(index) => self.places[*index].asked = place.asked,
                None if !place.topic.is_possible() => {
                    return Err(ErrorCode::FetchSessionIdNotFound);
                }
                None => {
                    let semaphore = Arc::clone(self.room.semaphore());
                    let more = semaphore.try_acquire_owned();
                    self.room.merge(more.map_err(|_full| ErrorCode::FetchSessionIdNotFound)?);
                    known.insert(key, self.places.len());
                    self.places.push(place);
                }
            }
        }
        let mut forgotten = BTreeSet::new();
        for topic in request.forgotten_topics_data {
            let named = Named { name: topic.topic.into_owned(), id: topic.topic_id };
            let indexes = topic.partitions.into_iter();
            forgotten
                .extend(indexes.filter_map(|index| known.get(&(named.clone(), index)).copied()));
        }
        let mut index = 0..;
        self.places.retain(|_| index.next().is_none_or(|index| !forgotten.contains(&index)));
        Ok(self)
    }

    /// Notes what was found, in the order of the places, and keeps what is news of it: at first, all.
    /// Partitions with records are read last next time, so that none has to wait for ever.
    pub(crate) fn answered(
        mut self,
        found: Vec<PartitionData>,
    ) -> (Self, Vec<(Place, PartitionData)>) {
        self.epoch = self.epoch.checked_add(1).unwrap_or(1);
        let (mut news, mut served, mut quiet) = (Vec::new(), Vec::new(), Vec::new());
        for (mut place, data) in std::mem::take(&mut self.places).into_iter().zip(found) {
            let is_served = data.records.as_ref().is_some_and(|records| !records.is_empty());
            if place.is_news(&data) {
                news.push((place.clone(), data));
            }
            if is_served { served.push(place) } else { quiet.push(place) }
        }
        quiet.append(&mut served);
        self.places = quiet;
        (self, news)
    }
}
