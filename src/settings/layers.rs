//! How settings come together: defaults in code, then the file, then the environment.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde_json::Value;
use serde_saphyr::{Location, MessageFormatter as _};

use super::{Invalid, Settings};

/// What the names of environment variables begin with. Two underscores, because orchestrators
/// inject variables such as `RAFKA_PORT` for a service called rafka.
const PREFIX: &str = "RAFKA__";
/// The largest configuration file that is read.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Where settings come from.
#[derive(Debug, Clone, Default)]
pub(crate) struct Source {
    /// The file, if there is one.
    pub(crate) file: Option<PathBuf>,
    /// The environment of the process.
    pub(crate) env: Vec<(String, String)>,
}

/// Why there are no settings.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The file cannot be read.
    #[error("cannot read the configuration file {path}")]
    Unreadable {
        path: PathBuf,
        #[source]
        cause: std::io::Error,
    },
    /// The file is larger than any configuration.
    #[error("the configuration file {path} is larger than 1 MiB")]
    TooLarge { path: PathBuf },
    /// Something in the file is wrong.
    #[error("{place}: {message}")]
    File { place: String, message: String },
    /// An environment variable names nothing, or its value does not fit.
    #[error("environment variable {name}: {message}")]
    Env { name: String, message: String },
    /// A value is out of range.
    #[error(transparent)]
    Invalid(#[from] Invalid),
}

/// Reads the layers, each over the one before. Ranges are not checked yet: flags may follow.
pub(crate) fn load(source: &Source) -> Result<Settings, Error> {
    let settings = match &source.file {
        Some(path) => from_file(path)?,
        None => Settings::default(),
    };
    with_env(settings, &source.env)
}

fn from_file(path: &Path) -> Result<Settings, Error> {
    let unreadable = |cause| Error::Unreadable { path: path.to_owned(), cause };
    if FILE_BYTES_MAX < std::fs::metadata(path).map_err(unreadable)?.len() {
        return Err(Error::TooLarge { path: path.to_owned() });
    }
    let text = std::fs::read_to_string(path).map_err(unreadable)?;
    parse(&text).map_err(|(location, message)| Error::File {
        place: match location {
            Some(at) => format!("{}:{}:{}", path.display(), at.line(), at.column()),
            None => path.display().to_string(),
        },
        message,
    })
}

/// Reads a whole configuration over the defaults.
pub(super) fn parse(text: &str) -> Result<Settings, (Option<Location>, String)> {
    let only_comments =
        text.lines().map(str::trim).all(|line| line.is_empty() || line.starts_with('#'));
    if only_comments {
        return Ok(Settings::default());
    }
    serde_saphyr::from_str(text).map_err(|error| {
        let location = error.location();
        let message = match error.without_snippet() {
            serde_saphyr::Error::SerdeUnknownField { field, expected, .. } => {
                unknown(field, expected.iter().copied())
            }
            other => {
                let message = serde_saphyr::UserMessageFormatter.format_message(other);
                let message = clearer(&message);
                match location.and_then(|at| line(text, at.line())) {
                    Some(line) => format!("{message} in `{line}`"),
                    None => message,
                }
            }
        };
        (location, message)
    })
}

/// An address in settings: the standard library only says that it is none.
pub(crate) fn address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|error: std::net::AddrParseError| clearer(&error.to_string()))
}

/// A message of a library, with what it leaves to be guessed.
fn clearer(message: &str) -> String {
    let what = "write an IP address and a port, as in 127.0.0.1:9192";
    message.replace("invalid socket address syntax", what)
}

/// The line of this number, counted from 1, if it is short enough to be shown.
fn line(text: &str, number: u64) -> Option<&str> {
    let index = usize::try_from(number.checked_sub(1)?).ok()?;
    let line = text.lines().nth(index)?.trim();
    (!line.is_empty() && line.len() <= 120).then_some(line)
}

