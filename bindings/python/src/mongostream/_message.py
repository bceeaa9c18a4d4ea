"""Messages, alone and in batches."""

from __future__ import annotations

import ctypes
import json
import threading
from collections.abc import Iterator
from ctypes import byref
from typing import Any, NamedTuple, cast

from . import _library as ms


class ClusterTime(NamedTuple):
    """A time of the cluster's clock (MongoDB manual, "Timestamps")."""

    seconds: int
    """Since 1970."""
    increment: int
    """A number within the second."""


def _text(text: bytes | None) -> str:
    return (text or b"").decode()


class Message:
    """One change event.

        for message in buffer:
            print(message.operation, message.json)
            message.ack()

    It outlives its buffer and its worker, and may be read and acked from several threads at once. Properties that
    give text make it anew each time: keep what you need twice.

    A message shares the memory of the server's reply that it came with, and a message of a batch keeps the whole
    batch. If you keep messages for long, copy what you need and let go of them.
    """

    __slots__ = ("__weakref__", "_batch", "_handle")

    def __init__(self, handle: Any, batch: ms.BatchHandle | None) -> None:
        # A message of a batch is borrowed, and lives as long as the batch.
        self._handle = handle
        self._batch = batch

    @property
    def json(self) -> str:
        """The message as JSON on one line, in the shape of the options ``format`` and ``json``."""
        return cast(str, ms.ms_message_json(self._handle, None).decode())

    @property
    def bson(self) -> bytes:
        """The server's change event as BSON. ``bson.decode`` of PyMongo takes it."""
        length = ctypes.c_size_t()
        return ctypes.string_at(ms.ms_message_bson(self._handle, byref(length)), length.value)

    def document(self) -> dict[str, Any]:
        """The message's JSON as a dict. Values are Extended JSON: ``{"$oid": "652f..."}`` for an ObjectId."""
        return cast(dict[str, Any], json.loads(ms.ms_message_json(self._handle, None).decode()))

    @property
    def operation(self) -> str:
        """``"insert"``, ``"update"``, ... as the server names it (MongoDB manual, "Change Events")."""
        return _text(ms.ms_message_operation(self._handle))

    @property
    def namespace(self) -> str:
        """Where the change happened: ``"shop.orders"``; only the database, or ``""``, for an event without more."""
        return _text(ms.ms_message_namespace(self._handle))

    @property
    def document_id(self) -> str:
        """The ``_id`` of the changed document as a text; ``""`` for an event without one.

        An ObjectId's 24 hexadecimal digits, a string itself (which ends at a NUL), any other ``_id`` as its relaxed
        Extended JSON.
        """
        return _text(ms.ms_message_document_id(self._handle))

    @property
    def cluster_time(self) -> ClusterTime | None:
        """When the change happened, by the cluster's clock; None for a document of a snapshot."""
        seconds, increment = ctypes.c_uint32(), ctypes.c_uint32()
        if not ms.ms_message_cluster_time(self._handle, byref(seconds), byref(increment)):
            return None
        return ClusterTime(seconds.value, increment.value)

    @property
    def updated_paths(self) -> list[str]:
        """The dotted paths of all fields that an update has set, without array indexes, each once; [] for others."""
        return cast(list[str], json.loads(_text(ms.ms_message_updated_paths(self._handle, None))))

    @property
    def resume_token(self) -> str | None:
        """A worker started with it as ``start_after`` goes on after this message. None if it has no such place."""
        token = ms.ms_message_resume_token(self._handle)
        return None if token is None else _text(token)

    @property
    def position(self) -> str | None:
        """The place after this message, an opaque text: everything up to and including this message is done.

        Store it in one transaction with what you make of the message, and start again with it as
        ``start_at_position``: then each message takes effect exactly once, without acks and without a checkpoint.
        Handle messages in the order in which you received them. Documents of a snapshot have a position too. None for
        an event without a place in the stream (only a pipeline that removes ``_id`` makes one).
        """
        position = ms.ms_message_position(self._handle)
        return None if position is None else _text(position)

    @property
    def worker(self) -> str:
        """The name of the worker that read the message."""
        return _text(ms.ms_message_worker(self._handle))

    def ack(self) -> None:
        """Says that you are done with the message: after a restart with the same checkpoint it does not come again.

        In any order, from any thread, twice without harm, also after worker and buffer are gone. Never waits.
        """
        ms.ms_message_ack(self._handle)

    def clone(self) -> Message:
        """Another handle to the same message; nothing is copied, and one ack counts for both.

        The clone of a message of a batch does not keep the batch.
        """
        return Message(ms.ms_message_clone(self._handle), None)

    def __repr__(self) -> str:
        return f"<mongostream.Message {self.operation} {self.namespace} {self.document_id!r}>"


class Batch:
    """Several messages, received with one call.

        for batch in buffer.batches(10_000):
            out.write(batch.lines)
            batch.ack()

    A batch has at least one message, in the order in which they were read, and may be used from any thread.
    """

    __slots__ = ("__weakref__", "_handle", "_lock")

    def __init__(self, handle: ms.BatchHandle) -> None:
        self._handle = handle
        # C wants one thread at a time, and ctypes lets others run during a call.
        self._lock = threading.Lock()

    @property
    def lines(self) -> bytes:
        """All messages as JSON, each on a line of its own that ends in a newline. Made anew each time."""
        length = ctypes.c_size_t()
        with self._lock:
            return ctypes.string_at(ms.ms_batch_json_lines(self._handle, length), length.value)

    def ack(self) -> None:
        """Acks every message of the batch, see `Message.ack`."""
        with self._lock:
            ms.ms_batch_ack(self._handle)

    def __len__(self) -> int:
        with self._lock:
            return cast(int, ms.ms_batch_len(self._handle))

    def __getitem__(self, index: int) -> Message:
        length = len(self)
        place = index + length if index < 0 else index
        if not 0 <= place < length:
            raise IndexError(f"the batch has {length} messages")
        with self._lock:
            return Message(ms.ms_batch_get(self._handle, place), self._handle)

    def __iter__(self) -> Iterator[Message]:
        for index in range(len(self)):
            with self._lock:
                handle = ms.ms_batch_get(self._handle, index)
            yield Message(handle, self._handle)

    def __repr__(self) -> str:
        return f"<mongostream.Batch of {len(self)} messages>"
