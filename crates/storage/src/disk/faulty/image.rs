//! Pure: one file of the faulty disk: what reads back, and what the platter holds instead.

use std::collections::{BTreeMap, BTreeSet};

use rafka_core::Rng;
use rafka_core::rng::RngExt as _;

use crate::disk::Mode;

/// What a disk writes whole or not at all.
const SECTOR: usize = 512;

type Sector = [u8; SECTOR];

/// One file.
#[derive(Debug, Default)]
pub(super) struct Image {
    /// What reads back.
    content: Vec<u8>,
    /// For each sector that was written and not synced: what the platter holds.
    platter: BTreeMap<usize, Sector>,
    /// Of those, the sectors that a failed sync has given up.
    lost: BTreeSet<usize>,
    /// The length that a power cut may bring back.
    platter_len: usize,
}

fn index(position: u64) -> usize {
    usize::try_from(position).expect("files of tests fit into memory")
}

impl Image {
    pub(super) fn len(&self) -> u64 {
        self.content.len() as u64
    }

    pub(super) fn content(&self) -> &[u8] {
        &self.content
    }

    pub(super) fn read(&self, position: u64, out: &mut [u8]) -> usize {
        let rest = self.content.get(index(position)..).unwrap_or_default();
        let count = rest.len().min(out.len());
        out[..count].copy_from_slice(&rest[..count]);
        count
    }

    pub(super) fn write(&mut self, position: u64, data: &[u8], mode: Mode) {
        let start = index(position);
        let end = start + data.len();
        if data.is_empty() {
            return;
        }
        let sectors = start / SECTOR..=(end - 1) / SECTOR;
        if mode != Mode::Direct {
            sectors.clone().for_each(|sector| self.note_platter(sector));
        }
        if self.content.len() < end {
            self.content.resize(end, 0);
        }
        self.content[start..end].copy_from_slice(data);
        if mode == Mode::Direct {
            self.platter_len = self.platter_len.max(end);
            for sector in sectors {
                self.platter.remove(&sector);
                self.lost.remove(&sector);
            }
        }
    }

    /// Writes any of the sectors, all or none included.
    pub(super) fn write_torn(&mut self, position: u64, data: &[u8], mode: Mode, rng: &mut Rng) {
        let share = [0.0, 0.5, 0.9, 1.0][rng.random_range(0..4)];
        let mut at = 0;
        while at < data.len() {
            let place = index(position) + at;
            let step = (SECTOR - place % SECTOR).min(data.len() - at);
            if rng.random_bool(share) {
                self.write(place as u64, &data[at..at + step], mode);
            }
            at += step;
        }
    }

    pub(super) fn set_len(&mut self, len: u64) {
        let len = index(len);
        for sector in len / SECTOR..self.content.len().div_ceil(SECTOR) {
            self.note_platter(sector);
        }
        self.content.resize(len, 0);
    }

    pub(super) fn sync(&mut self) {
        let lost = &self.lost;
        self.platter.retain(|sector, _| lost.contains(sector));
        self.platter_len = self.content.len();
    }

    pub(super) fn fail_sync(&mut self) {
        self.lost.extend(self.platter.keys());
    }

    pub(super) fn crash(&mut self, rng: &mut Rng) {
        let cut_at = self.content.len();
        if self.platter_len != cut_at && rng.random() {
            self.content.resize(self.platter_len, 0);
        }
        for (sector, held) in std::mem::take(&mut self.platter) {
            let start = sector * SECTOR;
            // A cut that is undone brings back what was beyond it.
            let was_cut = cut_at < start + SECTOR;
            let reverts = was_cut || self.lost.contains(&sector) || rng.random();
            if reverts && start < self.content.len() {
                let end = self.content.len().min(start + SECTOR);
                self.content[start..end].copy_from_slice(&held[..end - start]);
            }
        }
        self.lost.clear();
        self.platter_len = self.content.len();
    }

    pub(super) fn flip(&mut self, position: u64, mask: u8) {
        let at = index(position);
        self.content[at] ^= mask;
        if let Some(held) = self.platter.get_mut(&(at / SECTOR)) {
            held[at % SECTOR] ^= mask;
        }
    }

    /// Remembers what the platter holds before a sector is first changed.
    fn note_platter(&mut self, sector: usize) {
        self.lost.remove(&sector);
        let content = &self.content;
        self.platter.entry(sector).or_insert_with(|| {
            let mut held = [0; SECTOR];
            let start = (sector * SECTOR).min(content.len());
            let end = content.len().min(start + SECTOR);
            held[..end - start].copy_from_slice(&content[start..end]);
            held
        });
    }
}
