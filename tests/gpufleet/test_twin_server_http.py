"""The endpoint below AWS's protocols: HTTP as other SDKs speak it, the control API, stopping and closing."""

from __future__ import annotations

import json
import socket
import zlib
from base64 import b64encode
from collections.abc import Callable, Iterator
from http.client import HTTPConnection, HTTPMessage, HTTPResponse
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twin_wire import over_the_wire

from gpufleet.twin.cloud import Cloud
from gpufleet.twin.errors import NotModelledError
from gpufleet.twin.server import protocol, routes
from gpufleet.twin.server.endpoint import MAX_BODY, Endpoint
from gpufleet.twin.server.messages import HttpRequest, unwrapped
from gpufleet.twin.server.protocol import FORM
from gpufleet.twin.world import World

START = 1_793_534_400.0


def signed(service: str) -> dict[str, str]:
    scope = f"Credential=TWINoperator/20261101/us-east-1/{service}/aws4_request"
    return {"Authorization": f"AWS4-HMAC-SHA256 {scope}, SignedHeaders=host, Signature=0"}


S3 = signed("s3")


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with Cloud(START) as cloud:
        cloud.client("s3").create_bucket(Bucket="files")
        yield World(cloud)


@pytest.fixture
def endpoint(world: World) -> Iterator[Endpoint]:
    with Endpoint(world) as endpoint:
        yield endpoint


@pytest.fixture
def connection(endpoint: Endpoint) -> Iterator[HTTPConnection]:
    connection = HTTPConnection("127.0.0.1", int(endpoint.url.rsplit(":", 1)[1]))
    yield connection
    connection.close()


@pytest.fixture
def send(endpoint: Endpoint, connection: HTTPConnection) -> Callable[..., tuple[HTTPResponse, bytes]]:
    """One request on the connection that stays open; answers (response, body)."""

    def act(method: str, path: str, body: Any, headers: dict[str, str], **more: Any) -> tuple[HTTPResponse, bytes]:
        connection.request(method, path, body, headers, **more)
        response = connection.getresponse()
        return response, response.read()

    return lambda method, path, body=None, headers=None, **more: over_the_wire(
        endpoint, lambda: act(method, path, body, headers or {}, **more)
    )


# -- HTTP -------------------------------------------------------------------------------------------------------------


def in_chunks(*pieces: bytes) -> bytes:
    """A body as SDKs stream it to S3: signed chunks, then a trailer with the checksum."""
    whole = b"".join(pieces)
    crc = b64encode(zlib.crc32(whole).to_bytes(4, "big")).decode()
    chunks = b"".join(b"%x;chunk-signature=0\r\n%s\r\n" % (len(piece), piece) for piece in pieces if piece)
    return chunks + f"0\r\nx-amz-checksum-crc32:{crc}\r\nx-amz-trailer-signature:0\r\n\r\n".encode()


def test_an_upload_in_chunks_with_a_checksum_behind_it(send: Callable[..., Any], world: World) -> None:
    streamed = {"X-Amz-Content-Sha256": "STREAMING-UNSIGNED-PAYLOAD-TRAILER", "X-Amz-Trailer": "x-amz-checksum-crc32"}
    headers = {**S3, **streamed, "Content-Encoding": "aws-chunked, gzip", "X-Amz-Decoded-Content-Length": "8"}
    assert send("PUT", "/files/streamed", in_chunks(b"one", b"\r\ntwo"), headers)[0].status == 200
    got = world.cloud.client("s3").get_object(Bucket="files", Key="streamed")
    assert (got["Body"].read(), got["ContentEncoding"]) == (b"one\r\ntwo", "gzip")


@given(st.lists(st.binary(max_size=50)))
def test_what_was_chunked_is_what_is_stored(pieces: list[bytes]) -> None:
    headers = HTTPMessage()
    headers["Content-Encoding"] = "aws-chunked"
    assert unwrapped(headers, in_chunks(*pieces)) == b"".join(pieces)
    assert "Content-Encoding" not in headers
    assert "x-amz-checksum-crc32" in headers


