"""The two ways in which the twin says no."""

from __future__ import annotations


class AwsError(Exception):
    """What AWS itself would answer: becomes a botocore `ClientError` at the caller.

    Args: `code` and `message` as AWS words them; `status` the HTTP status (>= 400).
    """

    def __init__(self, code: str, message: str, status: int = 400) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message
        self.status = status


class NotModelledError(Exception):
    """The twin does not model this (operation, property, resource type), so it refuses by name instead of guessing."""
