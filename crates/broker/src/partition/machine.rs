//! Pure: one partition's offsets, epochs, producers and high watermark.

use rafka_core::batch::{EndMarker, Header};
use rafka_core::producer_state::{Ended, Entry, MarkerVerdict, ProducerTable, Verdict};
use rafka_core::{
    Batch, Epoch, EpochHistory, ErrorCode, Offset, ProducerEpoch, ProducerId, Timestamp,
};
use rafka_storage::{Bounds, Recovered};

use super::transactions::Transactions;
use crate::Error;
use crate::produce::TransactionVersion;

/// The state that decides what a partition does. It does nothing itself.
#[derive(Debug, Clone)]
pub(crate) struct Machine {
    leader_epoch: Epoch,
    bounds: Bounds,
    high_watermark: Offset,
    epochs: EpochHistory,
    producers: ProducerTable,
    transactions: Transactions,
}

/// What is known of the transaction that a client's batch claims to be part of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Registration {
    /// Nobody was asked: it has begun here, or there is none.
    Unasked,
    /// The coordinator confirmed it, after the producer's last marker here was this one.
    Since(Option<Offset>),
    /// The broker itself writes the batch.
    Internal,
    /// A coordinator writes it on the producer's behalf, without a sequence number; as `Since`.
    OnBehalf(Option<Offset>),
}

/// What to do with batches that were offered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Plan {
    /// They have their offsets and epoch now: append them, then call [`Machine::appended`].
    Append {
        /// The offset of the first record.
        base_offset: Offset,
        /// The log's end behind them.
        end: Offset,
    },
    /// They were appended before: answer with that, once the log is durable up to `end`.
    Duplicate {
        /// What was appended then.
        entry: Entry,
        /// The end of what was appended then.
        end: Offset,
    },
}

impl Machine {
    /// A partition as its log was found, led under `leader_epoch`, which has written nothing yet.
    pub(crate) fn new(recovered: Recovered, leader_epoch: Epoch) -> Self {
        let Recovered { bounds, epochs, producers } = recovered;
        let transactions = Transactions::new(bounds.end);
        let high_watermark = bounds.durable;
        Self { leader_epoch, bounds, high_watermark, epochs, producers, transactions }
    }

    pub(crate) fn leader_epoch(&self) -> Epoch {
        self.leader_epoch
    }

    pub(crate) fn log_start(&self) -> Offset {
        self.bounds.start
    }

    pub(crate) fn log_end(&self) -> Offset {
        self.bounds.end
    }

    /// Everything below it is durable on every in-sync replica, and visible.
    pub(crate) fn high_watermark(&self) -> Offset {
        self.high_watermark
    }

    /// Everything below it belongs to no unfinished transaction.
    pub(crate) fn last_stable_offset(&self) -> Offset {
        let undecided = self.transactions.first_undecided(self.producers.first_open());
        // Deleting records does not wait for transactions.
        let undecided = undecided.map(|first| first.max(self.bounds.start));
        undecided.map_or(self.high_watermark, |first| first.min(self.high_watermark))
    }

    /// Whether the coordinator must confirm the transaction of a batch before it is appended. If so,
    /// with what [`Machine::check_registration`] has to know of the time of the question.
    pub(crate) fn needs_registration(&self, header: &Header) -> Option<Registration> {
        let (id, epoch) = (header.producer_id, header.producer_epoch);
        let is_asked_for = header.attributes.is_transactional()
            && !self.producers.is_open(id, epoch)
            && self.producers.check(header) == Ok(Verdict::Append);
        is_asked_for.then(|| Registration::Since(self.producers.marker(id)))
    }

