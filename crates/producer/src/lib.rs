//! The Rafka producer: buffers, batches, compresses and sends records.
