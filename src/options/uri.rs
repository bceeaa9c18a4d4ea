//! The connection string: checked before anything is started, and shown without its secrets.

use mongodb::error::{Error as DriverError, ErrorKind as DriverErrorKind};
use mongodb::options::ConnectionString;

use crate::error::{Error, Result};

/// A connection string whose syntax was found good.
#[derive(Clone)]
pub(crate) struct Uri {
    text: String,
    parsed: ConnectionString,
}

impl Uri {
    /// Checks the syntax (MongoDB manual, "Connection Strings"); asks no server and no DNS.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        match ConnectionString::parse(text) {
            Ok(parsed) => Ok(Self { text: text.to_owned(), parsed }),
            // The driver's text may quote a part of a badly encoded password.
            Err(_) if has_raw_credentials(text) => Err(Error::argument(format!(
                "the URI {} is not valid: percent-encode the characters : / ? # [ ] @ % in its \
                 user name and password",
                shown(text)
            ))),
            Err(error) => Err(invalid(text, &error)),
        }
    }

    /// What the driver found wrong with it later on.
    pub(crate) fn invalid(&self, error: &DriverError) -> Error {
        invalid(&self.text, error)
    }

    /// The whole text, secrets included: never to be shown.
    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    pub(crate) fn parsed(&self) -> &ConnectionString {
        &self.parsed
    }

    /// The database in its path; `admin` is none, but the place of the users.
    pub(crate) fn database(&self) -> Option<&str> {
        self.parsed.default_database.as_deref().filter(|name| *name != "admin")
    }

    /// For messages: without user, password and options.
    pub(crate) fn shown(&self) -> String {
        shown(&self.text)
    }
}

fn invalid(text: &str, error: &DriverError) -> Error {
    let reason = unsupported(text).unwrap_or_else(|| reason(error));
    Error::argument(format!("the URI {} is not valid: {reason}", shown(text)))
}

/// The driver's reason, without what is meant for those who build it and without values that may be secret.
fn reason(error: &DriverError) -> String {
    let reason = match &*error.kind {
        DriverErrorKind::InvalidArgument { message, .. } => message.clone(),
        kind => kind.to_string(),
    };
    if reason.contains("feature") || reason.contains("client options") {
        return "it asks for something that this library does not support".to_owned();
    }
    match reason.split_once(", got ") {
        Some((reason, _)) => reason.to_owned(),
        None => reason,
    }
}

/// The options of other drivers that this one refuses, in lower case, and what to do about them.
const FOREIGN: [(&[&str], &str); 17] = [
    (
        &["sockettimeoutms", "socketcheckintervalms", "keepalive"],
        "leave it out: a server that does not answer is noticed by the monitoring, after connectTimeoutMS",
    ),
    (&["timeoutms"], "leave it out: a stream has no time limit, and retry_ms limits reconnecting"),
    (
        &["ssl_ca_certs", "sslcertificateauthorityfile", "sslca", "ssl_cafile", "cafile"],
        "use tlsCAFile",
    ),
    (
        &[
            "ssl_certfile",
            "ssl_keyfile",
            "sslcert",
            "sslkey",
            "sslclientcertificatekeyfile",
            "sslpemkeyfile",
            "tlscertificatefile",
            "tlsprivatekeyfile",
        ],
        "use tlsCertificateKeyFile, which takes one PEM file with the certificate and its key",
    ),
    (
        &[
            "tlscertificatekeyfilepassword",
            "sslclientcertificatekeypassword",
            "sslpass",
            "ssl_pem_passphrase",
        ],
        "give tlsCertificateKeyFile a key that is not encrypted, in a file that only this program may read",
    ),
    (
        &["ssl_cert_reqs", "sslvalidate", "sslverifycertificate", "sslallowinvalidcertificates"],
        "certificates are always checked, and tlsAllowInvalidCertificates=true switches that off",
    ),
    (
        &[
            "tlsallowinvalidhostnames",
            "sslallowinvalidhostnames",
            "ssl_match_hostname",
            "checkserveridentity",
        ],
        "host names are always checked with the certificate; only tlsAllowInvalidCertificates=true switches \
         that off, and with it every other check",
    ),
    (
        &[
            "tlscrlfile",
            "ssl_crlfile",
            "sslcrl",
            "tlsdisableocspendpointcheck",
            "tlsdisablecertificaterevocationcheck",
        ],
        "leave it out: whether a certificate was revoked is not checked",
    ),
    (
        &["proxyhost", "proxyport", "proxyusername", "proxypassword"],
        "SOCKS5 proxies are not supported",
    ),
    (&["connect"], "use directConnection=true instead of connect=direct"),
    (&["slaveok", "secondaryacceptablelatencyms"], "use readPreference and localThresholdMS"),
    (&["heartbeatintervalms"], "use heartbeatFrequencyMS"),
    (
        &["serverselectiontryonce"],
        "leave it out: servers are looked for until serverSelectionTimeoutMS",
    ),
    (&["wtimeout", "j", "safe", "fsync"], "use w, wTimeoutMS and journal"),
    (
        &["poolsize", "waitqueuemultiple", "minsize", "maxsize"],
        "leave it out: each stream has a connection of its own",
    ),
    (&["gssapiservicename", "canonicalizehostname"], "Kerberos (GSSAPI) is not supported"),
    (
        &[
            "autoreconnect",
            "usenewurlparser",
            "useunifiedtopology",
            "tz_aware",
            "document_class",
            "unicode_decode_error_handler",
            "datetime_conversion",
            "auto_encryption_opts",
            "server_api",
        ],
        "leave it out: it means something only to the driver of another language",
    ),
];

