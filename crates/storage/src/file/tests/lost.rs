//! What the engine does with a directory of which files are lost, another's, or of another time.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rafka_core::Batch;

use super::super::abandon_journal;
use super::faults::{append, bench, open, read_all};
use super::{Bench, DIR, small_settings};
use crate::contract::sample;
use crate::disk::Disk;
use crate::disk::faulty::FaultyDisk;
use crate::{Durability, Engine as _, Error, LogId, LogSettings, inspect};

type Files = Vec<(PathBuf, Vec<u8>)>;

/// The files of the journal, with what they hold.
fn journal(bench: &Bench) -> Files {
    let dir = Path::new(DIR).join("journal");
    let names = bench.disk.list(&dir).expect("it is there");
    let paths = names.iter().filter(|name| name.ends_with(".wal")).map(|name| dir.join(name));
    paths.map(|path| (path.clone(), bench.disk.contents(&path))).collect()
}

/// Three starts that must be refused, as a supervisor would try, each leaving the journal alone.
fn refused(bench: &mut Bench) -> Error {
    let before = journal(bench);
    for _ in 0..2 {
        assert!(bench.reopen().is_err(), "a start that is refused is refused again");
    }
    let error = bench.reopen().expect_err("it is refused again");
    assert_eq!(journal(bench), before, "refused, and changed all the same");
    error
}

#[test]
fn a_manifest_that_is_lost_or_another_s_is_refused_and_costs_nothing() {
    let path = Path::new(DIR).join("manifest.redb");
    let other = Bench::new(2, small_settings());
    let foreign = other.disk.contents(&path);
    for flushed in [false, true] {
        let (mut bench, log) = bench();
        let acked = append(&bench, log, 5, 100);
        bench.engine.step();
        if flushed {
            bench.engine.flush().expect("the disk works");
        }
        bench.disk.kill();
        let manifest = bench.disk.contents(&path);
        bench.disk.remove(&path).expect("it was there");
        let error = refused(&mut bench);
        assert!(matches!(&error, Error::Missing { path: of, .. } if *of == path), "{error}");
        bench.disk.put(&path, &foreign);
        let error = refused(&mut bench);
        assert!(matches!(&error, Error::Foreign { .. }), "{error}");
        bench.disk.put(&path, &manifest);
        bench.reopen().expect("it is whole again");
        let log = open(&bench, sample::small_segments());
        assert_eq!(read_all(&bench, log), acked, "flushed: {flushed}");
    }
}

#[test]
fn a_journal_that_is_lost_is_refused_until_it_is_back() {
    for durability in [Durability::Fsync, Durability::Os] {
        let (mut bench, _) = bench();
        let settings = LogSettings { durability, ..sample::small_segments() };
        let log = open(&bench, settings.clone());
        let acked = append(&bench, log, 5, 100);
        bench.engine.step();
        bench.disk.kill();
        let mut lost = journal(&bench);
        lost.retain(|(path, _)| path.to_string_lossy().contains(durability.name()));
        for (path, _) in &lost {
            bench.disk.remove(path).expect("it was there");
        }
        let error = refused(&mut bench);
        assert!(matches!(&error, Error::Missing { .. }), "{error}");
        for (path, content) in &lost {
            bench.disk.put(path, content);
        }
        bench.reopen().expect("it is whole again");
        let log = open(&bench, settings);
        assert_eq!(read_all(&bench, log), acked, "{durability:?}");
    }
}

#[test]
fn a_journal_that_a_clean_stop_left_may_be_lost() {
    let (mut bench, log) = bench();
    let acked = append(&bench, log, 5, 100);
    bench.engine.stop().expect("the disk works");
    for (path, _) in journal(&bench) {
        bench.disk.remove(&path).expect("it was there");
    }
    bench.reopen().expect("everything is in the segments");
    let log = open(&bench, sample::small_segments());
    assert_eq!(read_all(&bench, log), acked);
    let more = append(&bench, log, 5, 100);
    bench.engine.step();
    bench.disk.kill();
    bench.reopen().expect("sound");
    let log = open(&bench, sample::small_segments());
    assert_eq!(read_all(&bench, log), [acked, more].concat());
}

