//! The log: one line per event on standard error, as text or JSON.

use std::io::{self, IsTerminal as _};

use serde::{Deserialize, Serialize};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

/// How the node logs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Settings {
    /// What is logged: a level, or levels by part as in `info,rafka_storage=debug`.
    pub(crate) level: String,
    /// How it is written.
    pub(crate) format: Format,
}

impl Default for Settings {
    fn default() -> Self {
        Self { level: "info".to_owned(), format: Format::Auto }
    }
}

/// How events are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Format {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
    /// Text on a terminal, JSON elsewhere.
    Auto,
}

/// The level cannot be understood.
#[derive(Debug, thiserror::Error)]
#[error(
    "level is {0:?}: write error, warn, info, debug, trace or off, or levels by part as in info,rafka_storage=debug"
)]
pub(crate) struct InvalidLevel(String);

impl Settings {
    /// Checks the level.
    pub(crate) fn validate(&self) -> Result<(), InvalidLevel> {
        self.filter().map(drop)
    }

    fn filter(&self) -> Result<EnvFilter, InvalidLevel> {
        // To the library a word alone may be a part, too: a misspelt level would silence all others.
        let is_level = |part: &str| !part.is_empty() && part.parse::<LevelFilter>().is_ok();
        let is_clear = |part: &str| part.contains('=') || is_level(part);
        let filter = EnvFilter::builder().parse(&self.level).ok();
        filter
            .filter(|_| self.level.split(',').all(|part| is_clear(part.trim())))
            .ok_or_else(|| InvalidLevel(self.level.clone()))
    }
}

/// Starts logging. Called once a process.
pub(crate) fn start(settings: &Settings) -> Result<(), InvalidLevel> {
    let filter = settings.filter()?;
    let terminal = io::stderr().is_terminal();
    let json = match settings.format {
        Format::Text => false,
        Format::Json => true,
        Format::Auto => !terminal,
    };
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(terminal && !json);
    if json {
        builder.json().flatten_event(true).init();
    } else {
        builder.init();
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_that_is_none_is_refused_by_name() {
        let check = |level: &str, good: bool| {
            let settings = Settings { level: level.to_owned(), ..Settings::default() };
            assert_eq!(settings.validate().is_ok(), good, "{level}");
        };
        check("info", true);
        check("warn,rafka_storage=debug", true);
        check("off", true);
        check("rafka_storage=loud", false);
        check("inof", false);
        check("rafka_storage=debug,wran", false);
        check("", false);
    }
}
