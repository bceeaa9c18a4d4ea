//! A worker's settings: one [`table`], their [`values`], how they are [`parse`]d and checked.

pub(crate) mod describe;
pub(crate) mod names;
pub(crate) mod parse;
pub(crate) mod pipeline;
pub(crate) mod settings;
pub(crate) mod table;
pub(crate) mod uri;
pub(crate) mod values;

pub use self::describe::describe_options;
pub use self::settings::Options;
pub use self::table::{OPTIONS, OptionInfo, OptionKind};
pub use self::values::{
    FullDocument, FullDocumentBeforeChange, OnHistoryLost, OnInvalidate, OnOversized, Snapshot,
    Start,
};