fn manifest(bench: &Bench) -> Files {
    let path = Path::new(DIR).join("manifest.redb");
    vec![(path.clone(), bench.disk.contents(&path))]
}

/// Puts these files where those are.
fn swap(bench: &Bench, those: &Files, these: &Files) {
    for (path, _) in those {
        bench.disk.remove(path).expect("it was there");
    }
    for (path, content) in these {
        bench.disk.put(path, content);
    }
}

/// That a directory is refused with some of its files as they were before, and whole with those it
/// had.
fn check_refused(mut bench: Bench, (right, wrong): (&Files, &Files), said: &str, acked: &[Batch]) {
    swap(&bench, right, wrong);
    let error = refused(&mut bench);
    assert!(matches!(&error, Error::Mismatched { .. }), "{error}");
    assert!(error.to_string().contains(said), "{error}");
    let mut found = Vec::new();
    let disk: Arc<dyn Disk> = Arc::new(bench.disk.clone());
    inspect::verify(&disk, Path::new(DIR), &mut |file| found.push(file.to_string()))
        .expect("it can be listed");
    assert!(found.iter().any(|file| file.contains("DAMAGED") && file.contains(said)), "{found:#?}");
    swap(&bench, wrong, right);
    bench.reopen().expect("it is whole again");
    let log = open(&bench, sample::small_segments());
    assert!(read_all(&bench, log) == acked, "{said}");
}

/// Appends until the journal has given files back, everything acked.
fn wear(bench: &Bench, log: LogId) -> Vec<Batch> {
    let mut acked = Vec::new();
    for _ in 0..30 {
        acked.extend(append(bench, log, 2, 20_000));
        bench.engine.step();
        bench.engine.flush().expect("the disk works");
    }
    acked.extend(append(bench, log, 1, 100));
    bench.engine.step();
    acked
}

#[test]
fn an_older_manifest_is_refused_for_what_the_journal_has_given_back() {
    for cleanly in [false, true] {
        let (mut bench, log) = bench();
        let mut acked = append(&bench, log, 5, 100);
        bench.engine.step();
        bench.engine.flush().expect("the disk works");
        if cleanly {
            bench.engine.stop().expect("the disk works");
        }
        let backup = manifest(&bench);
        if cleanly {
            bench.reopen().expect("sound");
            open(&bench, sample::small_segments());
        }
        acked.extend(wear(&bench, log));
        bench.disk.kill();
        let now = manifest(&bench);
        check_refused(bench, (&now, &backup), "is the first, and those from", &acked);
    }
}

#[test]
fn an_older_manifest_is_refused_for_logs_that_it_does_not_know() {
    let (bench, log) = bench();
    let acked = append(&bench, log, 5, 100);
    bench.engine.step();
    let backup = manifest(&bench);
    let other = [(sample::name(2, 0), sample::small_segments())];
    let other = bench.engine.open(&other).expect("the disk works")[0].0;
    append(&bench, other, 1, 100);
    bench.engine.step();
    bench.disk.kill();
    let now = manifest(&bench);
    check_refused(bench, (&now, &backup), "which was never made", &acked);
}

#[test]
fn a_journal_without_its_oldest_file_is_refused() {
    let (mut bench, log) = bench();
    let mut acked = wear(&bench, log);
    acked.extend(append(&bench, log, 10, 20_000));
    bench.engine.journal(Durability::Fsync).expect("begun").settle();
    bench.disk.kill();
    let all = journal(&bench);
    assert!(1 < all.len(), "it has several files");
    // A file that begins where the one before it ends does not know that it was not the first.
    let oldest: Files = vec![all[0].clone()];
    bench.disk.remove(&oldest[0].0).expect("it was there");
    let error = refused(&mut bench);
    assert!(error.to_string().contains("is the first, and those from"), "{error}");
    swap(&bench, &Files::new(), &oldest);
    bench.reopen().expect("it is whole again");
    let log = open(&bench, sample::small_segments());
    assert!(read_all(&bench, log) == acked);
}

