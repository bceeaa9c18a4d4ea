//! One look at a driver's cursor.

use std::pin::Pin;
use std::task::{Context, Poll};

use futures_core::Stream;
use mongodb::error::Result as DriverResult;
use mongodb::raw_batch_cursor::{RawBatch, RawBatchCursor};

pub(crate) type Polled = Poll<Option<DriverResult<RawBatch>>>;

pub(crate) fn poll(cursor: &mut RawBatchCursor, context: &mut Context<'_>) -> Polled {
    Pin::new(cursor).poll_next(context)
}
