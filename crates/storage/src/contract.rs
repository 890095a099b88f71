//! The suite that every engine passes: what [`Engine`] promises, as tests that fail without it.
//!
//! An engine brings a [`Subject`] and calls [`contract_suite!`](crate::contract_suite) with a
//! function that makes one from a seed.

mod history;
mod model;
mod promises;
mod reports;
pub mod sample;
mod transactions;

use std::sync::Arc;

use crate::Engine;

pub use history::random_histories_match_the_model;
pub use promises::{
    a_batch_larger_than_the_limit_is_read_alone, a_compacted_log_keeps_the_latest_of_every_key,
    a_log_deleted_and_created_again_has_nothing_of_the_old_one,
    a_new_log_is_empty_and_is_found_again, a_tail_read_by_many_is_held_once,
    a_truncated_log_ends_at_a_batch_edge_and_never_shows_the_old_end_again,
    an_append_below_the_end_is_refused_loudly, an_unknown_log_is_an_error_and_not_a_panic,
    gaps_are_kept_and_read_across, offsets_outside_of_the_log_are_out_of_range,
    retention_by_size_leaves_at_least_that_much, retention_by_time_deletes_nothing_younger,
    the_size_follows_what_the_log_holds, trimming_moves_the_start_for_good,
};
pub use reports::Reports;
pub use transactions::{
    compaction_drops_what_was_aborted_and_later_its_marker,
    compaction_is_not_seen_by_committed_readers, transactions_are_known_wherever_their_batches_are,
};

/// An engine under test, and what a test must be able to do to it.
pub trait Subject {
    /// The engine as it runs now.
    fn engine(&self) -> Arc<dyn Engine>;

    /// What the engine has told its observer.
    fn reports(&self) -> &Reports;

    /// Returns when everything appended is durable and was reported.
    fn settle(&mut self);

    /// Writes out what is pinned in memory, so that reads meet the disk. Nothing without a disk.
    fn flush(&mut self);

    /// Stops the engine and starts it again on what it left. False if it keeps nothing.
    fn restart(&mut self) -> bool;
}

/// Makes one test of every promise. The arguments are a function `fn(seed: u64) -> impl Subject` and
/// the number of random histories.
#[macro_export]
macro_rules! contract_suite {
    ($make:path, $histories:literal) => {
        $crate::contract_suite! { $make:
            a_batch_larger_than_the_limit_is_read_alone
            a_compacted_log_keeps_the_latest_of_every_key
            a_log_deleted_and_created_again_has_nothing_of_the_old_one
            a_new_log_is_empty_and_is_found_again
            a_tail_read_by_many_is_held_once
            a_truncated_log_ends_at_a_batch_edge_and_never_shows_the_old_end_again
            an_append_below_the_end_is_refused_loudly
            an_unknown_log_is_an_error_and_not_a_panic
            compaction_drops_what_was_aborted_and_later_its_marker
            gaps_are_kept_and_read_across
            offsets_outside_of_the_log_are_out_of_range
            retention_by_size_leaves_at_least_that_much
            retention_by_time_deletes_nothing_younger
            the_size_follows_what_the_log_holds
            transactions_are_known_wherever_their_batches_are
            trimming_moves_the_start_for_good
        }

        #[test]
        fn random_histories_match_the_model() {
            for seed in 0..$histories {
                $crate::contract::random_histories_match_the_model(&mut $make(seed), seed);
            }
        }

        #[test]
        fn compaction_is_not_seen_by_committed_readers() {
            for seed in 0..$histories {
                $crate::contract::compaction_is_not_seen_by_committed_readers(
                    &mut $make(seed),
                    seed,
                );
            }
        }
    };
    ($make:path: $($promise:ident)*) => {
        $(
            #[test]
            fn $promise() {
                $crate::contract::$promise(&mut $make(0));
            }
        )*
    };
}
