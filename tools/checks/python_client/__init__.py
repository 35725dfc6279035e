"""The parts of tools/checks/check_client.py."""

from steps import Failed, expect, step  # noqa: F401  (the parts take them from here)


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
