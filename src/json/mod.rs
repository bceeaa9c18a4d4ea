//! BSON to JSON, straight from the server's bytes.
//!
//! Values are written as [MongoDB Extended JSON v2], relaxed or canonical, every BSON type included. What
//! comes out is always valid JSON on one line, whatever the bytes are:
//!
//! - Text that is not UTF-8 has U+FFFD where it is not, in keys as well.
//! - Where a document is damaged, its fields up to the damage are followed by a last one, `"$malformed"`,
//!   whose text says what is wrong and at which byte of the input; in an array that is one more element,
//!   `{"$malformed":"..."}`. It stands in the innermost document that is damaged. What lies after that
//!   document in the ones around it is written as usual.
//! - A document nested more than 1,000 levels deep, which no server stores, counts as damage.
//!
//! [MongoDB Extended JSON v2]: https://github.com/mongodb/specifications/blob/master/source/extended-json/extended-json.md

mod date;
mod decimal;
mod event;
mod out;
mod parse;
mod pieces;
mod style;
mod utf8;
mod values;
mod write;
mod writer;

pub(crate) use self::parse::{parse_array_of_documents, parse_document};
pub(crate) use self::style::Style;
pub use self::style::{ExtendedJson, Format};
pub(crate) use self::write::{
    Texts, array_of_texts, document_id, lines, of_event, of_token, texts, write_styled,
};
pub use self::write::{write_document, write_message};
