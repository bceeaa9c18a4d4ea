"""Where a program goes on after a restart."""

from __future__ import annotations

import gc
import logging
import pathlib
import threading
from typing import Any

import pytest
from pymongo.collection import Collection
from support import LONG, Place, eventually, ids, receive, receive_many, script

import mongostream
from mongostream import Status, _store

Orders = Collection[dict[str, Any]]


class Memory:
    """A store that a test can look into and break."""

    def __init__(self) -> None:
        self.texts: dict[str, str] = {}
        self.failure: BaseException | None = None
        self.threads: set[int] = set()
        self.saves = 0

    def load(self, name: str) -> str | None:
        self.threads.add(threading.get_ident())
        if self.failure:
            raise self.failure
        return self.texts.get(name)

    def save(self, name: str, text: str) -> None:
        self.saves += 1
        if self.failure:
            raise self.failure
        self.texts[name] = text


def five(place: Place, orders: Orders, **options: Any) -> None:
    """Five messages, of which the third is not acked; and the ordinary end of a program."""
    with mongostream.Buffer() as buffer:
        place.watch(buffer, **options)
        orders.insert_many([{"_id": number} for number in range(5)])
        messages = receive_many(buffer, 5)
        for number in (0, 1, 3):
            messages[number].ack()


def rest(place: Place, **options: Any) -> list[str]:
    with mongostream.Buffer() as buffer:
        place.watch(buffer, **options)
        return ids(receive_many(buffer, 3))


def test_a_restart_goes_on_with_the_first_message_that_was_not_acked(
    place: Place, orders: Orders, tmp_path: pathlib.Path
) -> None:
    options = {"checkpoint_file": tmp_path / "orders.token", "checkpoint_ms": 1_000_000}
    five(place, orders, **options)
    assert rest(place, **options) == ["2", "3", "4"]


def test_a_store_of_ones_own_keeps_the_place(place: Place, orders: Orders) -> None:
    store = Memory()
    five(place, orders, checkpoint_store=store, checkpoint_ms=1_000_000)
    assert list(store.texts) == [f"{place.database}.orders"]
    assert rest(place, checkpoint_store=store) == ["2", "3", "4"]
    assert threading.get_ident() not in store.threads


def test_a_file_and_a_collection_and_a_store_exclude_each_other(place: Place, buffer: mongostream.Buffer) -> None:
    with pytest.raises(mongostream.ArgumentError):
        buffer.watch(place.uri, place.database, "orders", checkpoint_store=Memory(), checkpoint_file="x")


def test_two_workers_cannot_use_one_name_in_one_store(place: Place, buffer: mongostream.Buffer) -> None:
    store = Memory()
    place.watch(buffer, checkpoint_store=store)
    with pytest.raises(mongostream.Error) as caught:
        place.watch(buffer, checkpoint_store=store)
    assert caught.value.status == Status.ERR_IN_USE
    place.watch(buffer, checkpoint_store=store, checkpoint_name="other")
    place.watch(buffer, checkpoint_store=Memory())


def test_a_store_is_let_go_after_its_last_worker(place: Place, orders: Orders) -> None:
    store = Memory()
    five(place, orders, checkpoint_store=store)
    gc.collect()
    eventually(lambda: store not in [used.store for used in _store._used.values()], "the store is let go")


def test_a_store_that_refuses_to_load_ends_the_worker(place: Place, buffer: mongostream.Buffer) -> None:
    store = Memory()
    store.failure = ValueError("broken")
    with pytest.raises(mongostream.Error) as caught:
        place.watch(buffer, checkpoint_store=store)
    assert caught.value.status == Status.ERR_CHECKPOINT


@pytest.mark.parametrize("text", [5, "a\0b", b"bytes"])
def test_a_store_that_loads_nonsense_ends_the_worker(place: Place, buffer: mongostream.Buffer, text: Any) -> None:
    class Nonsense(Memory):
        def load(self, name: str) -> str | None:
            return text  # type: ignore[no-any-return]

    with pytest.raises(mongostream.Error) as caught:
        place.watch(buffer, checkpoint_store=Nonsense())
    assert caught.value.status == Status.ERR_CHECKPOINT
    assert "load must return a text" in str(caught.value.__cause__)


