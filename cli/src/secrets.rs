//! What is never shown: the credentials in the URIs of the command line, whoever makes a text with them.

/// What is shorter may be a part of any word.
const SHORTEST: usize = 4;

/// The text without the credentials of any URI on the command line.
pub(crate) fn hide(text: &str) -> String {
    std::env::args_os()
        .fold(text.to_owned(), |text, argument| hide_of(&text, &argument.to_string_lossy()))
}

/// The text without a secret.
pub(crate) fn hide_one(text: &str, secret: &str) -> String {
    if secret.chars().count() < SHORTEST { text.to_owned() } else { text.replace(secret, "***") }
}

fn hide_of(text: &str, argument: &str) -> String {
    let Some((_, rest)) = argument.split_once("://") else { return text.to_owned() };
    // Whatever stands before the last @ may be a part of them.
    let Some((credentials, _)) = rest.rsplit_once('@') else { return text.to_owned() };
    let text = text.replace(&format!("{credentials}@"), "***@");
    let password = credentials.split_once(':').map_or("", |(_, password)| password);
    hide_one(&text, password)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_hidden_wherever_they_stand() {
        let uri = "mongodb://somebody:hun@ter2@host/?x=y";
        for (text, expected) in [
            ("no mongodb://somebody:hun@ter2@host/?x=y here", "no mongodb://***@host/?x=y here"),
            ("the password hun@ter2 is wrong", "the password *** is wrong"),
            ("somebody is not there", "somebody is not there"),
        ] {
            assert_eq!(hide_of(text, uri), expected);
        }
        assert_eq!(hide_of("a host", "mongodb://host/"), "a host");
        assert_eq!(hide_of("a usual word", "mongodb://u:us@host/"), "a usual word");
        assert_eq!(hide_of("u:us@host", "mongodb://u:us@host/"), "***@host");
    }
}
