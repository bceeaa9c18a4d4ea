//! Names of the database as parts of a subject (NATS documentation, "Subject-Based Messaging").

use std::fmt::Write;

/// Writes a name. What a subject cannot have is percent-encoded: white space, `*`, `>`, and a dot without anything before
/// or after it. Other dots separate tokens: a consumer may ask for `SHOP.shop.archive.*`.
pub(crate) fn write_name(name: &str, text: &mut String) {
    let mut before = None;
    let mut characters = name.chars().peekable();
    while let Some(character) = characters.next() {
        let is_first_or_last = matches!(before, None | Some('.')) || characters.peek().is_none();
        let is_lone_dot = character == '.' && is_first_or_last;
        let is_special = character.is_whitespace() || character.is_control();
        if is_lone_dot || is_special || matches!(character, '*' | '>' | '%') {
            let mut utf8 = [0; 4];
            for byte in character.encode_utf8(&mut utf8).bytes() {
                // Writing into a text does not fail.
                let _ = write!(text, "%{byte:02X}");
            }
            // What follows an encoded dot does not follow a dot.
            before = Some('%');
        } else {
            text.push(character);
            before = Some(character);
        }
    }
}

/// Whether a stream that has this subject gets what is published to that one.
pub(crate) fn covers(pattern: &str, subject: &str) -> bool {
    let mut tokens = subject.split('.');
    for wanted in pattern.split('.') {
        match (wanted, tokens.next()) {
            (">", Some(_)) => return true,
            ("*", Some(_)) => {}
            (wanted, Some(token)) if wanted == token => {}
            _ => return false,
        }
    }
    tokens.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_always_one_token_or_more() {
        for (name, expected) in [
            ("orders", "orders"),
            ("orders.archive", "orders.archive"),
            ("a b\t*>%", "a%20b%09%2A%3E%25"),
            (".a", "%2Ea"),
            ("a.", "a%2E"),
            ("a..b", "a.%2Eb"),
            (".", "%2E"),
            ("...", "%2E.%2E"),
            ("bestellungen_größe", "bestellungen_größe"),
            ("a\u{2028}b", "a%E2%80%A8b"),
        ] {
            let mut text = String::new();
            write_name(name, &mut text);
            assert_eq!(text, expected, "{name:?}");
            assert!(text.split('.').all(|token| !token.is_empty()), "{text:?}");
        }
    }

    #[test]
    fn a_pattern_covers_subjects_by_token() {
        for (pattern, subject) in
            [("a.b", "a.b"), ("a.*", "a.b"), ("a.>", "a.b.c"), (">", "a"), ("*.b.>", "a.b.c")]
        {
            assert!(covers(pattern, subject), "{pattern} {subject}");
        }
        for (pattern, subject) in [
            ("a.b", "a.c"),
            ("a.*", "a"),
            ("a.*", "a.b.c"),
            ("a.>", "a"),
            ("a", "a.b"),
            ("b.>", "a.b"),
        ] {
            assert!(!covers(pattern, subject), "{pattern} {subject}");
        }
    }
}