    /// That a new batch is part of a transaction, if it claims to be.
    pub(crate) fn check_registration(
        &self,
        batch: &Batch,
        registration: Registration,
    ) -> Result<(), Error> {
        let header = &batch.header;
        let id = header.producer_id;
        let is_sound = !header.attributes.is_transactional()
            || self.producers.is_open(id, header.producer_epoch)
            || match registration {
                Registration::Unasked => false,
                Registration::Since(marker) | Registration::OnBehalf(marker) => {
                    self.producers.marker(id) == marker
                }
                Registration::Internal => true,
            };
        if is_sound {
            return Ok(());
        }
        let message = format!("the transaction of producer {id} has ended in this partition");
        Err(Error::new(ErrorCode::InvalidTxnState, message))
    }

    /// What [`Machine::check_registration`] has to know when a coordinator writes on behalf of a
    /// producer, and whether its transaction has begun here: else the transaction's coordinator must
    /// confirm it.
    pub(crate) fn on_behalf(&self, id: ProducerId, epoch: ProducerEpoch) -> (Option<Offset>, bool) {
        (self.producers.marker(id), self.producers.is_open(id, epoch))
    }

    /// Judges the end of a transaction and, unless it was written before, gives it its offset.
    pub(crate) fn plan_marker(
        &self,
        batch: &mut Batch,
        marker: EndMarker,
        version: TransactionVersion,
    ) -> Result<MarkerVerdict, Error> {
        let (id, epoch) = (batch.header.producer_id, batch.header.producer_epoch);
        let verdict = self.producers.check_marker(id, epoch, marker, version).map_err(|code| {
            let coordinator = marker.coordinator_epoch;
            let text = code.text();
            let message =
                format!("{text} (producer {id}, epoch {epoch}, coordinator epoch {coordinator})");
            Error::new(code, message)
        })?;
        batch.header.base_offset = self.bounds.end;
        batch.header.leader_epoch = self.leader_epoch;
        Ok(verdict)
    }

    /// The aborted transactions that reach into what lies between. `None`: only the log knows.
    pub(crate) fn aborted(&self, from: Offset, below: Offset) -> Option<Vec<Ended>> {
        self.transactions.aborted(from, below)
    }

    /// Forgets which transactions were aborted: a cleaning may change what the log knows of them.
    pub(crate) fn forget_aborted(&mut self) {
        self.transactions.forget_aborted(self.bounds.end);
    }

    /// Judges `batches` and, if they are new, gives them their offsets and epoch.
    ///
    /// Nothing changes until [`Machine::appended`].
    pub(crate) fn plan(
        &self,
        batches: &mut [Batch],
        registration: Registration,
    ) -> Result<Plan, Error> {
        let idempotent = batches.iter().any(|batch| batch.header.producer_id.is_some());
        if let Registration::OnBehalf(_) = registration {
            for batch in &*batches {
                let checked = self.producers.check_unsequenced(&batch.header);
                checked.map_err(|code| refused(code, &batch.header))?;
            }
        } else if let [batch] = &*batches {
            if let Verdict::Duplicate(entry) = self.check(batch)? {
                let end = entry.base_offset + i64::from(batch.header.last_offset_delta) + 1;
                return Ok(Plan::Duplicate { entry, end });
            }
        } else if idempotent || batches.is_empty() {
            let message = "an idempotent producer sends one batch a partition and request";
            return Err(Error::new(ErrorCode::InvalidRecord, message));
        }
        let base_offset = self.bounds.end;
        let mut end = base_offset;
        for batch in batches {
            batch.header.base_offset = end;
            batch.header.leader_epoch = self.leader_epoch;
            end = batch.next_offset();
        }
        Ok(Plan::Append { base_offset, end })
    }

    fn check(&self, batch: &Batch) -> Result<Verdict, Error> {
        self.producers.check(&batch.header).map_err(|code| refused(code, &batch.header))
    }

    /// Notes that planned batches were handed to the log at `now`.
    pub(crate) fn appended(&mut self, batches: &[Batch], now: Timestamp) {
        for batch in batches {
            assert_eq!(batch.base_offset(), self.bounds.end, "a batch left a gap in the log");
            self.epochs.note(batch.header.leader_epoch, batch.base_offset());
            if let Some(ended) = self.producers.note(batch, now) {
                self.transactions.ended(ended);
            }
            self.bounds.end = batch.next_offset();
        }
    }

