//! `rafka config`: checks, shows and explains the configuration; and how a node's comes together.

use crate::cli::{ConfigCommand, ServeArgs};
use crate::exit::{Exit, Failure, Outcome};
use crate::output::{self, Form, Output};
use crate::settings::{self, Settings, Source};

/// Runs the command.
pub(crate) fn run(command: ConfigCommand, env: Vec<(String, String)>, out: Output) -> Outcome {
    match command {
        ConfigCommand::Check(args) => {
            effective(&args, env)?;
            out.note("the configuration is valid");
            Ok(())
        }
        ConfigCommand::Show(args) => {
            let form = if out.form == Form::Json { Form::Json } else { Form::Yaml };
            Output { form, ..out }.document(&effective(&args, env)?)
        }
        ConfigCommand::Schema { markdown: true } => output::print(settings::reference().as_bytes()),
        ConfigCommand::Schema { markdown: false } => out.rows(&settings::keys()),
    }
}

/// The settings of a node: all layers, checked.
pub(crate) fn effective(args: &ServeArgs, env: Vec<(String, String)>) -> Outcome<Settings> {
    let source = Source { file: args.config.clone(), env };
    let invalid = |error: settings::Error| {
        let hint = match &error {
            settings::Error::Unreadable { .. } | settings::Error::TooLarge { .. } => {
                "--config or RAFKA_CONFIG names the file; without one the defaults hold"
            }
            _ => "`rafka config schema` lists all keys, `rafka config check` checks again",
        };
        Failure::new(Exit::Config, error).hint(hint)
    };
    let mut settings = settings::load(&source).map_err(invalid)?;
    apply(args, &mut settings);
    settings.validate().map_err(|error| invalid(error.into()))?;
    Ok(settings)
}

/// Puts flags over what file and environment say.
fn apply(args: &ServeArgs, settings: &mut Settings) {
    fn set<T: Clone>(target: &mut T, flag: Option<&T>) {
        if let Some(value) = flag {
            target.clone_from(value);
        }
    }
    set(&mut settings.node.data_dir, args.data_dir.as_ref());
    set(&mut settings.node.engine, args.engine.as_ref());
    set(&mut settings.node.port_offset, args.port_offset.as_ref());
    set(&mut settings.grpc.listen, args.grpc_listen.as_ref());
    set(&mut settings.kafka.listen, args.kafka_listen.as_ref());
    set(&mut settings.http.listen, args.http_listen.as_ref());
    set(&mut settings.log.level, args.log_level.as_ref());
    set(&mut settings.log.format, args.log_format.as_ref());
    if args.advertise.is_some() {
        settings.node.advertise.clone_from(&args.advertise);
    }
    settings.node.insecure_bind |= args.insecure_bind;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_stand_above_file_and_environment() {
        let env = vec![
            ("RAFKA__NODE__PORT_OFFSET".to_owned(), "3".to_owned()),
            ("RAFKA__LOG__LEVEL".to_owned(), "debug".to_owned()),
        ];
        let args = ServeArgs { port_offset: Some(5), ..ServeArgs::default() };
        let settings = effective(&args, env).expect("all is valid");
        assert_eq!(settings.node.port_offset, 5);
        assert_eq!(settings.log.level, "debug");
    }

    #[test]
    fn what_is_invalid_ends_with_the_code_for_configuration() {
        let args =
            ServeArgs { http_listen: Some(([0, 0, 0, 0], 80).into()), ..ServeArgs::default() };
        let failure = effective(&args, Vec::new()).expect_err("security is off");
        assert_eq!(failure.exit, Exit::Config);
        assert!(failure.to_string().contains("--insecure-bind"), "{failure}");
    }
}
