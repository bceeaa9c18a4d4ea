//! The JSON is the specification's, for every BSON type; it agrees with the bson crate wherever the crate
//! agrees with the specification; it stays valid JSON on one line for damaged input; and a change event takes
//! the documented shape.

use std::io::Write;

use bson::oid::ObjectId;
use bson::spec::BinarySubtype;
use bson::{Binary, Bson, DateTime, Decimal128, Document, Timestamp, doc};
use mongostream::json::{ExtendedJson, Format, write_document, write_message};
use serde_json::{Value, json};

const MODES: [ExtendedJson; 2] = [ExtendedJson::Relaxed, ExtendedJson::Canonical];
const FORMATS: [Format; 2] = [Format::Oplog, Format::Event];

fn document_json(bytes: &[u8], mode: ExtendedJson) -> String {
    let mut out = String::new();
    write_document(&mut out, bytes, mode);
    out
}

fn message_json(event: &Document, mode: ExtendedJson) -> String {
    let mut out = String::new();
    write_message(&mut out, &encode(event), Format::Oplog, mode);
    out
}

fn encode(document: &Document) -> Vec<u8> {
    document.to_vec().expect("a document that encodes")
}

/// A document of the given elements, each with its type byte and key.
fn raw_document(elements: &[u8]) -> Vec<u8> {
    let length = i32::try_from(elements.len() + 5).expect("a small document");
    [&length.to_le_bytes(), elements, &[0]].concat()
}

/// `{v: ...}` with the value's raw bytes.
fn raw_value(kind: u8, value: &[u8]) -> Vec<u8> {
    raw_document(&[&[kind, b'v', 0], value].concat())
}

fn raw_string(text: &[u8]) -> Vec<u8> {
    let length = i32::try_from(text.len() + 1).expect("a short text");
    [&length.to_le_bytes(), text, &[0]].concat()
}

fn raw_binary(subtype: u8, bytes: &[u8]) -> Vec<u8> {
    let length = i32::try_from(bytes.len()).expect("short bytes");
    [&length.to_le_bytes(), [subtype].as_slice(), bytes].concat()
}

#[track_caller]
fn check_raw(kind: u8, value: &[u8], relaxed: &str, canonical: &str) {
    let document = raw_value(kind, value);
    for (mode, expected) in MODES.into_iter().zip([relaxed, canonical]) {
        let expected = format!("{{\"v\":{expected}}}");
        assert_eq!(document_json(&document, mode), expected, "{mode:?}");
    }
}

#[track_caller]
fn check(value: impl Into<Bson>, relaxed: &str, canonical: &str) {
    let document = encode(&doc! {"v": value.into()});
    for (mode, expected) in MODES.into_iter().zip([relaxed, canonical]) {
        let expected = format!("{{\"v\":{expected}}}");
        assert_eq!(document_json(&document, mode), expected, "{mode:?}");
    }
}

#[track_caller]
fn check_both(value: impl Into<Bson>, expected: &str) {
    check(value, expected, expected);
}