    /// Notes that the log is durable below `end`. Whether the high watermark moved.
    ///
    /// With one replica the in-sync set is the leader alone, so both are the same.
    pub(crate) fn durable(&mut self, end: Offset) -> bool {
        self.bounds.durable = self.bounds.durable.max(end);
        let moved = self.high_watermark < self.bounds.durable;
        self.high_watermark = self.bounds.durable;
        self.transactions.decided(self.high_watermark);
        moved
    }

    /// Notes that the log begins at `start` now.
    pub(crate) fn trimmed(&mut self, start: Offset) {
        self.bounds.start = self.bounds.start.max(start);
        self.epochs.trim(self.bounds.start);
    }

    /// Judges the leader epoch that a client believes in (KIP-320).
    pub(crate) fn check_epoch(&self, claimed: Option<Epoch>) -> Result<(), Error> {
        let Some(claimed) = claimed else { return Ok(()) };
        let current = self.leader_epoch;
        let code = match claimed.cmp(&current) {
            std::cmp::Ordering::Less => ErrorCode::FencedLeaderEpoch,
            std::cmp::Ordering::Equal => return Ok(()),
            std::cmp::Ordering::Greater => ErrorCode::UnknownLeaderEpoch,
        };
        let message = format!("the request names leader epoch {claimed}, the current is {current}");
        Err(Error::new(code, message))
    }

    /// The largest epoch not above `epoch` that wrote records, and where it ended. The current one
    /// ends where the log does, whether or not it has written.
    pub(crate) fn epoch_end(&self, epoch: Epoch) -> Option<(Epoch, Offset)> {
        if epoch == self.leader_epoch {
            return Some((epoch, self.bounds.end));
        }
        self.epochs.end_of(epoch, self.bounds.end)
    }

    /// The leader epoch under which the record at `offset` was written.
    pub(crate) fn epoch_at(&self, offset: Offset) -> Epoch {
        let known = self.epochs.entries();
        let after = known.partition_point(|(_, start)| *start <= offset);
        after.checked_sub(1).map_or(self.leader_epoch, |index| known[index].0)
    }

    /// What is known of those who wrote.
    pub(crate) fn producers(&self) -> &ProducerTable {
        &self.producers
    }

    /// Whether a batch would make a producer known, to stay so until its transaction ends.
    pub(crate) fn is_new_transaction(&self, header: &Header) -> bool {
        header.attributes.is_transactional() && !self.producers.contains(header.producer_id)
    }

    /// Forgets the producer that wrote longest ago.
    pub(crate) fn forget_oldest_producer(&mut self) {
        self.producers.forget_oldest();
    }

    /// Forgets the producers that wrote before `limit` and not since. Returns how many.
    pub(crate) fn forget_producers(&mut self, limit: Timestamp) -> usize {
        self.producers.forget_before(limit)
    }
}

fn refused(code: ErrorCode, header: &Header) -> Error {
    let message = format!(
        "{} (producer {}, epoch {}, sequence {})",
        code.text(),
        header.producer_id,
        header.producer_epoch,
        header.base_sequence
    );
    Error::new(code, message)
}

#[cfg(test)]
mod tests {
    use rafka_core::batch::BatchBuilder;
    use rafka_core::compression::Compression;

    use super::*;

    const NOW: Timestamp = Timestamp(1000);

    fn batch(producer: i64, sequence: i32, records: usize) -> Batch {
        let mut builder = BatchBuilder::new(Compression::None);
        if 0 <= producer {
            builder.producer(ProducerId(producer), ProducerEpoch(0), sequence);
        }
        for _ in 0..records {
            builder.push(NOW, None, Some(b"v"), &[]);
        }
        builder.build().expect("no codec")
    }

