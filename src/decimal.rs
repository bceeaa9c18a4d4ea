//! Decimal128 to text, as IEEE 754-2008 and the BSON specification have it. The bson crate's own way there
//! goes bit by bit and takes as long as all else of a small document.

/// 34 digits; the bits of a coefficient have room for a little more, which counts as 0.
const LARGEST: u128 = 9_999_999_999_999_999_999_999_999_999_999_999;
const BIAS: i32 = 6176;

/// Appends the number's text.
pub(crate) fn write(out: &mut Vec<u8>, bytes: [u8; 16]) {
    let bits = u128::from_le_bytes(bytes);
    let field = |shift: u32, width: u32| (bits >> shift) as u32 & ((1 << width) - 1);
    let is_negative = field(127, 1) == 1;
    if field(122, 5) == 0b11111 {
        out.extend_from_slice(b"NaN");
        return;
    }
    if is_negative {
        out.push(b'-');
    }
    if field(122, 5) == 0b11110 {
        out.extend_from_slice(b"Infinity");
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
    digits(out, buffer.format(coefficient).as_bytes(), exponent as i32 - BIAS);
}

/// The digits, with a point or an exponent where the number needs one.
fn digits(out: &mut Vec<u8>, digits: &[u8], exponent: i32) {
    let count = digits.len() as i32;
    let scientific = exponent + count - 1;
    if exponent > 0 || scientific < -6 {
        let (first, rest) = digits.split_at(1);
        out.extend_from_slice(first);
        if !rest.is_empty() {
            out.push(b'.');
            out.extend_from_slice(rest);
        }
        out.extend_from_slice(if scientific < 0 { b"E" } else { b"E+" });
        out.extend_from_slice(itoa::Buffer::new().format(scientific).as_bytes());
    } else if exponent == 0 {
        out.extend_from_slice(digits);
    } else if count + exponent > 0 {
        let (whole, fraction) = digits.split_at((count + exponent) as usize);
        out.extend_from_slice(whole);
        out.push(b'.');
        out.extend_from_slice(fraction);
    } else {
        out.extend_from_slice(b"0.");
        out.resize(out.len() + (-exponent - count) as usize, b'0');
        out.extend_from_slice(digits);
    }
}
