"""The peer: a task of Celery that does nothing, and a client for it. Runs in a venv with Celery:

    python celery_noop.py fill N        sends N tasks whose results nobody wants
    python celery_noop.py keep N        sends N tasks, prints their ids
    python celery_noop.py fetch         reads ids, fetches the results, prints when each task ended
    python celery_noop.py loop C S      C clients for S seconds, each: send, wait for the result, again
"""

import json
import os
import sys
import threading
import time

from celery import Celery
from celery.result import AsyncResult

app = Celery("noop", broker=os.environ["CELERY_URL"], backend=os.environ["CELERY_URL"])
# Its own advice for short tasks: more at a time than the default of 4.
app.conf.update(worker_prefetch_multiplier=64, broker_connection_retry_on_startup=True)


@app.task(name="noop")
def noop():
    pass


def loop(clients, seconds):
    times = []
    # Its first task waits for workers that start, and for connections.
    noop.delay().get(timeout=60)
    end = time.monotonic() + seconds

    def client():
        while True:
            begin = time.perf_counter()
            noop.delay().get(timeout=30)
            times.append(time.perf_counter() - begin)
            if time.monotonic() >= end:
                return

    threads = [threading.Thread(target=client) for _ in range(clients)]
    begin = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return {"rate": len(times) / (time.monotonic() - begin), "p50_ms": sorted(times)[len(times) // 2] * 1000}


def main(what, *numbers):
    if what == "fill":
        for _ in range(int(numbers[0])):
            noop.apply_async(ignore_result=True)
    elif what == "keep":
        print(json.dumps([noop.delay().id for _ in range(int(numbers[0]))]))
    elif what == "fetch":
        results = [AsyncResult(id, app=app) for id in json.load(sys.stdin)]
        for result in results:
            result.get(timeout=300)
        print(json.dumps([result.date_done.timestamp() for result in results]))
    elif what == "loop":
        print(json.dumps(loop(int(numbers[0]), float(numbers[1]))))


if __name__ == "__main__":
    main(*sys.argv[1:])
