//! Segments against a `Vec` of batches: reading, damage, lost indexes, cuts of power.

use rafka_core::rng::{self, RngExt as _};
use rafka_core::{Batch, ByteSize, Offset, Rng, Timestamp};

use super::reader::first_at;
use super::testing::{self, batches, file, log_name, reopened, store, write};
use super::*;
use crate::disk::{Disk as _, Open};
use crate::{Error, ReadError, TimedOffset};

const EVERYTHING: Offset = Offset(i64::MAX);

fn read(
    store: &Store,
    segment: &Segment,
    from: Offset,
    below: Offset,
    limit: ByteSize,
) -> Result<Vec<Batch>, ReadError> {
    let mut out = Vec::new();
    store.read(&log_name(), segment, Wanted { from, below, limit }, &mut out)?;
    Ok(out)
}

/// Reads the whole segment as a reader would who goes on behind damage: the batches, and the
/// damaged ranges.
fn read_on(store: &Store, segment: &Segment) -> (Vec<Batch>, Vec<(Offset, Offset)>) {
    let (mut whole, mut damaged) = (Vec::new(), Vec::new());
    let mut from = segment.base;
    while from < segment.end {
        match read(store, segment, from, EVERYTHING, ByteSize::kib(64)) {
            Ok(batches) => {
                from = batches.last().map_or(segment.end, Batch::next_offset);
                whole.extend(batches);
            }
            Err(ReadError::Damaged { offset, next }) => {
                assert!(from < next, "reading does not get on at {from}");
                damaged.push((offset, next));
                from = next;
            }
            Err(error) => panic!("{error}"),
        }
    }
    (whole, damaged)
}

fn expected(batches: &[Batch], from: Offset, below: Offset, limit: ByteSize) -> Vec<Batch> {
    let mut bytes = 0;
    let mut out = Vec::new();
    for batch in batches.iter().filter(|batch| from < batch.next_offset()) {
        bytes += batch.len() as u64;
        if below < batch.next_offset() || (!out.is_empty() && limit.0 < bytes) {
            break;
        }
        out.push(batch.clone());
    }
    out
}

fn some_batches(rng: &mut Rng, count: usize) -> (Offset, Vec<Batch>) {
    let base = Offset(rng.random_range(0..5_000_000_000));
    (base, batches(rng, count, base))
}

#[test]
fn every_offset_reads_as_from_a_vec() {
    for seed in 0..10 {
        let rng = &mut rng::from_seed(seed);
        let (disk, store) = store(seed);
        let (base, batches) = some_batches(rng, 60);
        let mut writer = store.create(&log_name(), base, 0).expect("the disk works");
        for (number, batch) in batches.iter().enumerate() {
            if rng.random_bool(0.1) {
                writer.flush(&disk).expect("the disk works");
                let segment = writer.segment().clone();
                let written = read_on(&store, &segment);
                assert_eq!(written, (batches[..number].to_vec(), vec![]), "seed {seed}");
                writer = store.resume(&log_name(), &segment).expect("it is there");
            }
            writer.append(&disk, batch, Timestamp(0)).expect("the disk works");
        }
        writer.flush(&disk).expect("the disk works");
        let segment = writer.segment().clone();
        assert_eq!(segment.batch_bytes, batches.iter().map(|b| b.len() as u64).sum::<u64>());
        for from in base.0..segment.end.0 + 2 {
            let below = Offset(rng.random_range(base.0..segment.end.0 + 2));
            let limit = ByteSize(rng.random_range(0..200_000));
            let found =
                read(&store, &segment, Offset(from), below, limit).expect("nothing is damaged");
            assert_eq!(
                found,
                expected(&batches, Offset(from), below, limit),
                "seed {seed} from {from} below {below} limit {limit}"
            );
        }
        assert_eq!(store.indexes_rebuilt(), 0, "seed {seed}");
    }
}

