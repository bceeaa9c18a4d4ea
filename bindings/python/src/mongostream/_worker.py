"""Workers."""

from __future__ import annotations

from typing import Any

from . import _library as ms
from ._abi import Status, WorkerState
from ._errors import Error, error_of
from ._store import Binding
from ._waiting import Attempt, poll_async, wait


class Worker:
    """One thread of the library that follows one change stream and feeds one buffer. `Buffer.watch` makes it.

        worker = buffer.watch("mongodb://localhost:27017", "shop", "orders")
        worker.wait_ready()

    May be used from any thread. Its buffer keeps it while it runs, so you need not.
    """

    __slots__ = ("__weakref__", "_binding", "_handle")

    def __init__(self, handle: ms.WorkerHandle, binding: Binding | None) -> None:
        self._handle = handle
        self._binding = binding
        if binding is not None:
            binding.workers.add(self)

    @property
    def name(self) -> str:
        """The name in messages and errors: the option ``name``, or what is watched (``"shop.orders"``)."""
        return bytes(ms.ms_worker_name(self._handle)).decode()

    @property
    def state(self) -> WorkerState:
        """What the worker is doing now."""
        return WorkerState(ms.ms_worker_get_state(self._handle))

    @property
    def resume_token(self) -> str | None:
        """The resume token (JSON) up to which every message is acked: ``start_after`` goes on there.

        Before the first ack it is the token with which the stream was opened; None before that.
        """
        return ms.take_text(ms.ms_worker_resume_token(self._handle))

    def wait_ready(self, timeout: float | None = None) -> bool:
        """Waits until every later change will be delivered, for at most `timeout` seconds (None: for ever).

        True: it is so, and stays so. False: the worker was stopped before. Raises `TimeoutError`, or the `WorkerError`
        that ended the worker (which comes through the buffer as well).
        """
        error = ms.ErrorHandle()
        return self._is_ready(wait(self._attempt(ms.ms_worker_wait_ready, error), timeout), error)

    async def wait_ready_async(self, timeout: float | None = None) -> bool:
        """`wait_ready` for asyncio."""
        error = ms.ErrorHandle()
        return self._is_ready(await poll_async(self._attempt(ms.ms_worker_wait_ready, error), timeout), error)

    def stop(self) -> None:
        """Asks the worker to stop; never waits. What it has put into the buffer stays there."""
        ms.ms_worker_stop(self._handle)

    def join(self, timeout: float | None = None) -> None:
        """Waits until the worker has ended and its checkpoint is saved, at most `timeout` seconds (None: for ever).

        It does not ask the worker to end: `stop` and `Buffer.close` do. Every ack made before is then durable. Raises
        `TimeoutError` if it has not ended or is not saved yet (the save goes on); the `WorkerError` that ended the
        worker (which comes through the buffer as well); or, after at most 5 s, an `Error` with
        ``Status.ERR_CHECKPOINT``: the checkpoint could not be saved.
        """
        error = ms.ErrorHandle()
        self._has_ended(wait(self._attempt(ms.ms_worker_join, error), timeout), error)

    async def join_async(self, timeout: float | None = None) -> None:
        """`join` for asyncio."""
        error = ms.ErrorHandle()
        self._has_ended(await poll_async(self._attempt(ms.ms_worker_join, error), timeout), error)

    def _attempt(self, call: Any, error: ms.ErrorHandle) -> Attempt:
        handle = self._handle
        return lambda timeout_ms: call(handle, timeout_ms, error)

    def _is_ready(self, status: int, error: ms.ErrorHandle) -> bool:
        if status == ms.TIMEOUT:
            raise TimeoutError(f"{self.name} is not ready yet")
        if status < 0:
            raise self._error(error)
        return status == ms.OK

    def _has_ended(self, status: int, error: ms.ErrorHandle) -> None:
        if status == ms.TIMEOUT:
            raise TimeoutError(f"{self.name} has not ended yet, or its checkpoint is not saved yet")
        if status < 0:
            raise self._error(error)

    def _error(self, handle: ms.ErrorHandle) -> Error:
        error = error_of(handle)
        if self._binding is not None and error.status == Status.ERR_CHECKPOINT:
            error.__cause__ = self._binding.cause
        return error

    def _end(self) -> None:
        """At the end of the interpreter: after it nobody calls the store."""
        wait(self._attempt(ms.ms_worker_join, ms.ErrorHandle()), 6)

    def _is_over(self) -> bool:
        """Whether nothing more will be heard of it but through the buffer."""
        if ms.ms_worker_get_state(self._handle) not in _ENDED:
            return False
        error = ms.ErrorHandle()
        status = ms.ms_worker_join(self._handle, 0, error)
        return status != ms.TIMEOUT and self._save_error(status, error) is None

    def _save_error(self, status: int, error: ms.ErrorHandle) -> Error | None:
        """What `join` has to say that does not come through the buffer."""
        if status < 0 and self.state != WorkerState.FAILED:
            return self._error(error)
        return None

    def __repr__(self) -> str:
        return f"<mongostream.Worker {self.name} {self.state.name.lower()}>"


_ENDED = (int(WorkerState.STOPPED), int(WorkerState.FAILED))
