"""How messages are received."""

from __future__ import annotations

import json
import resource
import select
import signal
import threading
import time
from typing import Any

import pytest
from pymongo.collection import Collection
from support import LONG, Place, eventually, ids, receive, receive_many, refused_uri

import mongostream
from mongostream import _library

Orders = Collection[dict[str, Any]]


def test_iteration_ends_when_the_buffer_is_closed_and_drained(
    place: Place, orders: Orders, buffer: mongostream.Buffer
) -> None:
    place.watch(buffer)
    orders.insert_many([{"_id": number} for number in range(5)])
    eventually(lambda: len(buffer) == 5, "five queued messages")
    buffer.close()
    buffer.close()
    assert ids(list(buffer)) == ["0", "1", "2", "3", "4"]
    assert list(buffer) == []
    assert buffer.recv() is None
    assert buffer.recv_batch() is None


def test_iteration_ends_without_a_running_worker(place: Place, buffer: mongostream.Buffer) -> None:
    place.watch(buffer).stop()
    assert list(buffer) == []


def test_the_end_of_a_block_ends_the_workers(place: Place) -> None:
    with mongostream.Buffer() as buffer:
        worker = place.watch(buffer)
    assert worker.state == mongostream.WorkerState.STOPPED
    with pytest.raises(mongostream.StateError):
        place.watch(buffer)


def test_iteration_waits_for_what_comes(place: Place, orders: Orders, buffer: mongostream.Buffer) -> None:
    place.watch(buffer)
    messages = iter(buffer)
    for number in range(3):
        orders.insert_one({"_id": number})
        assert next(messages).document_id == str(number)


def test_a_receive_keeps_its_limit(place: Place, buffer: mongostream.Buffer) -> None:
    place.watch(buffer)
    for receive_one in (buffer.recv, lambda timeout: buffer.recv_batch(5, timeout)):
        for timeout in (0.15, 0.0, -1.0):
            began = time.monotonic()
            with pytest.raises(TimeoutError):
                receive_one(timeout)
            assert max(timeout, 0) <= time.monotonic() - began < max(timeout, 0) + 5


def test_a_receive_in_a_thread_keeps_its_limit(place: Place, buffer: mongostream.Buffer) -> None:
    place.watch(buffer)
    found: list[float] = []

    def wait() -> None:
        began = time.monotonic()
        with pytest.raises(TimeoutError):
            buffer.recv(0.15)
        found.append(time.monotonic() - began)

    thread = threading.Thread(target=wait)
    thread.start()
    thread.join(LONG)
    assert 0.15 <= found[0] < 5


def test_without_a_descriptor_receives_work_too(
    place: Place, orders: Orders, buffer: mongostream.Buffer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_library, "ms_buffer_fd", lambda _: -1)
    place.watch(buffer)
    with pytest.raises(TimeoutError):
        buffer.recv(0.1)
    timer = threading.Timer(0.1, lambda: orders.insert_one({"_id": 1}))
    timer.start()
    assert receive(buffer).document_id == "1"
    timer.join()
    with pytest.raises(OSError, match="descriptor"):
        buffer.fileno()


def test_the_descriptor_is_readable_while_something_is_there(
    place: Place, orders: Orders, buffer: mongostream.Buffer
) -> None:
    place.watch(buffer)
    assert select.select([buffer], [], [], 0)[0] == []
    orders.insert_one({"_id": 1})
    assert select.select([buffer], [], [], LONG)[0] == [buffer]
    assert receive(buffer).document_id == "1"
    assert select.select([buffer], [], [], 0)[0] == []
    buffer.close()
    assert select.select([buffer], [], [], LONG)[0] == [buffer]


def test_batches_have_every_message_once_and_in_order(place: Place, orders: Orders, buffer: mongostream.Buffer) -> None:
    place.watch(buffer)
    orders.insert_many([{"_id": number} for number in range(2500)])
    found: list[int] = []
    for batch in buffer.batches(700):
        assert 1 <= len(batch) <= 700
        lines = batch.lines
        assert lines.endswith(b"\n")
        in_lines = [json.loads(line)["FullDocument"]["_id"] for line in lines.splitlines()]
        assert [message.document()["FullDocument"]["_id"] for message in batch] == in_lines
        found += in_lines
        batch.ack()
        if len(found) == 2500:
            break
    assert found == list(range(2500))
    assert buffer.stats()["workers"][0]["unacked"] == 0