    fn append(machine: &mut Machine, batch: Batch) -> Plan {
        let mut batches = [batch];
        let plan = machine.plan(&mut batches, Registration::Unasked).expect("it is in order");
        if matches!(plan, Plan::Append { .. }) {
            machine.appended(&batches, NOW);
        }
        plan
    }

    fn machine() -> Machine {
        Machine::new(Recovered::default(), Epoch(3))
    }

    #[test]
    fn a_smaller_durable_end_takes_nothing_back() {
        let mut machine = machine();
        append(&mut machine, batch(-1, 0, 3));
        assert!(machine.durable(Offset(3)));
        assert!(!machine.durable(Offset(2)));
        assert_eq!(machine.high_watermark(), Offset(3));
    }

    #[test]
    fn offsets_follow_each_other_and_carry_the_epoch() {
        let mut machine = machine();
        append(&mut machine, batch(-1, 0, 3));
        let mut batches = [batch(-1, 0, 2), batch(-1, 0, 1)];
        let plan = machine.plan(&mut batches, Registration::Unasked);
        assert_eq!(plan, Ok(Plan::Append { base_offset: Offset(3), end: Offset(6) }));
        assert_eq!(batches[1].base_offset(), Offset(5));
        assert_eq!(batches[1].header.leader_epoch, Epoch(3));
        assert_eq!(machine.log_end(), Offset(3), "planning changes nothing");
        assert_eq!(machine.epoch_at(Offset(1)), Epoch(3));
    }

    #[test]
    fn the_high_watermark_moves_with_durability_and_never_back() {
        let mut machine = machine();
        append(&mut machine, batch(-1, 0, 3));
        assert_eq!(machine.high_watermark(), Offset(0));
        assert!(machine.durable(Offset(3)));
        assert!(!machine.durable(Offset(1)));
        assert_eq!(machine.high_watermark(), Offset(3));
    }

    #[test]
    fn a_repeated_batch_gets_its_first_offset_also_after_a_restart() {
        let mut machine = machine();
        append(&mut machine, batch(7, 0, 2));
        append(&mut machine, batch(7, 2, 2));
        let Plan::Duplicate { entry, end } = append(&mut machine, batch(7, 0, 2)) else {
            panic!("it was appended before");
        };
        assert_eq!((entry.base_offset, end), (Offset(0), Offset(2)));
        let recovered = Recovered {
            bounds: machine.bounds,
            epochs: machine.epochs.clone(),
            producers: machine.producers.clone(),
        };
        let mut restarted = Machine::new(recovered, Epoch(4));
        assert!(matches!(append(&mut restarted, batch(7, 2, 2)), Plan::Duplicate { .. }));
        assert!(matches!(append(&mut restarted, batch(7, 4, 1)), Plan::Append { .. }));
    }

    #[test]
    fn a_gap_is_refused_and_names_the_producer() {
        let mut machine = machine();
        append(&mut machine, batch(7, 0, 2));
        let error = machine
            .plan(&mut [batch(7, 3, 1)], Registration::Unasked)
            .expect_err("sequence 2 is missing");
        assert_eq!(error.code, ErrorCode::OutOfOrderSequenceNumber);
        assert!(error.message.contains("producer 7"), "{error}");
        let two = &mut [batch(7, 2, 1), batch(7, 3, 1)];
        assert_eq!(
            machine.plan(two, Registration::Unasked).map_err(|e| e.code),
            Err(ErrorCode::InvalidRecord)
        );
    }

    #[test]
    fn stale_and_future_epochs_are_told_apart() {
        let machine = machine();
        let check = |epoch: Option<i32>, expected: Option<ErrorCode>| {
            let result = machine.check_epoch(epoch.map(Epoch));
            assert_eq!(result.err().map(|error| error.code), expected);
        };
        check(None, None);
        check(Some(3), None);
        check(Some(2), Some(ErrorCode::FencedLeaderEpoch));
        check(Some(4), Some(ErrorCode::UnknownLeaderEpoch));
    }
}
