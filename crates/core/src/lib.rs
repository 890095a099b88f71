//! The vocabulary of Rafka: ids, offsets, epochs, record batches, error codes, time and chance.
//!
//! Everything here is a value or a pure function. This crate knows no tokio, no file and no socket.

pub mod assignor;
pub mod batch;
pub mod clock;
pub mod compression;
pub mod consumer_protocol;
pub mod duration;
mod error_code;
mod group_id;
mod id;
mod offset;
pub mod partitioner;
pub mod producer_state;
pub mod rng;
pub mod setting;
mod size;
mod topic_name;

pub use batch::Batch;
pub use clock::{Clock, SystemClock, Time, Timestamp};
pub use error_code::ErrorCode;
pub use group_id::{GroupId, InvalidGroupId};
pub use id::{NodeId, PartitionIndex, ProducerEpoch, ProducerId, TopicId, TopicPartition};
pub use offset::{Epoch, EpochHistory, Offset};
pub use rng::Rng;
pub use setting::InvalidSetting;
pub use size::{ByteSize, InvalidByteSize};
pub use topic_name::{InvalidTopicName, TopicName};