def test_a_save_that_fails_is_raised_by_join_with_its_cause(
    place: Place, orders: Orders, caplog: pytest.LogCaptureFixture
) -> None:
    store = Memory()
    with mongostream.Buffer() as buffer:
        worker = place.watch(buffer, checkpoint_store=store, checkpoint_ms=1_000_000)
        orders.insert_one({})
        receive(buffer).ack()
        store.failure = ValueError("no room")
        buffer.close()
        with pytest.raises(mongostream.Error) as caught:
            worker.join(LONG)
        assert caught.value.status == Status.ERR_CHECKPOINT
        assert caught.value.__cause__ is store.failure
        assert "no room" in caplog.text
        store.failure = None


def test_a_save_that_fails_is_raised_at_the_end_of_the_block(place: Place, orders: Orders) -> None:
    store = Memory()
    with pytest.raises(mongostream.Error) as caught, mongostream.Buffer() as buffer:
        place.watch(buffer, checkpoint_store=store, checkpoint_ms=1_000_000)
        orders.insert_one({})
        receive(buffer).ack()
        store.failure = ValueError("no room")
    assert caught.value.status == Status.ERR_CHECKPOINT


def test_a_save_that_fails_is_logged_where_the_block_ends_with_an_exception(
    place: Place, orders: Orders, caplog: pytest.LogCaptureFixture
) -> None:
    store = Memory()
    with pytest.raises(ZeroDivisionError), mongostream.Buffer() as buffer:
        place.watch(buffer, checkpoint_store=store, checkpoint_ms=1_000_000)
        orders.insert_one({})
        receive(buffer).ack()
        store.failure = ValueError("no room")
        raise ZeroDivisionError
    assert [record.levelno for record in caplog.records if record.name == "mongostream"] == [logging.WARNING]


@pytest.mark.parametrize("failure", [ConnectionError("away"), mongostream.TryAgain("away")])
def test_a_store_that_is_away_for_a_moment_is_asked_again(
    place: Place, buffer: mongostream.Buffer, failure: BaseException
) -> None:
    class Away(Memory):
        def load(self, name: str) -> str | None:
            self.saves += 1
            if self.saves < 3:
                raise failure
            return super().load(name)

    place.watch(buffer, checkpoint_store=Away())


def test_a_save_that_fails_is_tried_again_later(place: Place, orders: Orders, buffer: mongostream.Buffer) -> None:
    store = Memory()
    worker = place.watch(buffer, checkpoint_store=store, checkpoint_ms=1)
    text = dict(store.texts)
    store.failure = ConnectionError("away")
    saves = store.saves
    orders.insert_one({})
    receive(buffer).ack()
    eventually(lambda: store.saves > saves, "a save is tried")
    store.failure = None
    eventually(lambda: store.texts != text, "the save is done")
    buffer.close()
    worker.join(LONG)


def test_a_store_lives_to_the_end_of_the_interpreter(place: Place, tmp_path: pathlib.Path) -> None:
    """Nothing is joined, and the last save is done all the same, by an interpreter that still works."""
    code = """
        import json, pathlib, sys, time
        import mongostream, pymongo
        uri, database, path = sys.argv[1:]
        class Store:
            def load(self, name):
                return None
            def save(self, name, text):
                time.sleep(0.05)
                pathlib.Path(path).write_text(text)
        buffer = mongostream.Buffer()
        worker = buffer.watch(uri, database, "orders", checkpoint_store=Store(), checkpoint_ms=1000000)
        worker.wait_ready()
        first = pathlib.Path(path).read_text()
        with pymongo.MongoClient(uri) as client:
            client[database].orders.insert_one({})
        buffer.recv().ack()
        print("acked", first == pathlib.Path(path).read_text())
    """
    path = tmp_path / "text"
    with script(code, place.uri, place.database, str(path)) as program:
        assert program.end() == 0
        assert program.out == ["acked True"]
        assert program.err == []
    with mongostream.Buffer() as buffer:
        store = Memory()
        store.texts[f"{place.database}.orders"] = path.read_text()
        place.watch(buffer, checkpoint_store=store)
        with pytest.raises(TimeoutError):
            buffer.recv(0.2)
