"""CloudWatch Logs: what functions logged, read as on AWS. Groups are moto's; only their events are ours.

One stream per group, `twin`. An event is one log record of an invocation, as its JSON line, or a failed invocation.
What would write or query beyond that is refused by name, as moto would answer from events that it does not have.
Sources: API reference of `FilterLogEvents`, `GetLogEvents`, `DescribeLogStreams`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from moto.logs.models import logs_backends

from ..errors import AwsError
from .lambda_ import LambdaModel
from .log_patterns import matcher
from .model import Answer, Model, operation

if TYPE_CHECKING:
    from ..cloud import Cloud

STREAM = "twin"
MOST = 10_000  # events of one answer, both operations
_REFUSED = frozenset({
    "PutLogEvents", "CreateLogStream", "DeleteLogStream", "StartQuery", "GetQueryResults", "DescribeQueries",
    "StartLiveTail", "GetLogRecord", "GetLogGroupFields", "PutSubscriptionFilter", "PutMetricFilter",
    "CreateExportTask",
})  # fmt: skip
_GROUP = ("logGroupName", "logGroupIdentifier")


@dataclass(frozen=True)
class LogEvent:
    """`at` unix milliseconds, `number` its place among all that functions said."""

    at: int
    number: int
    message: str
    record: dict[str, Any]

    def shown(self) -> dict[str, Any]:
        return {"timestamp": self.at, "message": self.message, "ingestionTime": self.at}


class LogsModel(Model):
    service = "logs"

    def __init__(self, cloud: Cloud, functions: LambdaModel) -> None:
        super().__init__(cloud)
        self._functions = functions

    def handles(self, operation: str) -> bool:
        return operation in self._operations or operation in _REFUSED

    @operation(
        *_GROUP, "logStreamNames", "logStreamNamePrefix", "startTime", "endTime", "filterPattern", "nextToken", "limit",
        "interleaved",
    )  # fmt: skip
    def filter_log_events(self, params: dict[str, Any], principal: str) -> Answer:
        group = self._group(params)
        streams, prefix = params.get("logStreamNames"), params.get("logStreamNamePrefix", "")
        if streams and prefix:
            raise _invalid("logStreamNames and logStreamNamePrefix cannot be used together")
        here = (not streams or STREAM in streams) and STREAM.startswith(prefix)
        start, end = params.get("startTime", 0), params.get("endTime")
        matches = matcher(params.get("filterPattern", ""))
        found = [
            event
            for event in (self._events(group) if here else [])
            if start <= event.at and (end is None or event.at <= end) and matches(event.message, event.record)
        ]
        first, most = _place(params.get("nextToken")), params.get("limit", MOST)
        shown = found[first : first + most]
        answer: Answer = {
            "events": [{"logStreamName": STREAM, **event.shown(), "eventId": _event_id(event)} for event in shown],
            "searchedLogStreams": [],  # "As of June 17, 2019, this parameter is no longer supported"
        }
        if first + len(shown) < len(found):
            answer["nextToken"] = f"f/{first + len(shown)}"
        return answer

    @operation(*_GROUP, "logStreamName", "startTime", "endTime", "nextToken", "limit", "startFromHead")
    def get_log_events(self, params: dict[str, Any], principal: str) -> Answer:
        group = self._group(params)
        start, end = params.get("startTime", 0), params.get("endTime", float("inf"))
        every = self._events(group)
        if params["logStreamName"] != STREAM or not every:
            raise AwsError("ResourceNotFoundException", "The specified log stream does not exist.")
        found = [event for event in every if start <= event.at < end]
        most, token = params.get("limit", MOST), params.get("nextToken")
        if token is None:
            first = 0 if params.get("startFromHead") else max(0, len(found) - most)
            last = first + most
        elif token.startswith("b/"):
            last = _place(token)
            first = max(0, last - most)
        else:
            first = _place(token)
            last = first + most
        shown = found[first:last]
        return {
            "events": [event.shown() for event in shown],
            "nextForwardToken": f"f/{first + len(shown)}",
            "nextBackwardToken": f"b/{first}",
        }

    @operation(*_GROUP, "logStreamNamePrefix", "orderBy", "descending", "nextToken", "limit")
    def describe_log_streams(self, params: dict[str, Any], principal: str) -> Answer:
        group = self._group(params)
        events = self._events(group)
        if not events or not STREAM.startswith(params.get("logStreamNamePrefix", "")):
            return {"logStreams": []}
        first, last = events[0].at, events[-1].at
        return {
            "logStreams": [
                {
                    "logStreamName": STREAM,
                    "creationTime": first,
                    "firstEventTimestamp": first,
                    "lastEventTimestamp": last,
                    "lastIngestionTime": last,
                    "arn": self.arn(f"log-group:{group}:log-stream:{STREAM}"),
                    "storedBytes": 0,  # "always zero" since June 17, 2019
                }
            ]
        }

    # -- inside -----------------------------------------------------------------------------------------------

    def _group(self, params: dict[str, Any]) -> str:
        """The name of the group that a call is about. Raises `AwsError` as AWS does when there is none."""
        named = [params[key] for key in _GROUP if key in params]
        if len(named) != 1:
            raise _invalid("Exactly one of logGroupName and logGroupIdentifier must be given")
        name = named[0].split(":log-group:")[-1].removesuffix(":*")
        if name not in self._groups:
            raise AwsError("ResourceNotFoundException", "The specified log group does not exist.")
        return name

    @property
    def _groups(self) -> dict[str, Any]:
        return logs_backends[self.cloud.account_id][self.cloud.region].groups

    def _events(self, group: str) -> list[LogEvent]:
        """What the functions that log to `group` said, oldest first, as long as the group keeps it."""
        functions, days = self._functions, self._groups[group].retention_in_days
        oldest = self.clock.now() - float(days) * 86_400 if days else 0.0
        said = [(each["at"], each["record"]) for each in functions.records if self._goes_to(group, each["function"])]
        failed = [
            (each["at"], _failure(each))
            for each in functions.failures
            if self._goes_to(group, each["function"]) and each["logged"]
        ]
        lines = sorted((line for line in (*said, *failed) if line[0] >= oldest), key=lambda line: line[0])
        return [LogEvent(int(at * 1000), i, json.dumps(record), record) for i, (at, record) in enumerate(lines)]

    def _goes_to(self, group: str, function: str) -> bool:
        return self._functions.log_group(function) == group


def _failure(failure: dict[str, Any]) -> dict[str, Any]:
    """A failed invocation as Lambda's JSON log format writes it."""
    return {
        "level": "ERROR",
        "requestId": failure["request_id"],
        "errorType": failure["type"],
        "errorMessage": failure["message"],
        "stackTrace": failure["trace"],
    }


def _event_id(event: LogEvent) -> str:
    return f"{event.at:026d}{event.number:030d}"


def _place(token: str | None) -> int:
    if token is None:
        return 0
    kind, _, number = token.partition("/")
    if kind not in ("f", "b") or not number.isdecimal():
        raise _invalid("The specified nextToken is invalid.")
    return int(number)


def _invalid(message: str) -> AwsError:
    return AwsError("InvalidParameterException", message)
