//! Where a pipe leads: the text of `--to`, taken apart.

use crate::failure::Failure;
use crate::secrets::hide;

/// The kinds of brokers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// NATS JetStream.
    JetStream,
    /// Apache Kafka, and what speaks its protocol.
    Kafka,
}

/// One or more servers of a broker, and a name there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Address {
    pub(crate) kind: Kind,
    /// `nats://` with TLS is `tls://`.
    pub(crate) tls: bool,
    /// Each is `host:port`.
    pub(crate) servers: Vec<String>,
    /// User and password; a user alone is a token.
    pub(crate) user: Option<(String, Option<String>)>,
    /// The stream of JetStream, or the template of a topic.
    pub(crate) name: String,
}

/// How an address looks.
pub(crate) const FORMS: &str =
    "nats://HOST[:PORT][,HOST...]/STREAM or kafka://HOST[:PORT][,HOST...]/TOPIC";

impl Address {
    pub(crate) fn parse(text: &str) -> Result<Self, Failure> {
        let wrong = |why: &str| Failure::usage(format!("--to {}: {why}; give {FORMS}", hide(text)));
        let Some((scheme, rest)) = text.split_once("://") else {
            return Err(wrong("it has no scheme"));
        };
        let (kind, tls, port) = match scheme {
            "nats" => (Kind::JetStream, false, "4222"),
            "tls" => (Kind::JetStream, true, "4222"),
            "kafka" => (Kind::Kafka, false, "9092"),
            _ => return Err(wrong(&format!("nothing is known of {scheme}://"))),
        };
        // Lists of NATS servers often repeat it.
        let rest = rest.replace(&format!(",{scheme}://"), ",");
        let rest = rest.as_str();
        // A password may contain a slash, a host may not.
        let at = rest.rfind('@');
        let (credentials, rest) = match at {
            Some(at) => (rest.get(..at), rest.get(at + 1..).unwrap_or_default()),
            None => (None, rest),
        };
        let Some((hosts, name)) = rest.split_once('/') else {
            return Err(wrong("the name after the host is missing"));
        };
        if name.is_empty() {
            return Err(wrong("the name after the host is missing"));
        }
        if name.contains(['/', '?', '#']) {
            return Err(wrong("nothing follows the name"));
        }
        let servers: Vec<_> = hosts.split(',').map(|host| with_port(host, port)).collect();
        let servers = servers
            .into_iter()
            .collect::<Option<Vec<_>>>()
            .ok_or_else(|| wrong("a host is missing, or its port is no number"))?;
        let user = credentials.map(|credentials| match credentials.split_once(':') {
            Some((user, password)) => (decoded(user), Some(decoded(password))),
            None => (decoded(credentials), None),
        });
        Ok(Self { kind, tls, servers, user, name: name.to_owned() })
    }

    /// For messages: without credentials.
    pub(crate) fn shown(&self) -> String {
        let scheme = match (self.kind, self.tls) {
            (Kind::JetStream, false) => "nats",
            (Kind::JetStream, true) => "tls",
            (Kind::Kafka, _) => "kafka",
        };
        format!("{scheme}://{}/{}", self.servers.join(","), self.name)
    }
}

fn with_port(host: &str, port: &str) -> Option<String> {
    // The port comes after the brackets of an IPv6 address.
    let after = host.rfind(']').map_or(0, |end| end + 1);
    match host.get(after..)?.rsplit_once(':') {
        _ if host.is_empty() => None,
        None => Some(format!("{host}:{port}")),
        Some((name, given)) if after > 0 || !name.is_empty() => {
            given.parse::<u16>().ok().filter(|port| *port > 0).map(|_| host.to_owned())
        }
        Some(_) => None,
    }
}

/// Without percent-encoding. What is none stays as it is.
fn decoded(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut plain = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        let digits = bytes.get(at + 1..at + 3).and_then(|digits| std::str::from_utf8(digits).ok());
        match digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(encoded) if byte == b'%' => {
                plain.push(encoded);
                at += 3;
            }
            _ => {
                plain.push(byte);
                at += 1;
            }
        }
    }
    String::from_utf8(plain).unwrap_or_else(|_| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Address {
        Address::parse(text).unwrap()
    }

    #[test]
    fn an_address_has_servers_and_a_name() {
        let address = parsed("nats://localhost/SHOP");
        assert_eq!((address.kind, address.tls), (Kind::JetStream, false));
        assert_eq!(address.servers, ["localhost:4222"]);
        assert_eq!((address.name.as_str(), address.user.clone()), ("SHOP", None));
        assert_eq!(address.shown(), "nats://localhost:4222/SHOP");
        let address = parsed("kafka://a,b:9093,[::1],[::1]:7/shop.{collection}");
        assert_eq!(address.servers, ["a:9092", "b:9093", "[::1]:9092", "[::1]:7"]);
        assert_eq!((address.kind, address.name.as_str()), (Kind::Kafka, "shop.{collection}"));
        assert_eq!(parsed("tls://a/S").shown(), "tls://a:4222/S");
        assert_eq!(parsed("nats://a,nats://b/S").servers, ["a:4222", "b:4222"]);
    }

    #[test]
    fn credentials_are_taken_out_and_not_shown() {
        let address = parsed("nats://me:p%40s/s@a,b/S");
        assert_eq!(address.user, Some(("me".to_owned(), Some("p@s/s".to_owned()))));
        assert_eq!(address.shown(), "nats://a:4222,b:4222/S");
        assert_eq!(parsed("nats://token@a/S").user, Some(("token".to_owned(), None)));
        assert_eq!(
            parsed("nats://5%:100%25@a/S").user,
            Some(("5%".to_owned(), Some("100%".to_owned())))
        );
    }

    #[test]
    fn what_is_no_address_is_refused_with_the_reason() {
        for (text, reason) in [
            ("localhost/S", "no scheme"),
            ("redis://localhost/S", "nothing is known of redis://"),
            ("nats://localhost", "the name after the host is missing"),
            ("nats://localhost/", "the name after the host is missing"),
            ("nats:///S", "a host is missing"),
            ("nats://a,,b/S", "a host is missing"),
            ("nats://a:x/S", "its port is no number"),
            ("nats://a:0/S", "its port is no number"),
            ("nats://a:70000/S", "its port is no number"),
            ("nats://:4222/S", "a host is missing"),
            ("nats://a/S/T", "nothing follows the name"),
            ("nats://a/S?x=y", "nothing follows the name"),
        ] {
            match Address::parse(text) {
                Err(Failure::Usage(told)) => assert!(told.contains(reason), "{text}: {told}"),
                other => panic!("{text}: {other:?}"),
            }
        }
    }
}
