//! How wide a text is in a picture.

/// Pixels in a font of this size. Which font a viewer has for `sans-serif` is not known: these are the
/// widths of DejaVu Sans, which is wider than most.
pub(crate) fn width(text: &str, size: f64) -> f64 {
    let hundredths: u32 = text.chars().map(of_char).sum();
    f64::from(hundredths) / 100.0 * size
}

/// Hundredths of the font's size.
fn of_char(char: char) -> u32 {
    match char {
        'i' | 'j' | 'l' | 'I' | 'J' | '\'' => 29,
        ' ' | ',' | '.' | '/' | ':' | ';' | '|' | '-' | 'f' => 36,
        '(' | ')' | '[' | ']' | 't' | 'r' | '!' => 41,
        'a'..='z' if char != 'm' && char != 'w' => 63,
        '0'..='9' | 'E' | 'F' | 'L' | 'P' | 'S' | 'T' | 'Y' | '$' | '_' | '*' | '"' => 64,
        'A' | 'B' | 'C' | 'K' | 'R' | 'U' | 'V' | 'X' | 'Z' => 73,
        'D' | 'G' | 'H' | 'N' | 'O' | 'Q' | '&' => 79,
        _ => 100,
    }
}
