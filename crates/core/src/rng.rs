//! Chance as an argument: who needs randomness is handed it, so that a seed replays a run.

use rand::SeedableRng as _;
pub use rand::{Rng as RngCore, RngExt};

/// The generator that components take. Not for secrets.
pub type Rng = rand::rngs::StdRng;

/// A generator that repeats itself for the same seed.
#[must_use]
pub fn from_seed(seed: u64) -> Rng {
    Rng::seed_from_u64(seed)
}

/// A generator seeded by the operating system. Called where a process is put together, not below.
///
/// # Errors
/// If the operating system gives no randomness.
pub fn from_system() -> std::io::Result<Rng> {
    Rng::try_from_rng(&mut rand::rngs::SysRng).map_err(std::io::Error::other)
}