#[test]
fn integers() {
    check(0, "0", r#"{"$numberInt":"0"}"#);
    check(i32::MIN, "-2147483648", r#"{"$numberInt":"-2147483648"}"#);
    check(i32::MAX, "2147483647", r#"{"$numberInt":"2147483647"}"#);
    check(5_i64, "5", r#"{"$numberLong":"5"}"#);
    check(i64::MIN, "-9223372036854775808", r#"{"$numberLong":"-9223372036854775808"}"#);
    check(i64::MAX, "9223372036854775807", r#"{"$numberLong":"9223372036854775807"}"#);
}

#[test]
fn doubles() {
    check(1.0, "1.0", r#"{"$numberDouble":"1.0"}"#);
    check(0.0, "0.0", r#"{"$numberDouble":"0.0"}"#);
    check(-0.0, "-0.0", r#"{"$numberDouble":"-0.0"}"#);
    check(-1.5, "-1.5", r#"{"$numberDouble":"-1.5"}"#);
    check(0.1, "0.1", r#"{"$numberDouble":"0.1"}"#);
    check(1.0001220703125, "1.0001220703125", r#"{"$numberDouble":"1.0001220703125"}"#);
    check_both(f64::NAN, r#"{"$numberDouble":"NaN"}"#);
    check_both(-f64::NAN, r#"{"$numberDouble":"NaN"}"#);
    check_both(f64::from_bits(0x7FF8_0000_0000_0012), r#"{"$numberDouble":"NaN"}"#);
    check_both(f64::INFINITY, r#"{"$numberDouble":"Infinity"}"#);
    check_both(f64::NEG_INFINITY, r#"{"$numberDouble":"-Infinity"}"#);
}

#[test]
fn doubles_with_an_exponent() {
    let cases = [
        (-1.2345678921232e18, "-1.2345678921232E+18"),
        (1e100, "1E+100"),
        (2.5e-300, "2.5E-300"),
        (f64::MAX, "1.7976931348623157E+308"),
        (f64::MIN_POSITIVE, "2.2250738585072014E-308"),
        (f64::from_bits(1), "5E-324"),
    ];
    for (number, canonical) in cases {
        let bytes = encode(&doc! {"v": number});
        let text = document_json(&bytes, ExtendedJson::Canonical);
        assert_eq!(text, format!(r#"{{"v":{{"$numberDouble":"{canonical}"}}}}"#));
        let text = document_json(&bytes, ExtendedJson::Relaxed);
        let parsed: Value = serde_json::from_str(&text).expect("JSON");
        assert_eq!(parsed, json!({"v": number}), "{text}");
        assert!(parsed["v"].is_f64(), "{text}");
    }
}

#[test]
fn dates() {
    let cases = [
        (0, r#""1970-01-01T00:00:00Z""#),
        (1, r#""1970-01-01T00:00:00.001Z""#),
        (1_356_351_330_501, r#""2012-12-24T12:15:30.501Z""#),
        (1_356_351_330_500, r#""2012-12-24T12:15:30.500Z""#),
        (1_356_351_330_000, r#""2012-12-24T12:15:30Z""#),
        (951_827_696_789, r#""2000-02-29T12:34:56.789Z""#),
        (4_107_542_399_999, r#""2100-02-28T23:59:59.999Z""#),
        (4_107_542_400_000, r#""2100-03-01T00:00:00Z""#),
        (253_402_300_799_999, r#""9999-12-31T23:59:59.999Z""#),
        (253_402_300_800_000, r#"{"$numberLong":"253402300800000"}"#),
        (-1, r#"{"$numberLong":"-1"}"#),
        (-284_643_869_501, r#"{"$numberLong":"-284643869501"}"#),
        (i64::MIN, r#"{"$numberLong":"-9223372036854775808"}"#),
        (i64::MAX, r#"{"$numberLong":"9223372036854775807"}"#),
    ];
    for (millis, relaxed) in cases {
        check(
            DateTime::from_millis(millis),
            &format!(r#"{{"$date":{relaxed}}}"#),
            &format!(r#"{{"$date":{{"$numberLong":"{millis}"}}}}"#),
        );
    }
}

#[test]
fn decimals() {
    let cases = [
        "0",
        "-0",
        "0.0",
        "-0.00",
        "1",
        "-1",
        "1.5",
        "0.1",
        "0.001234",
        "0.000001",
        "1E-7",
        "1.23E-10",
        "1E+3",
        "0E+3",
        "-0E-8",
        "1.050E+9",
        "9.999999999999999999999999999999999E+6144",
        "1.000000000000000000000000000000000E+6144",
        "1E-6176",
        "0E-6176",
        "-0E+6111",
        "9999999999999999999999999999999999",
        "0.1234567890123456789012345678901234",
        "NaN",
        "Infinity",
        "-Infinity",
    ];
    for text in cases {
        let value: Decimal128 = text.parse().expect("a decimal");
        check_both(value, &format!(r#"{{"$numberDecimal":"{text}"}}"#));
    }
    // Forms that no text parses to: NaN with a sign and a payload, a coefficient of more than 34 digits.
    let mut bytes = [0; 16];
    bytes[15] = 0xFC;
    bytes[0] = 0x12;
    check_raw(0x13, &bytes, r#"{"$numberDecimal":"NaN"}"#, r#"{"$numberDecimal":"NaN"}"#);
    let mut bytes = [0xFF; 16];
    bytes[15] = 0x6C;
    bytes[14] = 0x10;
    bytes[13] = 0x7F;
    check_raw(0x13, &bytes, r#"{"$numberDecimal":"0"}"#, r#"{"$numberDecimal":"0"}"#);
}

#[test]
fn strings() {
    check_both("", r#""""#);
    check_both("orders", r#""orders""#);
    check_both(r#"say "hi" \ back/slash"#, r#""say \"hi\" \\ back/slash""#);
    check_both("\u{8}\t\n\u{c}\r", r#""\b\t\n\f\r""#);
    check_both("a\0b", r#""a\u0000b""#);
    check_both("\u{1}\u{1f}\u{7f}", "\"\\u0001\\u001f\u{7f}\"");
    let passes = "é€\u{2028}\u{2029}\u{FFFF}\u{FEFF}\u{10FFFF}👩‍🚀";
    check_both(passes, &format!("\"{passes}\""));
    check_both("a long text, then: \n", r#""a long text, then: \n""#);
}

#[test]
fn every_char_reads_back() {
    let text: String = (0..=u32::from(char::MAX)).filter_map(char::from_u32).collect();
    let line = document_json(&encode(&doc! {"v": &text}), ExtendedJson::Relaxed);
    let parsed: Value = serde_json::from_str(&line).expect("JSON");
    assert!(parsed == json!({"v": text}));
}

#[test]
fn text_that_is_not_utf8_has_replacement_characters() {
    let cases: [(&[u8], &str); 5] = [
        (b"\xFF", "\"\u{FFFD}\""),
        (b"a\xC3", "\"a\u{FFFD}\""),
        (b"\xE2\x82\"\xAC", "\"\u{FFFD}\\\"\u{FFFD}\""),
        (b"\xED\xA0\x80", "\"\u{FFFD}\u{FFFD}\u{FFFD}\""),
        (b"\xF0\x9F\n", "\"\u{FFFD}\\n\""),
    ];
    for (bytes, expected) in cases {
        check_raw(0x02, &raw_string(bytes), expected, expected);
    }
    let key = raw_document(b"\x0A\xC3\x28\0");
    assert_eq!(document_json(&key, ExtendedJson::Relaxed), "{\"\u{FFFD}(\":null}");
    let mut lines = String::from("ü\n");
    write_document(&mut lines, &key, ExtendedJson::Relaxed);
    assert_eq!(lines, "ü\n{\"\u{FFFD}(\":null}");
}

#[test]
fn keys_are_the_documents_own() {
    let document = encode(&doc! {
        "": 1, "a.b": 2, "$set": 3, "$oid": 4, "quo\"te": 5, "line\nfeed": 6, "ключ": 7,
    });
    assert_eq!(
        document_json(&document, ExtendedJson::Relaxed),
        r#"{"":1,"a.b":2,"$set":3,"$oid":4,"quo\"te":5,"line\nfeed":6,"ключ":7}"#
    );
    let twice = raw_document(b"\x0Aa\0\x0Aa\0");
    assert_eq!(document_json(&twice, ExtendedJson::Relaxed), r#"{"a":null,"a":null}"#);
}

#[test]
fn documents_and_arrays() {
    check_both(doc! {}, "{}");
    check_both(Vec::<Bson>::new(), "[]");
    check_both(
        doc! {"a": {"b": {}}, "c": [[], [{}, [null]]]},
        r#"{"a":{"b":{}},"c":[[],[{},[null]]]}"#,
    );
    // An array's keys are not looked at.
    let array = raw_document(b"\x08\x37\0\x01\x0Ax\0\x0A\0\x08\x30\0\0");
    check_raw(0x04, &array, "[true,null,null,false]", "[true,null,null,false]");
    assert_eq!(document_json(&raw_document(b""), ExtendedJson::Relaxed), "{}");
}

#[test]
fn binaries() {
    let cases = [
        (0x00, "//8=", "00"),
        (0x01, "//8=", "01"),
        (0x03, "//8=", "03"),
        (0x04, "//8=", "04"),
        (0x05, "//8=", "05"),
        (0x06, "//8=", "06"),
        (0x80, "//8=", "80"),
        (0xFF, "//8=", "ff"),
    ];
    for (subtype, base64, hex) in cases {
        let expected = format!(r#"{{"$binary":{{"base64":"{base64}","subType":"{hex}"}}}}"#);
        check_raw(0x05, &raw_binary(subtype, &[0xFF, 0xFF]), &expected, &expected);
    }
    let empty = r#"{"$binary":{"base64":"","subType":"00"}}"#;
    check_raw(0x05, &raw_binary(0, &[]), empty, empty);
    let uuid: Vec<u8> = (0..16).collect();
    let expected = r#"{"$binary":{"base64":"AAECAwQFBgcICQoLDA0ODw==","subType":"04"}}"#;
    check_raw(0x05, &raw_binary(4, &uuid), expected, expected);
}

#[test]
fn old_binaries_lose_their_inner_length_if_it_is_one() {
    let cases: [(&[u8], &str); 6] = [
        (&[2, 0, 0, 0, 0xFF, 0xFF], "//8="),
        (&[0, 0, 0, 0], ""),
        (&[3, 0, 0, 0, 0xFF, 0xFF], "AwAAAP//"),
        (&[1, 0, 0, 0, 0xFF, 0xFF], "AQAAAP//"),
        (&[0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF], "////////"),
        (&[0xFF, 0xFF], "//8="),
    ];
    for (bytes, base64) in cases {
        let expected = format!(r#"{{"$binary":{{"base64":"{base64}","subType":"02"}}}}"#);
        check_raw(0x05, &raw_binary(2, bytes), &expected, &expected);
    }
}

#[test]
fn the_other_types() {
    check_both(true, "true");
    check_both(false, "false");
    check_both(Bson::Null, "null");
    check_both(
        ObjectId::from_bytes([0, 1, 0x7F, 0x80, 0xAB, 0xCD, 0xEF, 0x10, 9, 8, 7, 0xFF]),
        r#"{"$oid":"00017f80abcdef10090807ff"}"#,
    );
    check_both(
        Timestamp { time: u32::MAX, increment: 7 },
        r#"{"$timestamp":{"t":4294967295,"i":7}}"#,
    );
    check_both(Bson::MinKey, r#"{"$minKey":1}"#);
    check_both(Bson::MaxKey, r#"{"$maxKey":1}"#);
    check_both(Bson::Undefined, r#"{"$undefined":true}"#);
    check_both(Bson::Symbol("a\"b".into()), r#"{"$symbol":"a\"b"}"#);
    check_both(Bson::JavaScriptCode("f(\"\\\")".into()), r#"{"$code":"f(\"\\\")"}"#);
    let code = Bson::JavaScriptCodeWithScope(bson::JavaScriptCodeWithScope {
        code: "x".into(),
        scope: doc! {"n": 1, "inner": {"a": []}},
    });
    check(
        doc! {"c": code, "after": null},
        r#"{"c":{"$code":"x","$scope":{"n":1,"inner":{"a":[]}}},"after":null}"#,
        r#"{"c":{"$code":"x","$scope":{"n":{"$numberInt":"1"},"inner":{"a":[]}}},"after":null}"#,
    );
    let pointer = [raw_string(b"db.c"), vec![0xAB; 12]].concat();
    let expected = r#"{"$dbPointer":{"$ref":"db.c","$id":{"$oid":"abababababababababababab"}}}"#;
    check_raw(0x0C, &pointer, expected, expected);
}

#[test]
fn regular_expressions() {
    let cases: [(&[u8], &str); 4] = [
        (b"^a.*\0\0", r#"{"pattern":"^a.*","options":""}"#),
        (b"a/\"\\d\0xmi\0", r#"{"pattern":"a/\"\\d","options":"imx"}"#),
        (b"\0uslmix\0", r#"{"pattern":"","options":"ilmsux"}"#),
        (b"\n\0\"i\0", r#"{"pattern":"\n","options":"\"i"}"#),
    ];
    for (bytes, body) in cases {
        let expected = format!(r#"{{"$regularExpression":{body}}}"#);
        check_raw(0x0B, bytes, &expected, &expected);
    }
}

/// SplitMix64: small, seeded, the same everywhere.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    fn bytes<const N: usize>(&mut self) -> [u8; N] {
        std::array::from_fn(|_| self.next() as u8)
    }

    fn text(&mut self, with_nul: bool) -> String {
        let length = self.below(24);
        (0..length)
            .map(|_| {
                let char = match self.below(10) {
                    0 => char::from(self.below(0x20) as u8),
                    1 => ['"', '\\', '/', '$', '.', '\u{7F}'][self.below(6) as usize],
                    2 => char::from_u32(self.below(0x11_0000) as u32).unwrap_or('\u{FFFD}'),
                    _ => char::from(b' ' + self.below(95) as u8),
                };
                if char == '\0' && !with_nul { '_' } else { char }
            })
            .collect()
    }

    fn double(&mut self) -> f64 {
        match self.below(4) {
            0 => f64::from_bits(self.next()),
            1 => [0.0, -0.0, f64::NAN, -f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 1e16, 5e-324]
                [self.below(8) as usize],
            2 => self.below(2_000) as f64 - 1_000.0,
            _ => (self.next() as i32) as f64 / 1_000.0,
        }
    }

    fn value(&mut self, depth: u64) -> Bson {
        match self.below(if depth > 5 { 19 } else { 23 }) {
            0 => Bson::Double(self.double()),
            1 | 2 => Bson::String(self.text(true)),
            3 => Bson::Int32(self.next() as i32),
            4 => Bson::Int64((self.next() as i64) >> self.below(64)),
            5 => Bson::Boolean(self.below(2) == 0),
            6 => Bson::Null,
            7 => ObjectId::from_bytes(self.bytes()).into(),
            8 => DateTime::from_millis((self.next() as i64) >> self.below(64)).into(),
            9 => Bson::Timestamp(Timestamp {
                time: self.next() as u32,
                increment: self.next() as u32,
            }),
            10 => {
                let length = self.below(20) as usize;
                Bson::Binary(Binary {
                    subtype: BinarySubtype::from(
                        [0, 1, 2, 3, 4, 5, 6, 0x80, 0xF0][self.below(9) as usize],
                    ),
                    bytes: self.bytes::<20>()[..length].to_vec(),
                })
            }
            11 => Bson::RegularExpression(bson::Regex {
                pattern: self.text(false).try_into().expect("no NUL"),
                options: ["", "i", "xi", "smi"][self.below(4) as usize]
                    .to_owned()
                    .try_into()
                    .expect("no NUL"),
            }),
            12 => Bson::JavaScriptCode(self.text(true)),
            13 => Bson::Symbol(self.text(true)),
            14 => Bson::Decimal128(Decimal128::from_bytes(self.bytes())),
            15 => Bson::Undefined,
            16 => Bson::MinKey,
            17 => Bson::MaxKey,
            18 => DateTime::from_millis(self.below(253_402_300_800_000) as i64).into(),
            19 => Bson::JavaScriptCodeWithScope(bson::JavaScriptCodeWithScope {
                code: self.text(true),
                scope: self.document(depth + 1),
            }),
            20 => {
                let length = self.below(6);
                Bson::Array((0..length).map(|_| self.value(depth + 1)).collect())
            }
            _ => Bson::Document(self.document(depth + 1)),
        }
    }

    fn document(&mut self, depth: u64) -> Document {
        let length = self.below(8);
        (0..length).map(|_| (self.text(false), self.value(depth))).collect()
    }
}

const END_OF_9999: DateTime = DateTime::from_millis(253_402_300_799_999);

/// What the specification wants of a value: the bson crate's answer, except where the crate departs from it.
fn specified(value: Bson, mode: ExtendedJson) -> Value {
    let canonical = mode == ExtendedJson::Canonical;
    match value {
        // The crate writes "-NaN" for a NaN with its sign bit set; the specification knows only "NaN".
        Bson::Double(number) if number.is_nan() => json!({"$numberDouble": "NaN"}),
        // In canonical mode the crate leaves subnormal numbers unwrapped.
        Bson::Double(number) if canonical && number.is_subnormal() => {
            json!({"$numberDouble": number.to_string()})
        }
        // Built without its large dates, the crate turns every date after 9999 into that year's last moment.
        Bson::DateTime(date) if date > END_OF_9999 => Bson::DateTime(date).into_canonical_extjson(),
        // The crate drops zeros at the end of a fraction (".5Z"); the specification wants three digits.
        Bson::DateTime(date) if !canonical => {
            let mut json = Bson::DateTime(date).into_relaxed_extjson();
            if let Some(Value::String(text)) = json.get_mut("$date")
                && let Some((seconds, fraction)) = text.trim_end_matches('Z').split_once('.')
            {
                *text = format!("{seconds}.{fraction:0<3}Z");
            }
            json
        }
        Bson::Document(document) => {
            document.into_iter().map(|(key, value)| (key, specified(value, mode))).collect()
        }
        Bson::Array(items) => items.into_iter().map(|item| specified(item, mode)).collect(),
        Bson::JavaScriptCodeWithScope(code) => {
            json!({"$code": code.code, "$scope": specified(Bson::Document(code.scope), mode)})
        }
        other if canonical => other.into_canonical_extjson(),
        other => other.into_relaxed_extjson(),
    }
}

/// The specification leaves open how a wrapped double is spelled (the crate never uses an exponent), so what
/// is compared is the number. Its spelling here is pinned by the tables above.
fn by_number(value: &mut Value) {
    match value {
        Value::Object(object) => {
            for (key, value) in object {
                match value {
                    Value::String(text) if key == "$numberDouble" => {
                        let number: f64 = text.parse().expect("a number");
                        *text = format!("{:x}", number.to_bits());
                    }
                    other => by_number(other),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(by_number),
        _ => {}
    }
}

#[test]
fn generated_documents_are_what_the_bson_crate_makes_of_them() {
    for seed in 0..4_000 {
        let document = Random(seed).document(0);
        let bytes = encode(&document);
        for mode in MODES {
            let text = document_json(&bytes, mode);
            let mut written: Value = serde_json::from_str(&text)
                .unwrap_or_else(|error| panic!("seed {seed}, {mode:?}: {error} in {text}"));
            // By way of its text, because reading may be off by a last digit, the same for both.
            let expected = specified(Bson::Document(document.clone()), mode).to_string();
            let mut expected: Value = serde_json::from_str(&expected).expect("JSON");
            by_number(&mut written);
            by_number(&mut expected);
            assert_eq!(written, expected, "seed {seed}, {mode:?}: {text}");
        }
    }
}

/// Any JSON value on one line; what it is made of does not matter.
#[track_caller]
fn assert_one_line_of_json(text: &str, what: impl Fn() -> String) -> Value {
    assert!(!text.contains(|c: char| c < ' '), "{}: {text:?}", what());
    match serde_json::from_str(text) {
        Ok(value @ Value::Object(_)) => value,
        other => panic!("{}: {other:?} from {text}", what()),
    }
}

/// An update event with every BSON type somewhere inside.
fn rich_event() -> Document {
    let decimal: Decimal128 = "1.5E+10".parse().expect("a decimal");
    doc! {
        "_id": {"_data": "8265A1B2"},
        "operationType": "update",
        "clusterTime": Timestamp { time: 1_732_264_946, increment: 3 },
        "wallTime": DateTime::from_millis(1_732_264_946_123),
        "ns": {"db": "shop", "coll": "orders"},
        "documentKey": {"region": "eu", "_id": ObjectId::from_bytes([0xA5; 12])},
        "updateDescription": {
            "updatedFields": {"state": "pa\"id", "list.0": [1, 2_i64, 2.5, ["x", {"y": null}]]},
            "removedFields": ["old"],
            "truncatedArrays": [],
        },
        "fullDocument": {
            "binary": Binary { subtype: BinarySubtype::Uuid, bytes: vec![1; 16] },
            "regex": Bson::RegularExpression(bson::Regex {
                pattern: "a+".to_owned().try_into().expect("no NUL"),
                options: "i".to_owned().try_into().expect("no NUL"),
            }),
            "code": Bson::JavaScriptCode("f()".into()),
            "scoped": Bson::JavaScriptCodeWithScope(bson::JavaScriptCodeWithScope {
                code: "f()".into(),
                scope: doc! {"a": {"b": 1}},
            }),
            "symbol": Bson::Symbol("s".into()),
            "decimal": decimal,
            "flags": [true, false, Bson::MinKey, Bson::MaxKey, Bson::Undefined],
        },
        "newField": {"of": ["a", "newer", "server"]},
    }
}

#[test]
fn a_document_cut_off_anywhere_is_valid_json_that_says_so() {
    let whole = encode(&rich_event());
    for length in 0..whole.len() {
        for format in FORMATS {
            for mode in MODES {
                let mut text = String::new();
                write_message(&mut text, &whole[..length], format, mode);
                let json = assert_one_line_of_json(&text, || format!("cut at {length}"));
                let object = json.as_object().expect("an object");
                let (last, marker) = object.iter().next_back().expect("a marker");
                assert_eq!(last, "$malformed", "cut at {length}: {text}");
                let marker = marker.as_str().expect("a text");
                assert!(marker.contains(" at byte "), "{marker}");
            }
        }
    }
    let mut text = String::new();
    write_message(&mut text, &whole, Format::Event, ExtendedJson::Relaxed);
    assert!(!text.contains("$malformed"));
}

#[test]
fn a_document_with_any_byte_changed_is_valid_json() {
    let whole = encode(&rich_event());
    let masks = [0x01, 0x02, 0x04, 0x08, 0x10, 0x20, 0x40, 0x80, 0xFF];
    for position in 0..whole.len() {
        let mut bytes = whole.clone();
        for replacement in masks.map(|mask| whole[position] ^ mask).into_iter().chain([0]) {
            bytes[position] = replacement;
            for (format, mode) in FORMATS.into_iter().zip(MODES) {
                let mut text = String::new();
                write_message(&mut text, &bytes, format, mode);
                assert_one_line_of_json(&text, || format!("{replacement:#x} at {position}"));
            }
        }
    }
}

#[test]
fn random_bytes_are_valid_json() {
    for seed in 0..20_000 {
        let mut random = Random(seed);
        let length = random.below(64) as usize;
        let mut bytes = random.bytes::<64>()[..length].to_vec();
        if seed % 2 == 0 {
            // Small numbers are types, lengths and terminators, and so get further in.
            bytes.iter_mut().for_each(|byte| *byte %= 20);
        }
        for format in FORMATS {
            let mut text = String::new();
            write_message(&mut text, &bytes, format, ExtendedJson::Relaxed);
            assert_one_line_of_json(&text, || format!("seed {seed}"));
        }
    }
}

#[test]
fn damage_is_marked_where_it_is_and_the_rest_goes_on() {
    let damaged_array = raw_document(&[b"\x0A0\0".as_slice(), b"\x771\0"].concat());
    let damaged = raw_document(&[b"\x03d\0".as_slice(), &raw_document(b"\x0Ak\0\x77u\0")].concat());
    let document = raw_document(
        &[b"\x04a\0".as_slice(), &damaged_array, b"\x03b\0", &damaged, b"\x08c\0\x01"].concat(),
    );
    assert_eq!(
        document_json(&document, ExtendedJson::Relaxed),
        concat!(
            r#"{"a":[null,{"$malformed":"unknown BSON type at byte 14"}],"#,
            r#""b":{"d":{"k":null,"$malformed":"unknown BSON type at byte 35"}},"c":true}"#
        )
    );
    assert_eq!(
        document_json(b"", ExtendedJson::Relaxed),
        r#"{"$malformed":"document cut off at byte 0"}"#
    );
}

fn nested(levels: usize, kind: u8) -> Vec<u8> {
    (1..levels).fold(raw_document(b""), |inner, _| {
        raw_document(&[&[kind, b'0', 0], inner.as_slice()].concat())
    })
}

#[test]
fn depth_is_limited_and_costs_no_stack() {
    let run = || {
        for kind in [0x03, 0x04] {
            let text = document_json(&nested(1_000, kind), ExtendedJson::Relaxed);
            assert!(!text.contains("$malformed"));

            let text = document_json(&nested(1_001, kind), ExtendedJson::Relaxed);
            assert_eq!(text.matches("$malformed").count(), 1);
            assert!(text.contains("document nested too deeply at byte "));

            let text = document_json(&nested(20_000, kind), ExtendedJson::Canonical);
            let opened = text.matches(['{', '[']).count();
            assert_eq!(opened, text.matches(['}', ']']).count());
            assert!(opened <= 1_001);
        }
        let mut text = String::new();
        let event = raw_document(&[b"\x03fullDocument\0".as_slice(), &nested(20_000, 3)].concat());
        write_message(&mut text, &event, Format::Oplog, ExtendedJson::Relaxed);
        assert_eq!(text.matches("$malformed").count(), 1);
    };
    let small = std::thread::Builder::new().stack_size(128 * 1024);
    let thread = small.spawn(run).expect("a thread");
    thread.join().expect("no panic and no overflow");
}

#[test]
fn an_event_is_the_servers_own() {
    let event = rich_event();
    for mode in MODES {
        let mut text = String::new();
        write_message(&mut text, &encode(&event), Format::Event, mode);
        assert_eq!(text, document_json(&encode(&event), mode));
    }
}

/// Compares the text itself: the order of the keys is part of the shape.
#[track_caller]
fn check_message(event: Document, expected: Value) {
    assert_eq!(message_json(&event, ExtendedJson::Relaxed), expected.to_string());
}

#[test]
fn insert() {
    let id = ObjectId::from_bytes([0x65; 12]);
    let event = doc! {
        "_id": {"_data": "8265"},
        "operationType": "insert",
        "clusterTime": Timestamp { time: 5, increment: 1 },
        "wallTime": DateTime::from_millis(5_000),
        "fullDocument": {"_id": id, "total": 7},
        "ns": {"db": "shop", "coll": "orders"},
        "documentKey": {"_id": id},
    };
    let hex = "65".repeat(12);
    check_message(
        event.clone(),
        json!({
            "DocumentKey": {"DocumentId": hex, "_id": {"$oid": hex}},
            "Namespace": {"Database": "shop", "Collection": "orders"},
            "OperationType": "insert",
            "UpdateDescription": {"updatedFields": {}},
            "FullDocument": {"_id": {"$oid": hex}, "total": 7},
            "ClusterTime": {"$timestamp": {"t": 5, "i": 1}},
            "WallTime": {"$date": "1970-01-01T00:00:05Z"},
            "ResumeToken": {"_data": "8265"},
        }),
    );
    assert_eq!(
        message_json(&event, ExtendedJson::Canonical),
        json!({
            "DocumentKey": {"DocumentId": hex, "_id": {"$oid": hex}},
            "Namespace": {"Database": "shop", "Collection": "orders"},
            "OperationType": "insert",
            "UpdateDescription": {"updatedFields": {}},
            "FullDocument": {"_id": {"$oid": hex}, "total": {"$numberInt": "7"}},
            "ClusterTime": {"$timestamp": {"t": 5, "i": 1}},
            "WallTime": {"$date": {"$numberLong": "5000"}},
            "ResumeToken": {"_data": "8265"},
        })
        .to_string()
    );
}

#[test]
fn update() {
    check_message(
        doc! {
            "_id": {"_data": "82"},
            "operationType": "update",
            "ns": {"db": "shop", "coll": "orders"},
            "documentKey": {"region": "eu", "_id": "order-7"},
            "updateDescription": {
                "updatedFields": {"state": "paid"}, "removedFields": ["old"], "truncatedArrays": [],
                "disambiguatedPaths": {},
            },
            "fullDocument": null,
            "fullDocumentBeforeChange": null,
        },
        json!({
            "DocumentKey": {"DocumentId": "order-7", "region": "eu", "_id": "order-7"},
            "Namespace": {"Database": "shop", "Collection": "orders"},
            "OperationType": "update",
            "UpdateDescription": {
                "updatedFields": {"state": "paid"}, "removedFields": ["old"], "truncatedArrays": [],
                "disambiguatedPaths": {},
            },
            "FullDocument": null,
            "FullDocumentBeforeChange": null,
            "ResumeToken": {"_data": "82"},
        }),
    );
    check_message(
        doc! {"updateDescription": {"removedFields": ["a"]}},
        json!({
            "DocumentKey": {"DocumentId": ""},
            "Namespace": {"Database": "", "Collection": ""},
            "OperationType": "",
            "UpdateDescription": {"updatedFields": {}, "removedFields": ["a"]},
        }),
    );
}

#[test]
fn replace_and_delete_in_a_transaction() {
    for operation in ["replace", "delete"] {
        check_message(
            doc! {
                "_id": {"_data": "82"},
                "operationType": operation,
                "clusterTime": Timestamp { time: 5, increment: 1 },
                "txnNumber": 3_i64,
                "lsid": {"id": Binary { subtype: BinarySubtype::Uuid, bytes: vec![0; 3] }},
                "fullDocument": {"_id": 1, "b": 2},
                "fullDocumentBeforeChange": {"_id": 1, "b": 1},
                "ns": {"db": "d", "coll": "c"},
                "documentKey": {"_id": 1},
            },
            json!({
                "DocumentKey": {"DocumentId": "1", "_id": 1},
                "Namespace": {"Database": "d", "Collection": "c"},
                "OperationType": operation,
                "UpdateDescription": {"updatedFields": {}},
                "FullDocument": {"_id": 1, "b": 2},
                "FullDocumentBeforeChange": {"_id": 1, "b": 1},
                "TxnNumber": 3,
                "Lsid": {"id": {"$binary": {"base64": "AAAA", "subType": "04"}}},
                "ClusterTime": {"$timestamp": {"t": 5, "i": 1}},
                "ResumeToken": {"_data": "82"},
            }),
        );
    }
}

#[test]
fn rename() {
    check_message(
        doc! {
            "_id": {"_data": "82"},
            "operationType": "rename",
            "collectionUUID": Binary { subtype: BinarySubtype::Uuid, bytes: vec![0; 3] },
            "ns": {"db": "shop", "coll": "old"},
            "to": {"db": "shop", "coll": "new"},
            "operationDescription": {"to": {"db": "shop", "coll": "new"}},
        },
        json!({
            "DocumentKey": {"DocumentId": ""},
            "Namespace": {"Database": "shop", "Collection": "old"},
            "OperationType": "rename",
            "UpdateDescription": {"updatedFields": {}},
            "To": {"Database": "shop", "Collection": "new"},
            "OperationDescription": {"to": {"db": "shop", "coll": "new"}},
            "collectionUUID": {"$binary": {"base64": "AAAA", "subType": "04"}},
            "ResumeToken": {"_data": "82"},
        }),
    );
}

#[test]
fn events_without_a_document_or_a_namespace() {
    let cases = [
        ("drop", doc! {"db": "shop", "coll": "orders"}, "shop", "orders"),
        ("dropDatabase", doc! {"db": "shop"}, "shop", ""),
    ];
    for (operation, ns, database, collection) in cases {
        check_message(
            doc! {"_id": {"_data": "82"}, "operationType": operation, "ns": ns},
            json!({
                "DocumentKey": {"DocumentId": ""},
                "Namespace": {"Database": database, "Collection": collection},
                "OperationType": operation,
                "UpdateDescription": {"updatedFields": {}},
                "ResumeToken": {"_data": "82"},
            }),
        );
    }
    check_message(
        doc! {"_id": {"_data": "82"}, "operationType": "invalidate"},
        json!({
            "DocumentKey": {"DocumentId": ""},
            "Namespace": {"Database": "", "Collection": ""},
            "OperationType": "invalidate",
            "UpdateDescription": {"updatedFields": {}},
            "ResumeToken": {"_data": "82"},
        }),
    );
}

#[test]
fn what_newer_servers_send_passes_through() {
    check_message(
        doc! {
            "_id": {"_data": "82"},
            "splitEvent": {"fragment": 1, "of": 2},
            "operationType": "teleport",
            "ns": {"db": "d", "coll": "c", "kind": "view"},
            "clusterTime": Timestamp { time: 5, increment: 1 },
            "destination": ["there"],
            "a \"field\"": 1,
        },
        json!({
            "DocumentKey": {"DocumentId": ""},
            "Namespace": {"Database": "d", "Collection": "c", "kind": "view"},
            "OperationType": "teleport",
            "UpdateDescription": {"updatedFields": {}},
            "splitEvent": {"fragment": 1, "of": 2},
            "destination": ["there"],
            "a \"field\"": 1,
            "ClusterTime": {"$timestamp": {"t": 5, "i": 1}},
            "ResumeToken": {"_data": "82"},
        }),
    );
}

#[test]
fn a_known_field_of_an_unexpected_type_keeps_the_servers_name() {
    check_message(
        doc! {"operationType": 5, "ns": "d.c", "documentKey": null, "updateDescription": [], "to": 1},
        json!({
            "DocumentKey": {"DocumentId": ""},
            "Namespace": {"Database": "", "Collection": ""},
            "OperationType": "",
            "UpdateDescription": {"updatedFields": {}},
            "operationType": 5,
            "ns": "d.c",
            "documentKey": null,
            "updateDescription": [],
            "to": 1,
        }),
    );
}

#[test]
fn document_ids_are_strings_whatever_their_type() {
    let decimal: Decimal128 = "1.50".parse().expect("a decimal");
    let uuid = Binary { subtype: BinarySubtype::Uuid, bytes: vec![0; 3] };
    let regex = Bson::RegularExpression(bson::Regex {
        pattern: "a".to_owned().try_into().expect("no NUL"),
        options: "i".to_owned().try_into().expect("no NUL"),
    });
    let cases = [
        (Bson::from(ObjectId::from_bytes([0xAB; 12])), "abababababababababababab"),
        ("plain".into(), "plain"),
        ("".into(), ""),
        ("a\"\0\u{2028}".into(), "a\"\0\u{2028}"),
        (5.into(), "5"),
        (i64::MIN.into(), "-9223372036854775808"),
        (1.5.into(), "1.5"),
        (1.0.into(), "1.0"),
        (f64::NAN.into(), r#"{"$numberDouble":"NaN"}"#),
        (decimal.into(), r#"{"$numberDecimal":"1.50"}"#),
        (true.into(), "true"),
        (Bson::Null, "null"),
        (doc! {"a": 1, "b": [{"c": "\"\n"}]}.into(), r#"{"a":1,"b":[{"c":"\"\n"}]}"#),
        (vec![1, 2].into(), "[1,2]"),
        (uuid.into(), r#"{"$binary":{"base64":"AAAA","subType":"04"}}"#),
        (DateTime::from_millis(1).into(), r#"{"$date":"1970-01-01T00:00:00.001Z"}"#),
        (Timestamp { time: 1, increment: 2 }.into(), r#"{"$timestamp":{"t":1,"i":2}}"#),
        (regex, r#"{"$regularExpression":{"pattern":"a","options":"i"}}"#),
        (Bson::JavaScriptCode("f".into()), r#"{"$code":"f"}"#),
        (
            Bson::JavaScriptCodeWithScope(bson::JavaScriptCodeWithScope {
                code: "f".into(),
                scope: doc! {"a": 1},
            }),
            r#"{"$code":"f","$scope":{"a":1}}"#,
        ),
        (Bson::Symbol("s".into()), r#"{"$symbol":"s"}"#),
        (Bson::Undefined, r#"{"$undefined":true}"#),
        (Bson::MinKey, r#"{"$minKey":1}"#),
        (Bson::MaxKey, r#"{"$maxKey":1}"#),
    ];
    for (id, expected) in cases {
        let event = doc! {"documentKey": {"_id": id.clone()}};
        for mode in MODES {
            let text = message_json(&event, mode);
            let json: Value = serde_json::from_str(&text).expect("JSON");
            assert_eq!(json["DocumentKey"]["DocumentId"], expected, "{id:?}");
            let mut beside = json["DocumentKey"]["_id"].clone();
            let mut specified = specified(id.clone(), mode);
            by_number(&mut beside);
            by_number(&mut specified);
            assert_eq!(beside, specified, "{id:?}");
        }
    }
    let pointer = [b"\x0C_id\0".as_slice(), &raw_string(b"d.c"), &[0; 12]].concat();
    let event = raw_document(&[b"\x03documentKey\0".as_slice(), &raw_document(&pointer)].concat());
    let mut text = String::new();
    write_message(&mut text, &event, Format::Oplog, ExtendedJson::Canonical);
    let json: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(
        json["DocumentKey"]["DocumentId"],
        r#"{"$dbPointer":{"$ref":"d.c","$id":{"$oid":"000000000000000000000000"}}}"#
    );
}

#[test]
fn document_id_is_never_anything_else() {
    check_message(
        doc! {"operationType": "insert", "documentKey": {"DocumentId": 5, "shard": 1}},
        json!({
            "DocumentKey": {"DocumentId": "", "shard": 1},
            "Namespace": {"Database": "", "Collection": ""},
            "OperationType": "insert",
            "UpdateDescription": {"updatedFields": {}},
        }),
    );
}

#[test]
fn messages_append_line_by_line() {
    let event = encode(&rich_event());
    let mut alone = String::new();
    write_message(&mut alone, &event, Format::Oplog, ExtendedJson::Relaxed);
    let mut lines = Vec::new();
    for _ in 0..2 {
        writeln!(lines, "{alone}").expect("a Vec takes it");
    }
    let mut together = String::new();
    for _ in 0..2 {
        write_message(&mut together, &event, Format::Oplog, ExtendedJson::Relaxed);
        together.push('\n');
    }
    assert_eq!(together.as_bytes(), lines);
}
