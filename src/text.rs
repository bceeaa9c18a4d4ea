//! Text that Rust and C can both be given: it ends in a NUL, which its Rust face does not show.

/// One text, owned.
pub struct Text(Vec<u8>);

impl Text {
    /// With a NUL after it.
    pub fn new(text: String) -> Self {
        Self::of_utf8(text.into_bytes())
    }

    /// Of text that is UTF-8. C gets it as it is; for Rust that is looked at again, which is cheaper than to
    /// have a `String` looked at once.
    pub(crate) fn of_utf8(mut text: Vec<u8>) -> Self {
        text.push(0);
        Self(text)
    }

    pub(crate) fn as_str(&self) -> &str {
        without_nul(&self.0)
    }

    /// With the NUL.
    pub fn with_nul(&self) -> &[u8] {
        &self.0
    }
}

/// The Rust face of UTF-8 that ends in a NUL: that of a [`Text`], or of what the JSON writer wrote.
///
/// # Panics
///
/// If it is not UTF-8, which would be a bug of this library: nothing else writes such texts.
pub(crate) fn without_nul(text: &[u8]) -> &str {
    let text = text.split_last().map(|(_nul, text)| text).unwrap_or_default();
    // An empty text instead would be a message that has vanished.
    simdutf8::basic::from_utf8(text)
        .expect("mongostream has made a text that is not UTF-8; please report this bug")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[should_panic(expected = "mongostream has made a text that is not UTF-8")]
    fn a_text_that_is_not_utf8_does_not_become_an_empty_one() {
        let _ = Text::of_utf8(vec![b'{', 0xFF, b'}']).as_str();
    }
}
