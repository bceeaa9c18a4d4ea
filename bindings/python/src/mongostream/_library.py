"""The native library: found, checked, and its functions bound once."""

from __future__ import annotations

import atexit
import ctypes
import os
import pathlib
import sys
import threading
from collections.abc import Iterator
from typing import Any, NoReturn

from . import _abi

# As in the library's name inside: until 1.0 a minor version may change the ABI.
_ABI = str(_abi.VERSION[0]) if _abi.VERSION[0] else f"0.{_abi.VERSION[1]}"
if sys.platform == "darwin":
    _FILE, _VERSIONED = "libmongostream.dylib", f"libmongostream.{_ABI}.dylib"
elif sys.platform == "win32":
    _FILE, _VERSIONED = "mongostream.dll", "mongostream.dll"
else:
    _FILE, _VERSIONED = "libmongostream.so", f"libmongostream.so.{_ABI}"

_VARIABLE = "MONGOSTREAM_LIBRARY"

OK = int(_abi.Status.OK)
TIMEOUT = int(_abi.Status.TIMEOUT)
CLOSED = int(_abi.Status.CLOSED)


def _candidates() -> Iterator[str]:
    packed = pathlib.Path(__file__).with_name(_FILE)
    if packed.exists():
        yield str(packed)
    named = os.environ.get(_VARIABLE)
    if named:
        yield named
    else:
        # A system may have several; where no compiler is meant to use it, it has no name without a version.
        yield _VERSIONED
        yield _FILE


def _version(number: int) -> tuple[int, int, int]:
    return number // 1000000, number // 1000 % 1000, number % 1000


def _check_version(path: str, found: tuple[int, int, int]) -> None:
    wanted = _abi.VERSION
    same = 1 if wanted[0] else 2
    if found[:same] == wanted[:same] and found >= wanted:
        return
    raise ImportError(
        "{} is version {}.{}.{}; this package was made for {}.{}.{}, and takes that or a later {}.x".format(
            path, *found, *wanted, ".".join(str(part) for part in wanted[:same])
        )
    )


def _load() -> tuple[str, ctypes.CDLL]:
    failures = []
    for path in _candidates():
        try:
            library = ctypes.CDLL(path)
        except OSError as failure:
            failures.append(f"{path}: {failure}")
            continue
        try:
            number = library.ms_version_number
        except AttributeError:
            raise ImportError(f"{path} is not the mongostream library") from None
        number.restype = ctypes.c_uint32
        _check_version(path, _version(number()))
        return path, library
    raise ImportError(
        f"cannot load the mongostream library ({'; '.join(failures)}). It is looked for in the package, "
        f"then where the environment variable {_VARIABLE} points, then in the system."
    )


path, _cdll = _load()


def _function(name: str) -> Any:
    try:
        return _cdll[name]
    except AttributeError:
        raise ImportError(f"the library {path} is too old for this package: it has no {name}") from None


def bind(name: str, returns: Any = None) -> Any:
    """A function of the library. Each call gives an object of its own, so two may return different types."""
    function = _function(name)
    restype, function.argtypes = _abi.FUNCTIONS[name]
    function.restype = returns or restype
    return function


def quick(name: str, returns: Any = None) -> Any:
    """A function that is called for every message. It takes a third less time where ctypes checks no arguments.

    So these have to be right: handles, None, objects of ctypes or byref of them, and never an int.
    """
    function = _function(name)
    function.restype = returns or _abi.FUNCTIONS[name][0]
    return function


# Not empty at the end of the interpreter. What is freed then could call a store of the program's, which may be
# half torn down; the process ends anyway.
ending: list[bool] = []

# A handle frees itself with its last reference. A call holds a reference to its arguments, so no other thread and
# no collection of garbage frees a handle that is in use.


class _Handle(ctypes.c_void_p):
    def __reduce__(self) -> NoReturn:
        # Two handles of one object would both free it.
        raise TypeError("an object of mongostream can be neither pickled nor copied deeply")


class ErrorHandle(_Handle):
    """ms_error *"""

    def __del__(self, free: Any = bind("ms_error_free")) -> None:
        if self:
            free(self)


class MessageHandle(_Handle):
    """ms_message *, from a receive or a clone."""

    def __del__(self, free: Any = bind("ms_message_free")) -> None:
        if self:
            free(self)


class BorrowedMessage(ctypes.c_void_p):
    """const ms_message *, of a batch"""


