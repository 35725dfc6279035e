"""The results of a run: a line, and the table in docs/attack.md."""

import collections
import dataclasses
import platform

from .finding import Check

HEAD = """\
# The service under attack

What fell when `vggt serve` was attacked in November 2026, what was seen then, and what the same attack shows now. This page is
written by `tools/checks/attack/run --all --table`; each attack is a function in `tools/checks/attack/`, and most findings have
tests in `tests/` as well. H: high, M: medium. [SECURITY.md](../SECURITY.md) has the model behind it.

| finding | attack | before | after | test |
|---|---|---|---|---|
"""


@dataclasses.dataclass(frozen=True)
class Result:
    check: Check
    outcome: str
    figures: str
    seconds: float


def cell(text):
    return text.replace("|", "\\|").replace("<", "&lt;")


def write(path, results):
    lines = []
    for result in results:
        check = result.check
        after = result.figures if result.outcome == "ok" else f"**{result.outcome}**: {result.figures}".removesuffix(": ")
        lines.append(f"| {check.finding} | {cell(check.title)} | {cell(check.before)} | {cell(after)} | `{check.name}` |\n")
    path.write_text(f"{HEAD}{''.join(lines)}\n{summary(results)} ({platform.machine()}, {platform.system()}).\n")


def line(result):
    check = result.check
    return f"{result.outcome:8} {check.finding:4} {check.title}: {result.figures} ({result.seconds:.1f} s)"


def summary(results):
    counts = collections.Counter(result.outcome for result in results)
    seconds = sum(result.seconds for result in results)
    told = ", ".join(f"{counts[outcome]} {outcome}" for outcome in ("ok", "FAILED", "left out"))
    return f"{len(results)} attacks in {seconds:.0f} s: {told}"
