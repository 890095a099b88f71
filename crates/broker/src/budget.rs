//! The memory of requests that a listener is receiving or has not answered, of all its connections.
//!
//! Room is taken for what has come, never for what was only announced: who announces much and sends
//! little keeps nobody waiting. So several requests may each have a part of what they need when
//! nothing is left. One of them at a time may then draw on a reserve that is as large as the largest
//! request: it comes whole, is answered, and gives its room back.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rafka_core::ByteSize;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// While others wait for the room that a request holds, it must come fast: after so long ...
const CROWDED_LIMIT: Duration = Duration::from_secs(3);
/// ... at so many bytes a second.
const CROWDED_RATE: u64 = 256 << 10;

/// See the module.
#[derive(Debug)]
pub struct Budget {
    /// One permit for each byte, the reserve aside.
    pool: Arc<Semaphore>,
    pool_bytes: usize,
    /// The permit of the request that may draw on the reserve.
    last: Arc<Semaphore>,
    /// Requests that wait for room.
    waiting: AtomicUsize,
}

/// What one request holds. Dropped, it is given back.
#[derive(Debug)]
pub struct Room {
    budget: Arc<Budget>,
    held: Option<OwnedSemaphorePermit>,
    last: Option<OwnedSemaphorePermit>,
}

impl Budget {
    /// Room for `total` bytes, of which one request needs at most `request_max`.
    #[must_use]
    pub fn new(total: ByteSize, request_max: ByteSize) -> Arc<Self> {
        let pool_bytes = total.as_usize().saturating_sub(request_max.as_usize());
        Arc::new(Self {
            pool: Arc::new(Semaphore::new(pool_bytes)),
            pool_bytes,
            last: Arc::new(Semaphore::new(1)),
            waiting: AtomicUsize::new(0),
        })
    }

    /// No room yet.
    #[must_use]
    pub fn room(self: &Arc<Self>) -> Room {
        Room { budget: Arc::clone(self), held: None, last: None }
    }

    /// Whether requests wait for room.
    #[must_use]
    pub fn is_crowded(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) != 0
    }

    /// How many bytes are held, what is drawn from the reserve aside.
    #[must_use]
    pub fn held(&self) -> usize {
        self.pool_bytes - self.pool.available_permits()
    }

    /// Whether nothing is held.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.held() == 0 && self.last.available_permits() == 1
    }
}

impl Room {
    /// How many bytes it is for; `None` for as many as the request has.
    #[must_use]
    pub fn bytes(&self) -> Option<usize> {
        match self.last {
            Some(_) => None,
            None => Some(self.held.as_ref().map_or(0, OwnedSemaphorePermit::num_permits)),
        }
    }

    /// Takes room for so many more bytes, or waits for it.
    ///
    /// # Cancel safety
    /// Cancelled, it holds what it held before.
    pub async fn grow(&mut self, more: usize) {
        if self.last.is_some() || more == 0 {
            return;
        }
        let permits = u32::try_from(more).unwrap_or(u32::MAX);
        let (pool, last) = (Arc::clone(&self.budget.pool), Arc::clone(&self.budget.last));
        if let Ok(permit) = Arc::clone(&pool).try_acquire_many_owned(permits) {
            return self.take(permit);
        }
        let waiting = Waiting::new(&self.budget.waiting);
        let found = tokio::select! {
            biased;
            found = pool.acquire_many_owned(permits) => found.map(Ok),
            found = last.acquire_owned() => found.map(Err),
        };
        drop(waiting);
        match found.expect("nobody closes the budget") {
            Ok(permit) => self.take(permit),
            Err(last) => self.last = Some(last),
        }
    }

    fn take(&mut self, permit: OwnedSemaphorePermit) {
        match &mut self.held {
            Some(held) => held.merge(permit),
            None => self.held = Some(permit),
        }
    }

    /// How long the rest of a request may take of which so much has come: `limit`, or less while others
    /// wait for what it holds.
    #[must_use]
    pub fn patience(&self, received: usize, limit: Duration) -> Duration {
        let is_held = self.held.is_some() || self.last.is_some();
        if !(is_held && self.budget.is_crowded()) {
            return limit;
        }
        let millis = (received as u64).saturating_mul(1000) / CROWDED_RATE;
        limit.min(CROWDED_LIMIT + Duration::from_millis(millis))
    }
}

struct Waiting<'a> {
    count: &'a AtomicUsize,
}

impl<'a> Waiting<'a> {
    fn new(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self { count }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.count.fetch_sub(1, Ordering::Relaxed);
    }
}