#[test]
fn a_limit_counts_what_other_segments_gave() {
    let (disk, store) = store(1);
    let (base, batches) = some_batches(&mut rng::from_seed(1), 3);
    let segment = write(&store, &disk, base, &batches[1..], Timestamp(0));
    let limit = ByteSize((batches[0].len() + batches[1].len()) as u64);
    let mut out = vec![batches[0].clone()];
    let wanted = Wanted { from: base, below: EVERYTHING, limit };
    store.read(&log_name(), &segment, wanted, &mut out).expect("nothing is damaged");
    assert_eq!(out, batches[..2]);
}

#[test]
fn the_first_record_at_a_time_is_the_one_a_scan_finds() {
    for seed in 0..10 {
        let rng = &mut rng::from_seed(seed);
        let (disk, store) = store(seed);
        let (base, batches) = some_batches(rng, 60);
        let segment = write(&store, &disk, base, &batches, Timestamp(0));
        let records: Vec<_> = batches
            .iter()
            .flat_map(|batch| batch.records(INFLATE_MAX).expect("it is ours"))
            .map(|record| record.expect("it is ours"))
            .collect();
        for at in (900..segment.max_timestamp.0 + 10).step_by(7).map(Timestamp) {
            let below = Offset(rng.random_range(base.0..segment.end.0 + 2));
            let found =
                store.find_by_time(&log_name(), &segment, at, below).expect("nothing is damaged");
            let first = records.iter().find(|record| at <= record.timestamp);
            let expected = first
                .map(|r| TimedOffset { offset: r.offset, timestamp: r.timestamp })
                .filter(|found| found.offset < below);
            assert_eq!(found, expected, "seed {seed} at {at} below {below}");
        }
    }
}

#[test]
fn a_flipped_bit_costs_the_batch_it_is_in_and_no_other() {
    let (disk, store) = store(1);
    let rng = &mut rng::from_seed(1);
    let (base, batches) = some_batches(rng, 40);
    let segment = write(&store, &disk, base, &batches, Timestamp(0));
    let mut position = format::HEADER_LEN as u64;
    for (number, hit) in batches.iter().enumerate() {
        let len = (format::FRAME_LEN + hit.len()) as u64;
        // Every byte of the frame and the batch header, and some of the records.
        let records: Vec<_> = (0..8).map(|_| rng.random_range(0..len)).collect();
        for byte in (0..format::FRAME_AND_BATCH_HEADER_LEN as u64).chain(records) {
            let mask = 1 << rng.random_range(0..8);
            disk.flip(&file(&segment, "log"), position + byte, mask);
            let (whole, damaged) = read_on(&store, &segment);
            let mut others = batches.clone();
            others.remove(number);
            assert!(whole == others, "batch {number} byte {byte} mask {mask}");
            let next = batches.get(number + 1).map_or(segment.end, |next| next.base_offset());
            let [(offset, to)] = damaged[..] else { panic!("damage not found: {damaged:?}") };
            assert_eq!(to, next, "batch {number} byte {byte}");
            let earliest = number.checked_sub(1).map_or(base, |n| batches[n].base_offset());
            assert!(earliest < offset.next() && offset <= hit.base_offset());
            disk.flip(&file(&segment, "log"), position + byte, mask);
        }
        position += len;
    }
    assert_eq!(read_on(&store, &segment), (batches, vec![]));
}

#[test]
fn damage_above_what_is_wanted_is_no_failure() {
    let (disk, store) = store(1);
    let (base, batches) = some_batches(&mut rng::from_seed(8), 3);
    let segment = write(&store, &disk, base, &batches, Timestamp(0));
    let last = batches[2].base_offset();
    disk.flip(&file(&segment, "log"), segment.file_len - 1, 1);
    let everything = ByteSize::mib(1);
    let found = read(&store, &segment, base, EVERYTHING, everything).expect("the first are whole");
    assert_eq!(found, batches[..2]);
    assert_eq!(read(&store, &segment, last, last, everything).expect("none is wanted"), []);
    let damaged = read(&store, &segment, last, last.next(), everything);
    assert!(matches!(damaged, Err(ReadError::Damaged { offset, .. }) if offset == last));
}

