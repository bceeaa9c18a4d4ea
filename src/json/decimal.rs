//! Decimal128 to text, as IEEE 754-2008 and the BSON specification have it. The bson crate's own way there
//! goes bit by bit and takes as long as all else of a small document.

use crate::json::out::Out;

/// 34 digits; the bits of a coefficient have room for a little more, which counts as 0.
const LARGEST: u128 = 9_999_999_999_999_999_999_999_999_999_999_999;
const BIAS: i32 = 6176;

/// Appends the number's text.
pub(super) fn write(out: &mut Out, bytes: [u8; 16]) {
    let bits = u128::from_le_bytes(bytes);
    let field = |shift: u32, width: u32| (bits >> shift) as u32 & ((1 << width) - 1);
    let is_negative = field(127, 1) == 1;
    if field(122, 5) == 0b11111 {
        out.put(b"NaN");
        return;
    }
    if is_negative {
        out.put(b"-");
    }
    if field(122, 5) == 0b11110 {
        out.put(b"Infinity");
        return;
    }
    let (exponent, coefficient) = if field(125, 2) == 0b11 {
        // This form has only coefficients that are too large.
        (field(111, 14), 0)
    } else {
        let coefficient = bits & ((1 << 113) - 1);
        (field(113, 14), if coefficient > LARGEST { 0 } else { coefficient })
    };
    let mut buffer = itoa::Buffer::new();
    let text = match u64::try_from(coefficient) {
        // Much quicker.
        Ok(coefficient) => buffer.format(coefficient),
        Err(_) => buffer.format(coefficient),
    };
    digits(out, text.as_bytes(), exponent as i32 - BIAS);
}

/// The digits, with a point or an exponent where the number needs one.
fn digits(out: &mut Out, digits: &[u8], exponent: i32) {
    let count = digits.len() as i32;
    let scientific = exponent + count - 1;
    if exponent > 0 || scientific < -6 {
        let (first, rest) = digits.split_at(1);
        out.text(first);
        if !rest.is_empty() {
            out.put(b".");
            out.text(rest);
        }
        out.text(if scientific < 0 { b"E" } else { b"E+" });
        out.integer(scientific);
    } else if exponent == 0 {
        out.text(digits);
    } else if count + exponent > 0 {
        let (whole, fraction) = digits.split_at((count + exponent) as usize);
        out.text(whole);
        out.put(b".");
        out.text(fraction);
    } else {
        out.put(b"0.");
        for _ in 0..-exponent - count {
            out.put(b"0");
        }
        out.text(digits);
    }
}
