"""Exceptions."""

from __future__ import annotations

import contextlib
from typing import Any

from . import _library as ms
from ._abi import Status


class Error(Exception):
    """What the library refuses or could not do. The base of all exceptions of this package.

    A failed start is an `Error` with, for instance, the status ``Status.ERR_IN_USE`` (another worker uses the
    checkpoint) or ``Status.ERR_CHECKPOINT``. Mistakes and failures that are handled differently have classes of
    their own, see below.
    """

    message: str
    """What failed, on which deployment (its URI without credentials), and what to do."""
    status: int
    """One of `Status`, such as ``Status.ERR_AUTH``."""
    server_code: int
    """The server's error code (MongoDB manual, "Error Codes"); 0 if the error is not the server's."""
    retriable: bool
    """Whether the same call, or the same worker started again, may succeed without a change by you."""
    worker: str | None
    """The name of the worker that failed; None if none did."""

    def __init__(
        self,
        message: str,
        status: int = Status.ERR_ARGUMENT,
        server_code: int = 0,
        retriable: bool = False,
        worker: str | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.status = status
        self.server_code = server_code
        self.retriable = retriable
        self.worker = worker

    @property
    def status_name(self) -> str:
        """The status as the C header names it, such as ``"MS_ERR_AUTH"``."""
        return bytes(ms.ms_status_name(self.status)).decode()

    def __str__(self) -> str:
        who = f"{self.worker}: " if self.worker else ""
        return f"{who}{self.message} ({self.status_name})"


class WorkerError(Error):
    """A worker has failed; `worker` is its name. Receiving may go on: other workers are not disturbed."""


class ArgumentError(Error, ValueError):
    """An argument or option is wrong. Nothing was changed or started."""


class StateError(Error, RuntimeError):
    """The call does not fit the object's state: a worker for a closed buffer."""


class ForkedError(Error, RuntimeError):
    """The process was forked after the library had started threads, which do not exist here. Use "spawn" instead."""


_CLASSES = {
    int(Status.ERR_ARGUMENT): ArgumentError,
    int(Status.ERR_STATE): StateError,
    int(Status.ERR_FORKED): ForkedError,
}


def _text(text: bytes | None) -> str | None:
    return None if text is None else text.decode()


def error_of(handle: Any) -> Error:
    """The exception for what a call has written to its place for an error."""
    status: int = ms.ms_error_status(handle)
    worker = _text(ms.ms_error_worker(handle))
    of_class: type[Error] = WorkerError if worker is not None else _CLASSES.get(status, Error)
    with contextlib.suppress(ValueError):  # a newer library may have more
        status = Status(status)
    arguments: tuple[Any, ...] = (ms.ms_error_server_code(handle), ms.ms_error_is_retriable(handle), worker)
    return of_class(_text(ms.ms_error_message(handle)) or "", status, *arguments)


def forked() -> ForkedError:
    """For calls that can fail in a child of fork only, and have no place for an error."""
    return ForkedError("this object was made before the process was forked", Status.ERR_FORKED)
