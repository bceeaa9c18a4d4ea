"""What several tests need."""

from __future__ import annotations

import os
import pathlib
import select
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import pymongo
from pymongo.collection import Collection

import mongostream

if TYPE_CHECKING:
    from typing_extensions import Self

# A deadline for what happens at once on a quiet machine.
LONG = 60.0
# How long the ends of programs have taken, for the summary.
MEASURED: list[tuple[str, float]] = []
EXAMPLES = pathlib.Path(__file__).parents[3] / "examples" / "python"
FOLLOW = EXAMPLES / "follow.py"


def read(pid: int, name: str) -> str:
    return pathlib.Path(f"/proc/{pid}/{name}").read_text()


def descendants(pid: int) -> Iterator[int]:
    for children in pathlib.Path(f"/proc/{pid}/task").glob("*/children"):
        for child in map(int, children.read_text().split()):
            yield child
            yield from descendants(child)


class Server(NamedTuple):
    uri: str
    ground: int

    @contextmanager
    def frozen(self) -> Iterator[None]:
        servers = [pid for pid in descendants(self.ground) if read(pid, "comm").startswith("mongod")]
        assert servers
        for pid in servers:
            os.kill(pid, signal.SIGSTOP)
            eventually(lambda: read(pid, "stat").rsplit(")", 1)[1].split()[0] == "T", "a frozen server")  # noqa: B023
        try:
            yield
        finally:
            for pid in servers:
                os.kill(pid, signal.SIGCONT)


class Place(NamedTuple):
    uri: str
    database: str
    collection: str
    client: pymongo.MongoClient[dict[str, Any]]

    @property
    def orders(self) -> Collection[dict[str, Any]]:
        return self.client[self.database][self.collection]

    def watch(self, buffer: mongostream.Buffer, **options: Any) -> mongostream.Worker:
        """A worker that is ready."""
        worker = buffer.watch(self.uri, self.database, self.collection, **options)
        assert worker.wait_ready(LONG)
        return worker


def receive(buffer: mongostream.Buffer) -> mongostream.Message:
    message = buffer.recv(LONG)
    assert message is not None
    return message


def receive_many(buffer: mongostream.Buffer, count: int) -> list[mongostream.Message]:
    return [receive(buffer) for _ in range(count)]


def ids(messages: list[mongostream.Message]) -> list[str]:
    return [message.document_id for message in messages]


def eventually(condition: Callable[[], Any], what: str) -> None:
    deadline = time.monotonic() + LONG
    while not condition():
        assert time.monotonic() < deadline, f"never: {what}"
        time.sleep(0.005)


def refused_uri() -> str:
    """Where nobody listens."""
    return "mongodb://127.0.0.1:1/?serverSelectionTimeoutMS=200"


class Program:
    """A program of its own, which writes a line when it has come somewhere."""

    def __init__(self, command: list[str], python: str = sys.executable, **environment: str) -> None:
        # With PYTHONUNBUFFERED a program that forgets to flush would not be noticed.
        inherited = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
        self.process = subprocess.Popen(
            [python, "-X", "dev", "-W", "error", *command],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            env={**inherited, **environment},
        )
        assert self.process.stdout and self.process.stderr
        self.out: list[str] = []
        self.err: list[str] = []
        self._readers = [
            threading.Thread(target=self._read, args=arguments, daemon=True)
            for arguments in ((self.process.stdout, self.out), (self.process.stderr, self.err))
        ]
        for reader in self._readers:
            reader.start()

    @staticmethod
    def _read(stream: Any, lines: list[str]) -> None:
        with stream:
            for line in stream:
                lines.append(line.rstrip("\n"))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        for reader in self._readers:
            reader.join()

    def has_said(self, line: str) -> None:
        eventually(lambda: line in self.out + self.err or self.process.poll() is not None, f"the line {line!r}")
        assert line in self.out + self.err, self.err

    def end(self) -> int:
        code = self.process.wait(LONG)
        for reader in self._readers:
            reader.join(LONG)
        return code

    def end_by(self, number: signal.Signals) -> tuple[int, float]:
        """The exit code, and the seconds from the signal to the end."""
        descriptor = os.pidfd_open(self.process.pid)
        began = time.monotonic()
        self.process.send_signal(number)
        select.select([descriptor], [], [], LONG)
        seconds = time.monotonic() - began
        os.close(descriptor)
        return self.end(), seconds


def script(code: str, *arguments: str) -> Program:
    return Program(["-c", textwrap.dedent(code), *arguments])


def follow(place: Place, *options: str) -> Program:
    return Program([str(FOLLOW), place.uri, place.database, place.collection, *options])