def test_a_batch_is_a_sequence(place: Place, orders: Orders, buffer: mongostream.Buffer) -> None:
    place.watch(buffer)
    orders.insert_many([{"_id": number} for number in range(3)])
    eventually(lambda: len(buffer) == 3, "three queued messages")
    batch = buffer.recv_batch(10)
    assert batch is not None
    assert (len(batch), batch[0].document_id, batch[-1].document_id) == (3, "0", "2")
    assert ids(list(batch)) == ["0", "1", "2"]
    for index in (3, -4):
        with pytest.raises(IndexError):
            batch[index]


def test_a_failure_is_raised_once_and_the_next_loop_goes_on(
    place: Place, orders: Orders, buffer: mongostream.Buffer
) -> None:
    place.watch(buffer)
    broken = buffer.watch(refused_uri(), name="broken")
    with pytest.raises(mongostream.WorkerError) as caught:
        for _ in buffer:
            pass
    assert (caught.value.worker, caught.value.status) == ("broken", mongostream.Status.ERR_CONNECT)
    assert caught.value.status_name == "MS_ERR_CONNECT"
    assert caught.value.retriable
    assert broken.state == mongostream.WorkerState.FAILED
    orders.insert_one({"_id": 1})
    for message in buffer:
        assert message.document_id == "1"
        break


def test_two_buffers_do_not_mix(place: Place, client: Any) -> None:
    with mongostream.Buffer() as first, mongostream.Buffer() as second:
        first.watch(place.uri, place.database, "a").wait_ready(LONG)
        second.watch(place.uri, place.database, "b").wait_ready(LONG)
        for number in range(20):
            client[place.database]["ab"[number % 2]].insert_one({"_id": number})
        assert ids(receive_many(second, 10)) == [str(number) for number in range(1, 20, 2)]
        assert ids(receive_many(first, 10)) == [str(number) for number in range(0, 20, 2)]


def test_several_workers_feed_one_buffer(place: Place, client: Any, buffer: mongostream.Buffer) -> None:
    for name in "ab":
        buffer.watch(place.uri, place.database, name).wait_ready(LONG)
        client[place.database][name].insert_one({"_id": name})
    assert sorted(ids(receive_many(buffer, 2))) == ["a", "b"]


def test_threads_share_a_buffer(place: Place, orders: Orders, buffer: mongostream.Buffer) -> None:
    place.watch(buffer)
    found: list[list[str]] = [[] for _ in range(8)]

    def consume(mine: list[str], in_batches: bool) -> None:
        if in_batches:
            for batch in buffer.batches(7):
                mine.extend(ids(list(batch)))
                batch.ack()
        else:
            for message in buffer:
                mine.append(message.document_id)
                message.ack()

    threads = [threading.Thread(target=consume, args=(mine, n % 2 == 0)) for n, mine in enumerate(found)]
    for thread in threads:
        thread.start()
    orders.insert_many([{"_id": number} for number in range(2000)])
    eventually(lambda: sum(map(len, found)) >= 2000, "two thousand messages")
    buffer.close()
    for thread in threads:
        thread.join(LONG)
    assert sorted(int(each) for mine in found for each in mine) == list(range(2000))


def test_threads_use_one_batch(place: Place, orders: Orders, buffer: mongostream.Buffer) -> None:
    place.watch(buffer)
    orders.insert_many([{"_id": number} for number in range(300)])
    eventually(lambda: len(buffer) == 300, "the messages")
    batch = buffer.recv_batch(300)
    assert batch is not None
    found: list[Any] = []

    def use() -> None:
        found.append((ids(list(batch)), len(batch.lines.splitlines())))
        batch.ack()

    threads = [threading.Thread(target=use) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LONG)
    assert found == [([str(number) for number in range(300)], 300)] * 6


