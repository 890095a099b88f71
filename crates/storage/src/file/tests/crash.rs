//! Seeded lives of an engine that ends in the middle of anything: nothing acked is lost, nothing
//! comes back.

mod life;
mod model;

use std::panic::{AssertUnwindSafe, catch_unwind};

use self::life::Lives;
use self::model::Fault;
use crate::journal::Mutant;

/// How often each history crashes and recovers.
const LIVES: u32 = 8;

/// Plays one history of crashes. The seed repeats it.
fn play(seed: u64, mutant: Option<Mutant>) -> Result<(), Fault> {
    let mut lives = Lives::new(seed, mutant);
    for life in 0..LIVES {
        let lived = catch_unwind(AssertUnwindSafe(|| lives.live()));
        if lived.is_err() {
            return Err(format!("seed {seed}, life {life}: panicked\n{}", lives.diary.join("\n")));
        }
        lives.die();
        lives.recover().map_err(|fault| {
            format!("seed {seed}, life {life}: {fault}\n{}", lives.diary.join("\n"))
        })?;
    }
    Ok(())
}

#[test]
fn a_thousand_crashes_lose_and_revive_nothing() {
    for seed in 0..125 {
        if let Err(fault) = play(seed, None) {
            panic!("{fault}");
        }
    }
}

/// How many histories a planted bug may survive before the test above counts as blind to it.
const MUTANT_SEEDS: u64 = 40;

fn is_caught(mutant: Mutant) -> bool {
    (0..MUTANT_SEEDS).any(|seed| {
        // A start that meets nonsense may refuse it or stumble over it.
        let played = catch_unwind(AssertUnwindSafe(|| play(seed, Some(mutant))));
        !matches!(played, Ok(Ok(())))
    })
}

#[test]
fn an_ack_before_the_sync_is_caught() {
    assert!(is_caught(Mutant::AckBeforeSync));
}

#[test]
fn a_file_header_that_is_not_synced_is_caught() {
    assert!(is_caught(Mutant::HeaderNotSynced));
}

#[test]
fn old_content_that_stays_valid_is_caught() {
    assert!(is_caught(Mutant::OldContentValid));
}
