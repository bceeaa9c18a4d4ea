"""Declarations of the C library.

Generated from the C header and the table of options: do not edit. `MONGOSTREAM_WRITE=1 cargo test
--workspace --test generated` writes it anew.
"""

import ctypes
import enum
from typing import Any, Dict, List, Optional, Tuple

VERSION: Tuple[int, int, int] = (0, 1, 0)


class Status(enum.IntEnum):
    """The constants of ms_status."""

    OK = 0
    TIMEOUT = 1
    CLOSED = 2
    ERR_ARGUMENT = -1
    ERR_STATE = -2
    ERR_FORKED = -3
    ERR_IN_USE = -4
    ERR_RESOURCE = -5
    ERR_CONNECT = -10
    ERR_AUTH = -11
    ERR_SERVER = -12
    ERR_HISTORY_LOST = -13
    ERR_INVALIDATED = -14
    ERR_CHECKPOINT = -15
    ERR_OVERSIZED = -16
    ERR_FENCED = -17
    ERR_PANIC = -99


class LogLevel(enum.IntEnum):
    """The constants of ms_log_level."""

    OFF = 0
    ERROR = 1
    WARN = 2
    INFO = 3
    DEBUG = 4


class WorkerState(enum.IntEnum):
    """The constants of ms_worker_state."""

    STARTING = 0
    STREAMING = 1
    RECONNECTING = 2
    STOPPED = 3
    FAILED = 4
    STANDBY = 5


LogSetCallback = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int32, ctypes.c_char_p, ctypes.c_char_p)
OptionsSetCheckpointStoreLoad = ctypes.CFUNCTYPE(ctypes.c_int32, ctypes.c_void_p, ctypes.c_char_p, ctypes.POINTER(ctypes.c_void_p))
OptionsSetCheckpointStoreSave = ctypes.CFUNCTYPE(ctypes.c_int32, ctypes.c_void_p, ctypes.c_char_p, ctypes.c_char_p)
OptionsSetCheckpointStoreRelease = ctypes.CFUNCTYPE(None, ctypes.c_void_p)

