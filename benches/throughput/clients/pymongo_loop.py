"""pymongo and its json_util in a loop. Arguments: URI, second, events."""

import resource
import sys
import time

from bson import json_util
from bson.timestamp import Timestamp
from pymongo import MongoClient


def cpu():
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


uri, second, wanted = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
began, before = time.monotonic(), cpu()
client = MongoClient(uri)
events = size = 0
with client["bench"]["orders"].watch(start_at_operation_time=Timestamp(second, 0)) as stream:
    for event in stream:
        size += len(json_util.dumps(event, json_options=json_util.RELAXED_JSON_OPTIONS))
        events += 1
        if events == wanted:
            break
print(events, size, time.monotonic() - began, cpu() - before, flush=True)
sys.stdin.read(1)
