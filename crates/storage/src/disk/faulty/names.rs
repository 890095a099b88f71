//! The names on the faulty disk: what a process sees, and what a power cut leaves.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use rafka_core::Rng;
use rafka_core::rng::RngExt as _;

use super::image::Image;

/// What a name stands for.
#[derive(Debug, Clone)]
pub(super) enum Node {
    Directory,
    File(Arc<Mutex<Image>>),
}

type Tree = BTreeMap<PathBuf, Node>;

/// All names.
#[derive(Debug, Default)]
pub(super) struct Names {
    seen: Tree,
    durable: Tree,
    /// What `seen` has and `durable` has not, in the order in which it was done.
    pending: Vec<Change>,
}

#[derive(Debug, Clone)]
enum Change {
    Put(PathBuf, Node),
    Remove(PathBuf),
    Rename(PathBuf, PathBuf, Node),
}

impl Change {
    fn touches(&self, directory: &Path) -> bool {
        let lies_there = |path: &Path| path.parent() == Some(directory);
        match self {
            Self::Put(path, _) | Self::Remove(path) => lies_there(path),
            Self::Rename(from, to, _) => lies_there(from) || lies_there(to),
        }
    }

    fn directories(&self) -> Vec<PathBuf> {
        let parent = |path: &Path| path.parent().unwrap_or(path).to_owned();
        match self {
            Self::Put(path, _) | Self::Remove(path) => vec![parent(path)],
            Self::Rename(from, to, _) => vec![parent(from), parent(to)],
        }
    }

    fn apply(self, tree: &mut Tree) {
        match self {
            Self::Put(path, node) => {
                tree.insert(path, node);
            }
            Self::Remove(path) => {
                tree.remove(&path);
            }
            Self::Rename(from, to, node) => {
                let below: Vec<PathBuf> =
                    tree.keys().filter(|path| path.starts_with(&from)).cloned().collect();
                for path in below {
                    let moved = tree.remove(&path).expect("the key was just listed");
                    let rest = path.strip_prefix(&from).expect("the filter asked for it");
                    if !rest.as_os_str().is_empty() {
                        tree.insert(to.join(rest), moved);
                    }
                }
                tree.insert(to, node);
            }
        }
    }
}

impl Names {
    pub(super) fn file(&self, path: &Path) -> io::Result<Arc<Mutex<Image>>> {
        match self.seen.get(path) {
            Some(Node::File(image)) => Ok(Arc::clone(image)),
            Some(Node::Directory) => Err(io::ErrorKind::IsADirectory.into()),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    pub(super) fn check_parent(&self, path: &Path) -> io::Result<()> {
        let parent = path.parent().ok_or(io::ErrorKind::NotFound)?;
        if self.is_directory(parent) { Ok(()) } else { Err(io::ErrorKind::NotFound.into()) }
    }

    pub(super) fn put(&mut self, path: &Path, node: Node) {
        self.change(Change::Put(path.to_owned(), node));
    }

    pub(super) fn create_dir_all(&mut self, path: &Path) {
        let mut missing: Vec<&Path> =
            path.ancestors().take_while(|path| !self.is_directory(path)).collect();
        while let Some(directory) = missing.pop() {
            self.put(directory, Node::Directory);
        }
    }

    pub(super) fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        let node = self.seen.get(from).cloned().ok_or(io::ErrorKind::NotFound)?;
        self.change(Change::Rename(from.to_owned(), to.to_owned(), node));
        Ok(())
    }

    pub(super) fn remove(&mut self, path: &Path) -> io::Result<()> {
        if !self.seen.contains_key(path) {
            return Err(io::ErrorKind::NotFound.into());
        }
        if self.seen.keys().any(|other| other.parent() == Some(path)) {
            return Err(io::ErrorKind::DirectoryNotEmpty.into());
        }
        self.change(Change::Remove(path.to_owned()));
        Ok(())
    }

    pub(super) fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        if !self.is_directory(path) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let children = self.seen.keys().filter(|child| child.parent() == Some(path));
        Ok(children.filter_map(|child| child.file_name()?.to_str().map(str::to_owned)).collect())
    }

    pub(super) fn sync_dir(&mut self, path: &Path) -> io::Result<()> {
        if !self.is_directory(path) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let (durable, pending) =
            std::mem::take(&mut self.pending).into_iter().partition(|change| change.touches(path));
        self.pending = pending;
        let durable: Vec<Change> = durable;
        durable.into_iter().for_each(|change| change.apply(&mut self.durable));
        Ok(())
    }

    pub(super) fn sync_all(&mut self) {
        self.pending.clear();
        self.durable.clone_from(&self.seen);
    }

    /// The lengths of all files together.
    pub(super) fn bytes(&self) -> u64 {
        self.images().map(|image| image.lock().len()).sum()
    }

    pub(super) fn images(&self) -> impl Iterator<Item = &Arc<Mutex<Image>>> {
        files(&self.seen)
    }

    /// Keeps the pending changes of each directory up to some point, and returns the files left.
    pub(super) fn crash(&mut self, rng: &mut Rng) -> Vec<Arc<Mutex<Image>>> {
        let mut cut: BTreeSet<PathBuf> = BTreeSet::new();
        for change in std::mem::take(&mut self.pending) {
            let directories = change.directories();
            if directories.iter().any(|path| cut.contains(path)) || rng.random() {
                cut.extend(directories);
            } else {
                change.apply(&mut self.durable);
            }
        }
        let mut reachable = Tree::new();
        for (path, node) in std::mem::take(&mut self.durable) {
            let parent = path.parent().unwrap_or(&path);
            if parent.parent().is_none() || reachable.contains_key(parent) {
                reachable.insert(path, node);
            }
        }
        self.seen = reachable.clone();
        self.durable = reachable;
        files(&self.seen).cloned().collect()
    }

    fn is_directory(&self, path: &Path) -> bool {
        // The root, and the working directory of relative paths, are always there.
        path.parent().is_none() || matches!(self.seen.get(path), Some(Node::Directory))
    }

    fn change(&mut self, change: Change) {
        change.clone().apply(&mut self.seen);
        self.pending.push(change);
    }
}

fn files(tree: &Tree) -> impl Iterator<Item = &Arc<Mutex<Image>>> {
    tree.values().filter_map(|node| match node {
        Node::File(image) => Some(image),
        Node::Directory => None,
    })
}
