//! Log directories: there is one.

use std::sync::Arc;

use rafka_core::ErrorCode;
use rafka_storage::Directory;

use super::Broker;
use crate::Error;
use crate::log_dir::{LogDir, TopicLogs};

impl Broker {
    /// Where the logs of this node are kept, and how much each of them takes.
    ///
    /// # Errors
    /// If the system does not say how much room there is.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn describe_log_dir(&self) -> Result<LogDir, Error> {
        let inner = Arc::clone(&self.inner);
        self.inner.blocking(move || inner.log_dir()).await?
    }
}

impl super::Inner {
    /// Blocks.
    fn log_dir(&self) -> Result<LogDir, Error> {
        let directory = self.engine.directory().map_err(|error| {
            Error::new(ErrorCode::KafkaStorageError, format!("the log directory fails: {error}"))
        })?;
        let mut topics: Vec<TopicLogs> = self
            .table
            .topics()
            .into_iter()
            .map(|topic| {
                // A log that was deleted meanwhile is no longer one of them.
                let sized = topic.led().into_iter().filter_map(|partition| {
                    Some((partition.id.partition, self.engine.size(partition.log).ok()?))
                });
                TopicLogs { name: topic.name.clone(), partitions: sized.collect() }
            })
            .collect();
        topics.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        Ok(match directory {
            None => LogDir { path: None, total: None, usable: None, topics },
            Some(Directory { path, total, free }) => LogDir {
                path: Some(path.display().to_string()),
                total: Some(total),
                usable: Some(free),
                topics,
            },
        })
    }
}
