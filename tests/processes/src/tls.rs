//! Certificates of a server's own. They are made when it starts, and gone with it.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::Error;
use crate::error::Context;

/// An authority, and what its servers show, as PEM.
#[derive(Debug)]
pub struct Certificates {
    /// The authority's certificate.
    pub authority: String,
    /// Certificate and key.
    pub server: String,
}

impl Certificates {
    /// Makes them with the program `openssl`, in this directory, of which nothing is left.
    ///
    /// # Errors
    ///
    /// If there is no `openssl`, or it fails.
    pub fn make(directory: &Path) -> Result<Self, Error> {
        fs::create_dir(directory).context("cannot make a directory for certificates")?;
        let made = Self::make_in(directory);
        let _ = fs::remove_dir_all(directory);
        made
    }

    fn make_in(directory: &Path) -> Result<Self, Error> {
        let names = "subjectAltName=DNS:localhost,IP:127.0.0.1";
        fs::write(directory.join("names"), names).context("cannot write")?;
        let new = "req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 3";
        for (command, subject) in [
            (format!("{new} -x509 -keyout ca.key -out ca.pem"), Some("/O=tests/CN=authority")),
            (
                format!("{new} -keyout server.key -out server.request"),
                Some("/O=tests/OU=server/CN=localhost"),
            ),
            (
                "x509 -req -in server.request -CA ca.pem -CAkey ca.key -CAcreateserial -days 3 \
                 -extfile names -out server.pem"
                    .to_owned(),
                None,
            ),
        ] {
            let mut openssl = Command::new("openssl");
            openssl.current_dir(directory).stdin(Stdio::null()).args(command.split_whitespace());
            let output = openssl
                .args(subject.iter().flat_map(|subject| ["-subj", subject]))
                .output()
                .context("cannot run openssl, which makes the certificates: install it")?;
            if !output.status.success() {
                let text = String::from_utf8_lossy(&output.stderr);
                return Err(Error::new(format!("openssl {command}: {text}")));
            }
        }
        let read = |name| fs::read_to_string(directory.join(name)).context("openssl made nothing");
        let server = read("server.pem")? + &read("server.key")?;
        Ok(Self { authority: read("ca.pem")?, server })
    }
}