def test_a_thread_may_close_the_buffer_for_the_main_thread(place: Place, buffer: mongostream.Buffer) -> None:
    place.watch(buffer)
    timer = threading.Timer(0.1, buffer.close)
    timer.start()
    assert list(buffer) == []
    timer.join()


def test_the_last_reference_may_go_while_a_thread_waits(place: Place) -> None:
    buffer = mongostream.Buffer()
    place.watch(buffer)
    ended = threading.Event()

    def consume(messages: Any) -> None:
        assert list(messages) == []
        ended.set()

    thread = threading.Thread(target=consume, args=(iter(buffer),))
    thread.start()
    close = buffer.close
    del buffer
    close()
    thread.join(LONG)
    assert ended.is_set()


def test_a_handler_of_a_signal_may_raise_out_of_every_wait(place: Place, buffer: mongostream.Buffer) -> None:
    class Interrupted(Exception):
        pass

    def interrupt(*_: object) -> None:
        raise Interrupted

    worker = place.watch(buffer)
    stuck = buffer.watch("mongodb://127.0.0.1:1/?serverSelectionTimeoutMS=60000")
    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        waits: list[Any] = [buffer.recv, buffer.recv_batch, lambda: list(buffer), worker.join, stuck.wait_ready]
        for wait in waits:
            signal.setitimer(signal.ITIMER_REAL, 0.1)
            began = time.monotonic()
            with pytest.raises(Interrupted):
                wait()
            assert time.monotonic() - began < 3
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def test_a_handler_of_a_signal_that_raises_nothing_disturbs_no_wait(place: Place, buffer: mongostream.Buffer) -> None:
    place.watch(buffer)
    calls: list[int] = []
    before = signal.signal(signal.SIGALRM, lambda number, _: calls.append(number))
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.02, 0.02)
        began = time.monotonic()
        with pytest.raises(TimeoutError):
            buffer.recv(0.3)
        assert time.monotonic() - began >= 0.3
        assert len(calls) > 2
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def test_a_buffer_is_true_and_has_a_length(place: Place, orders: Orders, buffer: mongostream.Buffer) -> None:
    assert buffer
    assert len(buffer) == 0
    place.watch(buffer)
    orders.insert_one({"_id": 1})
    eventually(lambda: len(buffer) == 1, "one queued message")
    assert repr(buffer) == "<mongostream.Buffer with 1 messages>"


def test_the_bound_in_bytes_holds(place: Place, orders: Orders) -> None:
    with mongostream.Buffer(1000, max_bytes=10_000) as buffer:
        place.watch(buffer)
        orders.insert_many([{"_id": number, "text": "x" * 4000} for number in range(10)])
        eventually(lambda: len(buffer) == 2, "two messages, and no room for a third")
        assert ids(receive_many(buffer, 10)) == [str(number) for number in range(10)]
        assert buffer.stats()["high_water"] <= 2


def memory() -> int:
    """Bytes that this process has in memory."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()


def test_what_is_received_is_freed(place: Place, orders: Orders) -> None:
    """A message that is not freed keeps its reply of up to 16 MB."""
    with mongostream.Buffer(50) as buffer:
        place.watch(buffer, batch_size=100)
        text = "x" * 50_000
        before = 0
        for turn in range(8):
            orders.insert_many([{"text": text} for _ in range(500)])
            for _ in range(200):
                receive(buffer).ack()
            for _ in range(100):
                message = receive(buffer)
                assert len(message.clone().json) > len(text)
                assert len(message.bson) > len(text)
            left = 200
            while left:
                batch = buffer.recv_batch(left, LONG)
                assert batch is not None
                left -= len(batch)
                assert len(batch.lines) > len(text)
                assert batch[0].operation == "insert"
            for _ in range(1000):
                assert buffer.stats() and buffer.metrics()
                with pytest.raises(mongostream.ArgumentError):
                    buffer.watch("nonsense")
            if turn == 2:
                before = memory()
        assert memory() - before < 60_000_000
