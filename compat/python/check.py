"""Runs the checks of one client and says of each whether it holds."""

import sys
import time
import traceback

LIMIT = 30


def until(condition, what, limit=LIMIT):
    """Waits for what `condition` returns, if it is true."""
    end = time.monotonic() + limit
    while time.monotonic() < end:
        found = condition()
        if found:
            return found
    raise AssertionError(f"{what}: not within {limit} s")


def equal(found, expected):
    if found != expected:
        raise AssertionError(f"found {found!r}, expected {expected!r}")


def main(checks):
    """Calls each check with the address; prints one line for each, and ends with 1 if one failed."""
    bootstrap = sys.argv[1]
    failed = False
    for name, check in checks.items():
        try:
            check(bootstrap)
            print(f"ok {name}", flush=True)
        except Exception as error:
            failed = True
            reason = " ".join(str(error).split()) or type(error).__name__
            print(f"failed {name}: {reason}", flush=True)
            traceback.print_exc()
    sys.exit(1 if failed else 0)
