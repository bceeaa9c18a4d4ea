"""Checkpoint stores of the program's own."""

from __future__ import annotations

import atexit
import ctypes
import itertools
import logging
import os
import threading
import time
import weakref
from typing import Any, Protocol

from . import _abi
from . import _library as ms
from ._errors import error_of

_logger = logging.getLogger("mongostream.store")


class CheckpointStore(Protocol):
    """What `Buffer.watch` takes as ``checkpoint_store``: any object with these two methods.

        class Table:
            def load(self, name):
                row = database.execute("SELECT text FROM checkpoint WHERE name = ?", (name,)).fetchone()
                return row and row[0]

            def save(self, name, text):
                with database:
                    database.execute("INSERT OR REPLACE INTO checkpoint VALUES (?, ?)", (name, text))

    Both are called from threads of the library: for one worker one call after the other, for several workers at once.
    They may wait; the stream goes on meanwhile. They must not join a worker. An exception means that it was not done:
    an `OSError` or a `TryAgain` that the same call may succeed later (it is tried again), any other that it will not.
    """

    def load(self, name: str) -> str | None:
        """The text that was saved last under the name; None if there is none."""

    def save(self, name: str, text: str) -> None:
        """Replaces the text. When this returns, the text survives a crash of the machine; else the old one is there."""


class TryAgain(Exception):
    """What `CheckpointStore.load` and `CheckpointStore.save` raise where the same call may succeed later."""


class Binding:
    """Options with a store. All workers with the same store share one, so the library sees two that use one name."""

    def __init__(self, store: CheckpointStore) -> None:
        self.key = next(_keys)
        self.workers: weakref.WeakSet[Any] = weakref.WeakSet()
        self.options = ms.ms_options_new()
        error = ms.ErrorHandle()
        _used[self.key] = _Used(store)
        if ms.ms_options_set_checkpoint_store(self.options, _load, _save, _release, self.key, error) != ms.OK:
            del _used[self.key]
            raise error_of(error)

    @property
    def cause(self) -> BaseException | None:
        """What the store raised last, if nothing has succeeded since."""
        used = _used.get(self.key)
        return used.failure if used else None


class _Used:
    """A store that the library may call."""

    __slots__ = ("failure", "store")

    def __init__(self, store: CheckpointStore) -> None:
        self.store = store
        self.failure: BaseException | None = None


_lock = threading.Lock()
_keys = itertools.count(1)
# Until the library releases it.
_used: dict[int, _Used] = {}
_bindings: weakref.WeakValueDictionary[int, Binding] = weakref.WeakValueDictionary()


def binding_of(store: CheckpointStore) -> Binding:
    with _lock:
        binding = _bindings.get(id(store))
        if binding is None:
            binding = _bindings[id(store)] = Binding(store)
        return binding


_libc = ctypes.CDLL(None)
_strdup = _libc.strdup
_strdup.restype, _strdup.argtypes = ctypes.c_void_p, [ctypes.c_char_p]


def _failed(used: _Used, what: str, name: bytes, failure: BaseException) -> int:
    if repr(failure) != repr(used.failure):  # a store that stays away is one line
        _logger.warning("could not %s the checkpoint %s: %r", what, name.decode(), failure)
    used.failure = failure
    return 1 if isinstance(failure, (OSError, TryAgain)) else -1


def _on_load(key: int, name: bytes, text: Any) -> int:
    used = _used[key]
    try:
        found = used.store.load(name.decode())
        if found is not None:
            if not isinstance(found, str) or "\0" in found:
                raise TypeError(f"load must return a text that was saved, or None, and not {found!r:.100}")
            text[0] = _strdup(found.encode())
        used.failure = None
        return 0
    except BaseException as failure:
        return _failed(used, "load", name, failure)


def _on_save(key: int, name: bytes, text: bytes) -> int:
    used = _used[key]
    try:
        used.store.save(name.decode(), text.decode())
        used.failure = None
        return 0
    except BaseException as failure:
        return _failed(used, "save", name, failure)


def _on_release(key: int) -> None:
    _used.pop(key, None)


# One function for all stores, which lives as long as the process: the library may still be in it when a store is
# released.
_load = _abi.OptionsSetCheckpointStoreLoad(_on_load)
_save = _abi.OptionsSetCheckpointStoreSave(_on_save)
_release = _abi.OptionsSetCheckpointStoreRelease(_on_release)


def _forget() -> None:
    global _lock
    _lock = threading.Lock()
    _used.clear()
    _bindings.clear()


# The threads that use stores are not in a child of fork.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)


def _still_saving() -> set[int]:
    return set(_used) - {binding.key for binding in list(_bindings.values())}


@atexit.register
def _end() -> None:
    """No thread of the library may call into an interpreter that is no longer there."""
    for binding in list(_bindings.values()):
        for worker in list(binding.workers):
            worker.stop()
    for binding in list(_bindings.values()):
        for worker in list(binding.workers):
            worker._end()
    deadline = time.monotonic() + 5
    while _still_saving() and time.monotonic() < deadline:
        time.sleep(0.002)
    ms.ending.append(True)
