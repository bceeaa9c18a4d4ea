"""What goes wrong, and how it shows."""

from __future__ import annotations

import pathlib
import pickle
from typing import Any

import pytest
from support import LONG, Place, refused_uri

import mongostream
from mongostream import Status


@pytest.mark.parametrize("uri", ["", "nonsense", "http://localhost", "mongodb://"])
def test_a_bad_uri_is_refused(buffer: mongostream.Buffer, uri: str) -> None:
    with pytest.raises(mongostream.ArgumentError, match="URI"):
        buffer.watch(uri)


@pytest.mark.parametrize(
    "options", [{"nonsense": 1}, {"batch_size": 0}, {"format": "xml"}, {"start_after": "{}", "resume_after": "{}"}]
)
def test_a_bad_option_is_refused_by_its_name(buffer: mongostream.Buffer, options: dict[str, Any]) -> None:
    with pytest.raises(mongostream.ArgumentError, match=next(iter(options))) as caught:
        buffer.watch("mongodb://localhost", **options)
    assert isinstance(caught.value, ValueError)
    assert caught.value.worker is None
    assert not caught.value.retriable
    assert buffer.stats()["workers"] == []


def test_text_with_a_nul_is_refused(buffer: mongostream.Buffer) -> None:
    attempts: list[tuple[tuple[Any, ...], dict[str, Any]]] = [
        (("mongodb://localhost\0/",), {}),
        (("mongodb://localhost", "a\0b"), {}),
        (("mongodb://localhost", "a", "b\0c"), {}),
        (("mongodb://localhost",), {"name": "a\0b"}),
        (("mongodb://localhost",), {"name\0": "a"}),
    ]
    for arguments, options in attempts:
        with pytest.raises(mongostream.ArgumentError, match="NUL"):
            buffer.watch(*arguments, **options)


def test_values_of_a_wrong_type_are_refused(buffer: mongostream.Buffer) -> None:
    watch: Any = buffer.watch
    for arguments, options in (
        ((1,), {}),
        (("mongodb://localhost", b"shop"), {}),
        (("mongodb://localhost",), {"name": b"bytes"}),
        (("mongodb://localhost",), {"pipeline": [{"$match": object()}]}),
    ):
        with pytest.raises(TypeError):
            watch(*arguments, **options)


@pytest.mark.parametrize("capacity", [0, -1, 2**63])
def test_a_bad_capacity_is_refused(buffer: mongostream.Buffer, capacity: int) -> None:
    with pytest.raises(mongostream.ArgumentError, match="capacity"):
        mongostream.Buffer(capacity)
    with pytest.raises(mongostream.ArgumentError, match="max_bytes"):
        mongostream.Buffer(1, capacity)
    for take in (buffer.recv_batch, buffer.batches):
        with pytest.raises(mongostream.ArgumentError, match="max"):
            take(capacity)


def test_a_closed_buffer_takes_no_worker(place: Place, buffer: mongostream.Buffer) -> None:
    buffer.close()
    with pytest.raises(mongostream.StateError) as caught:
        buffer.watch(place.uri)
    assert caught.value.status == Status.ERR_STATE


def test_a_server_that_is_not_there(buffer: mongostream.Buffer) -> None:
    worker = buffer.watch(refused_uri(), "shop", "orders")
    with pytest.raises(mongostream.WorkerError) as caught:
        worker.wait_ready(LONG)
    error = caught.value
    assert (error.status, error.status_name, error.worker) == (Status.ERR_CONNECT, "MS_ERR_CONNECT", "shop.orders")
    assert (error.server_code, error.retriable) == (0, True)
    assert "127.0.0.1:1" in error.message
    assert str(error) == f"shop.orders: {error.message} (MS_ERR_CONNECT)"
    with pytest.raises(mongostream.WorkerError):
        worker.join(LONG)


def test_an_error_of_the_server_has_its_code(place: Place, buffer: mongostream.Buffer) -> None:
    worker = buffer.watch(place.uri, place.database, "orders", pipeline=[{"$nonsense": 1}])
    with pytest.raises(mongostream.WorkerError, match="nonsense") as caught:
        worker.wait_ready(LONG)
    assert caught.value.status == Status.ERR_SERVER
    assert caught.value.server_code == 40324


def test_wrong_credentials(place: Place, buffer: mongostream.Buffer) -> None:
    uri = place.uri.replace("mongodb://", "mongodb://user:secret@")
    with pytest.raises(mongostream.WorkerError) as caught:
        buffer.watch(uri).wait_ready(LONG)
    assert caught.value.status == Status.ERR_AUTH
    assert "secret" not in str(caught.value)


def test_a_failure_in_the_block_is_what_is_raised() -> None:
    with pytest.raises(ZeroDivisionError), mongostream.Buffer() as buffer:
        buffer.watch(refused_uri())
        raise ZeroDivisionError


def test_a_worker_that_was_stopped_is_not_ready(buffer: mongostream.Buffer) -> None:
    worker = buffer.watch("mongodb://127.0.0.1:1/?serverSelectionTimeoutMS=60000")
    with pytest.raises(TimeoutError):
        worker.wait_ready(0.01)
    with pytest.raises(TimeoutError):
        worker.join(0.01)
    worker.stop()
    assert worker.wait_ready(LONG) is False
    worker.join(LONG)
    assert worker.state == mongostream.WorkerState.STOPPED


def test_errors_can_be_sent_to_another_process() -> None:
    error = mongostream.WorkerError("text", Status.ERR_AUTH, 18, True, "shop.orders")
    other = pickle.loads(pickle.dumps(error))
    assert type(other) is mongostream.WorkerError
    assert vars(other) == vars(error)


def test_a_checkpoint_in_use_is_an_error_that_may_pass(
    place: Place, buffer: mongostream.Buffer, checkpoint: str
) -> None:
    place.watch(buffer, checkpoint_file=checkpoint)
    with pytest.raises(mongostream.Error) as caught:
        buffer.watch(place.uri, place.database, "orders", checkpoint_file=checkpoint)
    assert (caught.value.status, caught.value.retriable) == (Status.ERR_IN_USE, True)


def test_a_damaged_checkpoint_is_an_error(place: Place, buffer: mongostream.Buffer, tmp_path: pathlib.Path) -> None:
    damaged = tmp_path / "damaged"
    damaged.write_text("nonsense")
    with pytest.raises(mongostream.Error) as caught:
        place.watch(buffer, checkpoint_file=damaged)
    assert caught.value.status == Status.ERR_CHECKPOINT
