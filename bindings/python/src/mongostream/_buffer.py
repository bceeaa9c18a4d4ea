"""Buffers: where messages come from."""

from __future__ import annotations

import json
import logging
import operator
import os
import threading
import time
from collections.abc import Iterator, Mapping
from ctypes import byref
from types import TracebackType
from typing import TYPE_CHECKING, Any, cast

from . import _library as ms
from ._errors import ArgumentError, Error, error_of, forked
from ._message import Batch, Message
from ._options import Options
from ._store import CheckpointStore, binding_of
from ._waiting import Readers, poll_async, sleep, wait
from ._worker import Worker

if TYPE_CHECKING:
    from typing_extensions import Self, Unpack

_logger = logging.getLogger("mongostream")

# How long the end of a with block waits for what is to be saved: the library gives up after 5 s. After Ctrl-C only for
# so long that nobody notices; a file takes some milliseconds.
_LONGEST_SAVE = 6.0
_LONGEST_SAVE_INTERRUPTED = 0.1

# A task that always finds a message would never let its event loop go on.
_LONGEST_TURN = 0.005


class Buffer:
    """A bounded queue of messages: any number of workers in, any number of consumers out.

        with mongostream.Buffer(1024) as buffer:
            buffer.watch("mongodb://localhost:27017", "shop", "orders", checkpoint_file="orders.token")
            for message in buffer:
                print(message.json)
                message.ack()

    It holds up to `capacity` messages and `max_bytes` bytes of change events (64 MiB if it is not given), whichever is
    reached first; both at least 1. When it is full its workers wait; nothing is ever dropped. One event that is larger
    than `max_bytes` still passes, alone.

    Iteration (``for`` and ``async for``) ends when the buffer is drained, and closed or without a running worker. A
    worker that fails makes it raise `WorkerError`, in the failure's place and once; another loop goes on with what is
    left.

    The end of the ``with`` block closes the buffer and waits until its workers have ended and saved their checkpoints,
    for at most 6 s, and after Ctrl-C or a cancellation for 0.1 s. If one could not be saved, that is raised, or logged
    if the block ended with an exception. ``async with`` does the same.

    Threads and tasks may share a buffer. Memory and descriptors are freed with the last reference to it.
    """

    def __init__(self, capacity: int = 1024, max_bytes: int | None = None) -> None:
        sizes = [_size("capacity", capacity)]
        if max_bytes is not None:
            sizes.append(_size("max_bytes", max_bytes))
        self._handle: ms.BufferHandle = ms.ms_buffer_new(*sizes) if len(sizes) == 1 else ms.ms_buffer_new_with(*sizes)
        self._workers: list[Worker] = []
        self._lock = threading.Lock()
        self._readers = Readers()
        self._turn_ends = 0.0

    # Workers

    def watch(
        self,
        uri: str,
        database: str | None = None,
        collection: str | None = None,
        *,
        checkpoint_store: CheckpointStore | None = None,
        **options: Unpack[Options],
    ) -> Worker:
        """Starts a worker on the deployment at `uri` (MongoDB manual, "Connection Strings").

            buffer.watch("mongodb://localhost:27017", "shop", "orders", full_document="updateLookup")

        Without a collection it follows the whole database; without a database the one in the URI's path, or the whole
        deployment. `Options` are keyword arguments; None leaves one out. True and False, numbers, paths, lists and
        dicts become the texts that the library takes. `checkpoint_store` keeps the checkpoint in an object of yours.

        Checks every argument now, and connects on a thread of the worker. What goes wrong there comes through the
        buffer. Raises `ArgumentError`; `StateError` for a closed buffer; `ForkedError`; or an `Error` with
        ``Status.ERR_IN_USE`` (another worker uses the checkpoint), ``Status.ERR_CHECKPOINT`` or
        ``Status.ERR_RESOURCE``. Any thread may call it.
        """
        binding = None if checkpoint_store is None else binding_of(checkpoint_store)
        settings = ms.ms_options_new() if binding is None else ms.ms_options_clone(binding.options)
        error = ms.ErrorHandle()
        for name, value in cast(Mapping[str, Any], options).items():
            if value is None:
                continue
            if ms.ms_options_set(settings, _text("an option", name), _text(name, _option(name, value)), error) != ms.OK:
                raise error_of(error)
        handle = ms.ms_worker_start(
            _text("uri", uri),
            None if database is None else _text("database", database),
            None if collection is None else _text("collection", collection),
            self._handle,
            settings,
            error,
        )
        if not handle:
            raise error_of(error)
        worker = Worker(handle, binding)
        with self._lock:
            self._workers = [earlier for earlier in self._workers if not earlier._is_over()] + [worker]
        return worker

    # Receiving

    def __iter__(self) -> Iterator[Message]:
        receive, buffer, now = ms.ms_buffer_recv_message_now, self._handle, ms.NOW
        error = ms.ErrorHandle()
        place = byref(error)
        while True:
            handle = ms.MessageHandle()
            status = receive(buffer, now, byref(handle), place)
            if status == ms.TIMEOUT:
                status = self._wait(ms.ms_buffer_recv_message, (), handle, error, None)
            if status == ms.OK:
                yield Message(handle, None)
            elif status == ms.CLOSED:
                return
            else:
                raise error_of(error)

    def __aiter__(self) -> _AsyncMessages:
        return _AsyncMessages(self)

    def recv(self, timeout: float | None = None) -> Message | None:
        """The next message; None when the buffer is drained, and closed or without a running worker.

        Waits for at most `timeout` seconds (None: for ever; 0 or less: not at all), then raises `TimeoutError`. Raises
        `WorkerError` where a worker has failed: receiving may go on. On a buffer that no worker has fed yet it waits.
        """
        handle, error = ms.MessageHandle(), ms.ErrorHandle()
        status = ms.ms_buffer_recv_message_now(self._handle, ms.NOW, byref(handle), byref(error))
        if status == ms.TIMEOUT:
            status = self._wait(ms.ms_buffer_recv_message, (), handle, error, timeout)
        return Message(handle, None) if self._has(status, error) else None

    async def recv_async(self, timeout: float | None = None) -> Message | None:
        """`recv` for asyncio. Any number of tasks and event loops may wait; to cancel one loses nothing."""
        handle, error = ms.MessageHandle(), ms.ErrorHandle()
        status = await self._wait_async(ms.ms_buffer_recv_message, (), handle, error, timeout)
        return Message(handle, None) if self._has(status, error) else None

    def recv_batch(self, max: int = 1000, timeout: float | None = None) -> Batch | None:
        """Waits for one message as `recv` does, then takes what is already there, up to `max` messages."""
        handle, error, most = ms.BatchHandle(), ms.ErrorHandle(), (_size("max", max),)
        status = ms.ms_buffer_recv_batch(self._handle, *most, 0, handle, error)
        if status == ms.TIMEOUT:
            status = self._wait(ms.ms_buffer_recv_batch, most, handle, error, timeout)
        return Batch(handle) if self._has(status, error) else None

    async def recv_batch_async(self, max: int = 1000, timeout: float | None = None) -> Batch | None:
        """`recv_batch` for asyncio."""
        handle, error, most = ms.BatchHandle(), ms.ErrorHandle(), (_size("max", max),)
        status = await self._wait_async(ms.ms_buffer_recv_batch, most, handle, error, timeout)
        return Batch(handle) if self._has(status, error) else None

    def batches(self, max: int = 1000) -> Batches:
        """The messages in batches of at most `max`, for ``for`` and ``async for``: the fast way.

        for batch in buffer.batches(10_000):
            out.write(batch.lines)
            batch.ack()
        """
        return Batches(self, _size("max", max))

    def fileno(self) -> int:
        """A descriptor that is readable while a receive would not wait, for `select` and the like.

        It belongs to the buffer: do not read, write or close it. Receive with ``timeout=0``, another consumer may have
        been faster. Do not give it to ``add_reader`` of an event loop in which tasks also wait for this buffer. Raises
        `OSError` where the system gives none.
        """
        descriptor: int = ms.ms_buffer_fd(self._handle)
        if descriptor < 0:
            raise OSError("the system gives no descriptor for this buffer")
        return descriptor

    # The rest

    def __len__(self) -> int:
        """How many messages are queued now."""
        return cast(int, ms.ms_buffer_len(self._handle))

    def __bool__(self) -> bool:
        """True, also if nothing is queued."""
        return True

    def stats(self) -> dict[str, Any]:
        """Figures of the buffer and of each of its workers. docs/STATISTICS.md describes every key; more may come."""
        text = ms.take_text(ms.ms_buffer_stats(self._handle))
        if text is None:
            raise forked()
        return cast(dict[str, Any], json.loads(text))

    def metrics(self) -> str:
        """The same figures as OpenMetrics text, for an HTTP server that Prometheus asks.

        Its Content-Type is ``application/openmetrics-text; version=1.0.0; charset=utf-8``.
        """
        text = ms.take_text(ms.ms_buffer_metrics(self._handle))
        if text is None:
            raise forked()
        return text

    def close(self) -> None:
        """Stops the workers and wakes every consumer; what is queued can still be received.

        Never waits. From any thread, and from a handler of a signal. Closing twice does nothing.
        """
        ms.ms_buffer_close(self._handle)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        exception: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()
        deadline = time.monotonic() + _longest_save(kind)
        failures = []
        for worker in self._workers:
            error = ms.ErrorHandle()
            status = wait(worker._attempt(ms.ms_worker_join, error), deadline - time.monotonic())
            failures.append(worker._save_error(status, error))
        _tell(failures, exception)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        exception: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()
        deadline = time.monotonic() + _longest_save(kind)
        failures = []
        for worker in self._workers:
            error = ms.ErrorHandle()
            status = await poll_async(worker._attempt(ms.ms_worker_join, error), deadline - time.monotonic())
            failures.append(worker._save_error(status, error))
        _tell(failures, exception)

    def __repr__(self) -> str:
        return f"<mongostream.Buffer with {len(self)} messages>"

    def _wait(self, receive: Any, most: tuple[int, ...], handle: Any, error: Any, timeout: float | None) -> int:
        buffer = self._handle
        return wait(
            lambda timeout_ms: receive(buffer, *most, timeout_ms, handle, error), timeout, ms.ms_buffer_fd(buffer)
        )

    async def _wait_async(
        self, receive: Any, most: tuple[int, ...], handle: Any, error: Any, timeout: float | None
    ) -> int:
        buffer = self._handle
        if time.monotonic() >= self._turn_ends:
            # Before anything is taken: a task may be cancelled here.
            await sleep(0)
            self._turn_ends = time.monotonic() + _LONGEST_TURN
        status: int = receive(buffer, *most, 0, handle, error)
        if status != ms.TIMEOUT:
            return status
        return await self._readers.wait(
            lambda timeout_ms: receive(buffer, *most, timeout_ms, handle, error), timeout, ms.ms_buffer_fd(buffer)
        )

    @staticmethod
    def _has(status: int, error: ms.ErrorHandle) -> bool:
        if status == ms.OK:
            return True
        if status == ms.CLOSED:
            return False
        if status == ms.TIMEOUT:
            raise TimeoutError("no message within the time")
        raise error_of(error)


