//! A node without its network: broker, metadata and file engine on one faulty disk.
//!
//! The engine does nothing behind the calls until a test steps it, so that a test decides what is
//! durable at each moment.

use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rafka_broker::{Broker, Follower, PartitionTable, Parts};
use rafka_core::{ByteSize, Clock, Time, Timestamp, TopicName, rng};
use rafka_metadata::{Addresses, Committer, Metadata, Place};
use rafka_storage::disk::Disk;
use rafka_storage::disk::faulty::FaultyDisk;
use rafka_storage::journal::{self, Driver};
use rafka_storage::{Durability, Engine, FileEngine, Started, Surroundings};

/// Where the directory is on a disk in memory.
pub(crate) const DIR: &str = "/data";
/// The day on which the tests begin.
pub(crate) const TODAY: Timestamp = Timestamp(1_780_000_000_000);
/// Longer than anything here takes, unless it hangs.
const STOP_LIMIT: Duration = Duration::from_secs(30);

/// The runtime's clock, which tests may pause, and a calendar that they may set wrong.
#[derive(Debug)]
pub(crate) struct TestClock {
    start: tokio::time::Instant,
    /// How far the calendar is off, in milliseconds.
    off: Mutex<i64>,
}

impl TestClock {
    /// Sets the calendar this much ahead of the truth, or behind it.
    pub(crate) fn set_off(&self, milliseconds: i64) {
        *self.off.lock() = milliseconds;
    }

    /// What a calendar says that is not off.
    pub(crate) fn truth(&self) -> Timestamp {
        TODAY.plus(self.start.elapsed())
    }
}

impl Clock for TestClock {
    fn now(&self) -> Time {
        Time::default() + self.start.elapsed()
    }

    fn timestamp(&self) -> Timestamp {
        Timestamp(self.truth().0 + *self.off.lock())
    }
}

/// How a node is to be run.
#[derive(Debug, Clone, Default)]
pub(crate) struct Settings {
    pub(crate) storage: rafka_storage::Settings,
    pub(crate) broker: rafka_broker::Settings,
}

/// Small enough that journals roll and recycle, and that memory is soon full.
pub(crate) fn small() -> Settings {
    let mut settings = Settings::default();
    settings.storage.sidecar_bytes = Some(ByteSize::mib(1));
    settings.storage.disk_reserve_bytes = ByteSize::kib(256);
    settings.storage.open_files_max = 8;
    settings.storage.journal = journal::Settings {
        file_bytes: ByteSize::kib(64),
        bytes_max: ByteSize::mib(2),
        group_bytes_max: ByteSize::kib(16),
        ..journal::Settings::default()
    };
    settings.broker.groups.offsets_topic_partitions = 2;
    settings.broker.transactions.transactions_topic_partitions = 2;
    settings.broker.groups.group_rebalance_delay_initial = Duration::ZERO;
    settings
}

pub(crate) struct Node {
    pub(crate) broker: Broker,
    pub(crate) engine: Arc<FileEngine>,
    /// What the engine found.
    pub(crate) started: Started,
    pub(crate) place: Ground,
    committer: Committer,
}

/// What outlives a process: the disk, the time, and how the node is configured.
#[derive(Debug, Clone)]
pub(crate) struct Ground {
    pub(crate) disk: FaultyDisk,
    pub(crate) clock: Arc<TestClock>,
    pub(crate) settings: Settings,
}

impl Ground {
    /// An empty disk.
    pub(crate) fn new(seed: u64, settings: Settings) -> Self {
        let clock = TestClock { start: tokio::time::Instant::now(), off: Mutex::new(0) };
        Self { disk: FaultyDisk::new(seed), clock: Arc::new(clock), settings }
    }

