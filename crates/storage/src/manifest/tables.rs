//! The manifest's tables: what is written to them, and reading all of it.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;
use std::path::Path;

use rafka_core::batch::Outcome;
use rafka_core::producer_state::{Ended, ProducerTable};
use rafka_core::{Batch, Offset, ProducerId, Timestamp};
use redb::{Database, ReadableDatabase as _, ReadableTable, TableDefinition};
use uuid::Uuid;

use super::{Change, Checkpoint, Contents, Lane, Log, VERSION, codec, corrupt, failed};
use crate::per_lane::PerLane;
use crate::{Error, LogId};

pub(super) const META: TableDefinition<'static, &str, &[u8]> = TableDefinition::new("meta");
const LOGS: TableDefinition<'static, u64, &[u8]> = TableDefinition::new("logs");
pub(super) const CHECKPOINTS: TableDefinition<'static, u64, &[u8]> =
    TableDefinition::new("checkpoints");
/// By log and producer id.
pub(super) const PRODUCERS: TableDefinition<'static, (u64, i64), &[u8]> =
    TableDefinition::new("producers");
/// Open transactions, by log and first offset: whose they are.
const OPEN: TableDefinition<'static, (u64, i64), i64> = TableDefinition::new("open transactions");
/// Aborted transactions, by log and the offset of the marker.
const ABORTED: TableDefinition<'static, (u64, i64), &[u8]> =
    TableDefinition::new("aborted transactions");
const DELETED: TableDefinition<'static, u64, &[u8]> = TableDefinition::new("deleted");

pub(super) const FORMAT: &str = "format";
const NODE: &str = "node";
const LOG_NEXT: &str = "log next";
const LANE: PerLane<&str> = PerLane { fsync: "fsync lane", os: "os lane" };

pub(super) fn found(database: &Database) -> Result<(), redb::Error> {
    let transaction = database.begin_write()?;
    {
        transaction.open_table(META)?.insert(FORMAT, VERSION.to_be_bytes().as_slice())?;
        transaction.open_table(LOGS)?;
        transaction.open_table(CHECKPOINTS)?;
        transaction.open_table(PRODUCERS)?;
        transaction.open_table(OPEN)?;
        transaction.open_table(ABORTED)?;
        transaction.open_table(DELETED)?;
    }
    Ok(transaction.commit()?)
}

pub(super) fn check_version(database: &Database, path: &Path) -> Result<(), Error> {
    let read = || -> Result<Option<u32>, redb::Error> {
        let table = database.begin_read()?.open_table(META)?;
        let value = table.get(FORMAT)?;
        Ok(value.and_then(|bytes| bytes.value().try_into().ok().map(u32::from_be_bytes)))
    };
    match read().map_err(failed("read", path))? {
        Some(VERSION) => Ok(()),
        Some(found) => Err(Error::UnknownVersion { path: path.to_owned(), found, known: VERSION }),
        None => Err(corrupt(path, "it names no format version".to_owned())),
    }
}

pub(super) fn apply(database: &Database, changes: &[Change]) -> Result<(), redb::Error> {
    let transaction = database.begin_write()?;
    {
        let mut meta = transaction.open_table(META)?;
        let mut logs = transaction.open_table(LOGS)?;
        let mut checkpoints = transaction.open_table(CHECKPOINTS)?;
        let mut producers = Producers {
            rows: transaction.open_table(PRODUCERS)?,
            open: transaction.open_table(OPEN)?,
            aborted: transaction.open_table(ABORTED)?,
        };
        let mut deleted = transaction.open_table(DELETED)?;
        for change in changes {
            match change {
                Change::Node(node) => {
                    meta.insert(NODE, node.as_bytes().as_slice())?;
                }
                Change::Create(log, name) => {
                    logs.insert(log.0, codec::encode_name(name).as_slice())?;
                    // Not read from the table: ids only ascend.
                    meta.insert(LOG_NEXT, (log.0 + 1).to_be_bytes().as_slice())?;
                }
                Change::Checkpoint(log, checkpoint) => {
                    checkpoints.insert(log.0, codec::encode(checkpoint).as_slice())?;
                    producers.keep_aborted(*log, checkpoint.start, checkpoint.end)?;
                }
                Change::Wrote(log, batches) => producers.note(*log, batches)?,
                Change::Producers(log, known) => {
                    producers.clear(*log)?;
                    producers.write(*log, known)?;
                }
                Change::Forget(before) => producers.forget(*before)?,
                Change::Unmarked(log, markers) => {
                    for marker in markers {
                        producers.aborted.remove((log.0, marker.0))?;
                    }
                }
                Change::Delete(log) => {
                    checkpoints.remove(log.0)?;
                    producers.clear(*log)?;
                    producers.aborted.retain_in(rows_of(*log), |_, _| false)?;
                    if let Some(name) = logs.remove(log.0)? {
                        deleted.insert(log.0, name.value())?;
                    }
                }
                Change::Removed(log) => {
                    deleted.remove(log.0)?;
                }
                Change::Lane(of, lane) => {
                    meta.insert(LANE.of(*of), codec::encode_lane(lane).as_slice())?;
                }
            }
        }
    }
    Ok(transaction.commit()?)
}

