"""How a process ends, whatever waits; and what a child of fork gets."""

from __future__ import annotations

import signal

import pytest
from support import Place, script

# From the signal to the end. It is some milliseconds; a busy machine takes longer.
AT_ONCE = 3.0

WAITS = {
    "a loop": "list(buffer)",
    "a receive": "buffer.recv()",
    "a batch": "buffer.recv_batch(5)",
    "a join": "worker.join()",
    "a start": "stuck.wait_ready()",
    "a task": "asyncio.run(buffer.recv_async())",
    "a task's join": "asyncio.run(worker.join_async())",
}


@pytest.mark.parametrize("wait", WAITS.values(), ids=WAITS.keys())
def test_ctrl_c_ends_every_wait(place: Place, wait: str) -> None:
    code = f"""
        import asyncio, sys, time
        import mongostream
        with mongostream.Buffer() as buffer:
            worker = buffer.watch(*sys.argv[1:3])
            assert worker.wait_ready()
            stuck = buffer.watch("mongodb://127.0.0.1:1/?serverSelectionTimeoutMS=60000")
            print("waiting", flush=True)
            try:
                {wait}
            except KeyboardInterrupt:
                print("interrupted", flush=True)
                raise
    """
    with script(code, place.uri, place.database) as program:
        program.has_said("waiting")
        code_, seconds = program.end_by(signal.SIGINT)
        assert program.out == ["waiting", "interrupted"]
        assert code_ == -signal.SIGINT
        assert seconds < AT_ONCE


THREADS = {
    "daemon": "threading.Thread(target=consume, daemon=True)",
    "not a daemon": "threading.Thread(target=consume)",
}


@pytest.mark.parametrize("thread", THREADS.values(), ids=THREADS.keys())
@pytest.mark.parametrize("end", ["pass", "sys.exit(0)", "1 / 0"], ids=["end", "exit", "exception"])
def test_a_thread_that_waits_does_not_keep_the_process(place: Place, thread: str, end: str) -> None:
    code = f"""
        import sys, threading, time
        import mongostream
        buffer = mongostream.Buffer()
        worker = buffer.watch(*sys.argv[1:3])
        def consume():
            print("waiting", flush=True)
            for message in buffer:
                pass
        threads = [{thread} for _ in range(4)]
        threads.append(threading.Thread(target=worker.join))
        for thread in threads:
            thread.start()
        worker.wait_ready()
        {end}
    """
    with script(code, place.uri, place.database) as program:
        assert program.end() == (1 if "1 / 0" in end else 0)
        assert program.err == [] or program.err[-1] == "ZeroDivisionError: division by zero"


def test_ctrl_c_in_the_main_thread_ends_a_process_with_threads(place: Place) -> None:
    code = """
        import sys, threading
        import mongostream
        buffer = mongostream.Buffer()
        buffer.watch(*sys.argv[1:3]).wait_ready()
        thread = threading.Thread(target=lambda: list(buffer))
        thread.start()
        print("waiting", flush=True)
        thread.join()
    """
    with script(code, place.uri, place.database) as program:
        program.has_said("waiting")
        code_, seconds = program.end_by(signal.SIGINT)
        assert code_ == -signal.SIGINT
        assert seconds < AT_ONCE


def test_everything_may_be_held_to_the_end(place: Place) -> None:
    code = """
        import logging, sys
        import mongostream, pymongo
        uri, database = sys.argv[1:]
        class Store:
            def load(self, name): return None
            def save(self, name, text): pass
        logging.basicConfig(level=logging.DEBUG, stream=sys.stdout)
        logging.getLogger("pymongo").setLevel(logging.ERROR)
        mongostream.set_logger(logging.getLogger("mongostream"), logging.DEBUG)
        held = []
        for n in range(20):
            buffer = mongostream.Buffer()
            worker = buffer.watch(uri, database, "orders", checkpoint_store=Store(), name=str(n))
            held.append([buffer, worker, held])
        with pymongo.MongoClient(uri) as client:
            for buffer, worker, _ in held:
                worker.wait_ready()
            client[database].orders.insert_many([{} for _ in range(50)])
        held += [(buffer.recv(), buffer.recv_batch(5), iter(buffer)) for buffer, _, _ in held]
        print("done")
    """
    with script(code, place.uri, place.database) as program:
        assert program.end() == 0
        assert program.err == []
        assert "done" in program.out