    /// Starts a node on what the disk holds. Fails if the disk does.
    pub(crate) async fn start(&self) -> Result<Node, String> {
        let table = PartitionTable::new();
        let disk: Arc<dyn Disk> = Arc::new(self.disk.clone());
        let surroundings = Surroundings {
            disk: Arc::clone(&disk),
            clock: Arc::clone(&self.clock) as Arc<dyn Clock>,
            rng: rng::from_seed(self.disk.changes()),
            observer: Arc::clone(&table) as _,
            driver: Driver::Manual,
        };
        let opened = FileEngine::open(Path::new(DIR), &self.settings.storage, surroundings);
        let (engine, started) = opened.map_err(|error| format!("{error:?}"))?;
        let engine = Arc::new(engine);
        let follower = Follower::new(Arc::clone(&table), Arc::clone(&engine) as Arc<dyn Engine>);
        let (metadata, committer) = Metadata::open(
            Place::File { disk, path: Path::new(DIR).join("metadata.redb") },
            started.node,
            rafka_metadata::Settings::default(),
            rng::from_seed(self.disk.changes() + 1),
            follower.observer(Arc::clone(&table) as _),
        )
        .map_err(|error| format!("{error:?}"))?;
        let parts = Parts {
            follower,
            metadata,
            clock: Arc::clone(&self.clock) as Arc<dyn Clock>,
            rng: rng::from_seed(self.disk.changes() + 2),
        };
        let settings = self.settings.broker.clone();
        match Broker::start(parts, settings, Addresses::default()).await {
            Ok(broker) => Ok(Node { broker, engine, started, place: self.clone(), committer }),
            Err(error) => {
                committer.stop(STOP_LIMIT).await.expect("its thread ends");
                Err(format!("{error:?}"))
            }
        }
    }
}

impl Node {
    /// A node on an empty disk.
    pub(crate) async fn new(settings: Settings) -> Self {
        Ground::new(1, settings).start().await.expect("an empty disk can be used")
    }

    /// Cuts the power, and starts the node again.
    pub(crate) async fn power_cut(self) -> Self {
        self.place.disk.crash();
        self.again().await
    }

    /// Kills the process, and starts it again.
    pub(crate) async fn kill(self) -> Self {
        self.place.disk.kill();
        self.again().await
    }

    async fn again(self) -> Self {
        self.bury().await.start().await.expect("what was left can be started on")
    }

    /// Ends what is left of a process whose disk is gone already; returns what outlives it.
    pub(crate) async fn bury(self) -> Ground {
        let Self { broker, engine, place, committer, .. } = self;
        assert!(broker.stop(STOP_LIMIT).await, "a task of the broker does not end");
        drop(broker);
        committer.stop(STOP_LIMIT).await.expect("its thread ends");
        drop(engine);
        place
    }

    /// Stops the node in order.
    pub(crate) async fn stop(self) -> Ground {
        let Self { broker, engine, place, committer, .. } = self;
        assert!(broker.stop(STOP_LIMIT).await, "a task of the broker does not end");
        drop(broker);
        committer.stop(STOP_LIMIT).await.expect("its thread ends");
        engine.stop().expect("the disk works");
        place
    }

    /// Makes what was appended durable, and nothing else: memory stays pinned.
    pub(crate) fn write_journal(&self) {
        for lane in [Durability::Fsync, Durability::Os] {
            if let Some(journal) = self.engine.journal(lane) {
                journal.settle();
            }
        }
    }

    /// Does the engine's work until `work` is done.
    pub(crate) async fn drive<T>(&self, work: impl Future<Output = T>) -> T {
        let mut work = pin!(work);
        loop {
            // Also metadata and cold reads have threads of their own to wait for.
            if let Ok(done) = tokio::time::timeout(Duration::from_millis(1), &mut work).await {
                return done;
            }
            self.engine.step();
        }
    }

    /// Creates a topic of so many partitions.
    pub(crate) async fn create_topic(
        &self,
        name: &str,
        partitions: u32,
        configs: &[(&str, &str)],
    ) -> TopicName {
        let name = TopicName::new(name).expect("a valid name");
        let configs = configs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        let order = rafka_broker::topics::Create {
            name: name.clone(),
            partitions: Some(partitions),
            replication_factor: None,
            configs: configs.collect(),
            validate_only: false,
        };
        self.broker.create_topic(order).await.expect("the topic is new and valid");
        name
    }
}
