//! The broker on the file engine and a disk that fails when told to: what clients see of faults.

#[cfg(test)]
mod client;
#[cfg(test)]
mod coordinator;
#[cfg(test)]
mod crash;
#[cfg(test)]
mod disk;
#[cfg(test)]
mod groups;
#[cfg(test)]
mod load;
#[cfg(test)]
mod node;
#[cfg(test)]
mod producers;
#[cfg(test)]
mod time;
#[cfg(test)]
mod transactions;
