"""The example `copy_to_sqlite`: killed again and again, it makes a correct copy, and nothing takes effect twice."""

from __future__ import annotations

import collections
import contextlib
import json
import pathlib
import random
import signal
import sqlite3
import threading
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest
from bson import json_util
from pymongo.collection import Collection
from support import EXAMPLES, LONG, Place, Program, eventually

import mongostream

if TYPE_CHECKING:
    from typing_extensions import Self

Orders = Collection[dict[str, Any]]

STATIC = 20_000
# In each of the two phases.
KILLS = 8
# Fires in the transaction of the example: what takes effect twice is there twice.
AUDIT = """
CREATE TABLE documents (id TEXT PRIMARY KEY, document TEXT NOT NULL);
CREATE TABLE audit (id TEXT NOT NULL);
CREATE TRIGGER audited AFTER INSERT ON documents BEGIN INSERT INTO audit VALUES (new.id); END;
"""


class Copy:
    """What the example has made so far."""

    def __init__(self, path: pathlib.Path) -> None:
        self.path = path
        with self._open() as database:
            database.execute("PRAGMA journal_mode = WAL")  # so the test can look at it meanwhile
            database.executescript(AUDIT)

    def _open(self) -> contextlib.closing[sqlite3.Connection]:
        return contextlib.closing(sqlite3.connect(self.path, timeout=LONG))

    def position(self) -> str:
        with self._open() as database:
            try:
                return str(database.execute("SELECT text FROM position").fetchone()[0])
            except (sqlite3.OperationalError, TypeError):  # not made yet
                return ""

    def documents(self) -> dict[str, Any]:
        with self._open() as database:
            return {key: json.loads(text) for key, text in database.execute("SELECT id, document FROM documents")}

    def effects(self) -> collections.Counter[str]:
        with self._open() as database:
            return collections.Counter(key for (key,) in database.execute("SELECT id FROM audit"))


def key(document: Any) -> str:
    return json.dumps(canonical(document)["_id"], sort_keys=True)


def canonical(document: Any) -> Any:
    return json.loads(json_util.dumps(document, json_options=json_util.CANONICAL_JSON_OPTIONS))


class Writer:
    """Changes documents all the time, and inserts others that it never changes."""

    def __init__(self, orders: Orders) -> None:
        self._orders = orders
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._write)
        self.prefix = "early"
        self.failure: BaseException | None = None

    def _write(self) -> None:
        chance = random.Random(1)
        try:
            number = 0
            while not self._ended.is_set():
                number += 1
                hot = f"hot {chance.randrange(50)}"
                self._orders.insert_one({"_id": f"{self.prefix} {number}"})
                self._orders.replace_one({"_id": hot}, {"n": number, "list": [1, 2, 3]}, upsert=True)
                self._orders.update_one({"_id": hot}, {"$set": {"list.1": number}, "$inc": {"times": 1}})
                if number % 3 == 0:
                    self._orders.delete_one({"_id": f"hot {chance.randrange(50)}"})
        except BaseException as failure:
            self.failure = failure

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join(LONG)
        assert self.failure is None


@contextlib.contextmanager
def copying(place: Place, path: pathlib.Path) -> Iterator[Program]:
    arguments = [place.uri, place.database, place.collection, str(path)]
    with Program([str(EXAMPLES / "copy_to_sqlite.py"), *arguments]) as program:
        yield program


def in_snapshot(position: str) -> bool:
    return not position or "snapshot" in json.loads(position)


def lives_until_killed(place: Place, copy: Copy, chance: random.Random) -> str:
    """A run that commits something and is killed; the position that it has left."""
    with copying(place, copy.path) as program:
        for _ in range(chance.randrange(1, 4)):
            before = copy.position()
            eventually(lambda: copy.position() != before or program.process.poll() is not None, "a commit")  # noqa: B023
        time.sleep(chance.random() * 0.02)
        assert program.process.poll() is None, program.err
        program.process.send_signal(signal.SIGKILL)
        program.end()
    return copy.position()


def test_killed_at_any_time_the_copy_is_right_and_nothing_takes_effect_twice(
    place: Place, orders: Orders, tmp_path: pathlib.Path
) -> None:
    seed = random.randrange(10**6)
    print("seed", seed)
    chance = random.Random(seed)
    copy = Copy(tmp_path / "copy.db")
    static = [{"_id": number, "half": number / 2} for number in range(STATIC)]
    orders.insert_many(static)
    kills = {True: 0, False: 0}
    with Writer(orders) as writer:
        while in_snapshot(copy.position()) and kills[True] < KILLS:
            kills[in_snapshot(lives_until_killed(place, copy, chance))] += 1
        # A run that is left alone until the snapshot is over.
        with copying(place, copy.path):
            eventually(lambda: not in_snapshot(copy.position()), "the end of the snapshot")
        writer.prefix = "late"
        while kills[False] < KILLS:
            kills[in_snapshot(lives_until_killed(place, copy, chance))] += 1
    assert kills[True] >= 5 and kills[False] >= 5, kills

    expected = {key(document): canonical(document) for document in orders.find()}
    with copying(place, copy.path) as program:
        eventually(lambda: copy.documents() == expected or program.process.poll() is not None, "the copy is equal")
        assert program.end_by(signal.SIGTERM)[0] == 0, program.err
    assert copy.documents() == expected
    effects = copy.effects()
    once = [document for document in expected if '"$numberInt"' in document or document.startswith('"late')]
    assert len(once) > STATIC
    assert [document for document in once if effects[document] != 1] == []


def test_a_dropped_collection_empties_the_copy(place: Place, orders: Orders, tmp_path: pathlib.Path) -> None:
    copy = Copy(tmp_path / "copy.db")
    orders.insert_many([{"_id": 1}, {"_id": 2}])
    with copying(place, copy.path) as program:
        eventually(lambda: len(copy.documents()) == 2, "two rows")
        orders.drop()
        orders.insert_one({"_id": 3})
        eventually(lambda: list(copy.documents()) == ['{"$numberInt": "3"}'], "the row after the drop")
        assert program.end_by(signal.SIGINT)[0] == 0


def test_a_renamed_collection_is_exit_code_1(place: Place, orders: Orders, tmp_path: pathlib.Path) -> None:
    copy = Copy(tmp_path / "copy.db")
    orders.insert_one({"_id": 1})
    with copying(place, copy.path) as program:
        eventually(copy.documents, "a row")
        orders.rename("other")
        assert program.end() == 1
        assert "begin anew" in program.err[0]


def test_messages_have_positions(place: Place, orders: Orders, buffer: mongostream.Buffer) -> None:
    place.watch(buffer)
    orders.insert_many([{"_id": number} for number in range(3)])
    batch = buffer.recv_batch(1)
    assert batch is not None
    position = batch[0].position
    assert position is not None
    for given in (position, json.loads(position)):
        with mongostream.Buffer() as other:
            place.watch(other, start_at_position=given)
            message = other.recv(LONG)
            assert message is not None and message.document_id == "1"
    with mongostream.Buffer() as other, pytest.raises(mongostream.ArgumentError, match="start_at_position"):
        other.watch(place.uri, place.database, "other", start_at_position=position)
