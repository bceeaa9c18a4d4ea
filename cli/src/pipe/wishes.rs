//! What the user wants of the broker's stream or topic, and of the flow.

use super::flow::Limits;

/// As the flags say.
#[derive(Clone, Debug)]
pub(crate) struct Wishes {
    /// `None`: as the broker has it.
    pub(crate) replicas: Option<usize>,
    pub(crate) partitions: Option<u32>,
    pub(crate) limits: Limits,
}

impl Default for Wishes {
    fn default() -> Self {
        Self { replicas: None, partitions: None, limits: Limits { messages: 4096, bytes: 8 << 20 } }
    }
}
