"""MongoDB change streams as a plain queue of JSON messages.

    import mongostream

    with mongostream.Buffer(1024) as buffer:
        buffer.watch("mongodb://localhost:27017", "shop", "orders", checkpoint_file="orders.token")
        for message in buffer:
            print(message.json)
            message.ack()

docs/PYTHON.md has a section for each topic.
"""

from . import _library
from ._abi import Status, WorkerState
from ._buffer import Batches, Buffer
from ._errors import ArgumentError, Error, ForkedError, StateError, WorkerError
from ._log import set_logger
from ._message import Batch, ClusterTime, Message
from ._options import Options
from ._store import CheckpointStore, TryAgain
from ._worker import Worker

__all__ = [
    "ArgumentError",
    "Batch",
    "Batches",
    "Buffer",
    "CheckpointStore",
    "ClusterTime",
    "Error",
    "ForkedError",
    "Message",
    "Options",
    "StateError",
    "Status",
    "TryAgain",
    "Worker",
    "WorkerError",
    "WorkerState",
    "__version__",
    "library_path",
    "library_version",
    "set_logger",
]

__version__ = "0.1.0"

library_path: str = _library.path
"""Where the native library was found."""

library_version: str = _library.ms_version().decode()
"""The version of the native library, such as "0.1.0"."""
