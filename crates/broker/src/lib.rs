//! The engine of a node: partitions, groups, and the operations that all gateways call.