fn with_env(settings: Settings, env: &[(String, String)]) -> Result<Settings, Error> {
    let mut variables: Vec<_> = env.iter().filter(|(name, _)| name.starts_with(PREFIX)).collect();
    variables.sort();
    let known = known_keys(&settings);
    if let Some((name, meant)) = env.iter().find_map(|(name, _)| Some((name, meant(name, &known)?)))
    {
        let message = format!("write {meant}, with two underscores before each part");
        return Err(Error::Env { name: name.clone(), message });
    }
    let mut settings = settings;
    for (name, value) in variables {
        let fail = |message| Error::Env { name: name.clone(), message };
        settings = with_variable(&settings, name, value).map_err(fail)?;
    }
    Ok(settings)
}

/// The variable that was meant by one that lacks underscores. What orchestrators inject names no
/// key.
fn meant(name: &str, known: &[String]) -> Option<String> {
    let spelt = |text: &str| text.to_lowercase().replace("__", "_").replace('.', "_");
    let rest = name.strip_prefix("RAFKA_").filter(|_| !name.starts_with(PREFIX))?;
    let key = known.iter().find(|key| spelt(key) == spelt(rest))?;
    Some(format!("{PREFIX}{}", key.to_uppercase().replace('.', "__")))
}

fn with_variable(settings: &Settings, name: &str, value: &str) -> Result<Settings, String> {
    let path = name.strip_prefix(PREFIX).unwrap_or(name).to_lowercase().replace("__", ".");
    let document = serde_json::to_value(settings).map_err(|error| error.to_string())?;
    let known = known_keys(settings);
    if !known.contains(&path) {
        return Err(unknown(&path, known.iter().map(String::as_str)));
    }
    let set = |value: Value| {
        let mut document = document.clone();
        let pointer = format!("/{}", path.replace('.', "/"));
        *document.pointer_mut(&pointer).expect("the key was found a moment ago") = value;
        serde_json::from_value::<Settings>(document).map_err(|error| clearer(&error.to_string()))
    };
    // A value is read as YAML reads it, so that numbers and lists can be given; where the key wants
    // text, "12" is text.
    let typed = serde_saphyr::from_str(value).unwrap_or_else(|_| Value::String(value.to_owned()));
    set(typed).or_else(|error| set(Value::String(value.to_owned())).map_err(|_same| error))
}

/// All keys there are, in full.
pub(super) fn known_keys(settings: &Settings) -> Vec<String> {
    fn walk(value: &Value, path: &str, keys: &mut Vec<String>) {
        let Value::Object(fields) = value else { return keys.push(path.to_owned()) };
        for (name, value) in fields {
            let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
            walk(value, &path, keys);
        }
    }
    let mut keys = Vec::new();
    let document = serde_json::to_value(settings).expect("settings are plain data");
    walk(&document, "", &mut keys);
    keys
}

fn unknown<'a>(key: &str, known: impl Iterator<Item = &'a str>) -> String {
    let known: Vec<&str> = known.collect();
    match nearest(key, &known) {
        Some(near) => format!("unknown key {key}: did you mean {near}?"),
        None if known.len() <= 16 => format!("unknown key {key}: there are {}", known.join(", ")),
        None => format!("unknown key {key}: `rafka config schema` lists all keys"),
    }
}