fn rows_of(log: LogId) -> RangeInclusive<(u64, i64)> {
    (log.0, i64::MIN)..=(log.0, i64::MAX)
}

/// The tables that tell of producers and their transactions, being written.
struct Producers<'a> {
    rows: redb::Table<'a, (u64, i64), &'static [u8]>,
    open: redb::Table<'a, (u64, i64), i64>,
    aborted: redb::Table<'a, (u64, i64), &'static [u8]>,
}

impl Producers<'_> {
    /// Notes batches in the rows of those who sent them: what a log holds of others is not touched.
    fn note(&mut self, log: LogId, batches: &[(Batch, Timestamp)]) -> Result<(), redb::Error> {
        let mut ids: BTreeSet<ProducerId> =
            batches.iter().map(|(batch, _)| batch.header.producer_id).collect();
        // Where the last stable offset is rests on all open transactions.
        if batches.iter().any(|(batch, _)| batch.header.attributes.is_control()) {
            for row in self.open.range(rows_of(log))? {
                ids.insert(ProducerId(row?.1.value()));
            }
        }
        let mut noted = ProducerTable::default();
        for id in ids {
            if let Some(row) = self.rows.get((log.0, id.0))? {
                let restored = noted.restore(id, row.value());
                restored.map_err(|error| redb::Error::Corrupted(error.to_string()))?;
            }
        }
        for (first, _) in noted.open() {
            self.open.remove((log.0, first.0))?;
        }
        for (batch, appended_at) in batches {
            if let Some(ended) = noted.note(batch, *appended_at)
                && ended.outcome == Outcome::Abort
            {
                let key = (log.0, ended.last_offset.0);
                self.aborted.insert(key, codec::encode_aborted(&ended).as_slice())?;
            }
        }
        self.write(log, &noted)
    }

    fn write(&mut self, log: LogId, table: &ProducerTable) -> Result<(), redb::Error> {
        for (id, row) in table.rows() {
            self.rows.insert((log.0, id.0), row.as_slice())?;
        }
        for (first, id) in table.open() {
            self.open.insert((log.0, first.0), id.0)?;
        }
        Ok(())
    }

    fn clear(&mut self, log: LogId) -> Result<(), redb::Error> {
        self.rows.retain_in(rows_of(log), |_, _| false)?;
        Ok(self.open.retain_in(rows_of(log), |_, _| false)?)
    }

    fn forget(&mut self, before: Timestamp) -> Result<(), redb::Error> {
        // A damaged row is for whoever needs it to complain about.
        let is_kept =
            |row: &[u8]| ProducerTable::is_row_before(row, before).is_ok_and(|is_old| !is_old);
        Ok(self.rows.retain(|_, row| is_kept(row))?)
    }

    /// Drops the aborted transactions that ended below `start` or at `end` and above.
    fn keep_aborted(&mut self, log: LogId, start: Offset, end: Offset) -> Result<(), redb::Error> {
        self.aborted.retain_in((log.0, i64::MIN)..(log.0, start.0), |_, _| false)?;
        Ok(self.aborted.retain_in((log.0, end.0)..=(log.0, i64::MAX), |_, _| false)?)
    }
}

/// The aborted transactions of a log whose markers are at `from` or above and that may reach below
/// `below`.
pub(super) fn aborted(
    database: &Database,
    log: LogId,
    (from, below): (Offset, Offset),
    path: &Path,
) -> Result<Vec<Ended>, Error> {
    let read = || -> Result<Result<Vec<Ended>, Error>, redb::Error> {
        let table = database.begin_read()?.open_table(ABORTED)?;
        let mut found = Vec::new();
        for row in table.range((log.0, from.0)..=(log.0, i64::MAX))? {
            let (key, row) = row?;
            let Some(ended) = codec::decode_aborted(Offset(key.value().1), row.value()) else {
                return Ok(Err(corrupt(path, format!("an aborted transaction of log {log}"))));
            };
            if ended.first_offset < below {
                found.push(ended);
            }
            // Whatever ended later began there or above.
            if below <= ended.last_stable_offset {
                break;
            }
        }
        Ok(Ok(found))
    };
    read().map_err(failed("read", path))?
}

