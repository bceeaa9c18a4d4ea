"""mongostream from Python, in batches as JSON lines. Arguments: URI, second, events."""

import resource
import sys
import time

from mongostream import Buffer


def cpu() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


uri, second, wanted = sys.argv[1], sys.argv[2], int(sys.argv[3])
buffer = Buffer(4096)
began, before = time.monotonic(), cpu()
worker = buffer.watch(uri, "bench", "orders", start_at_time=second)
events = size = 0
for batch in buffer.batches(1000):
    size += len(batch.lines)
    events += len(batch)
    batch.ack()
    if events >= wanted:
        break
print(events, size, time.monotonic() - began, cpu() - before, flush=True)
sys.stdin.read(1)
