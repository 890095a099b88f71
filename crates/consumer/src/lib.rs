//! The Rafka consumer: reads partitions alone or within a group.
