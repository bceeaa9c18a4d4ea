"""Receiving with asyncio."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from pymongo.collection import Collection
from support import LONG, Place, eventually, ids, refused_uri

import mongostream
from mongostream import _library

Orders = Collection[dict[str, Any]]


def run(main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(asyncio.wait_for(main(), LONG * 2))


async def insert(orders: Orders, *documents: dict[str, Any]) -> None:
    await asyncio.get_running_loop().run_in_executor(None, orders.insert_many, list(documents))


def test_iteration_waits_for_messages_and_ends_when_closed(place: Place, orders: Orders) -> None:
    async def main() -> None:
        async with mongostream.Buffer() as buffer:
            worker = buffer.watch(place.uri, place.database, "orders")
            assert await worker.wait_ready_async(LONG)
            found = []
            writing = asyncio.create_task(insert(orders, *({"_id": number} for number in range(3))))
            async for message in buffer:
                found.append(message)
                message.ack()
                if len(found) == 3:
                    buffer.close()
            assert ids(found) == ["0", "1", "2"]
            assert await buffer.recv_async() is None
            assert await buffer.recv_batch_async() is None
            await writing
            await worker.join_async(LONG)
            assert worker.state == mongostream.WorkerState.STOPPED

    run(main)


def test_the_end_of_a_block_ends_the_workers(place: Place) -> None:
    async def main() -> None:
        async with mongostream.Buffer() as buffer:
            worker = place.watch(buffer)
        assert worker.state == mongostream.WorkerState.STOPPED
        assert await buffer.recv_async() is None

    run(main)


def test_a_save_that_fails_is_raised_at_the_end_of_the_block(place: Place, orders: Orders) -> None:
    class Broken:
        saved = False

        def load(self, name: str) -> None:
            return None

        def save(self, name: str, text: str) -> None:
            if self.saved:
                raise ValueError("no room")
            self.saved = True

    async def main() -> None:
        async with mongostream.Buffer() as buffer:
            place.watch(buffer, checkpoint_store=Broken(), checkpoint_ms=1_000_000)
            await insert(orders, {})
            message = await buffer.recv_async(LONG)
            assert message is not None
            message.ack()

    with pytest.raises(mongostream.Error) as caught:
        run(main)
    assert caught.value.status == mongostream.Status.ERR_CHECKPOINT


def test_batches_arrive(place: Place, orders: Orders) -> None:
    async def main() -> None:
        async with mongostream.Buffer() as buffer:
            place.watch(buffer)
            await insert(orders, *({"_id": number} for number in range(500)))
            found = []
            async for batch in buffer.batches(99):
                assert len(batch) <= 99
                found += ids(list(batch))
                batch.ack()
                if len(found) == 500:
                    break
            assert found == [str(number) for number in range(500)]

    run(main)


def test_tasks_share_a_buffer(place: Place, orders: Orders) -> None:
    async def consume(buffer: mongostream.Buffer) -> list[str]:
        found = []
        async for message in buffer:
            found.append(message.document_id)
            message.ack()
        return found

    async def main() -> None:
        async with mongostream.Buffer(100) as buffer:
            place.watch(buffer)
            tasks = [asyncio.create_task(consume(buffer)) for _ in range(7)]
            for start in range(0, 1000, 250):
                await insert(orders, *({"_id": number} for number in range(start, start + 250)))
            while buffer.stats()["workers"][0]["delivered"] < 1000:
                await asyncio.sleep(0.01)
            buffer.close()
            found = [each for mine in await asyncio.gather(*tasks) for each in mine]
            assert sorted(map(int, found)) == list(range(1000))

    run(main)


def test_every_waiting_task_ends_when_the_buffer_is_closed(place: Place) -> None:
    async def main() -> None:
        async with mongostream.Buffer() as buffer:
            place.watch(buffer)
            tasks = [asyncio.create_task(buffer.recv_async()) for _ in range(20)]
            await asyncio.sleep(0)
            await asyncio.sleep(0.01)
            buffer.close()
            assert await asyncio.gather(*tasks) == [None] * 20

    run(main)


def test_event_loops_and_threads_share_a_buffer(place: Place, orders: Orders, buffer: mongostream.Buffer) -> None:
    place.watch(buffer)
    found: list[str] = []

    async def consume() -> None:
        async for message in buffer:
            found.append(message.document_id)

    def consume_in_thread() -> None:
        for message in buffer:
            found.append(message.document_id)

    threads = [threading.Thread(target=lambda: asyncio.run(consume())) for _ in range(3)]
    threads.append(threading.Thread(target=consume_in_thread))
    for thread in threads:
        thread.start()
    orders.insert_many([{"_id": number} for number in range(500)])
    eventually(lambda: len(found) >= 500, "five hundred messages")
    buffer.close()
    for thread in threads:
        thread.join(LONG)
    assert sorted(map(int, found)) == list(range(500))


def test_a_receive_keeps_its_limit(place: Place) -> None:
    async def main() -> None:
        async with mongostream.Buffer() as buffer:
            place.watch(buffer)
            for timeout in (0.15, 0.0):
                began = time.monotonic()
                with pytest.raises(TimeoutError):
                    await buffer.recv_async(timeout)
                assert timeout - 0.01 <= time.monotonic() - began < timeout + 5
            with pytest.raises(TimeoutError):
                await buffer.recv_batch_async(5, 0.01)

    run(main)


def test_a_cancelled_receive_loses_nothing(place: Place, orders: Orders) -> None:
    async def main() -> None:
        async with mongostream.Buffer() as buffer:
            place.watch(buffer)
            found: list[str] = []
            written = 0
            for turn in range(200):
                task = asyncio.create_task(buffer.recv_async())
                await asyncio.sleep(0)
                if turn % 2:
                    orders.insert_one({"_id": written})
                    written += 1
                for _ in range(turn % 7):
                    await asyncio.sleep(0.0005 * (turn % 3))
                task.cancel()
                try:
                    message = await task
                except asyncio.CancelledError:
                    continue
                assert message is not None
                found.append(message.document_id)
            while len(found) < written:
                message = await buffer.recv_async(LONG)
                assert message is not None
                found.append(message.document_id)
            assert found == [str(number) for number in range(written)]
            assert not buffer._readers._waiting

    run(main)


def test_who_waits_no_longer_leaves_nothing_in_the_loop(place: Place, orders: Orders) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        async with mongostream.Buffer() as buffer:
            place.watch(buffer)
            tasks = [asyncio.create_task(buffer.recv_async()) for _ in range(3)]
            await asyncio.sleep(0.05)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            assert not loop.remove_reader(buffer.fileno())
            task = asyncio.create_task(buffer.recv_async())
            await insert(orders, {})
            await task
            assert not loop.remove_reader(buffer.fileno())
            with pytest.raises(TimeoutError):
                await buffer.recv_async(0.01)
            assert not loop.remove_reader(buffer.fileno())

    run(main)


def test_a_full_stream_lets_other_tasks_run(place: Place, orders: Orders) -> None:
    async def main() -> None:
        async with mongostream.Buffer(5000) as buffer:
            place.watch(buffer)
            await insert(orders, *({"_id": number} for number in range(5000)))
            while len(buffer) < 5000:
                await asyncio.sleep(0.01)
            turns = 0

            async def other() -> None:
                nonlocal turns
                while True:
                    turns += 1
                    await asyncio.sleep(0)

            task = asyncio.create_task(other())
            for _ in range(5000):
                message = await buffer.recv_async(0)
                assert message is not None
                message.document()
            task.cancel()
            assert turns > 5

    run(main)


def test_a_failure_is_raised_and_the_same_loop_may_go_on(place: Place, orders: Orders) -> None:
    async def main() -> None:
        async with mongostream.Buffer() as buffer:
            place.watch(buffer)
            buffer.watch(refused_uri(), name="broken")
            messages = buffer.__aiter__()
            with pytest.raises(mongostream.WorkerError, match="broken"):
                await messages.__anext__()
            await insert(orders, {"_id": 1})
            assert (await messages.__anext__()).document_id == "1"

    run(main)


def test_waits_for_a_worker_keep_their_limits(place: Place) -> None:
    async def main() -> None:
        async with mongostream.Buffer() as buffer:
            worker = place.watch(buffer)
            with pytest.raises(TimeoutError):
                await worker.join_async(0.1)
            stuck = buffer.watch("mongodb://127.0.0.1:1/?serverSelectionTimeoutMS=60000")
            with pytest.raises(TimeoutError):
                await stuck.wait_ready_async(0.1)
            failing = buffer.watch(refused_uri())
            with pytest.raises(mongostream.WorkerError):
                await failing.wait_ready_async(LONG)
            stuck.stop()
            assert await stuck.wait_ready_async(LONG) is False

    run(main)


def test_without_a_descriptor_receives_work_too(place: Place, orders: Orders, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_library, "ms_buffer_fd", lambda _: -1)

    async def main() -> None:
        async with mongostream.Buffer() as buffer:
            place.watch(buffer)
            task = asyncio.create_task(buffer.recv_async(LONG))
            await asyncio.sleep(0.05)
            await insert(orders, {"_id": 1})
            message = await task
            assert message is not None and message.document_id == "1"

    run(main)


def test_a_loop_without_descriptors_polls(place: Place, orders: Orders, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise NotImplementedError

    async def main() -> None:
        loop = asyncio.get_running_loop()
        monkeypatch.setattr(loop, "add_reader", refuse)
        async with mongostream.Buffer() as buffer:
            place.watch(buffer)
            task = asyncio.create_task(buffer.recv_async(LONG))
            await asyncio.sleep(0.05)
            await insert(orders, {"_id": 1})
            message = await task
            assert message is not None and message.document_id == "1"

    run(main)
