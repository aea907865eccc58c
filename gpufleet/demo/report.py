"""What a walk says, step by step: to people line by line as it happens, or to programs as one JSON document."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TextIO


@dataclass(frozen=True)
class Check:
    """One promise, held against what was seen. `where`: which log or resource to look at when it is broken."""

    promise: str
    expected: str
    seen: str
    ok: bool
    where: str


@dataclass
class Step:
    """One step of the walk: its lines as they happened, its checks, its figures (for programs)."""

    number: int
    title: str
    lines: list[str] = field(default_factory=list)
    checks: list[Check] = field(default_factory=list)
    figures: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0  # of real time

    @property
    def ok(self) -> bool:
        return all(check.ok for check in self.checks)


class Report:
    """Collects the steps. `say` is called for every line as soon as it is known."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self.steps: list[Step] = []
        self._say = say

    def header(self, text: str) -> None:
        self._say(text)

    def begin(self, title: str) -> Step:
        step = Step(len(self.steps) + 1, title)
        self.steps.append(step)
        return step

    def line(self, step: Step, text: str) -> None:
        first = not step.lines
        step.lines.append(text)
        self._say(f"{step.number} {step.title:<14} {text}" if first else f"{'':<16} {text}")

    def end(self, step: Step, seconds: float) -> None:
        step.seconds = seconds
        if step.ok:
            self._say(f"{'':<16} ok  {seconds:.1f} s")
            return
        self._say(f"{'':<16} FAILED")
        for check in step.checks:
            if not check.ok:
                self._say(f"{'':<16} promise   {check.promise}")
                self._say(f"{'':<16} expected  {check.expected}")
                self._say(f"{'':<16} seen      {check.seen}")
                self._say(f"{'':<16} look at   {check.where}")

    def footer(self, text: str) -> None:
        self._say(text)

    @property
    def broken(self) -> list[Check]:
        return [check for step in self.steps for check in step.checks if not check.ok]

    def as_json(self, head: dict[str, Any]) -> str:
        steps = [
            {
                "step": step.number,
                "title": step.title,
                "ok": step.ok,
                "lines": step.lines,
                "figures": step.figures,
                "checks": [vars(check) for check in step.checks],
            }
            for step in self.steps
        ]
        return json.dumps({**head, "ok": not self.broken, "steps": steps}, indent=2)


def to_stream(stream: TextIO | None = None) -> Callable[[str], None]:
    """Lines to `stream` (standard output), coloured when it is a terminal, each one at once."""
    from rich.console import Console  # noqa: PLC0415 - quick, and only people need it
    from rich.text import Text  # noqa: PLC0415

    console = Console(file=stream or sys.stdout, highlight=False, soft_wrap=True)
    styles = {
        "ok ": "green",
        "FAILED": "bold red",
        "promise": "red",
        "expected": "red",
        "seen": "red",
        "look at": "red",
    }

    def say(line: str) -> None:
        text = Text(line)
        body = line.strip()
        for word, style in styles.items():
            if body.startswith(word) and line.startswith(" "):
                text.stylize(style)
        if line[:1].isdigit():
            text.stylize("bold", 0, 16)
        console.print(text)

    return say
