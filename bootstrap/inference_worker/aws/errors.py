"""AWS says no in a dozen ways; the worker knows one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from botocore.exceptions import BotoCoreError, ClientError

from ..ports import UnavailableError


def code(problem: ClientError) -> str:
    return str(problem.response.get("Error", {}).get("Code", ""))


@contextmanager
def asking(what: str) -> Iterator[None]:
    """Turn every failure of an AWS call into UnavailableError that says what was asked."""
    try:
        yield
    except ClientError as problem:
        text = problem.response.get("Error", {}).get("Message", "")
        raise UnavailableError(f"{what}: {code(problem)}: {text}") from problem
    except BotoCoreError as problem:
        raise UnavailableError(f"{what}: {problem}") from problem
