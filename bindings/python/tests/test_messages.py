"""What a message gives."""

from __future__ import annotations

import contextlib
import copy
import gc
import json
import os
import pathlib
import pickle
import struct
import uuid
import weakref
from typing import Any

import bson
import pytest
from bson import json_util
from bson.raw_bson import RawBSONDocument
from pymongo.collection import Collection
from support import LONG, Place, eventually, ids, receive, receive_many

import mongostream

Orders = Collection[dict[str, Any]]

ODD = 'line\u2028paragraph\u2029next\u0085 \x7f\x01\t\n\r"\\/ \ud7ff\ue000\ufffd\ufeff 😀 \u202e </script>'


def test_a_message_has_what_the_change_was(place: Place, orders: Orders, buffer: mongostream.Buffer) -> None:
    place.watch(buffer, name="my worker")
    orders.insert_one({"_id": 7, "state": "open"})
    message = receive(buffer)
    assert message.operation == "insert"
    assert message.namespace == f"{place.database}.orders"
    assert message.document_id == "7"
    assert message.worker == "my worker"
    assert message.updated_paths == []
    document = message.document()
    assert document == json.loads(message.json)
    assert document["FullDocument"] == {"_id": 7, "state": "open"}
    assert document["ResumeToken"] == json.loads(message.resume_token or "")
    time = document["ClusterTime"]["$timestamp"]
    assert message.cluster_time == mongostream.ClusterTime(time["t"], time["i"])
    assert bson.decode(message.bson)["operationType"] == "insert"
    assert repr(message) == f"<mongostream.Message insert {place.database}.orders '7'>"


def test_an_update_tells_its_paths(place: Place, orders: Orders, buffer: mongostream.Buffer) -> None:
    orders.insert_one({"_id": 1, "lines": [{"count": 1}]})
    place.watch(buffer)
    orders.update_one({"_id": 1}, {"$set": {"state": "paid", "lines.0.count": 3}})
    assert sorted(receive(buffer).updated_paths) == ["lines.count", "state"]


def test_a_document_of_a_snapshot_has_no_time_and_no_token(
    place: Place, orders: Orders, buffer: mongostream.Buffer
) -> None:
    orders.insert_one({"_id": 1})
    place.watch(buffer, snapshot="initial")
    message = receive(buffer)
    assert (message.operation, message.cluster_time, message.resume_token) == ("snapshot", None, None)


def element(kind: int, name: str, value: bytes) -> bytes:
    return bytes([kind]) + name.encode() + b"\0" + value


def document(elements: bytes) -> bytes:
    return struct.pack("<i", len(elements) + 5) + elements + b"\0"


def string(text: str) -> bytes:
    return struct.pack("<i", len(text.encode()) + 1) + text.encode() + b"\0"


