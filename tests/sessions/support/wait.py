"""Waiting for what comes when it comes."""

import time

# Seconds between two looks.
STEP = 0.02


def until(what, look, seconds=30):
    """Waits until `look()` gives something true, and gives that. `what` says it in the message of a failure."""
    end = time.monotonic() + seconds
    while True:
        found = look()
        if found:
            return found
        if time.monotonic() > end:
            raise AssertionError(f"not within {seconds} s: {what}")
        time.sleep(STEP)