#[test]
fn bytes_of_another_place_or_another_file_are_not_taken_for_a_batch() {
    let (disk, store) = store(1);
    let (base, batches) = some_batches(&mut rng::from_seed(3), 1);
    let twice = [batches[0].clone(), {
        let mut second = batches[0].clone();
        second.header.base_offset = batches[0].next_offset();
        second
    }];
    let segment = write(&store, &disk, base, &twice, Timestamp(0));
    let path = file(&segment, "log");
    let bytes = disk.contents(&path);
    let len = format::FRAME_LEN + twice[0].len();
    let mut moved = bytes[..format::HEADER_LEN].to_vec();
    moved.extend_from_slice(&bytes[format::HEADER_LEN + len..]);
    moved.extend_from_slice(&bytes[format::HEADER_LEN..][..len]);
    disk.put(&path, &moved);
    assert_eq!(read_on(&reopened(&disk), &segment).0, []);
    // The same bytes in the file of another generation.
    let other = Segment { generation: 1, ..segment };
    disk.put(&path.with_file_name(format!("{:020}-1.log", base.0)), &bytes);
    assert_eq!(read_on(&reopened(&disk), &other).0, []);
}

#[test]
fn a_lost_or_damaged_index_is_made_again_with_the_same_bytes() {
    let (disk, store) = store(1);
    let rng = &mut rng::from_seed(2);
    let (base, batches) = some_batches(rng, 80);
    let segment = write(&store, &disk, base, &batches, Timestamp(0));
    assert!(10 < segment.index_entries, "the test needs an index");
    let path = file(&segment, "index");
    let sound = disk.contents(&path);
    let check = |what: &str| {
        let store = reopened(&disk);
        let (log, none) = (log_name(), Ok(None));
        for from in (base.0..segment.end.0).step_by(9).map(Offset) {
            let found = read(&store, &segment, from, EVERYTHING, ByteSize(1));
            let wanted = expected(&batches, from, EVERYTHING, ByteSize(1));
            assert_eq!(found.expect("the log is whole"), wanted, "{what} from {from}");
        }
        let never = store.find_by_time(&log, &segment, Timestamp(i64::MAX), EVERYTHING);
        assert_eq!(never.map_err(|error| error.to_string()), none);
        assert!(0 < store.indexes_rebuilt(), "{what}: not noticed");
        assert_eq!(disk.contents(&path), sound, "{what}");
    };
    disk.remove(&path).expect("it is there");
    check("missing");
    disk.put(&path, &[]);
    check("empty");
    disk.put(&path, &sound[..sound.len() / 2]);
    check("cut");
    disk.put(&path, &vec![0; sound.len()]);
    check("zeros");
    let mut garbage = sound.clone();
    rng.fill(&mut garbage[..]);
    disk.put(&path, &garbage);
    check("garbage");
}

#[test]
fn a_damaged_index_entry_never_misleads() {
    let (disk, store) = store(1);
    let rng = &mut rng::from_seed(5);
    let (base, batches) = some_batches(rng, 60);
    let segment = write(&store, &disk, base, &batches, Timestamp(0));
    for _ in 0..300 {
        let path = file(&segment, "index");
        let len = disk.contents(&path).len() as u64;
        let (position, mask) = (rng.random_range(0..len), 1 << rng.random_range(0..8));
        disk.flip(&path, position, mask);
        let from = Offset(rng.random_range(base.0..segment.end.0));
        let found = read(&store, &segment, from, EVERYTHING, ByteSize(1));
        let wanted = expected(&batches, from, EVERYTHING, ByteSize(1));
        assert_eq!(found.expect("the log is whole"), wanted, "byte {position} mask {mask}");
    }
    assert!(0 < store.indexes_rebuilt());
}

