//! What the Kafka gateway promises its clients, over real sockets.

#[cfg(test)]
mod admin;
#[cfg(test)]
mod apis;
#[cfg(test)]
mod cluster;
#[cfg(test)]
mod connections;
#[cfg(test)]
mod consumers;
#[cfg(test)]
mod described;
#[cfg(test)]
mod groups;
#[cfg(test)]
mod isolation;
#[cfg(test)]
mod leaders;
#[cfg(test)]
mod logs;
#[cfg(test)]
mod members;
#[cfg(test)]
mod records;
#[cfg(test)]
mod replicas;
#[cfg(test)]
mod sessions;
#[cfg(test)]
mod stored;
#[cfg(test)]
mod successors;
#[cfg(test)]
mod support;
#[cfg(test)]
mod transactions;
