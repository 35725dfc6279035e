"""The parts of tools/checks/check_client.py."""

import contextlib
import sys


class Failed(Exception):
    """A step that did not do what it must; says what happened."""


def expect(condition, what):
    if not condition:
        raise Failed(what)


@contextlib.contextmanager
def step(name):
    try:
        yield
    except Exception as e:  # whatever the package raises in place of what it should
        sys.exit(f"FAILED  {name}\n{type(e).__name__}: {e}")
    print(f"ok      {name}", flush=True)


def raises(kind, call, *says, **fields):
    """Calls `call`, which must raise exactly `kind` with `says` in its text and `fields` as its attributes; gives it."""
    try:
        found = call()
    except Exception as e:
        expect(type(e) is kind, f"{type(e).__name__}: {e}; expected {kind.__name__}")
        for text in says:
            expect(text in str(e), f"{e}; expected {text!r}")
        expect(all(c.isprintable() for c in str(e)), f"control characters in {str(e)!r}")
        for name, value in fields.items():
            expect(getattr(e, name) == value, f"{name} is {getattr(e, name)!r}; expected {value!r}")
        return e
    raise Failed(f"{found!r} instead of {kind.__name__}")
