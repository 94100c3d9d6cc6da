"""Latency and errors that clients see while releases are activated, and the time activation takes.

    .venv/bin/geotag up
    .venv/bin/python -m benchmarks.activation RELEASE RELEASE RELEASE [--clients 4] [--rounds 3]

Clients send one picture after another to the active release, without a pause, while releases are
activated in turn. With three or more releases, each activation has to load the release, because
only the active one and the one before it stay loaded. The first active release is restored at the
end.
"""

import argparse
import threading
import time
from contextlib import closing
from dataclasses import dataclass, field

import numpy as np

from db.releases import active_release
from geotag.context import Context, make_context
from geotag.releases import lifecycle
from workers.chunks.triton_client import TritonClient
from workers.errors import GeotagError


@dataclass
class Seen:
    """The clients' requests as (start, seconds until the answer), and their errors."""

    answers: list[tuple[float, float]] = field(default_factory=list)
    errors: list[GeotagError] = field(default_factory=list)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("releases", nargs="+")
    parser.add_argument("--clients", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    context = make_context()
    first = (active_release(context.engine) or given.releases)[0]
    seen, stop = Seen(), threading.Event()
    clients = [
        threading.Thread(target=ask, args=(context, seen, stop)) for _ in range(given.clients)
    ]
    for client in clients:
        client.start()
    try:
        time.sleep(10)
        quiet = [seconds for _asked, seconds in list(seen.answers)]
        spans = []
        for name in given.releases * given.rounds:
            began = time.monotonic()
            lifecycle.activate(context, name)
            spans.append((began, time.monotonic()))
            time.sleep(1)
    finally:
        stop.set()
        for client in clients:
            client.join()
        lifecycle.activate(context, first)
    during = [
        seconds
        for asked, seconds in seen.answers
        if any(asked < end and asked + seconds > began for began, end in spans)
    ]
    took = [end - began for began, end in spans]
    print(f"{given.clients} clients, {len(seen.answers)} answers, {len(seen.errors)} errors")
    print(f"activation: median {np.median(took):.2f} s, longest {max(took):.2f} s (n {len(took)})")
    for what, times in (("before", quiet), ("while activating", during)):
        p50, p99, worst = np.percentile(times, [50, 99, 100]) * 1e3
        print(
            f"{what}: p50 {p50:.0f} ms, p99 {p99:.0f} ms, longest {worst:.0f} ms (n {len(times)})"
        )


def ask(context: Context, seen: Seen, stop: threading.Event) -> None:
    """Send requests to the active release, like a worker with a new run, until stopped."""
    picture = np.zeros((256, 256, 3), np.uint8)
    while not stop.is_set():
        name, digest = active_release(context.engine) or ("", "")
        with closing(TritonClient(context.settings.worker, name, digest)) as locator:
            for _ in range(20):
                began = time.monotonic()
                try:
                    locator.locate(picture)
                except GeotagError as error:
                    seen.errors.append(error)
                    break
                seen.answers.append((began, time.monotonic() - began))


if __name__ == "__main__":
    main()
