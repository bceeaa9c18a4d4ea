//! The connection string: checked before anything is started, and shown without its secrets.

use mongodb::error::Error as DriverError;
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

    /// For messages: without user, password and options.
    pub(crate) fn shown(&self) -> String {
        shown(&self.text)
    }
}

fn invalid(text: &str, error: &DriverError) -> Error {
    let reason = crate::resume::text_of(error);
    Error::argument(format!("the URI {} is not valid: {reason}", shown(text)))
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
