"""The example `follow`, as a program of its own."""

from __future__ import annotations

import json
import pathlib
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from helpers import LONG, Place, Program, Server, eventually, follow, refused_uri
from pymongo.collection import Collection

Orders = Collection[dict[str, Any]]

# From the signal to the end. It is some milliseconds; a machine may be busy.
AT_ONCE = 1.0


@contextmanager
def writing(orders: Orders) -> Iterator[None]:
    """Inserts as many documents as it can."""
    ended = threading.Event()

    def write() -> None:
        while not ended.is_set():
            orders.insert_many([{"text": "x" * 500} for _ in range(1000)])

    writer = threading.Thread(target=write)
    writer.start()
    try:
        yield
    finally:
        ended.set()
        writer.join(LONG)


def printed(program: Program) -> list[Any]:
    return [json.loads(line)["FullDocument"]["_id"] for line in program.out]


def test_it_prints_and_acks_and_goes_on(place: Place, orders: Orders, checkpoint: str) -> None:
    options = f"checkpoint_file={checkpoint}"
    for turn in range(3):
        with follow(place, options) as program:
            program.has_said("ready")
            orders.insert_many([{"_id": 10 * turn + n} for n in range(3)])
            eventually(lambda: len(program.out) == 3, "three lines")
            number = (signal.SIGINT, signal.SIGTERM, signal.SIGINT)[turn]
            assert program.end_by(number)[0] == 0
            orders.insert_one({"_id": 10 * turn + 3})
            expected = [10 * turn + n for n in range(3)]
            assert printed(program) == ([10 * turn - 7] if turn else []) + expected or turn
            assert program.err == ["ready"]
    with follow(place, options) as program:
        eventually(lambda: program.out, "the change that nobody has followed")
        assert printed(program) == [23]
        assert program.end_by(signal.SIGTERM)[0] == 0


def test_odd_text_is_printed_whatever_the_locale(place: Place, orders: Orders, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONIOENCODING", "latin-1")
    text = "line\u2028next\u0085 ☕"
    with follow(place) as program:
        program.has_said("ready")
        orders.insert_one({"_id": text})
        eventually(lambda: program.out, "a line")
        assert printed(program) == [text]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_at_once_when_idle(
    place: Place, number: signal.Signals, record_property: Callable[[str, object], None]
) -> None:
    with follow(place) as program:
        program.has_said("ready")
        code, seconds = program.end_by(number)
        record_property("seconds", seconds)
        assert code == 0
        assert seconds < AT_ONCE


def test_a_signal_ends_it_at_once_in_full_stream(
    place: Place, orders: Orders, checkpoint: str, record_property: Callable[[str, object], None]
) -> None:
    with follow(place, f"checkpoint_file={checkpoint}") as program, writing(orders):
        program.has_said("ready")
        eventually(lambda: len(program.out) > 2000, "a stream of lines")
        code, seconds = program.end_by(signal.SIGINT)
        record_property("seconds", seconds)
        assert code == 0
        assert seconds < AT_ONCE
        last = printed(program)[-1]
    # Everything that was printed is acked and saved: the next one is the next one.
    following = orders.find({"_id": {"$gt": last}}).sort("_id").limit(1)[0]["_id"]
    with follow(place, f"checkpoint_file={checkpoint}") as program:
        eventually(lambda: program.out, "a line")
        assert printed(program)[0] == {"$oid": str(following)}


@pytest.mark.parametrize("checkpointed", [False, True])
def test_a_signal_ends_it_at_once_while_the_server_hangs(
    server: Server,
    place: Place,
    checkpoint: str,
    checkpointed: bool,
    record_property: Callable[[str, object], None],
) -> None:
    with follow(place, *([f"checkpoint_file={checkpoint}"] if checkpointed else [])) as program:
        program.has_said("ready")
        with server.frozen():
            code, seconds = program.end_by(signal.SIGINT)
        record_property("seconds", seconds)
        assert code == 0
        assert seconds < AT_ONCE


def test_a_signal_ends_it_before_it_is_ready(place: Place) -> None:
    stuck = place._replace(uri="mongodb://127.0.0.1:1/?serverSelectionTimeoutMS=60000")
    with follow(stuck) as program:
        program_is_waiting = pathlib.Path(f"/proc/{program.process.pid}/task")
        eventually(lambda: len(list(program_is_waiting.iterdir())) > 1, "a worker")
        code, seconds = program.end_by(signal.SIGTERM)
        assert code == 0
        assert seconds < AT_ONCE
        assert program.err == []


def test_a_dash_stands_for_all(place: Place, orders: Orders) -> None:
    with follow(place._replace(collection="-")) as program:
        program.has_said("ready")
        orders.insert_one({"_id": 1})
        eventually(lambda: program.out, "a line")
        assert printed(program) == [1]
    with follow(place._replace(database="-", collection="-")) as program:
        program.has_said("ready")
        orders.insert_one({"_id": 2})
        eventually(lambda: 2 in printed(program), "the line")


def test_a_failure_of_the_worker_is_exit_code_1(place: Place) -> None:
    with follow(place._replace(uri=refused_uri())) as program:
        assert program.end() == 1
        assert program.out == []
        assert "MS_ERR_CONNECT" in program.err[0]


def test_a_failure_while_it_follows_is_exit_code_1(place: Place, orders: Orders) -> None:
    orders.insert_one({})
    with follow(place, "on_invalidate=stop") as program:
        program.has_said("ready")
        orders.drop()
        assert program.end() == 1
        assert "MS_ERR_INVALIDATED" in program.err[1]
        assert [json.loads(line)["OperationType"] for line in program.out] == ["drop", "invalidate"]


@pytest.mark.parametrize("arguments", [[], ["a"], ["a", "b"], ["mongodb://h", "b", "c", "d"], ["x", "b", "c"]])
def test_wrong_usage_is_exit_code_2(place: Place, arguments: list[str]) -> None:
    from helpers import FOLLOW

    with Program([str(FOLLOW), *arguments]) as program:
        assert program.end() == 2
        assert len(program.err) == 1
