//! Dumping and verifying a data directory, whole and damaged.

use std::path::PathBuf;
use std::sync::Arc;

use rafka_core::{Offset, SystemClock, Timestamp, rng};

use super::*;
use crate::disk::faulty::FaultyDisk;
use crate::journal::Driver;
use crate::manifest::{Change, Checkpoint, Manifest};
use crate::segment::Segment;
use crate::segment::testing::{self, DATA_DIR, file, log_name};
use crate::{
    Durability, Engine as _, FileEngine, LogId, LogSettings, Observer, Settings, Surroundings,
};

/// A data directory with one segment of 60 batches.
fn data_dir() -> (FaultyDisk, Segment) {
    let (disk, store) = testing::store(1);
    let batches = testing::batches(&mut rng::from_seed(2), 60, Offset(100));
    let segment = testing::write(&store, &disk, Offset(100), &batches, Timestamp(0));
    let manifest = Manifest::open(Arc::new(disk.clone()), Path::new(DATA_DIR));
    let checkpoint = Checkpoint {
        start: Offset(100),
        end: segment.end,
        segments: vec![segment.clone()],
        ..Checkpoint::default()
    };
    let changes = [Change::Create(LogId(7), log_name()), Change::Checkpoint(LogId(7), checkpoint)];
    manifest.and_then(|manifest| manifest.commit(&changes)).expect("the disk works");
    (disk, segment)
}

fn items(disk: &FaultyDisk, path: &Path) -> Vec<Item> {
    let mut items = Vec::new();
    dump(disk, path, &mut |item| items.push(item)).expect("the file is ours");
    items
}

fn verified(disk: &FaultyDisk) -> (Report, Vec<FileReport>) {
    let mut files = Vec::new();
    let disk: Arc<dyn Disk> = Arc::new(disk.clone());
    let report = verify(&disk, Path::new(DATA_DIR), &mut |file| files.push(file));
    (report.expect("the directory can be listed"), files)
}

fn manifest_path() -> PathBuf {
    Path::new(DATA_DIR).join(manifest::FILE_NAME)
}

fn is_damage(item: &&Item) -> bool {
    matches!(item, Item::Damage { .. })
}

#[test]
fn a_dump_shows_everything_that_a_file_holds() {
    let (disk, segment) = data_dir();
    let log = items(&disk, &file(&segment, "log"));
    assert!(matches!(&log[0], Item::Segment { partition, .. } if partition.0 == 3));
    assert_eq!(log.iter().filter(|item| matches!(item, Item::Batch { .. })).count(), 60);
    let index = items(&disk, &file(&segment, "index"));
    assert_eq!(index.len(), 1 + segment.index_entries as usize);
    let manifest = items(&disk, &manifest_path());
    assert!(matches!(
        &manifest[..],
        [
            Item::Manifest { log_next: 8, .. },
            Item::Lane { lane: Durability::Fsync, .. },
            Item::Lane { lane: Durability::Os, .. },
            Item::Log { log: 7, .. },
            Item::LogSegment { .. }
        ]
    ));
    for item in log.iter().chain(&index).chain(&manifest) {
        assert!(!is_damage(&item));
        assert!(!item.to_string().is_empty());
    }
}

#[test]
fn a_dump_shows_damage_and_goes_on_behind_it() {
    let (disk, segment) = data_dir();
    let log = file(&segment, "log");
    disk.flip(&log, 3, 1);
    disk.flip(&log, segment.file_len / 2, 1);
    let found = items(&disk, &log);
    let damaged: Vec<_> = found.iter().filter(is_damage).collect();
    assert!(matches!(damaged[..], [Item::Damage { position: 0, .. }, Item::Damage { .. }]));
    assert_eq!(found.iter().filter(|item| matches!(item, Item::Batch { .. })).count(), 59);
    disk.flip(&file(&segment, "index"), 20 + 5, 1);
    assert_eq!(items(&disk, &file(&segment, "index")).iter().filter(is_damage).count(), 1);
}

#[test]
fn a_file_of_no_known_name_is_refused() {
    let (disk, _) = data_dir();
    let error = dump(&disk, Path::new("/data/notes.txt"), &mut |_| {}).expect_err("it is not ours");
    assert!(error.to_string().contains("notes.txt"), "{error}");
}

#[test]
fn a_whole_data_directory_is_sound() {
    let (disk, _) = data_dir();
    let (report, files) = verified(&disk);
    assert_eq!(report, Report { files: 3, unsound: 0 }, "{files:?}");
}

#[test]
fn what_a_flush_left_is_no_damage() {
    let (disk, segment) = data_dir();
    let log = file(&segment, "log");
    let mut longer = disk.contents(&log);
    longer.extend_from_slice(&[7; 100]);
    disk.put(&log, &longer);
    disk.put(&log.with_file_name("00000000000000009999.log"), b"half a header");
    let (report, files) = verified(&disk);
    assert_eq!(report, Report { files: 4, unsound: 0 }, "{files:?}");
    let notes = files
        .iter()
        .filter(|file| file.path.starts_with(Path::new(DATA_DIR).join("logs")))
        .filter(|file| matches!(&file.verdict, Verdict::Sound { note: Some(_) }))
        .count();
    assert_eq!(notes, 2, "{files:?}");
}

