//! End to end: real processes, real sockets, real files.

#[cfg(test)]
mod bad_input;
#[cfg(test)]
mod command_line;
#[cfg(test)]
mod configuration;
#[cfg(test)]
mod durability;
#[cfg(test)]
mod exactly_once;
#[cfg(test)]
mod idle;
#[cfg(test)]
mod kafka;
#[cfg(test)]
mod node;
#[cfg(test)]
mod operations;
#[cfg(test)]
mod readme;
#[cfg(test)]
mod terminal;