#[test]
fn an_index_beside_damage_keeps_its_number_of_entries() {
    let (disk, store) = store(1);
    let (base, batches) = some_batches(&mut rng::from_seed(6), 80);
    let segment = write(&store, &disk, base, &batches, Timestamp(0));
    let middle = batches[40].base_offset();
    for position in (100_000..200_000).step_by(500) {
        disk.flip(&file(&segment, "log"), position, 0xff);
    }
    disk.remove(&file(&segment, "index")).expect("it is there");
    let (whole, damaged) = read_on(&reopened(&disk), &segment);
    assert!(!damaged.is_empty());
    assert!(whole.iter().any(|batch| middle < batch.base_offset()));
    let store = reopened(&disk);
    assert_eq!(read_on(&store, &segment), (whole, damaged));
    assert_eq!(store.indexes_rebuilt(), 0, "it was written whole the first time");
}

#[test]
fn what_was_synced_survives_a_power_cut_and_what_was_not_is_cut_off() {
    for seed in 0..40 {
        let rng = &mut rng::from_seed(seed);
        let (disk, store) = store(seed);
        let (base, batches) = some_batches(rng, 40);
        let (synced, unsynced) = batches.split_at(rng.random_range(1..40));
        let segment = write(&store, &disk, base, synced, Timestamp(0));
        let mut writer = store.resume(&log_name(), &segment).expect("it is there");
        for batch in unsynced {
            writer.append(&disk, batch, Timestamp(0)).expect("the disk works");
        }
        writer.flush(&disk).expect("the disk works");
        // Also when all of it reached the disk, and only the manifest did not hear of it.
        if rng.random_bool(0.5) {
            disk.sync_fs(&file(&segment, "log")).expect("the disk works");
        }
        disk.crash();
        let store = reopened(&disk);
        assert_eq!(read_on(&store, &segment), (synced.to_vec(), vec![]), "seed {seed}");
        // Other batches take the place of the lost ones. Nothing of those may come back.
        let mut writer = store.resume(&log_name(), &segment).expect("it is there");
        assert_eq!(disk.contents(&file(&segment, "log")).len() as u64, segment.file_len);
        let others = testing::batches(rng, 30, segment.end);
        for batch in &others {
            writer.append(&disk, batch, Timestamp(0)).expect("the disk works");
        }
        writer.sync(&disk).expect("the disk works");
        let segment = writer.segment().clone();
        disk.crash();
        let store = reopened(&disk);
        let all = [synced, &others].concat();
        assert_eq!(read_on(&store, &segment), (all.clone(), vec![]), "seed {seed}");
        for at in (1_000..segment.max_timestamp.0).step_by(40).map(Timestamp) {
            let found = store.find_by_time(&log_name(), &segment, at, EVERYTHING);
            let found = found.expect("nothing is damaged").map(|found| found.offset);
            let first = all.iter().find_map(|batch| first_at(batch, at));
            assert_eq!(found, first.map(|first| first.offset), "seed {seed} at {at}");
        }
    }
}

#[test]
fn a_truncated_segment_is_the_one_that_was_never_written_further() {
    for seed in 0..6 {
        let (disk, store) = store(seed);
        let (base, batches) = some_batches(&mut rng::from_seed(seed), 50);
        let segment = write(&store, &disk, base, &batches, Timestamp(9));
        for end in (base.0 - 1..segment.end.0 + 2).map(Offset) {
            let kept: Vec<_> =
                batches.iter().filter(|batch| batch.next_offset() <= end).cloned().collect();
            let left = store.truncated(&log_name(), &segment, end).expect("nothing is damaged");
            let Some(left) = left else {
                assert_eq!(kept, [], "seed {seed} end {end}");
                continue;
            };
            let mut writer = store.create(&log_name(), base, 9).expect("the disk works");
            for batch in &kept {
                writer.append(&disk, batch, Timestamp(9)).expect("the disk works");
            }
            let fresh = writer.segment().clone();
            // Where offsets are missing, the end may lie anywhere between the batches.
            assert!(fresh.end <= left.end && left.end <= end, "seed {seed} end {end}");
            let comparable = Segment { generation: 9, end: fresh.end, ..left.clone() };
            assert_eq!(comparable, fresh, "seed {seed} end {end}");
            assert_eq!(read_on(&store, &left).0, kept);
        }
        // Cutting the files, and growing again, leaves nothing of the old.
        let end = batches[25].next_offset();
        let left = store.truncated(&log_name(), &segment, end).expect("nothing is damaged");
        let left = left.expect("half is left");
        let mut writer = store.resume(&log_name(), &left).expect("it is there");
        for batch in &batches[26..] {
            writer.append(&disk, batch, Timestamp(9)).expect("the disk works");
        }
        writer.flush(&disk).expect("the disk works");
        assert_eq!(writer.segment(), &segment);
        assert_eq!(read_on(&store, &segment).0, batches);
    }
}

