"""Statistics, metrics and the log."""

from __future__ import annotations

import logging
import threading
from typing import Any

import pytest
from pymongo.collection import Collection
from support import LONG, Place, eventually, receive, refused_uri

import mongostream
from mongostream import WorkerState

Orders = Collection[dict[str, Any]]


def test_stats_and_metrics_count(place: Place, orders: Orders, buffer: mongostream.Buffer) -> None:
    worker = place.watch(buffer)
    orders.insert_many([{}, {}])
    eventually(lambda: len(buffer) == 2, "two queued messages")
    receive(buffer).ack()
    stats = buffer.stats()
    assert (stats["depth"], stats["capacity"]) == (1, 1024)
    (figures,) = stats["workers"]
    assert (figures["name"], figures["delivered"], figures["unacked"]) == (worker.name, 1, 1)
    metrics = buffer.metrics()
    assert metrics.endswith("# EOF\n")
    assert worker.name in metrics


def test_a_worker_tells_what_it_does(place: Place, orders: Orders, buffer: mongostream.Buffer) -> None:
    worker = place.watch(buffer)
    assert worker.state is WorkerState.STREAMING
    assert repr(worker) == f"<mongostream.Worker {place.database}.orders streaming>"
    opened = worker.resume_token
    assert opened
    orders.insert_one({})
    message = receive(buffer)
    assert worker.resume_token == opened
    message.ack()
    assert worker.resume_token == message.resume_token
    worker.stop()
    worker.stop()
    worker.join(LONG)
    assert repr(worker) == f"<mongostream.Worker {place.database}.orders stopped>"


def test_a_buffer_lets_go_of_workers_that_have_ended(place: Place, buffer: mongostream.Buffer) -> None:
    for _ in range(5):
        worker = place.watch(buffer)
        worker.stop()
        worker.join(LONG)
    assert buffer._workers == [worker]


def test_threads_start_workers_at_once(place: Place, buffer: mongostream.Buffer) -> None:
    class Nothing:
        def load(self, name: str) -> None:
            return None

        def save(self, name: str, text: str) -> None:
            pass

    store = Nothing()

    def start(number: int) -> None:
        for turn in range(5):
            name = f"{number} {turn}"
            place.watch(buffer, name=name, checkpoint_store=store, checkpoint_name=name)

    threads = [threading.Thread(target=start, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LONG)
    workers = buffer.stats()["workers"]
    assert [worker["state"] for worker in workers] == ["streaming"] * 30
    assert len(buffer._workers) == 30


def test_a_worker_that_nobody_holds_goes_on(place: Place, orders: Orders, buffer: mongostream.Buffer) -> None:
    place.watch(buffer)
    orders.insert_one({"_id": 1})
    assert receive(buffer).document_id == "1"


class Lines(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)


@pytest.fixture
def lines() -> Any:
    handler = Lines()
    logger = logging.getLogger("test of mongostream")
    logger.setLevel(logging.DEBUG)
    logger.propagate = False
    logger.addHandler(handler)
    yield handler
    mongostream.set_logger(None)
    logger.removeHandler(handler)


def test_the_log_goes_to_a_logger(place: Place, buffer: mongostream.Buffer, lines: Lines) -> None:
    mongostream.set_logger(logging.getLogger("test of mongostream"))
    worker = place.watch(buffer, name="my worker")
    with pytest.raises(mongostream.WorkerError):
        buffer.watch(refused_uri(), name="broken").wait_ready(LONG)
    worker.stop()
    worker.join(LONG)
    eventually(lambda: {record.levelno for record in lines.records} >= {logging.INFO, logging.ERROR}, "both levels")
    ours = [record for record in lines.records if record.levelno == logging.INFO]
    assert ours[0].worker == "my worker"  # type: ignore[attr-defined]
    assert ours[0].getMessage().startswith("my worker: ")
    assert "127.0.0.1:1" in next(r for r in lines.records if r.levelno == logging.ERROR).getMessage()


def test_only_what_matters_enough_is_logged(place: Place, buffer: mongostream.Buffer, lines: Lines) -> None:
    mongostream.set_logger(logging.getLogger("test of mongostream"), logging.ERROR)
    place.watch(buffer)
    with pytest.raises(mongostream.WorkerError):
        buffer.watch(refused_uri()).wait_ready(LONG)
    eventually(lambda: lines.records, "a line")
    assert {record.levelno for record in lines.records} == {logging.ERROR}


def test_the_log_can_be_switched_off(place: Place, buffer: mongostream.Buffer, lines: Lines) -> None:
    mongostream.set_logger(logging.getLogger("test of mongostream"), logging.DEBUG)
    mongostream.set_logger(None)
    worker = place.watch(buffer)
    worker.stop()
    worker.join(LONG)
    assert lines.records == []


def test_a_handler_cannot_change_the_logger(place: Place, buffer: mongostream.Buffer, lines: Lines) -> None:
    refused: list[BaseException] = []

    def change(record: logging.LogRecord) -> bool:
        try:
            mongostream.set_logger(None)
        except mongostream.StateError as error:
            refused.append(error)
        return True

    lines.addFilter(change)
    mongostream.set_logger(logging.getLogger("test of mongostream"))
    place.watch(buffer)
    eventually(lambda: refused and lines.records, "the refusal, and the line")
