"""Keeps a copy of a collection in SQLite: each document and each change takes effect exactly once, whatever dies when.

    python copy_to_sqlite.py URI DATABASE COLLECTION FILE

The first run copies the documents that exist, then it follows the changes until Ctrl-C. The rows and the position of
the last message are committed in one transaction. So a run continues with the message after the last one that took
effect, also after `kill -9`, and also in the middle of the first copy.
"""

import json
import signal
import sqlite3
import sys

import mongostream

SCHEMA = """
CREATE TABLE IF NOT EXISTS documents (id TEXT PRIMARY KEY, document TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS position (one INTEGER PRIMARY KEY CHECK (one = 1), text TEXT NOT NULL);
INSERT OR IGNORE INTO position VALUES (1, '');
"""


def apply(database: sqlite3.Connection, message: mongostream.Message) -> None:
    """Makes the change of a message in the copy."""
    change = message.document()
    key = json.dumps(change["DocumentKey"].get("_id"), sort_keys=True)
    operation = message.operation
    if operation in ("snapshot", "insert", "update", "replace"):
        document = change["FullDocument"]
        # An update's document is looked up. If it is gone already, its delete follows.
        if document is not None:
            database.execute("INSERT OR REPLACE INTO documents VALUES (?, ?)", (key, json.dumps(document)))
    elif operation == "delete":
        database.execute("DELETE FROM documents WHERE id = ?", (key,))
    elif operation in ("drop", "dropDatabase", "gap"):
        # After a gap (the program was away for longer than the oplog reaches) all documents come again.
        database.execute("DELETE FROM documents")
    elif operation == "rename":
        raise RuntimeError("the collection was renamed or replaced: remove the copy and begin anew")


def copy(uri: str, name: str, collection: str, database: sqlite3.Connection) -> None:
    """Copies until the buffer is closed by a signal."""
    (position,) = database.execute("SELECT text FROM position").fetchone()
    with mongostream.Buffer(1024) as buffer:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: buffer.close())
        buffer.watch(
            uri,
            name,
            collection,
            start_at_position=position,
            snapshot="initial",
            full_document="updateLookup",
            on_history_lost="snapshot",
            json="canonical",
        )
        for batch in buffer.batches(500):
            with database:  # one transaction
                for message in batch:
                    apply(database, message)
                database.execute("UPDATE position SET text = ?", (batch[-1].position,))


def main() -> int:
    """The exit code: 1 if the copy could not go on, 2 for wrong usage."""
    if len(sys.argv) != 5:
        print("usage: copy_to_sqlite.py URI DATABASE COLLECTION FILE", file=sys.stderr)
        return 2
    database = sqlite3.connect(sys.argv[4])
    try:
        database.executescript(SCHEMA)
        copy(sys.argv[1], sys.argv[2], sys.argv[3], database)
    except (mongostream.Error, RuntimeError) as error:
        print(f"copy_to_sqlite: {error}", file=sys.stderr)
        return 1
    finally:
        database.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