class Batches:
    """What `Buffer.batches` gives: an iterable, also for ``async for``."""

    def __init__(self, buffer: Buffer, max: int) -> None:
        self._buffer = buffer
        self._max = max

    def __iter__(self) -> Iterator[Batch]:
        while True:
            batch = self._buffer.recv_batch(self._max)
            if batch is None:
                return
            yield batch

    def __aiter__(self) -> _AsyncBatches:
        return _AsyncBatches(self._buffer, self._max)


# Classes and no asynchronous generators: these would end with the first failure, and want to be closed.


class _AsyncMessages:
    def __init__(self, buffer: Buffer) -> None:
        self._buffer = buffer

    def __aiter__(self) -> _AsyncMessages:
        return self

    async def __anext__(self) -> Message:
        message = await self._buffer.recv_async()
        if message is None:
            raise StopAsyncIteration
        return message


class _AsyncBatches:
    def __init__(self, buffer: Buffer, max: int) -> None:
        self._buffer = buffer
        self._max = max

    def __aiter__(self) -> _AsyncBatches:
        return self

    async def __anext__(self) -> Batch:
        batch = await self._buffer.recv_batch_async(self._max)
        if batch is None:
            raise StopAsyncIteration
        return batch


def _longest_save(kind: type[BaseException] | None) -> float:
    return _LONGEST_SAVE if kind is None or issubclass(kind, Exception) else _LONGEST_SAVE_INTERRUPTED