ID = bytes.fromhex("652f1f77bcf86cd799439011")
DECIMAL = bson.Decimal128("-1.5E+3").bid
SCOPE = string("f(x)") + document(element(0x10, "x", struct.pack("<i", 1)))
# Every type of the BSON specification: its bytes, and its canonical Extended JSON.
VALUES: dict[str, tuple[int, bytes, Any]] = {
    "double": (0x01, struct.pack("<d", 1.5), {"$numberDouble": "1.5"}),
    "nan": (0x01, struct.pack("<d", float("nan")), {"$numberDouble": "NaN"}),
    "infinity": (0x01, struct.pack("<d", float("-inf")), {"$numberDouble": "-Infinity"}),
    "string": (0x02, string(ODD), ODD),
    "nul": (0x02, string("a\0b"), "a\0b"),
    "document": (0x03, document(element(0x0A, "n", b"")), {"n": None}),
    "array": (0x04, document(element(0x08, "0", b"\1")), [True]),
    "binary": (0x05, struct.pack("<iB", 3, 0) + b"\0\xff\1", {"$binary": {"base64": "AP8B", "subType": "00"}}),
    "uuid": (
        0x05,
        struct.pack("<iB", 16, 4) + uuid.UUID(int=1).bytes,
        {"$binary": {"base64": "AAAAAAAAAAAAAAAAAAAAAQ==", "subType": "04"}},
    ),
    "undefined": (0x06, b"", {"$undefined": True}),
    "object id": (0x07, ID, {"$oid": ID.hex()}),
    "true": (0x08, b"\1", True),
    "date": (0x09, struct.pack("<q", -1), {"$date": {"$numberLong": "-1"}}),
    "null": (0x0A, b"", None),
    "regex": (0x0B, b"^a/b\0im\0", {"$regularExpression": {"pattern": "^a/b", "options": "im"}}),
    "pointer": (0x0C, string("a.b") + ID, {"$dbPointer": {"$ref": "a.b", "$id": {"$oid": ID.hex()}}}),
    "code": (0x0D, string("f()"), {"$code": "f()"}),
    "symbol": (0x0E, string("s"), {"$symbol": "s"}),
    "scope": (
        0x0F,
        struct.pack("<i", len(SCOPE) + 4) + SCOPE,
        {"$code": "f(x)", "$scope": {"x": {"$numberInt": "1"}}},
    ),
    "int32": (0x10, struct.pack("<i", -(2**31)), {"$numberInt": "-2147483648"}),
    "timestamp": (0x11, struct.pack("<II", 2, 1), {"$timestamp": {"t": 1, "i": 2}}),
    "int64": (0x12, struct.pack("<q", 2**63 - 1), {"$numberLong": "9223372036854775807"}),
    "decimal": (0x13, DECIMAL, {"$numberDecimal": "-1.5E+3"}),
    "min key": (0xFF, b"", {"$minKey": 1}),
    "max key": (0x7F, b"", {"$maxKey": 1}),
}


def test_values_of_every_type_arrive_as_they_are(place: Place, buffer: mongostream.Buffer) -> None:
    elements = element(0x10, "_id", struct.pack("<i", 1))
    elements += b"".join(element(kind, name, value) for name, (kind, value, _) in VALUES.items())
    written = RawBSONDocument(document(elements))
    place.watch(buffer, json="canonical")
    raw: Collection[Any] = place.client[place.database]["orders"]
    raw.insert_one(written)
    message = receive(buffer)
    options = bson.CodecOptions(document_class=RawBSONDocument)
    assert bson.decode(message.bson, options)["fullDocument"].raw == written.raw
    found = message.document()["FullDocument"]
    assert {name: found[name] for name in VALUES} == {name: expected for name, (_, _, expected) in VALUES.items()}


def test_relaxed_json_is_what_pymongo_reads(place: Place, orders: Orders, buffer: mongostream.Buffer) -> None:
    written = {"_id": "a", "n": 1, "big": 2**40, "half": 0.5, "odd": ODD, "id": bson.ObjectId(ID)}
    place.watch(buffer)
    orders.insert_one(written)
    assert json_util.loads(receive(buffer).json)["FullDocument"] == written


def test_odd_text_is_one_line(place: Place, orders: Orders, buffer: mongostream.Buffer) -> None:
    place.watch(buffer)
    orders.insert_many([{"_id": ODD}, {"_id": "b", "text": ODD}])
    batch = buffer.recv_batch(1, LONG)
    assert batch is not None
    lines = batch.lines
    assert lines.count(b"\n") == 1
    assert json.loads(lines)["FullDocument"]["_id"] == ODD
    assert batch[0].document_id == ODD


def test_a_message_near_16_mb_arrives_whole(place: Place, orders: Orders, buffer: mongostream.Buffer) -> None:
    text = "x" * (16 * 1024 * 1024 - 16 * 1024)
    place.watch(buffer)
    orders.insert_one({"_id": 1, "text": text})
    message = receive(buffer)
    assert message.document()["FullDocument"]["text"] == text
    assert bson.decode(message.bson)["fullDocument"]["text"] == text


def test_messages_outlive_everything(place: Place, orders: Orders) -> None:
    buffer = mongostream.Buffer()
    worker = place.watch(buffer)
    orders.insert_many([{"_id": number} for number in range(4)])
    alone = receive(buffer)
    batch = buffer.recv_batch(3, LONG)
    assert batch is not None
    first = batch[0]
    gone = [weakref.ref(each) for each in (buffer, worker, batch)]
    buffer.close()
    worker.join(LONG)
    del buffer, worker, batch
    gc.collect()
    assert [each() for each in gone] == [None, None, None]
    assert ids([alone, first]) == ["0", "1"]
    alone.ack()
    first.ack()


