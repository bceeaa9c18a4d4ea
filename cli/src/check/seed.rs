//! The servers that the URI names, each asked directly and without a login.

use bson::{Document, doc};
use mongodb::options::{ClientOptions, ServerAddress, Tls, TlsOptions};

use crate::ask::{Asked, Refusal, each, hasty};
use crate::check::address::{Unreachable, reach};
use crate::check::finding::{Finding, Level};
use crate::check::version::Version;

/// What a server tells everybody.
#[derive(Clone, Debug)]
pub(crate) struct Greeting {
    pub(crate) address: String,
    pub(crate) hello: Document,
    pub(crate) version: Option<Version>,
}

/// Why a server does not tell it.
#[derive(Clone, Debug)]
enum Silence {
    Unreachable(Unreachable),
    /// It speaks TLS, and the URI has none.
    TlsWanted,
    /// The URI has TLS, and it speaks none.
    TlsNotWanted,
    /// Its certificate is not trusted, or not made for this name.
    Certificate(String),
    TooOld,
    /// It takes the connection, and what it says is not understood.
    Other(String),
}

/// Greets every server of the URI.
pub(crate) fn greet(options: &ClientOptions) -> (Vec<Greeting>, Vec<Finding>) {
    let seeds = each(&options.hosts, |address| (address.to_string(), greet_one(options, address)));
    let is_any_there = seeds.iter().any(|(_, greeted)| greeted.is_ok());
    let (mut greetings, mut findings) = (Vec::new(), Vec::new());
    for (address, greeted) in seeds {
        match greeted {
            Ok(greeting) => greetings.push(greeting),
            Err(silence) => findings.push(told(&address, &silence, is_any_there)),
        }
    }
    (greetings, findings)
}

fn greet_one(options: &ClientOptions, address: &ServerAddress) -> Result<Greeting, Silence> {
    reach(address).map_err(Silence::Unreachable)?;
    let mut direct = hasty(options.clone());
    direct.hosts = vec![address.clone()];
    direct.direct_connection = Some(true);
    (direct.repl_set_name, direct.credential) = (None, None);
    let error = match ask(&direct, address) {
        Ok(greeting) => return Ok(greeting),
        Err(error) => error,
    };
    if error.text.contains("wire version") {
        return Err(Silence::TooOld);
    }
    Err(otherwise(direct, address).unwrap_or(Silence::Other(error.text)))
}

/// Why it may not have answered, by asking it in another way.
fn otherwise(direct: ClientOptions, address: &ServerAddress) -> Option<Silence> {
    let trusting = |options: Option<TlsOptions>| {
        let mut options = options.unwrap_or_default();
        options.allow_invalid_certificates = Some(true);
        Some(Tls::Enabled(options))
    };
    let with = |tls| ask(&ClientOptions::clone_with(&direct, tls), address).is_ok();
    match &direct.tls {
        Some(Tls::Enabled(options)) => {
            if with(Some(Tls::Disabled)) {
                Some(Silence::TlsNotWanted)
            } else if with(trusting(Some(options.clone()))) {
                let reason = "its certificate is not trusted, or not made for this name";
                Some(Silence::Certificate(reason.to_owned()))
            } else {
                None
            }
        }
        _ => with(trusting(None)).then_some(Silence::TlsWanted),
    }
}

trait CloneWith {
    fn clone_with(&self, tls: Option<Tls>) -> Self;
}

impl CloneWith for ClientOptions {
    fn clone_with(&self, tls: Option<Tls>) -> Self {
        let mut options = self.clone();
        options.tls = tls;
        options
    }
}

fn ask(options: &ClientOptions, address: &ServerAddress) -> Result<Greeting, Refusal> {
    let server = Asked::new(options.clone())?;
    // Every version knows it by this name.
    let hello = server.command("admin", doc! { "isMaster": 1 })?;
    let version = server.command("admin", doc! { "buildInfo": 1 }).ok();
    let version = version.and_then(|info| Version::parse(info.get_str("version").ok()?));
    Ok(Greeting { address: address.to_string(), hello, version })
}

/// One that is away matters less where others are there.
fn told(address: &str, silence: &Silence, is_any_there: bool) -> Finding {
    let level = if is_any_there { Level::Warning } else { Level::Problem };
    let named = |text: &str| format!("{address}: {text}");
    match silence {
        Silence::Unreachable(why) => {
            let advice = match is_any_there {
                true => format!("{}; or leave this server out of the URI", why.advice()),
                false => format!("{}; and the URI's host names", why.advice()),
            };
            Finding::new(level, ("reach", why.case()), named(why.text()), advice)
        }
        Silence::TlsWanted => Finding::new(
            Level::Problem,
            ("tls", "wanted"),
            named("the server speaks TLS only, and the URI has none"),
            "add tls=true to the URI, and tlsCAFile=PATH if an authority of your own has signed the certificate",
        ),
        Silence::TlsNotWanted => Finding::new(
            Level::Problem,
            ("tls", "not_wanted"),
            named("the URI asks for TLS, and the server speaks none"),
            "remove tls=true from the URI (mongodb+srv has it by itself: tls=false), or set net.tls on the server",
        ),
        Silence::Certificate(reason) => Finding::new(
            Level::Problem,
            ("tls", "certificate"),
            named(reason),
            "set tlsCAFile=PATH in the URI to the certificate of the authority that has signed it, and use the \
             host name for which it was made",
        ),
        Silence::TooOld => Finding::new(
            Level::Problem,
            ("version", "too_old"),
            named("the server is older than MongoDB 4.2"),
            "change streams as they are used here need MongoDB 4.2 or later: upgrade the server",
        ),
        Silence::Other(reason) => Finding::new(
            level,
            ("reach", "silent"),
            named(&format!(
                "it takes connections, but does not answer as a MongoDB server does: {reason}"
            )),
            "check that this is a mongod, that it is not frozen, and whether it wants TLS with a certificate of the \
             client (tlsCertificateKeyFile)",
        ),
    }
}