/// What is known of the producers of some logs.
pub(super) fn producers(
    database: &Database,
    logs: &[LogId],
    path: &Path,
) -> Result<Vec<ProducerTable>, Error> {
    let read = || -> Result<Result<Vec<ProducerTable>, Error>, redb::Error> {
        let table = database.begin_read()?.open_table(PRODUCERS)?;
        let mut all = Vec::with_capacity(logs.len());
        for log in logs {
            let mut known = ProducerTable::default();
            for row in table.range(rows_of(*log))? {
                let (key, row) = row?;
                if let Err(error) = known.restore(ProducerId(key.value().1), row.value()) {
                    return Ok(Err(corrupt(path, format!("of log {log}, {error}"))));
                }
            }
            all.push(known);
        }
        Ok(Ok(all))
    };
    read().map_err(failed("read", path))?
}

/// The rows of a table, as bytes, still to be decoded.
type Rows = Vec<(u64, Vec<u8>)>;

pub(super) fn load(database: &Database, path: &Path) -> Result<Contents, Error> {
    let read = || -> Result<_, redb::Error> {
        let transaction = database.begin_read()?;
        let meta = transaction.open_table(META)?;
        let value = |key| -> Result<_, redb::Error> {
            Ok(meta.get(key)?.map(|bytes| bytes.value().to_vec()))
        };
        let lanes = PerLane { fsync: value(LANE.fsync)?, os: value(LANE.os)? };
        let meta = (value(NODE)?, value(LOG_NEXT)?, lanes);
        let tables = (
            rows(&transaction.open_table(LOGS)?)?,
            rows(&transaction.open_table(CHECKPOINTS)?)?,
            rows(&transaction.open_table(DELETED)?)?,
        );
        Ok((meta, tables))
    };
    let ((node, log_next, lanes), (logs, checkpoints, deleted)) =
        read().map_err(failed("read", path))?;
    let broken = |what: &str| corrupt(path, what.to_owned());
    let node = node.map(|bytes| Uuid::from_slice(&bytes)).transpose();
    let log_next = log_next.map(|bytes| bytes.as_slice().try_into().map(u64::from_be_bytes));
    let lane = |bytes: Option<Vec<u8>>| match bytes {
        None => Ok(Lane::default()),
        Some(bytes) => codec::decode_lane(&bytes).ok_or_else(|| broken("a lane of the journal")),
    };
    let name_of = |(id, bytes): (u64, Vec<u8>)| -> Result<_, Error> {
        let name = codec::decode_name(&bytes);
        Ok((LogId(id), name.ok_or_else(|| corrupt(path, format!("the name of log {id}")))?))
    };
    let mut contents = Contents {
        node: node.map_err(|_length| broken("the identity of the node"))?,
        lanes: PerLane { fsync: lane(lanes.fsync)?, os: lane(lanes.os)? },
        log_next: log_next.transpose().map_err(|_length| broken("the next log id"))?.unwrap_or(0),
        logs: Vec::with_capacity(logs.len()),
        deleted: deleted.into_iter().map(name_of).collect::<Result<_, _>>()?,
    };
    let mut checkpoints = checkpoints.into_iter().peekable();
    for row in logs {
        let (id, name) = name_of(row)?;
        let checkpoint = match checkpoints.next_if(|(of, _)| *of == id.0) {
            None => Checkpoint::default(),
            Some((_, bytes)) => codec::decode(&bytes).map_err(|error| match error {
                codec::Error::Version(found) => Error::UnknownVersion {
                    path: path.to_owned(),
                    found: found.into(),
                    known: codec::VERSION.into(),
                },
                codec::Error::Malformed(what) => {
                    corrupt(path, format!("the checkpoint of log {id}: {what}"))
                }
            })?,
        };
        contents.logs.push(Log { id, name, checkpoint });
    }
    Ok(contents)
}

fn rows(table: &impl ReadableTable<u64, &'static [u8]>) -> Result<Rows, redb::Error> {
    let mut rows = Vec::new();
    for row in table.iter()? {
        let (key, value) = row?;
        rows.push((key.value(), value.value().to_vec()));
    }
    Ok(rows)
}