/// What the URI asks for that other drivers have.
fn unsupported(text: &str) -> Option<String> {
    for pair in text.split_once('?')?.1.split('&') {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let (key, value) = (name.to_ascii_lowercase(), value.to_ascii_lowercase());
        let foreign = FOREIGN.iter().find(|(names, _)| names.contains(&key.as_str()));
        if let Some((_, advice)) = foreign {
            return Some(format!("the option {name} is not supported: {advice}"));
        }
        match (key.as_str(), value.as_str()) {
            ("authmechanism", "gssapi" | "mongodb-aws") => {
                return Some(format!(
                    "the authMechanism {} is not supported: SCRAM-SHA-256, SCRAM-SHA-1, MONGODB-X509 \
                     and PLAIN are",
                    value.to_ascii_uppercase()
                ));
            }
            ("uuidrepresentation", _) => {
                return Some(
                    "the option uuidRepresentation has no effect here: leave it out".to_owned(),
                );
            }
            _ => {}
        }
    }
    None
}

impl std::fmt::Debug for Uri {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Uri").field(&self.shown()).finish()
    }
}

/// The scheme, the hosts and the database. Whatever stands before the last `@` may be a secret, and
/// so may be an option's value.
fn shown(text: &str) -> String {
    let (scheme, rest) = text.split_once("://").unwrap_or(("", text));
    let rest = rest.rsplit_once('@').map_or(rest, |(_, hosts)| hosts);
    let rest = rest.split(['?', '#']).next().unwrap_or_default();
    let rest = rest.trim_end_matches('/');
    if scheme.is_empty() { format!("\"{rest}\"") } else { format!("{scheme}://{rest}") }
}

fn has_raw_credentials(text: &str) -> bool {
    let rest = text.split_once("://").map_or(text, |(_, rest)| rest);
    rest.rsplit_once('@').is_some_and(|(credentials, _)| {
        let password = credentials.split_once(':').map_or("", |(_, password)| password);
        credentials.contains(['/', '?', '#', '[', ']', '@'])
            || password.contains(':')
            || credentials.contains('%')
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shown_text_has_no_secret() {
        for (text, expected) in [
            ("mongodb://u:secret@h1:1,h2:2/shop?replicaSet=r", "mongodb://h1:1,h2:2/shop"),
            ("mongodb+srv://u:secret@h.example/?authSource=secret", "mongodb+srv://h.example"),
            ("mongodb://u:sec/ret@h/", "mongodb://h"),
            ("mongodb://u:sec@ret@h/", "mongodb://h"),
            ("mongodb://h", "mongodb://h"),
            ("no scheme", "\"no scheme\""),
            ("u:secret@h", "\"h\""),
        ] {
            assert_eq!(shown(text), expected, "{text}");
        }
    }

    /// What is wrong with a URI that has this option.
    fn wrong(option: &str) -> String {
        let text = format!("mongodb://user:secret@host/?{option}");
        let options = || {
            let parsed = Uri::parse(&text)?;
            let options = mongodb::options::ClientOptions::parse(parsed.parsed().clone()).run();
            options.map(drop).map_err(|error| parsed.invalid(&error))
        };
        options().expect_err(option).to_string()
    }

    #[test]
    fn options_of_other_drivers_are_refused_with_what_to_do() {
        for (names, advice) in FOREIGN {
            for name in names {
                for value in ["1", "true", "x"] {
                    let text = wrong(&format!("{name}={value}"));
                    assert!(text.contains(name) && text.contains(advice), "{text}");
                }
            }
        }
        assert!(wrong("socketTimeoutMS=1").contains("socketTimeoutMS is not supported"));
        assert!(wrong("authMechanism=MONGODB-AWS").contains("MONGODB-AWS is not supported"));
        // One that nobody knows.
        assert!(wrong("replicaSte=x").contains("replicaset"));
    }

    #[test]
    fn no_error_speaks_to_those_who_build_the_driver() {
        for option in [
            "authMechanism=GSSAPI",
            "authMechanism=MONGODB-AWS",
            "authMechanism=MONGODB-OIDC",
            "authMechanismProperties=ALLOWED_HOSTS:secret",
            "authMechanismProperties=secret",
            "compressors=lz4",
            "compressors=zstd&zlibCompressionLevel=12",
            "proxyHost=secret",
            "tlsCertificateKeyFilePassword=secret",
            "uuidRepresentation=standard",
            "socketTimeoutMS=0",
        ] {
            let text = wrong(option);
            for word in ["feature", "Rust", "client options", "ClientOptions", "Cargo", "secret"] {
                assert!(!text.contains(word), "{word:?} in {text}");
            }
        }
    }

    #[test]
    fn errors_have_no_secret() {
        for text in [
            "mongodb://user:sec/ret@host/db",
            "mongodb://user:sec@ret@host/db",
            "mongodb://user:sec:ret@host/db",
            "mongodb://user:sec%ret@host/db",
            "mongodb://user:secret@host:99999999/db",
            "mongodb://user:secret@host/?tlsCertificateKeyFilePassword=secret&w=-7",
            "http://user:secret@host/db",
            "user:secret@host/db",
        ] {
            let error = Uri::parse(text).expect_err(text).to_string();
            assert!(!error.contains("sec"), "{text}: {error}");
        }
    }
}