FUNCTIONS: Dict[str, Tuple[Optional[Any], List[Any]]] = {
    "ms_version_number": (ctypes.c_uint32, []),
    "ms_version": (ctypes.c_char_p, []),
    "ms_status_name": (ctypes.c_char_p, [ctypes.c_int32]),
    "ms_error_status": (ctypes.c_int32, [ctypes.c_void_p]),
    "ms_error_message": (ctypes.c_char_p, [ctypes.c_void_p]),
    "ms_error_server_code": (ctypes.c_int32, [ctypes.c_void_p]),
    "ms_error_is_retriable": (ctypes.c_bool, [ctypes.c_void_p]),
    "ms_error_worker": (ctypes.c_char_p, [ctypes.c_void_p]),
    "ms_error_free": (None, [ctypes.c_void_p]),
    "ms_log_set": (ctypes.c_int32, [LogSetCallback, ctypes.c_void_p, ctypes.c_int32]),
    "ms_options_new": (ctypes.c_void_p, []),
    "ms_options_set": (ctypes.c_int32, [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_char_p, ctypes.POINTER(ctypes.c_void_p)]),
    "ms_options_clone": (ctypes.c_void_p, [ctypes.c_void_p]),
    "ms_options_describe": (ctypes.c_void_p, []),
    "ms_options_free": (None, [ctypes.c_void_p]),
    "ms_options_set_checkpoint_store": (ctypes.c_int32, [ctypes.c_void_p, OptionsSetCheckpointStoreLoad, OptionsSetCheckpointStoreSave, OptionsSetCheckpointStoreRelease, ctypes.c_void_p, ctypes.POINTER(ctypes.c_void_p)]),
    "ms_buffer_new": (ctypes.c_void_p, [ctypes.c_size_t]),
    "ms_buffer_new_with": (ctypes.c_void_p, [ctypes.c_size_t, ctypes.c_size_t]),
    "ms_shutdown": (None, []),
    "ms_buffer_recv": (ctypes.c_void_p, [ctypes.c_void_p, ctypes.POINTER(ctypes.c_void_p)]),
    "ms_string_free": (None, [ctypes.c_void_p]),
    "ms_buffer_recv_message": (ctypes.c_int32, [ctypes.c_void_p, ctypes.c_int64, ctypes.POINTER(ctypes.c_void_p), ctypes.POINTER(ctypes.c_void_p)]),
    "ms_buffer_recv_batch": (ctypes.c_int32, [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int64, ctypes.POINTER(ctypes.c_void_p), ctypes.POINTER(ctypes.c_void_p)]),
    "ms_buffer_fd": (ctypes.c_int, [ctypes.c_void_p]),
    "ms_buffer_len": (ctypes.c_size_t, [ctypes.c_void_p]),
    "ms_buffer_stats": (ctypes.c_void_p, [ctypes.c_void_p]),
    "ms_buffer_metrics": (ctypes.c_void_p, [ctypes.c_void_p]),
    "ms_buffer_close": (None, [ctypes.c_void_p]),
    "ms_buffer_free": (None, [ctypes.c_void_p]),
    "ms_worker_start": (ctypes.c_void_p, [ctypes.c_char_p, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_void_p, ctypes.c_void_p, ctypes.POINTER(ctypes.c_void_p)]),
    "ms_worker_name": (ctypes.c_char_p, [ctypes.c_void_p]),
    "ms_worker_get_state": (ctypes.c_int32, [ctypes.c_void_p]),
    "ms_worker_wait_ready": (ctypes.c_int32, [ctypes.c_void_p, ctypes.c_int64, ctypes.POINTER(ctypes.c_void_p)]),
    "ms_worker_stop": (None, [ctypes.c_void_p]),
    "ms_worker_join": (ctypes.c_int32, [ctypes.c_void_p, ctypes.c_int64, ctypes.POINTER(ctypes.c_void_p)]),
    "ms_worker_resume_token": (ctypes.c_void_p, [ctypes.c_void_p]),
    "ms_worker_free": (None, [ctypes.c_void_p]),
    "ms_message_json": (ctypes.c_void_p, [ctypes.c_void_p, ctypes.POINTER(ctypes.c_size_t)]),
    "ms_message_bson": (ctypes.c_void_p, [ctypes.c_void_p, ctypes.POINTER(ctypes.c_size_t)]),
    "ms_message_operation": (ctypes.c_char_p, [ctypes.c_void_p]),
    "ms_message_namespace": (ctypes.c_char_p, [ctypes.c_void_p]),
    "ms_message_document_id": (ctypes.c_char_p, [ctypes.c_void_p]),
    "ms_message_cluster_time": (ctypes.c_bool, [ctypes.c_void_p, ctypes.POINTER(ctypes.c_uint32), ctypes.POINTER(ctypes.c_uint32)]),
    "ms_message_updated_paths": (ctypes.c_void_p, [ctypes.c_void_p, ctypes.POINTER(ctypes.c_size_t)]),
    "ms_message_resume_token": (ctypes.c_char_p, [ctypes.c_void_p]),
    "ms_message_position": (ctypes.c_char_p, [ctypes.c_void_p]),
    "ms_message_worker": (ctypes.c_char_p, [ctypes.c_void_p]),
    "ms_message_clone": (ctypes.c_void_p, [ctypes.c_void_p]),
    "ms_message_ack": (None, [ctypes.c_void_p]),
    "ms_message_free": (None, [ctypes.c_void_p]),
    "ms_batch_len": (ctypes.c_size_t, [ctypes.c_void_p]),
    "ms_batch_get": (ctypes.c_void_p, [ctypes.c_void_p, ctypes.c_size_t]),
    "ms_batch_json_lines": (ctypes.c_void_p, [ctypes.c_void_p, ctypes.POINTER(ctypes.c_size_t)]),
    "ms_batch_ack": (None, [ctypes.c_void_p]),
    "ms_batch_free": (None, [ctypes.c_void_p]),
}