def test_a_request_in_transfer_chunks(send: Callable[..., Any], world: World) -> None:
    pieces = iter([b"one", b"two"])
    headers = {**S3, "Transfer-Encoding": "chunked"}
    assert send("PUT", "/files/pieces", pieces, headers, encode_chunked=True)[0].status == 200
    assert world.cloud.client("s3").get_object(Bucket="files", Key="pieces")["Body"].read() == b"onetwo"


def test_a_client_that_waits_for_a_go_ahead_gets_it(endpoint: Endpoint, world: World) -> None:
    def act() -> bytes:
        with socket.create_connection(("127.0.0.1", int(endpoint.url.rsplit(":", 1)[1]))) as client:
            head = f"PUT /files/expected HTTP/1.1\r\nHost: x\r\nAuthorization: {S3['Authorization']}\r\n"
            client.sendall(f"{head}Content-Length: 2\r\nExpect: 100-continue\r\n\r\n".encode())
            go_ahead = client.recv(1000)
            client.sendall(b"hi")
            return go_ahead + client.recv(1000)

    answer = over_the_wire(endpoint, act)
    assert answer.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK")


def test_one_connection_serves_many_requests(send: Callable[..., Any], connection: HTTPConnection) -> None:
    send("GET", "/_twin/health")
    first = connection.sock
    for _ in range(3):
        assert send("HEAD", "/files/none", None, S3)[0].status == 404
        assert send("DELETE", "/files/none", None, S3)[0].status == 204
        assert send("GET", "/_twin/now")[0].status == 200
    assert connection.sock is first


@pytest.mark.parametrize(
    ("headers", "status"),
    [({"Content-Length": str(MAX_BODY + 1)}, 413), ({"Content-Length": "many"}, 400)],
)
def test_a_body_that_cannot_be_taken_is_refused_unread(
    send: Callable[..., Any], headers: dict[str, str], status: int
) -> None:
    assert send("PUT", "/files/huge", None, {**S3, **headers})[0].status == status


def test_a_broken_upload_is_refused(send: Callable[..., Any]) -> None:
    response, text = send("PUT", "/files/k", b"5\r\nab", {**S3, "Content-Encoding": "aws-chunked"})
    assert response.status == 400
    assert b"an upload in chunks is cut off after 0 bytes" in text


def test_a_protocol_that_a_service_does_not_offer_is_refused_by_name(send: Callable[..., Any]) -> None:
    form = {**signed("sqs"), "Content-Type": FORM}
    response, text = send("POST", "/", b"Action=ListQueues&Version=2012-11-05", form)
    assert (response.status, b"speaks json with sqs, not query" in text) == (501, True)


@pytest.mark.parametrize(
    ("service", "action", "found"),
    [
        ("cloudwatch", b"Action=DescribeAlarms", b"<DescribeAlarmsResult"),  # as older clients still ask
        ("sns", b"Action=ListTopics", b"<ListTopicsResult"),
        ("ec2", b"Action=DescribeInstances", b"<reservationSet"),
    ],
)
def test_the_query_protocol(send: Callable[..., Any], service: str, action: bytes, found: bytes) -> None:
    form = {**signed({"cloudwatch": "monitoring"}.get(service, service)), "Content-Type": FORM}
    assert found in send("POST", "/", action, form)[1]
    if service != "cloudwatch":
        assert found in send("GET", f"/?{action.decode()}", None, signed(service))[1]


def test_a_body_that_is_not_what_it_says_is_refused(send: Callable[..., Any]) -> None:
    json_1_1 = {"X-Amz-Target": "AWSEvents.ListRules", "Content-Type": "application/x-amz-json-1.1"}
    response, text = send("POST", "/", b"no gzip", {**signed("events"), **json_1_1, "Content-Encoding": "gzip"})
    assert (response.status, b"SerializationException" in text) == (400, True)


def test_an_unsigned_request_hears_what_is_missing(send: Callable[..., Any]) -> None:
    response, text = send("GET", "/")
    assert response.status == 403
    assert b"MissingAuthenticationToken" in text
    assert b"gpufleet twin env" in text


