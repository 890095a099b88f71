//! Processes die and power goes at any point, for many seeds: nothing acked is lost, altered or
//! brought back. And the same test sees when a rule is broken.

use std::collections::BTreeMap;
use std::time::Duration;

use rafka_core::rng::{self, RngExt as _};
use rafka_core::{Offset, Rng};

use super::super::{Entry, Mutant, Sequence, Settings, WriteJob};
use super::world::{Replayed, World, append, disk, small};
use crate::disk::faulty::FaultyDisk;
use crate::{Durability, Error, LogId};

/// How often the process dies in a round.
const LIVES: usize = 6;

/// A round: one disk, several processes.
struct Round {
    rng: Rng,
    disk: FaultyDisk,
    lane: Durability,
    settings: Settings,
    /// What was submitted and may still be found, by sequence.
    history: BTreeMap<Sequence, Entry>,
    /// Everything below must be found.
    acked: Sequence,
    /// Except for what is below this.
    released: Sequence,
    nonce: i64,
}

impl Round {
    fn new(seed: u64, lane: Durability, mutant: Option<Mutant>) -> Self {
        Self {
            rng: rng::from_seed(seed),
            disk: disk(seed),
            lane,
            settings: Settings { mutant, ..small() },
            history: BTreeMap::new(),
            acked: Sequence::default(),
            released: Sequence::default(),
            nonce: 0,
        }
    }

    fn run(&mut self) -> Result<(), String> {
        for _ in 0..LIVES {
            let world = self.open()?;
            self.live(&world)?;
            self.acked = self.acked.max(world.sink.told().durable);
            self.die();
        }
        Ok(())
    }

    /// Cuts the power or kills the process.
    fn die(&mut self) {
        if self.rng.random_bool(0.6) {
            self.disk.crash();
            if self.lane == Durability::Os {
                // What the kernel had may be gone, except for what a checkpoint has elsewhere.
                self.acked = Sequence::default();
            }
        } else {
            self.disk.kill();
        }
    }

    /// Starts a process, which may die while it recovers, and checks what it found.
    fn open(&mut self) -> Result<World, String> {
        loop {
            if self.rng.random_bool(0.3) {
                self.disk.die_after(self.rng.random_range(0..12));
            }
            let opened = World::open_with(&self.disk, self.lane, &self.settings, self.released);
            match opened {
                Ok(world) => {
                    self.check(&world.replayed)?;
                    return Ok(world);
                }
                Err(_) if self.disk.is_dead() => self.die(),
                Err(error) => return Err(format!("refused to start: {error}")),
            }
        }
    }

    fn check(&mut self, replayed: &Replayed) -> Result<(), String> {
        let mut last = Sequence::default();
        for (sequence, entry) in replayed {
            if *sequence <= last {
                return Err(format!("{sequence} was replayed after {last}"));
            }
            last = *sequence;
            match self.history.get(sequence) {
                Some(submitted) if submitted == entry => {}
                Some(_) => return Err(format!("{sequence} was altered")),
                None => return Err(format!("{sequence} was never submitted, or cut off before")),
            }
        }
        let first = replayed.first().map_or(last, |(first, _)| *first);
        let found: std::collections::BTreeSet<Sequence> =
            replayed.iter().map(|(sequence, _)| *sequence).collect();
        for sequence in self.history.keys() {
            let acked = self.released <= *sequence && *sequence < self.acked;
            // What is found has no gap, acked or not.
            let between = first <= *sequence && *sequence <= last;
            if (acked || between) && !found.contains(sequence) {
                return Err(format!("{sequence} is lost, acked below {}", self.acked));
            }
        }
        self.history.retain(|sequence, _| *sequence <= last);
        self.acked = self.acked.max(last.next()).max(self.released);
        Ok(())
    }

    fn live(&mut self, world: &World) -> Result<(), String> {
        let mut in_flight: Vec<WriteJob> = Vec::new();
        if self.rng.random_bool(0.7) {
            self.disk.die_after(self.rng.random_range(0..60));
        }
        for _ in 0..self.rng.random_range(1..120) {
            match self.rng.random_range(0..20) {
                0..=7 => self.submit(world)?,
                8..=11 => in_flight.extend(world.journal.take_write()),
                12..=15 if !in_flight.is_empty() => {
                    let job = in_flight.swap_remove(self.rng.random_range(0..in_flight.len()));
                    world.journal.run_write(job);
                }
                16 => world.clock.advance(Duration::from_millis(60)),
                17 => self.release(world),
                _ => {
                    world.journal.upkeep();
                }
            }
            if self.disk.is_dead() {
                return Ok(());
            }
        }
        if self.rng.random_bool(0.3) {
            in_flight.drain(..).for_each(|job| world.journal.run_write(job));
            let stopped = world.journal.stop();
            if !self.disk.is_dead()
                && let Err(Error::Corrupt { .. } | Error::Dead(_)) = stopped
            {
                return Err(format!("stop failed: {stopped:?}"));
            }
        }
        Ok(())
    }

    fn submit(&mut self, world: &World) -> Result<(), String> {
        self.nonce += 1;
        let bytes = match self.rng.random_range(0..40) {
            0 => 100_000,
            1..=4 => self.rng.random_range(4_000..30_000),
            _ => self.rng.random_range(8..1_500),
        };
        let log = self.rng.random_range(1..4);
        let entry = if self.rng.random_bool(0.1) {
            Entry::Truncate { log: LogId(log), end: Offset(self.nonce) }
        } else {
            append(log, self.nonce, bytes)
        };
        match world.journal.submit(entry.clone()) {
            Ok(sequence) => {
                self.history.insert(sequence, entry);
                Ok(())
            }
            Err(_) if self.disk.is_dead() => Ok(()),
            Err(error) => Err(format!("submit failed: {error}")),
        }
    }

    fn release(&mut self, world: &World) {
        let durable = world.sink.told().durable;
        if self.released < durable && self.rng.random() {
            self.released = Sequence(self.rng.random_range(self.released.0..=durable.0));
            world.journal.release(self.released);
        }
    }
}

fn rounds(seeds: u64, lane: Durability, mutant: Option<Mutant>) -> Result<(), String> {
    for seed in 0..seeds {
        Round::new(seed, lane, mutant)
            .run()
            .map_err(|what| format!("{lane:?} with {mutant:?}, seed {seed}: {what}"))?;
    }
    Ok(())
}

#[test]
fn no_acked_record_is_lost_altered_or_brought_back() {
    rounds(200, Durability::Fsync, None).unwrap();
}

#[test]
fn the_os_lane_survives_kills_and_keeps_a_prefix_over_power_cuts() {
    rounds(100, Durability::Os, None).unwrap();
}

#[test]
fn broken_rules_are_seen() {
    for mutant in [Mutant::AckBeforeSync, Mutant::HeaderNotSynced, Mutant::OldContentValid] {
        rounds(200, Durability::Fsync, Some(mutant)).unwrap_err();
    }
}

#[test]
fn the_same_seed_gives_the_same_round() {
    let run = |seed| {
        let mut round = Round::new(seed, Durability::Fsync, None);
        round.run().unwrap();
        (round.disk.changes(), round.acked, round.released)
    };
    for seed in 0..5 {
        assert_eq!(run(seed), run(seed));
    }
}
