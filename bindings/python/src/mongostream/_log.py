"""The library's log, joined with Python's."""

from __future__ import annotations

import atexit
import logging
import os
from typing import Any

from . import _abi
from . import _library as ms
from ._errors import StateError

_LEVELS = {
    int(_abi.LogLevel.ERROR): logging.ERROR,
    int(_abi.LogLevel.WARN): logging.WARNING,
    int(_abi.LogLevel.INFO): logging.INFO,
    int(_abi.LogLevel.DEBUG): logging.DEBUG,
}

_logger: logging.Logger | None = None


def _on_line(_: Any, level: int, worker: bytes, message: bytes) -> None:
    logger = _logger
    if logger is None:
        return
    try:
        name = worker.decode()
        logger.log(_LEVELS.get(level, logging.DEBUG), "%s: %s", name, message.decode(), extra={"worker": name})
    except Exception:
        if logging.raiseExceptions:
            raise  # ctypes shows it, and the library goes on


# Lives as long as the process: a thread of the library may still be in it when another logger is set.
_line = _abi.LogSetCallback(_on_line)


def set_logger(logger: logging.Logger | None = None, level: int = logging.INFO) -> None:
    """Sends the library's log to a logger of Python's, in place of the one before. None: no longer.

        logging.basicConfig()
        mongostream.set_logger(logging.getLogger("mongostream"))

    `level` is the least that is sent, such as ``logging.INFO``. Each record has an attribute ``worker``. No line holds
    credentials. Without a logger the library is silent, unless the environment variable ``MONGOSTREAM_LOG`` asks it to
    write to standard error.

    Lines come from the threads of workers, which wait for the handlers: let them be quick. It returns when no handler
    is at work for the logger before, so do not call it while you hold what a handler waits for, and not from a handler
    (`StateError`). Any thread may call it.
    """
    global _logger
    callback = _line if logger is not None else _abi.LogSetCallback()
    most = max((ours for ours, pythons in _LEVELS.items() if pythons >= level), default=0)
    before, _logger = _logger, logger
    if ms.ms_log_set(callback, None, most) != ms.OK:
        _logger = before
        raise StateError("a handler of the log cannot change the logger", _abi.Status.ERR_STATE)


@atexit.register
def _end() -> None:
    """No thread of the library may call into an interpreter that is no longer there."""
    if _logger is not None:
        set_logger(None)


def _forget() -> None:
    global _logger
    _logger = None


# The callback may have been at work at the moment of the fork, and nobody would end it in the child.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