def test_cbor_is_refused_by_name(send: Callable[..., Any]) -> None:
    headers = {**signed("monitoring"), "Smithy-Protocol": "rpc-v2-cbor"}
    response, text = send("POST", "/service/GraniteServiceVersion20100801/operation/ListMetrics", b"\xa0", headers)
    assert response.status == 501
    assert b"does not speak CBOR" in text


@pytest.mark.parametrize(
    ("service", "headers", "body", "code"),
    [
        ("sqs", {"X-Amz-Target": "AmazonSQS.Nonsense", "Content-Type": "application/x-amz-json-1.0"}, b"{}",
         b"UnknownOperationException"),
        ("iam", {"Content-Type": FORM}, b"Action=Nonsense&Version=2010-05-08",
         b"InvalidAction"),
        ("lambda", {}, b"", b"InvalidAction"),
    ],
)  # fmt: skip
def test_an_unknown_operation_is_refused(
    send: Callable[..., Any], service: str, headers: dict[str, str], body: bytes, code: bytes
) -> None:
    response, text = send("POST", "/nonsense", body, {**signed(service), **headers})
    assert response.status == 400
    assert code in text + str(response.headers).encode()


@pytest.mark.parametrize(
    ("service", "line", "headers", "operation"),
    [
        ("s3", "GET /", {}, "ListBuckets"),
        ("s3", "PUT /b", {}, "CreateBucket"),
        ("s3", "GET /b/", {}, "ListObjects"),
        ("s3", "GET /b?list-type=2&prefix=a%2Fb", {}, "ListObjectsV2"),
        ("s3", "GET /b?versions", {}, "ListObjectVersions"),
        ("s3", "GET /b?policy", {}, "GetBucketPolicy"),
        ("s3", "PUT /b?lifecycle", {}, "PutBucketLifecycleConfiguration"),
        ("s3", "PUT /b?versioning", {}, "PutBucketVersioning"),
        ("s3", "PUT /b?encryption", {}, "PutBucketEncryption"),
        ("s3", "PUT /b?publicAccessBlock", {}, "PutPublicAccessBlock"),
        ("s3", "DELETE /b?ownershipControls", {}, "DeleteBucketOwnershipControls"),
        ("s3", "POST /b?delete", {}, "DeleteObjects"),
        ("s3", "PUT /b/k/l", {}, "PutObject"),
        ("s3", "PUT /b/k?tagging", {}, "PutObjectTagging"),
        ("s3", "PUT /b/k?partNumber=1&uploadId=x", {}, "UploadPart"),
        ("s3", "PUT /b/k?partNumber=1&uploadId=x", {"x-amz-copy-source": "b/l"}, "UploadPartCopy"),
        ("s3", "PUT /b/k", {"x-amz-copy-source": "b/l"}, "CopyObject"),
        ("s3", "POST /b/k?uploads", {}, "CreateMultipartUpload"),
        ("s3", "POST /b/k?uploadId=x", {}, "CompleteMultipartUpload"),
        ("s3", "DELETE /b/k?uploadId=x", {}, "AbortMultipartUpload"),
        ("s3", "GET /b/k?uploadId=x", {}, "ListParts"),
        ("s3", "HEAD /b/k", {}, "HeadObject"),
        ("lambda", "POST /2015-03-31/functions", {}, "CreateFunction"),
        ("lambda", "GET /2015-03-31/functions/", {}, "ListFunctions"),
        ("lambda", "POST /2015-03-31/functions/f/invocations", {}, "Invoke"),
        ("lambda", "GET /2017-03-31/tags/arn%3Aaws%3Alambda%3Aus-east-1%3A1%3Afunction%3Af", {}, "ListTags"),
        ("lambda", "PUT /2017-10-31/functions/f/concurrency", {}, "PutFunctionConcurrency"),
    ],
)  # fmt: skip
def test_which_operation_a_path_means(service: str, line: str, headers: dict[str, str], operation: str) -> None:
    method, _, target = line.partition(" ")
    path, _, query = target.partition("?")
    message = HTTPMessage()
    for name, value in headers.items():
        message[name] = value
    found = routes.find(protocol.service_model(service), HttpRequest(method, path, query, message))
    assert found is not None
    assert found[0].name == operation