def test_a_child_of_fork_gets_errors_and_ends(place: Place) -> None:
    code = """
        import asyncio, logging, os, sys, threading
        import mongostream, pymongo
        uri, database = sys.argv[1:]
        class Store:
            def load(self, name): return None
            def save(self, name, text): pass
        logging.basicConfig(level=logging.DEBUG, stream=sys.stdout)
        logging.getLogger("pymongo").setLevel(logging.ERROR)
        mongostream.set_logger(logging.getLogger("mongostream"), logging.DEBUG)
        buffer = mongostream.Buffer()
        worker = buffer.watch(uri, database, "orders", checkpoint_store=Store())
        worker.wait_ready()
        with pymongo.MongoClient(uri) as client:
            client[database].orders.insert_many([{"_id": 1}, {"_id": 2}])
        message, batch = buffer.recv(), buffer.recv_batch(1)
        thread = threading.Thread(target=lambda: list(buffer))
        thread.start()
        child = os.fork()
        if child == 0:
            async def wait():
                await buffer.recv_async()
            calls = [
                buffer.recv, buffer.recv_batch, lambda: next(iter(buffer)), lambda: buffer.watch(uri), buffer.stats,
                buffer.metrics, worker.wait_ready, worker.join, lambda: asyncio.run(wait()),
            ]
            for call in calls:
                try:
                    call()
                except mongostream.ForkedError as error:
                    assert error.status == mongostream.Status.ERR_FORKED
                else:
                    raise AssertionError(call)
            assert message.document_id == "1" and batch[0].document_id == "2"
            message.ack(), batch.ack(), worker.stop(), buffer.close()
            del message, batch, worker, buffer
            sys.exit(0)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        assert worker.state == mongostream.WorkerState.STREAMING
        buffer.close()
        thread.join()
        sys.exit(code)
    """
    with script(code, place.uri, place.database) as program:
        assert program.end() == 0, program.err


def test_multiprocessing_with_fork_ends(place: Place) -> None:
    code = """
        import multiprocessing, sys
        import mongostream
        buffer = mongostream.Buffer()
        worker = buffer.watch(*sys.argv[1:3])
        worker.wait_ready()
        def child(_):
            try:
                buffer.recv()
            except mongostream.ForkedError as error:
                return error  # sent to the parent
        if __name__ == "__main__":
            with multiprocessing.get_context("fork").Pool(3) as pool:
                errors = pool.map(child, range(6))
            assert {type(error) for error in errors} == {mongostream.ForkedError}
            process = multiprocessing.get_context("fork").Process(target=child, args=(1,))
            process.start()
            process.join()
            assert process.exitcode == 0
            print("done")
    """
    with script(code, place.uri, place.database) as program:
        assert program.end() == 0, program.err
        assert program.out == ["done"]


def test_after_ctrl_c_a_block_does_not_wait_for_a_slow_store(place: Place) -> None:
    code = """
        import sys, time
        import mongostream, pymongo
        uri, database = sys.argv[1:]
        class Slow:
            saved = False
            def load(self, name):
                return None
            def save(self, name, text):
                time.sleep(4 if self.saved else 0)
                self.saved = True
        try:
            with mongostream.Buffer() as buffer:
                worker = buffer.watch(uri, database, "orders", checkpoint_store=Slow(), checkpoint_ms=1000000)
                worker.wait_ready()
                with pymongo.MongoClient(uri) as client:
                    client[database].orders.insert_one({})
                try:
                    for message in buffer:
                        message.ack()
                        print("waiting", flush=True)
                except KeyboardInterrupt:
                    began = time.monotonic()
                    raise
        except KeyboardInterrupt:
            print("left", time.monotonic() - began < 3)
            try:
                worker.join(0)
            except TimeoutError:
                print("still saving")
            worker.join()
            print("saved")
    """
    with script(code, place.uri, place.database) as program:
        program.has_said("waiting")
        program.process.send_signal(signal.SIGINT)
        assert program.end() == 0, program.err
        assert program.out == ["waiting", "left True", "still saving", "saved"]