def test_a_clone_is_the_same_message(place: Place, orders: Orders, buffer: mongostream.Buffer) -> None:
    worker = place.watch(buffer)
    orders.insert_many([{"_id": number} for number in range(3)])
    alone = receive(buffer)
    batch = buffer.recv_batch(1, LONG)
    assert batch is not None
    clones = [alone.clone(), batch[0].clone()]
    token = batch[0].resume_token
    handle = weakref.ref(batch._handle)
    del alone, batch
    assert handle() is None  # a clone does not keep the batch
    assert ids(clones) == ["0", "1"]
    for clone in clones:
        clone.ack()
    assert worker.resume_token == token


def test_copies_share_one_handle(place: Place, orders: Orders, buffer: mongostream.Buffer) -> None:
    place.watch(buffer)
    orders.insert_one({"_id": 1})
    message = receive(buffer)
    other = copy.copy(message)
    del message
    gc.collect()
    assert other.document_id == "1"


def test_what_would_free_a_handle_twice_is_refused(place: Place, orders: Orders, buffer: mongostream.Buffer) -> None:
    worker = place.watch(buffer)
    orders.insert_many([{}, {}])
    for each in (buffer, worker, receive(buffer), buffer.recv_batch(1, LONG)):
        with pytest.raises(TypeError, match="pickle"):
            pickle.dumps(each)
        with pytest.raises(TypeError, match="pickle"):
            copy.deepcopy(each)


def test_garbage_in_circles_is_freed_in_any_order(place: Place, orders: Orders) -> None:
    for turn in range(20):
        buffer = mongostream.Buffer()
        worker = place.watch(buffer)
        orders.insert_many([{"turn": turn} for _ in range(10)])
        things: list[Any] = [buffer, worker, *receive_many(buffer, 5), buffer.recv_batch(5, LONG), iter(buffer)]
        if turn % 2:
            things.reverse()
        circle = weakref.ref(buffer)
        things.append(things)
        del buffer, worker, things
        gc.collect()
        assert circle() is None


def test_messages_of_a_batch_keep_it(place: Place, orders: Orders, buffer: mongostream.Buffer) -> None:
    place.watch(buffer)
    orders.insert_many([{"_id": number} for number in range(4)])
    eventually(lambda: len(buffer) == 4, "four queued messages")
    batch = buffer.recv_batch(4)
    assert batch is not None
    handle = weakref.ref(batch._handle)
    last = list(batch)[-1]
    del batch
    assert last.document_id == "3"
    assert handle() is not None
    del last
    assert handle() is None


def workers_threads() -> int:
    """Threads of workers; others of the library stay."""
    tasks = pathlib.Path("/proc/self/task").iterdir()
    names = [(task / "comm").read_text().strip() for task in tasks if (task / "comm").exists()]
    return len([name for name in names if name.startswith("mongostream")])


def opened(descriptor: int) -> str | None:
    """Which file it is; another one may get the same number."""
    with contextlib.suppress(FileNotFoundError):
        return os.readlink(f"/proc/self/fd/{descriptor}")
    return None


def test_what_nobody_holds_ends_and_gives_back_its_descriptor(place: Place) -> None:
    with mongostream.Buffer() as first:
        place.watch(first)  # so the threads that all share are there
        before = workers_threads()
        buffer = mongostream.Buffer()
        descriptor = buffer.fileno()
        for _ in range(5):
            place.watch(buffer)
        assert workers_threads() >= before + 5
        file = opened(descriptor)
        assert file is not None
        del buffer
        eventually(lambda: opened(descriptor) != file, "the descriptor is closed")
        eventually(lambda: workers_threads() <= before, "the end of the workers")


def test_a_worker_that_is_held_alone_does_not_keep_the_buffer(place: Place) -> None:
    buffer = mongostream.Buffer()
    worker = place.watch(buffer)
    del buffer
    worker.join(LONG)
    assert worker.state == mongostream.WorkerState.STOPPED
