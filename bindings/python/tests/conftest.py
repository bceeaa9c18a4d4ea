"""A real server for all tests, and a database of its own for each."""

from __future__ import annotations

import os
import pathlib
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator
from typing import Any

import pymongo
import pytest
from pymongo.collection import Collection
from support import MEASURED, Place, Server

import mongostream

# A shell lets what it starts in its background ignore Ctrl-C, and the programs of the tests would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    ground = os.environ.get("MONGOSTREAM_GROUND")
    if not ground:
        pytest.exit("MONGOSTREAM_GROUND must name the program that runs a server: use the script check", 2)
    with subprocess.Popen([ground, "--until-eof"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin and process.stdout
        uri = process.stdout.readline().strip()
        assert uri, "the server did not start"
        yield Server(uri, process.pid)
        process.stdin.close()


@pytest.fixture(scope="session")
def client(server: Server) -> Iterator[pymongo.MongoClient[dict[str, Any]]]:
    with pymongo.MongoClient[dict[str, Any]](server.uri) as client:
        yield client


@pytest.fixture
def place(server: Server, client: pymongo.MongoClient[dict[str, Any]]) -> Place:
    database = f"test_{uuid.uuid4().hex[:12]}"
    return Place(server.uri, database, "orders", client)


@pytest.fixture
def orders(place: Place) -> Collection[dict[str, Any]]:
    return place.orders


@pytest.fixture
def buffer() -> Iterator[mongostream.Buffer]:
    with mongostream.Buffer(1024) as buffer:
        yield buffer


@pytest.fixture
def checkpoint(tmp_path: pathlib.Path) -> str:
    return str(tmp_path / "orders.token")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for what, seconds in MEASURED:
        terminalreporter.write_line(f"from the signal to the end of follow, {what}: {seconds * 1000:.0f} ms")


def pytest_report_header() -> str:
    return f"mongostream {mongostream.library_version} at {mongostream.library_path}, Python {sys.version}"