#[test]
fn damage_of_data_is_told_apart_from_damage_that_mends_itself() {
    let check = |what: &str, damage: &dyn Fn(&FaultyDisk, &Segment), expected: &str| {
        let (disk, segment) = data_dir();
        damage(&disk, &segment);
        let (report, files) = verified(&disk);
        let found: Vec<_> = files
            .iter()
            .map(|file| match &file.verdict {
                Verdict::Sound { .. } => '.',
                Verdict::Repairable { .. } => 'r',
                Verdict::Damaged { .. } => 'd',
                Verdict::UnknownVersion { .. } => 'v',
                Verdict::Unreadable { .. } => 'u',
            })
            .collect();
        // Manifest, segment, index.
        assert_eq!(found.iter().collect::<String>(), expected, "{what}: {files:?}");
        let unsound = found.iter().filter(|verdict| "dvu".contains(**verdict)).count();
        assert_eq!(report.unsound, unsound as u64, "{what}");
    };
    check("a bit of a batch", &|d, s| d.flip(&file(s, "log"), s.file_len - 1, 1), ".d.");
    check("a bit of a frame", &|d, s| d.flip(&file(s, "log"), 50, 1), ".d.");
    check("a bit of the header", &|d, s| d.flip(&file(s, "log"), 20, 1), ".r.");
    check("a bit of the index", &|d, s| d.flip(&file(s, "index"), 25, 1), "..r");
    check("a version", &|d, s| d.flip(&file(s, "log"), 11, 2), ".v.");
    check("no index", &|d, s| d.remove(&file(s, "index")).expect("it is there"), "..r");
    check("no segment", &|d, s| d.remove(&file(s, "log")).expect("it is there"), ".d.");
    check(
        "half a segment",
        &|d, s| {
            let half = s.file_len / 2;
            let log = d.open(&file(s, "log"), Open::EXISTING).expect("it is there");
            log.set_len(half).expect("it is open");
        },
        ".d.",
    );
    // Without the manifest the segments are checked by themselves: index, then segment, by name.
    check("no manifest", &|d, _| d.remove(&manifest_path()).expect("it is there"), "u..");
    check("a damaged manifest", &|d, _| d.put(&manifest_path(), &[9; 5000]), "d..");
}

#[test]
fn the_journal_is_shown_and_checked_with_the_rest() {
    let disk = FaultyDisk::new(1);
    let surroundings = Surroundings {
        disk: Arc::new(disk.clone()),
        clock: Arc::new(SystemClock::new()),
        rng: rng::from_seed(1),
        observer: Arc::new(Nobody),
        driver: Driver::Manual,
    };
    let (engine, _) = FileEngine::open(Path::new(DATA_DIR), &Settings::default(), surroundings)
        .expect("an empty disk can be used");
    let opened = engine.open(&[(log_name(), LogSettings::default())]).expect("the disk works");
    let batches = testing::batches(&mut rng::from_seed(1), 3, Offset::ZERO);
    for batch in &batches {
        let batch = std::slice::from_ref(batch);
        engine.append(opened[0].0, batch, Timestamp(0)).expect("there is room");
        // Each in a group of its own, so that the later ones vouch for the earlier ones.
        engine.step();
    }
    disk.kill();
    let (report, files) = verified(&disk);
    assert_eq!(report.unsound, 0, "{files:?}");

    let dir = Path::new(DATA_DIR).join("journal");
    let names = disk.list(&dir).expect("it is there");
    let wal = names.iter().find(|name| name.starts_with("fsync") && name.ends_with("wal"));
    let wal = dir.join(wal.expect("the engine has a journal"));
    let found = items(&disk, &wal);
    let of_batch = |item: &Item| match item {
        Item::Batch { position, base_offset, .. } => Some((*position, *base_offset)),
        _ => None,
    };
    let shown: Vec<_> = found.iter().filter_map(of_batch).collect();
    let offsets: Vec<_> = batches.iter().map(rafka_core::Batch::base_offset).collect();
    assert_eq!(shown.iter().map(|(_, offset)| *offset).collect::<Vec<_>>(), offsets);
    assert!(found.iter().all(|item| !item.to_string().is_empty()));

    disk.flip(&wal, shown[0].0 + 60, 1);
    assert!(items(&disk, &wal).iter().any(|item| is_damage(&item)));
    let (report, files) = verified(&disk);
    assert_eq!(report.unsound, 1, "{files:?}");
    assert!(files.iter().any(|file| file.path == wal && !file.verdict.is_sound()), "{files:?}");

    disk.remove(&wal).expect("it is there");
    let (report, files) = verified(&disk);
    assert_eq!(report.unsound, 1, "{files:?}");
    assert!(files.iter().any(|file| file.to_string().contains("fsync-*.wal")), "{files:?}");
}

/// An observer that is told and forgets.
struct Nobody;

impl Observer for Nobody {
    fn durable(&self, _: LogId, _: Offset) {}
    fn failed(&self, _: &Error) {}
    fn room(&self) {}
}