class BatchHandle(_Handle):
    """ms_batch *"""

    def __del__(self, free: Any = bind("ms_batch_free")) -> None:
        if self:
            free(self)


class OptionsHandle(_Handle):
    """ms_options *"""

    def __del__(self, free: Any = bind("ms_options_free"), ending: list[bool] = ending) -> None:
        if self and not ending:
            free(self)


class WorkerHandle(_Handle):
    """ms_worker *"""

    def __del__(self, free: Any = bind("ms_worker_free"), ending: list[bool] = ending) -> None:
        if self and not ending:
            free(self)


class BufferHandle(_Handle):
    """ms_buffer *"""

    def __del__(self, free: Any = bind("ms_buffer_free"), ending: list[bool] = ending) -> None:
        if self and not ending:
            free(self)


ms_version = bind("ms_version")
ms_status_name = bind("ms_status_name")
ms_error_status = bind("ms_error_status")
ms_error_message = bind("ms_error_message")
ms_error_server_code = bind("ms_error_server_code")
ms_error_is_retriable = bind("ms_error_is_retriable")
ms_error_worker = bind("ms_error_worker")
ms_log_set = bind("ms_log_set")
ms_options_new = bind("ms_options_new", OptionsHandle)
ms_options_set = bind("ms_options_set")
ms_options_clone = bind("ms_options_clone", OptionsHandle)
ms_options_describe = bind("ms_options_describe")
ms_options_set_checkpoint_store = bind("ms_options_set_checkpoint_store")
ms_buffer_new = bind("ms_buffer_new", BufferHandle)
ms_buffer_new_with = bind("ms_buffer_new_with", BufferHandle)
ms_shutdown = bind("ms_shutdown")
ms_string_free = bind("ms_string_free")
ms_buffer_recv_message = bind("ms_buffer_recv_message")
ms_buffer_recv_batch = bind("ms_buffer_recv_batch")
# With the timeout NOW.
ms_buffer_recv_message_now = quick("ms_buffer_recv_message")
NOW = ctypes.c_int64(0)
ms_buffer_fd = bind("ms_buffer_fd")
ms_buffer_len = bind("ms_buffer_len")
ms_buffer_stats = bind("ms_buffer_stats")
ms_buffer_metrics = bind("ms_buffer_metrics")
ms_buffer_close = bind("ms_buffer_close")
ms_worker_start = bind("ms_worker_start", WorkerHandle)
ms_worker_name = bind("ms_worker_name")
ms_worker_get_state = bind("ms_worker_get_state")
ms_worker_wait_ready = bind("ms_worker_wait_ready")
ms_worker_stop = bind("ms_worker_stop")
ms_worker_join = bind("ms_worker_join")
ms_worker_resume_token = bind("ms_worker_resume_token")
# JSON has no NUL inside, so ctypes may look for its end: that is quicker than a length that comes beside it.
ms_message_json = quick("ms_message_json", ctypes.c_char_p)
ms_message_bson = quick("ms_message_bson")
ms_message_operation = quick("ms_message_operation")
ms_message_namespace = quick("ms_message_namespace")
ms_message_document_id = quick("ms_message_document_id")
ms_message_cluster_time = quick("ms_message_cluster_time")
ms_message_updated_paths = quick("ms_message_updated_paths", ctypes.c_char_p)
ms_message_resume_token = quick("ms_message_resume_token")
ms_message_position = quick("ms_message_position")
ms_message_worker = quick("ms_message_worker")
ms_message_clone = quick("ms_message_clone", MessageHandle)
ms_message_ack = quick("ms_message_ack")
ms_batch_len = bind("ms_batch_len")
ms_batch_get = bind("ms_batch_get", BorrowedMessage)
ms_batch_json_lines = bind("ms_batch_json_lines")
ms_batch_ack = bind("ms_batch_ack")


def take_text(address: int | None) -> str | None:
    """The text at an address that the library has given away; frees it."""
    if not address:
        return None
    try:
        return ctypes.string_at(address).decode()
    finally:
        ms_string_free(address)


def _on_exit_of_main_thread() -> None:
    # Otherwise the interpreter would wait for threads that wait for messages.
    ms_shutdown()


# The interpreter first ends and joins the threads that are not daemons, and only then does what atexit has.
try:
    threading._register_atexit(_on_exit_of_main_thread)  # type: ignore[attr-defined]
except (AttributeError, RuntimeError):
    atexit.register(_on_exit_of_main_thread)