/// The known word that `word` was most likely meant to be.
fn nearest<'a>(word: &str, known: &[&'a str]) -> Option<&'a str> {
    known
        .iter()
        .map(|candidate| (strsim::normalized_damerau_levenshtein(word, candidate), *candidate))
        .filter(|(likeness, _)| 0.6 <= *likeness)
        .max_by(|left, right| left.0.total_cmp(&right.0))
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Engine;

    fn env(pairs: &[(&str, &str)]) -> Result<Settings, String> {
        let env = pairs.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
        load(&Source { file: None, env }).map_err(|error| error.to_string())
    }

    #[test]
    fn the_environment_overrides_and_ignores_what_is_not_its_own() {
        let settings = env(&[
            ("RAFKA__NODE__DATA_DIR", "/srv/1"),
            ("RAFKA__NODE__ENGINE", "memory"),
            ("RAFKA__NODE__PORT_OFFSET", "7"),
            ("RAFKA__NODE__ADVERTISE", "12"),
            ("RAFKA_PORT", "tcp://10.0.0.1:9092"),
            ("RAFKA_GRPC_PORT", "tcp://10.0.0.1:9192"),
            ("PATH", "/bin"),
        ])
        .expect("all are valid");
        assert_eq!(settings.node.data_dir, PathBuf::from("/srv/1"));
        assert_eq!(settings.node.engine, Engine::Memory);
        assert_eq!(settings.node.port_offset, 7);
        assert_eq!(settings.node.advertise.as_deref(), Some("12"));
    }

    #[test]
    fn a_variable_that_names_nothing_or_does_not_fit_is_refused_by_name() {
        let check = |name: &str, value: &str, expected: &str| {
            let error = env(&[(name, value)]).expect_err(expected);
            assert!(error.contains(expected) && error.contains(name), "{error}");
        };
        check("RAFKA__NODE__DATADIR", "x", "did you mean node.data_dir?");
        check("RAFKA__NODE", "x", "unknown key node");
        check("RAFKA_NODE_DATA_DIR", "x", "write RAFKA__NODE__DATA_DIR");
        check("RAFKA_NODE__DATA_DIR", "x", "write RAFKA__NODE__DATA_DIR");
        check("RAFKA__NODE__PORT_OFFSET", "-1", "invalid value");
        check("RAFKA__NODE__ENGINE", "disk", "unknown variant `disk`");
        check("RAFKA__GRPC__LISTEN", "localhost:9192", "write an IP address and a port");
    }

    #[test]
    fn mistakes_in_a_file_are_named_with_line_column_and_the_nearest_key() {
        let check = |text: &str, line, expected: &str| {
            let (location, message) = parse(text).expect_err(expected);
            assert!(message.contains(expected), "{message:?} lacks {expected:?}");
            assert_eq!(location.map(|at| at.line()), Some(line), "{text}");
        };
        check("node:\n  data_dri: x\n", 2, "did you mean data_dir?");
        check("nodes:\n  data_dir: x\n", 1, "did you mean node?");
        check("node:\n  zzz: 1\n", 2, "there are data_dir, engine");
        check("node:\n  port_offset: many\n", 2, "many");
        check("node:\n  engine: disk\n", 2, "disk");
        check("grpc:\n  listen: localhost:9192\n", 2, "write an IP address and a port");
        let defaults = "metadata:\n  topic_defaults:\n    retention.ms: 1\n";
        check(defaults, 3, "did you mean log_retention_ms?");
        check("node:\n  port_offset: 1\n  port_offset: 2\n", 3, "duplicate");
        check("node: [\n", 1, "");
    }

    #[test]
    fn a_file_that_says_nothing_means_the_defaults() {
        for text in ["", "\n", "# nothing\n\n   # here\n"] {
            assert_eq!(parse(text).expect("nothing is wrong"), Settings::default());
        }
    }

    #[test]
    fn arbitrary_files_are_refused_without_panic() {
        use rafka_core::rng::{self, RngCore as _, RngExt as _};
        let mut rng = rng::from_seed(11);
        for seed in 0..500 {
            let mut bytes = vec![0; rng.random_range(0..200)];
            rng.fill_bytes(&mut bytes);
            let mut text = String::from_utf8_lossy(&bytes).into_owned();
            if seed % 2 == 0 {
                text = crate::settings::schema::ANNOTATED.to_owned();
                let cut = rng.random_range(0..text.len());
                while !text.is_char_boundary(cut.min(text.len())) {
                    text.pop();
                }
                text.truncate(cut);
            }
            if let Err((_, message)) = parse(&text) {
                assert!(!message.is_empty(), "round {seed}");
            }
        }
    }
}