def _tell(failures: list[Error | None], exception: BaseException | None) -> None:
    found = [failure for failure in failures if failure is not None]
    if exception is None and found:
        raise found[0]
    for failure in found:
        _logger.warning("%s", failure)


def _size(name: str, value: int) -> int:
    value = operator.index(value)
    if not 1 <= value <= 2**63 - 1:
        raise ArgumentError(f"{name} must be at least 1, and not {value}")
    return value


def _text(name: str, text: str) -> bytes:
    if not isinstance(text, str):
        raise TypeError(f"{name} must be a str, and not {text!r:.100}")
    if "\0" in text:
        raise ArgumentError(f"{name} has a NUL inside: {text!r:.100}")
    return text.encode()


def _option(name: str, value: Any) -> str:
    """A value of Python's as the text that the library takes."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return repr(value)
    if isinstance(value, os.PathLike):
        return os.fsdecode(value)
    if isinstance(value, Mapping):
        value = dict(value)
    elif isinstance(value, (tuple, set, frozenset)):
        value = list(value)
    elif not isinstance(value, list):
        raise TypeError(f"the option {name} takes no {type(value).__name__}")
    try:
        return json.dumps(value, ensure_ascii=False)
    except TypeError as failure:
        raise TypeError(f"the option {name} cannot be written as JSON ({failure}): give it as Extended JSON") from None
