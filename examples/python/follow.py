"""Prints the changes of a collection as lines of JSON, until Ctrl-C.

    python follow.py URI DATABASE COLLECTION [option=value ...]

"-" stands for no collection or no database. Messages go to standard output, everything else to standard error. With
checkpoint_file=orders.token it continues, when it is started again, with the first change that it has not printed.
"""

import io
import signal
import sys
from typing import cast

import mongostream


def follow(uri: str, database: str, collection: str, options: mongostream.Options) -> None:
    """Prints messages until SIGINT or SIGTERM."""
    none = "-"
    # The end of the block waits until the worker has ended and its checkpoint is saved.
    with mongostream.Buffer(1024) as buffer:

        def end(number: int, _: object) -> None:
            buffer.close()  # what is queued is still printed, then the loop ends
            signal.signal(number, signal.SIG_DFL)  # a second Ctrl-C waits for nothing

        signal.signal(signal.SIGINT, end)
        signal.signal(signal.SIGTERM, end)
        worker = buffer.watch(
            uri,
            None if database == none else database,
            None if collection == none else collection,
            **options,
        )
        if worker.wait_ready():
            print("ready", file=sys.stderr, flush=True)
        for message in buffer:
            print(message.json, flush=True)
            message.ack()


def main() -> int:
    """The exit code: 1 if a worker failed, 2 for wrong usage."""
    settings = sys.argv[4:]
    if len(sys.argv) < 4 or not all("=" in setting for setting in settings):
        print("usage: follow.py URI DATABASE COLLECTION [option=value ...]", file=sys.stderr)
        return 2
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8")
    options = cast(mongostream.Options, dict(setting.split("=", 1) for setting in settings))
    try:
        follow(sys.argv[1], sys.argv[2], sys.argv[3], options)
    except mongostream.ArgumentError as error:
        print(f"follow: {error}", file=sys.stderr)
        return 2
    except mongostream.Error as error:
        print(f"follow: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
