//! The journal's promises, on a disk that breaks every promise it did not give.

mod crash;
mod damage;
mod rules;
mod threads;
mod world;
