"""mongostream from Python, over ctypes, in batches. Arguments: library, URI, second, events."""

import ctypes
import resource
import sys
import time
from ctypes import byref, c_char_p, c_int64, c_size_t, c_void_p


def cpu():
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


library, uri, second, wanted = sys.argv[1], sys.argv[2].encode(), sys.argv[3].encode(), int(sys.argv[4])
ms = ctypes.CDLL(library)
for name in "buffer_new options_new worker_start batch_json_lines".split():
    getattr(ms, "ms_" + name).restype = c_void_p
ms.ms_batch_len.restype = c_size_t
ms.ms_buffer_new.argtypes = [c_size_t]
ms.ms_options_set.argtypes = [c_void_p, c_char_p, c_char_p, c_void_p]
ms.ms_worker_start.argtypes = [c_char_p, c_char_p, c_char_p, c_void_p, c_void_p, c_void_p]
ms.ms_buffer_recv_batch.argtypes = [c_void_p, c_size_t, c_int64, c_void_p, c_void_p]
ms.ms_batch_json_lines.argtypes = [c_void_p, c_void_p]
for name in "batch_len batch_ack batch_free".split():
    getattr(ms, "ms_" + name).argtypes = [c_void_p]

began, before = time.monotonic(), cpu()
buffer = ms.ms_buffer_new(4096)
options = ms.ms_options_new()
ms.ms_options_set(options, b"start_at_time", second, None)
if not ms.ms_worker_start(uri, b"bench", b"orders", buffer, options, None):
    sys.exit("the worker did not start")
events = size = 0
batch, length = c_void_p(), c_size_t()
while events < wanted:
    if ms.ms_buffer_recv_batch(buffer, 1000, -1, byref(batch), None) != 0:
        sys.exit("receiving failed")
    lines = ctypes.string_at(ms.ms_batch_json_lines(batch, byref(length)), length.value)
    size += len(lines)
    events += ms.ms_batch_len(batch)
    ms.ms_batch_ack(batch)
    ms.ms_batch_free(batch)
print(events, size, time.monotonic() - began, cpu() - before, flush=True)
sys.stdin.read(1)
