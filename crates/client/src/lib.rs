//! What producer and consumer share: connections, cluster view, retry, circuit breaker.