#[test]
fn a_file_of_another_version_is_refused_by_name() {
    let (disk, store) = store(1);
    let (base, batches) = some_batches(&mut rng::from_seed(1), 3);
    let segment = write(&store, &disk, base, &batches, Timestamp(0));
    let path = file(&segment, "log");
    disk.flip(&path, 11, 3);
    match read(&reopened(&disk), &segment, base, EVERYTHING, ByteSize(1)) {
        Err(ReadError::Failed(Error::UnknownVersion { path: named, found: 2, known: 1 })) => {
            assert_eq!(named, path);
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_damaged_file_header_costs_no_batch() {
    let (disk, store) = store(1);
    let (base, batches) = some_batches(&mut rng::from_seed(1), 3);
    let segment = write(&store, &disk, base, &batches, Timestamp(0));
    for byte in (0..8).chain(12..format::HEADER_LEN as u64) {
        disk.flip(&file(&segment, "log"), byte, 0x55);
    }
    assert_eq!(read_on(&reopened(&disk), &segment), (batches, vec![]));
}

#[test]
fn a_file_that_lost_its_end_is_damaged_and_never_a_shorter_log() {
    let (disk, store) = store(1);
    let (base, batches) = some_batches(&mut rng::from_seed(1), 20);
    let segment = write(&store, &disk, base, &batches, Timestamp(0));
    let path = file(&segment, "log");
    let half = segment.file_len / 2;
    disk.open(&path, Open::EXISTING).and_then(|file| file.set_len(half)).expect("it is there");
    let store = reopened(&disk);
    let (whole, damaged) = read_on(&store, &segment);
    assert_eq!(whole, batches[..whole.len()]);
    let next_lost = batches[whole.len()].base_offset();
    assert_eq!(damaged.len(), 1);
    assert!(damaged[0].0 <= next_lost && damaged[0].1 == segment.end);
    assert!(
        matches!(store.resume(&log_name(), &segment), Err(Error::Corrupt { position, .. }) if position == half)
    );
}

#[test]
fn a_segment_is_as_new_as_its_newest_record_and_its_last_append() {
    let (disk, store) = store(1);
    let (base, batches) = some_batches(&mut rng::from_seed(1), 3);
    let newest = |now| write(&store, &disk, base, &batches, Timestamp(now)).newest();
    let max = batches.iter().map(Batch::max_timestamp).max().expect("there are three");
    assert_eq!(newest(0), max);
    assert_eq!(newest(max.0 + 5), Timestamp(max.0 + 5));
}

#[test]
fn a_new_segment_takes_nothing_over_from_what_was_left_under_its_name() {
    let (disk, store) = store(1);
    let (base, batches) = some_batches(&mut rng::from_seed(1), 40);
    let leftover = write(&store, &disk, base, &batches, Timestamp(0));
    assert!(0 < leftover.index_entries);
    let segment = write(&store, &disk, base, &batches[..2], Timestamp(0));
    assert_eq!(disk.contents(&file(&segment, "log")).len() as u64, segment.file_len);
    assert_eq!(disk.contents(&file(&segment, "index")).len(), 0);
    assert_eq!(read_on(&store, &segment), (batches[..2].to_vec(), vec![]));
}

#[test]
fn sweeping_removes_only_segments_that_nobody_names() {
    let (disk, store) = store(1);
    let (base, batches) = some_batches(&mut rng::from_seed(1), 30);
    let segment = write(&store, &disk, base, &batches, Timestamp(0));
    let dir = file(&segment, "log").parent().expect("it is in a directory").to_owned();
    for name in ["00000000000000000001-7.log", "00000000000000000001-7.index", "notes.txt", "1.log"]
    {
        disk.put(&dir.join(name), b"x");
    }
    let named = [segment.clone()];
    assert_eq!(store.sweep(&log_name(), &named).expect("the disk works"), 2);
    let left = disk.list(&dir).expect("it is there");
    assert_eq!(left.len(), 4, "{left:?}");
    assert_eq!(read_on(&store, &segment), (batches, vec![]));
    store.remove(&log_name(), &segment).expect("the disk works");
    disk.remove(&dir.join("notes.txt")).expect("it is there");
    disk.remove(&dir.join("1.log")).expect("it is there");
    store.remove_log(&log_name()).expect("the disk works");
    let logs = dir.ancestors().nth(2).expect("it is below logs");
    assert_eq!(disk.list(logs).expect("it is there"), Vec::<String>::new());
}

#[test]
fn a_full_disk_costs_nothing_but_the_attempt() {
    let (disk, store) = store(1);
    let (base, batches) = some_batches(&mut rng::from_seed(4), 60);
    let segment = write(&store, &disk, base, &batches[..30], Timestamp(0));
    disk.set_capacity(Some(ByteSize(segment.file_len + 4096)));
    let mut writer = store.resume(&log_name(), &segment).expect("it is there");
    let full = batches[30..]
        .iter()
        .try_for_each(|batch| writer.append(&disk, batch, Timestamp(0)))
        .and_then(|()| writer.sync(&disk));
    assert!(full.is_err_and(|error| error.is_disk_full()));
    drop(writer);
    assert_eq!(read_on(&store, &segment), (batches[..30].to_vec(), vec![]));
    disk.set_capacity(None);
    let mut writer = store.resume(&log_name(), &segment).expect("it is there");
    for batch in &batches[30..] {
        writer.append(&disk, batch, Timestamp(0)).expect("there is room again");
    }
    writer.sync(&disk).expect("there is room again");
    let segment = writer.segment().clone();
    assert_eq!(read_on(&store, &segment), (batches, vec![]));
}

#[test]
fn arbitrary_bytes_never_panic() {
    for seed in 0..150 {
        let rng = &mut rng::from_seed(seed);
        let (disk, store) = store(seed);
        let (base, batches) = some_batches(rng, 12);
        let segment = write(&store, &disk, base, &batches, Timestamp(0));
        for extension in ["log", "index"] {
            let path = file(&segment, extension);
            if segment.index_entries == 0 && extension == "index" {
                continue;
            }
            let mut bytes = disk.contents(&path);
            let from = rng.random_range(0..bytes.len());
            let to = rng.random_range(from..bytes.len() + 1);
            match rng.random_range(0..4) {
                0 => rng.fill(&mut bytes[from..to]),
                1 => bytes[from..to].fill(0xff),
                2 => bytes[from..to].fill(2),
                _ => drop(bytes.drain(from..to)),
            }
            disk.put(&path, &bytes);
        }
        let store = reopened(&disk);
        let (whole, _) = read_on(&store, &segment);
        assert!(whole.iter().all(|batch| batches.contains(batch)), "seed {seed}");
        let _ = store.find_by_time(&log_name(), &segment, Timestamp(1_100), EVERYTHING);
        let middle = Offset((base.0 + segment.end.0) / 2);
        let left = store.truncated(&log_name(), &segment, middle).expect("the disk works");
        if let Some(mut writer) = left.and_then(|left| store.resume(&log_name(), &left).ok()) {
            writer.flush(&disk).expect("the disk works");
        }
    }
}
