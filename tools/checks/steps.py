"""Steps of a check script: each prints a line; the first that fails ends the script with exit code 1."""

import contextlib
import sys
import time


class Failed(Exception):
    """A step that did not do what it must; says what happened."""


def expect(condition, what):
    if not condition:
        raise Failed(what)


@contextlib.contextmanager
def step(name):
    """Prints `ok`, the name and the seconds; of an exception its type unless it is `Failed`, its text, and what a process wrote."""
    start = time.monotonic()
    try:
        yield
    except Exception as e:  # including what the code under test raises instead of its own errors
        kind = "" if isinstance(e, Failed) else f"{type(e).__name__}: "
        said = getattr(e, "stderr", None) or ""
        sys.exit(f"FAILED  {name}\n{kind}{e}\n{said}".rstrip())
    print(f"ok      {name} ({time.monotonic() - start:.1f} s)", flush=True)
