//! How a command ends: the exit codes, and the failure that a person reads.

use std::fmt;
use std::process::ExitCode;

/// The exit codes. Scripts rely on them: a number keeps its meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Exit {
    /// The command was carried out and something in it failed.
    Failed = 1,
    /// The command line is wrong. Clap ends with the same number.
    Usage = 2,
    /// The configuration is invalid, or cannot be read.
    Config = 3,
    /// No node answers at the address.
    Unreachable = 4,
    /// The time limit passed. What was asked may still have been done.
    Timeout = 5,
    /// What was named does not exist.
    NotFound = 6,
    /// A signal ended a command before it was done, or a second one a node before it stopped in order.
    Aborted = 130,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Why a command failed, and what the reader may do next.
#[derive(Debug)]
pub(crate) struct Failure {
    /// The code that the process ends with.
    pub(crate) exit: Exit,
    /// What happened, with its causes. Nothing: the command has said it already.
    cause: Option<anyhow::Error>,
    hint: Option<String>,
}

/// What every command returns.
pub(crate) type Outcome<T = ()> = Result<T, Failure>;

impl Failure {
    /// A failure with its exit code.
    pub(crate) fn new(exit: Exit, cause: impl Into<anyhow::Error>) -> Self {
        Self { exit, cause: Some(cause.into()), hint: None }
    }

    /// A failure that is a sentence.
    pub(crate) fn message(exit: Exit, message: impl fmt::Display) -> Self {
        Self::new(exit, anyhow::anyhow!("{message}"))
    }

    /// A failure that the command has told on its own: only the exit code is left to say.
    pub(crate) fn silent(exit: Exit) -> Self {
        Self { exit, cause: None, hint: None }
    }

    /// Whether the command has told it already.
    pub(crate) fn is_told(&self) -> bool {
        self.cause.is_none()
    }

    /// Adds what to do next.
    pub(crate) fn hint(mut self, hint: impl fmt::Display) -> Self {
        self.hint = Some(hint.to_string());
        self
    }
}

impl<E: Into<anyhow::Error>> From<E> for Failure {
    fn from(cause: E) -> Self {
        Self::new(Exit::Failed, cause)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(cause) = &self.cause else { return Ok(()) };
        write!(f, "error: {cause}")?;
        let mut above = cause.to_string();
        for below in cause.chain().skip(1) {
            let below = below.to_string();
            // Many libraries repeat the cause in their own message.
            if !above.contains(&below) {
                write!(f, "\n  because: {below}")?;
            }
            above = below;
        }
        if let Some(hint) = &self.hint {
            write!(f, "\nhint: {hint}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use anyhow::Context as _;

    use super::*;

    #[test]
    fn a_failure_shows_causes_once_and_the_hint_last() {
        let cause: Result<(), _> = Err(std::io::Error::other("connection refused"));
        let error = cause.context("cannot reach 127.0.0.1:9192").expect_err("it is an error");
        let failure = Failure::new(Exit::Unreachable, error).hint("start one: rafka dev");
        assert_eq!(
            failure.to_string(),
            "error: cannot reach 127.0.0.1:9192\n  because: connection refused\n\
             hint: start one: rafka dev"
        );
        assert_eq!(Failure::silent(Exit::Failed).to_string(), "");
    }
}
