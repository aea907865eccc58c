"""The two ways in which the twin says no."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class AwsError(Exception):
    """What AWS itself would answer: becomes a botocore `ClientError` at the caller.

    Args: `code` and `message` as AWS words them; `status` the HTTP status (>= 400); `modelled` the name of the error's
    shape where it differs from the code (SQS: botocore raises the class of the shape, `Error.Code` keeps the old code);
    `fields` whatever else the answer carries beside `Error` (`CancellationReasons`, ...).
    """

    def __init__(
        self,
        code: str,
        message: str,
        status: int = 400,
        *,
        modelled: str | None = None,
        fields: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message
        self.status = status
        self.modelled = modelled
        self.fields = dict(fields or {})


class NotModelledError(Exception):
    """The twin does not model this (operation, property, resource type), so it refuses by name instead of guessing."""
