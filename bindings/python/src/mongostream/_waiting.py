"""How to wait for the library: Ctrl-C ends it at once, and an event loop goes on meanwhile."""

from __future__ import annotations

import math
import select
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Any, Callable

from . import _library as ms

if TYPE_CHECKING:
    import asyncio

# Where there is no descriptor to wait for. Ctrl-C is heard between two slices.
_SLICE_MS = 50
_LONGEST_MS = 1_000_000_000

# Calls the library with a time in milliseconds, and gives a status.
Attempt = Callable[[int], int]


def _deadline(timeout: float | None) -> float:
    return math.inf if timeout is None else time.monotonic() + timeout


def _left_ms(deadline: float) -> int:
    """At least 0; -1 for ever."""
    if deadline == math.inf:
        return -1
    return min(max(0, math.ceil((deadline - time.monotonic()) * 1000)), _LONGEST_MS)


def _hears_signals() -> bool:
    return threading.get_ident() == threading.main_thread().ident


def wait(attempt: Attempt, timeout: float | None, descriptor: int = -1) -> int:
    """Repeats an attempt that had nothing at once. The status may be TIMEOUT when the time is over."""
    deadline = _deadline(timeout)
    if not _hears_signals():
        # Python's signals do not come here, so the library may wait: it wakes one of many threads, poll all of them.
        status = attempt(_left_ms(deadline))
        while status == ms.TIMEOUT and _left_ms(deadline) != 0:
            status = attempt(_left_ms(deadline))
        return status
    if descriptor >= 0 and hasattr(select, "poll"):
        poll = select.poll()
        poll.register(descriptor, select.POLLIN)
        while True:
            left = _left_ms(deadline)
            poll.poll(left)
            status = attempt(0)
            if status != ms.TIMEOUT or left == 0:
                return status
    while True:
        left = _left_ms(deadline)
        status = attempt(_SLICE_MS if left < 0 else min(left, _SLICE_MS))
        if status != ms.TIMEOUT or left == 0:
            return status


async def sleep(seconds: float) -> None:
    """In an event loop."""
    import asyncio  # it is large, and only those need it who have it

    await asyncio.sleep(seconds)


async def poll_async(attempt: Attempt, timeout: float | None) -> int:
    """As `wait`, where an event loop has no descriptor to look at."""
    deadline = _deadline(timeout)
    pause = 0.001
    while True:
        status = attempt(0)
        left = _left_ms(deadline)
        if status != ms.TIMEOUT or left == 0:
            return status
        await sleep(pause if left < 0 else min(pause, left / 1000))
        pause = min(pause * 2, 0.05)


class Readers:
    """The tasks that wait for one descriptor, by event loop: a loop takes one callback for each descriptor."""

    def __init__(self) -> None:
        self._waiting: dict[asyncio.AbstractEventLoop, deque[asyncio.Future[None]]] = {}

    async def wait(self, attempt: Attempt, timeout: float | None, descriptor: int) -> int:
        """As `wait`, in a task. What arrives is taken by the last attempt, so cancelling a task loses nothing."""
        if descriptor < 0:
            return await poll_async(attempt, timeout)
        import asyncio

        loop = asyncio.get_running_loop()
        deadline = _deadline(timeout)
        while True:
            left = _left_ms(deadline)
            try:
                await self._readable(loop, descriptor, left)
            except NotImplementedError:  # a loop without descriptors
                return await poll_async(attempt, timeout)
            status = attempt(0)
            if status != ms.TIMEOUT or left == 0:
                return status

    async def _readable(self, loop: asyncio.AbstractEventLoop, descriptor: int, left: int) -> None:
        tasks = self._waiting.get(loop)
        if tasks is None:
            tasks = deque()
            loop.add_reader(descriptor, _wake_one, tasks)
            self._waiting[loop] = tasks
        future: asyncio.Future[None] = loop.create_future()
        tasks.append(future)
        timer = loop.call_later(left / 1000, _wake, future) if left >= 0 else None
        try:
            await future
        finally:
            if timer is not None:
                timer.cancel()
            if future in tasks:
                tasks.remove(future)
            # The descriptor stays readable while there is more, so the next in line is woken then.
            if not tasks and self._waiting.get(loop) is tasks:
                del self._waiting[loop]
                if not loop.is_closed():
                    loop.remove_reader(descriptor)


def _wake(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def _wake_one(tasks: deque[asyncio.Future[Any]]) -> None:
    # One that waits no longer may get it: the descriptor stays readable, and the next one is woken in the next turn.
    if tasks:
        _wake(tasks.popleft())
