//! What the cluster has agreed on, as state machines: nodes, topics, partitions, configs.