# -- the control API --------------------------------------------------------------------------------------------------


def test_status_says_what_there_is(send: Callable[..., Any], world: World) -> None:
    sqs = world.cloud.client("sqs")
    url = sqs.create_queue(QueueName="jobs")["QueueUrl"]
    for delay in (0, 0, 60):
        sqs.send_message(QueueUrl=url, MessageBody="b", DelaySeconds=delay)
    sqs.receive_message(QueueUrl=url)
    response, body = send("GET", "/_twin/status")
    assert response.status == 200
    assert json.loads(body) == {
        "now": world.now(), "region": "us-east-1", "accountId": "123456789012",
        "queues": {"jobs": {"visible": 1, "inFlight": 1, "delayed": 1}},
        "groups": {}, "functions": {}, "spentUsd": 0, "failures": 0,
    }  # fmt: skip


def test_time_passes_when_it_is_told_to(send: Callable[..., Any], world: World) -> None:
    before, heard = world.now(), []
    world.clock.after(30, heard.append, "rang")
    response, body = send("POST", "/_twin/advance", json.dumps({"seconds": 60}))
    assert (response.status, json.loads(body)["now"]) == (200, before + 60)
    assert heard == ["rang"]


@pytest.mark.parametrize(
    "body", ["", "{}", '{"seconds": "60"}', '{"seconds": -1}', '{"seconds": true}', "[1]", '{"seconds": Infinity}']
)
def test_time_does_not_pass_by_mistake(send: Callable[..., Any], world: World, body: str) -> None:
    before = world.now()
    response, text = send("POST", "/_twin/advance", body)
    assert response.status == 400
    assert json.loads(text)["error"] == 'POST /_twin/advance takes {"seconds": <number from 0 on>}'
    assert world.now() == before


def test_a_gap_met_while_time_passes_reaches_whoever_let_it_pass(
    send: Callable[..., Any], world: World, caplog: pytest.LogCaptureFixture
) -> None:
    def gap() -> None:
        raise NotModelledError("the twin does not model the moon")

    world.clock.after(10, gap)
    response, text = send("POST", "/_twin/advance", '{"seconds": 60}')
    assert (response.status, json.loads(text)) == (500, {"error": "NotModelledError: the twin does not model the moon"})
    assert "the moon" in caplog.text
    assert send("GET", "/_twin/now")[0].status == 200


def test_what_the_control_api_does_not_know_it_lists(send: Callable[..., Any]) -> None:
    response, text = send("GET", "/_twin/nonsense")
    assert response.status == 404
    assert b"POST advance" in text
    assert send("GET", "/_twin/advance")[0].status == 404


def test_health_answers_while_nobody_serves(endpoint: Endpoint, connection: HTTPConnection) -> None:
    connection.request("GET", "/_twin/health")
    assert json.load(connection.getresponse()) == {"ok": True}


# -- the end ----------------------------------------------------------------------------------------------------------


def test_stop_ends_serving_and_is_answered(send: Callable[..., Any], endpoint: Endpoint) -> None:
    connection = HTTPConnection("127.0.0.1", int(endpoint.url.rsplit(":", 1)[1]))
    connection.request("POST", "/_twin/stop")
    endpoint.serve()  # returns
    assert json.load(connection.getresponse()) == {"stopped": True}
    connection.close()
    assert send("GET", "/_twin/now")[0].status == 200  # and may begin again


def test_closing_frees_the_port_and_answers_who_still_waits(world: World) -> None:
    endpoint = Endpoint(world)
    port = int(endpoint.url.rsplit(":", 1)[1])
    waiting = HTTPConnection("127.0.0.1", port)
    waiting.request("GET", "/_twin/status")
    while endpoint._waiting.empty():
        pass
    endpoint.close()
    endpoint.close()
    assert waiting.getresponse().status == 503
    waiting.close()
    with Endpoint(world, port) as again:
        assert again.url == f"http://127.0.0.1:{port}"
