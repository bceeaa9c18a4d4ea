"""The example `follow`, as a program of its own."""

from __future__ import annotations

import json
import pathlib
import signal
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from pymongo.collection import Collection
from support import FOLLOW, LONG, MEASURED, Place, Program, Server, eventually, follow, refused_uri

Orders = Collection[dict[str, Any]]

# From the signal to the end. It is some milliseconds; a busy machine takes longer.
AT_ONCE = 3.0


@contextmanager
def writing(orders: Orders) -> Iterator[None]:
    """Inserts as many documents as it can; their ids count up."""
    ended = threading.Event()

    def write() -> None:
        first = 0
        while not ended.is_set():
            orders.insert_many([{"_id": first + n, "text": "x" * 500} for n in range(1000)])
            first += 1000

    writer = threading.Thread(target=write)
    writer.start()
    try:
        yield
    finally:
        ended.set()
        writer.join(LONG)


def printed(program: Program) -> list[Any]:
    return [json.loads(line)["FullDocument"]["_id"] for line in program.out]


def program_has_printed(program: Program, last: object) -> None:
    eventually(lambda: last in printed(program), f"the change of {last}")


def test_it_prints_and_acks_and_goes_on(place: Place, orders: Orders, checkpoint: str) -> None:
    first = 0
    for number in (signal.SIGINT, signal.SIGTERM):
        with follow(place, f"checkpoint_file={checkpoint}") as program:
            program.has_said("ready")
            orders.insert_many([{"_id": first + n} for n in range(3)])
            program_has_printed(program, first + 2)
            assert program.end_by(number)[0] == 0
            assert printed(program) == [first, first + 1, first + 2]
            assert program.err == ["ready"]
        first += 3
    orders.insert_one({"_id": first})
    with follow(place, f"checkpoint_file={checkpoint}") as program:
        program_has_printed(program, first)
        assert printed(program) == [first]


def test_odd_text_is_printed_whatever_the_locale(place: Place, orders: Orders, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONIOENCODING", "latin-1")
    text = "line\u2028next\u0085 ☕"
    with follow(place) as program:
        program.has_said("ready")
        orders.insert_one({"_id": text})
        program_has_printed(program, text)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_at_once_when_idle(place: Place, number: signal.Signals) -> None:
    with follow(place) as program:
        program.has_said("ready")
        code, seconds = program.end_by(number)
        MEASURED.append(("idle", seconds))
        assert code == 0
        assert seconds < AT_ONCE


def test_a_signal_ends_it_at_once_in_full_stream(place: Place, orders: Orders, checkpoint: str) -> None:
    with follow(place, f"checkpoint_file={checkpoint}") as program:
        program.has_said("ready")
        with writing(orders):
            eventually(lambda: len(program.out) > 2000, "a stream of lines")
            code, seconds = program.end_by(signal.SIGINT)
        MEASURED.append(("in full stream", seconds))
        assert code == 0
        assert seconds < AT_ONCE
        count = len(program.out)
        assert printed(program) == list(range(count))
    # What was printed is acked and saved.
    with follow(place, f"checkpoint_file={checkpoint}") as program:
        eventually(lambda: program.out, "a line")
        assert printed(program)[0] == count


@pytest.mark.parametrize("checkpointed", [False, True])
def test_a_signal_ends_it_at_once_while_the_server_hangs(
    server: Server, place: Place, checkpoint: str, checkpointed: bool
) -> None:
    with follow(place, *([f"checkpoint_file={checkpoint}"] if checkpointed else [])) as program:
        program.has_said("ready")
        with server.frozen():
            code, seconds = program.end_by(signal.SIGINT)
        MEASURED.append(("while the server hangs", seconds))
        assert code == 0
        assert seconds < AT_ONCE


def test_a_second_signal_does_not_wait_for_a_checkpoint(server: Server, place: Place, orders: Orders) -> None:
    with follow(place, f"checkpoint_collection={place.database}_state.checkpoints", "checkpoint_ms=100000") as program:
        program.has_said("ready")
        orders.insert_one({"_id": 1})
        program_has_printed(program, 1)
        with server.frozen():
            program.process.send_signal(signal.SIGINT)
            with pytest.raises(subprocess.TimeoutExpired):
                program.process.wait(0.5)
            code, seconds = program.end_by(signal.SIGINT)
        assert code == -signal.SIGINT
        assert seconds < AT_ONCE


def test_a_signal_ends_it_before_it_is_ready(place: Place) -> None:
    stuck = place._replace(uri="mongodb://127.0.0.1:1/?serverSelectionTimeoutMS=60000")
    with follow(stuck) as program:
        threads = pathlib.Path(f"/proc/{program.process.pid}/task")
        eventually(lambda: len(list(threads.iterdir())) > 1, "a worker")
        code, seconds = program.end_by(signal.SIGTERM)
        assert code == 0
        assert seconds < AT_ONCE
        assert program.err == []


def test_a_dash_stands_for_all(place: Place, orders: Orders) -> None:
    with follow(place._replace(collection="-")) as program:
        program.has_said("ready")
        orders.insert_one({"_id": 1})
        program_has_printed(program, 1)
    with follow(place._replace(database="-", collection="-")) as program:
        program.has_said("ready")
        orders.insert_one({"_id": 2})
        program_has_printed(program, 2)


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
    with Program([str(FOLLOW), *arguments]) as program:
        assert program.end() == 2
        assert len(program.err) == 1
