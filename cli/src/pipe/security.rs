//! How a broker knows this program, and this program the broker.

use std::path::PathBuf;

use clap::{Arg, ArgMatches, ValueHint, value_parser};

use crate::failure::Failure;

/// Files, as the flags name them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Security {
    /// Of NATS: a user's JWT and key.
    pub(crate) credentials: Option<PathBuf>,
    /// The authority that has signed the broker's certificate.
    pub(crate) ca: Option<PathBuf>,
    /// This program's certificate, and its key.
    pub(crate) certificate: Option<(PathBuf, PathBuf)>,
}

fn file(name: &'static str, help: &'static str) -> Arg {
    Arg::new(name)
        .long(name)
        .value_name("FILE")
        .value_parser(value_parser!(PathBuf))
        .value_hint(ValueHint::FilePath)
        .help_heading("The broker")
        .help(help)
}

/// The flags.
pub(crate) fn arguments() -> [Arg; 4] {
    [
        file("creds", "NATS: the credentials file of a user (as `nsc generate creds` writes it)"),
        file(
            "tls-ca",
            "The certificates of authorities to trust, PEM; without it those of the system",
        ),
        file("tls-cert", "The certificate that this program shows the broker, PEM")
            .requires("tls-key"),
        file("tls-key", "The key of that certificate, PEM").requires("tls-cert"),
    ]
}

impl Security {
    /// Files that are not there are refused here: the clients of the brokers would try again for ever.
    pub(crate) fn of(matches: &ArgMatches) -> Result<Self, Failure> {
        let path = |name: &str| -> Result<Option<PathBuf>, Failure> {
            let Some(path) = matches.get_one::<PathBuf>(name) else { return Ok(None) };
            match std::fs::File::open(path) {
                Ok(_) => Ok(Some(path.clone())),
                Err(error) => Err(Failure::failed(format!("--{name} {}: {error}", path.display()))),
            }
        };
        let certificate = path("tls-cert")?.zip(path("tls-key")?);
        Ok(Self { credentials: path("creds")?, ca: path("tls-ca")?, certificate })
    }
}