#[test]
fn a_journal_of_an_earlier_start_is_refused() {
    for cleanly in [false, true] {
        let (mut bench, log) = bench();
        let mut acked = append(&bench, log, 5, 100);
        bench.engine.step();
        if cleanly {
            bench.engine.stop().expect("the disk works");
        } else {
            bench.disk.kill();
        }
        let backup = journal(&bench);
        if cleanly {
            // As when the disk of the journal was not there for one start.
            swap(&bench, &backup, &Files::new());
        }
        bench.reopen().expect("sound");
        let log_again = open(&bench, sample::small_segments());
        assert_eq!(log, log_again);
        acked.extend(append(&bench, log, 5, 100));
        bench.engine.step();
        bench.disk.kill();
        let now = journal(&bench);
        check_refused(bench, (&now, &backup), "is the newest, and", &acked);
    }
}

#[test]
fn a_journal_that_ends_before_what_the_segments_hold_is_refused() {
    let (bench, log) = bench();
    let mut acked = append(&bench, log, 5, 100);
    bench.engine.step();
    let backup = journal(&bench);
    acked.extend(append(&bench, log, 5, 100));
    bench.engine.step();
    bench.engine.flush().expect("the disk works");
    acked.extend(append(&bench, log, 5, 100));
    bench.engine.step();
    bench.disk.kill();
    let now = journal(&bench);
    check_refused(bench, (&now, &backup), "it ends before record", &acked);
}

#[test]
fn what_the_segments_hold_is_served_once_a_lost_journal_is_given_up() {
    let (mut bench, log) = bench();
    let flushed = append(&bench, log, 5, 100);
    bench.engine.step();
    bench.engine.flush().expect("the disk works");
    append(&bench, log, 5, 100);
    bench.engine.step();
    let disk: Arc<dyn Disk> = Arc::new(bench.disk.clone());
    let busy = abandon_journal(&disk, Path::new(DIR));
    assert!(matches!(busy, Err(Error::Locked(_))), "{busy:?}");
    bench.disk.kill();
    let (path, content) = journal(&bench).remove(0);
    bench.disk.put(&path, &content[..100]);
    assert!(matches!(refused(&mut bench), Error::Corrupt { .. }));
    let aside = abandon_journal(&disk, Path::new(DIR)).expect("the disk works");
    assert_eq!(aside.len(), 1, "what was left of it is kept");
    assert_eq!(bench.disk.contents(&aside[0]), content[..100]);
    let aside = abandon_journal(&disk, Path::new(DIR)).expect("the disk works");
    assert!(aside.is_empty(), "there is no more to give up");
    bench.reopen().expect("it is not needed any more");
    let log = open(&bench, sample::small_segments());
    assert_eq!(read_all(&bench, log), flushed);
    let more = append(&bench, log, 5, 100);
    bench.engine.step();
    bench.disk.kill();
    bench.reopen().expect("sound");
    let log = open(&bench, sample::small_segments());
    assert_eq!(read_all(&bench, log), [flushed, more].concat());
}

#[test]
fn what_others_put_beside_the_logs_keeps_nobody_from_starting() {
    let mut bench = Bench::new(1, small_settings());
    bench.disk = FaultyDisk::new(1);
    bench.disk.put(&Path::new(DIR).join("logs").join("lost+found").join("x"), b"");
    bench.reopen().expect("none of it is a log");
}

#[test]
fn a_first_start_that_dies_anywhere_is_followed_by_one_that_works() {
    let mut deaths = 0;
    for (power, seed) in [(false, 1), (true, 2), (true, 3)] {
        for changes in 0.. {
            let mut bench = Bench::new(seed, small_settings());
            bench.disk = FaultyDisk::new(seed);
            bench.disk.die_after(changes);
            let survived = bench.reopen().is_ok() && !bench.disk.is_dead();
            if survived {
                break;
            }
            deaths += 1;
            if power {
                bench.disk.crash();
            } else {
                bench.disk.kill();
            }
            let again = bench.reopen();
            assert!(again.is_ok(), "after {changes} changes, power cut {power}: {again:?}");
            let log = open(&bench, sample::small_segments());
            append(&bench, log, 1, 100);
        }
    }
    assert!(30 < deaths, "a start takes more changes than {deaths}");
}
