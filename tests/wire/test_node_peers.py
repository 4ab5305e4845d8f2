"""What this floor says, an independent implementation reads, and the other way round.

The counterpart is `tests/interop/peer` in Node.js, written from the same contract. One process answers
all questions: one JSON object a line.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from verser2_guest_python.wire.broker_request import BrokerRequest, encode_broker_request
from verser2_guest_python.wire.domains import normalize_domain
from verser2_guest_python.wire.envelopes import (
    EnvelopeParser,
    RequestHead,
    encode_error,
    encode_request,
    encode_response,
)
from verser2_guest_python.wire.headers import request_fields
from verser2_guest_python.wire.vws import (
    Accept,
    Binary,
    Close,
    Message,
    Open,
    Ping,
    Text,
    VwsViolation,
    decode,
    encode,
)

pytestmark = pytest.mark.interop

PEER = Path(__file__).resolve().parents[1] / "interop" / "peer"
SCRIPT = """
import { createInterface } from 'node:readline';
const { EnvelopeDecoder, asciiJson, encodeEnvelope, encodeLine, normalizeDomain, splitHeaders } =
  await import(process.argv[1] + '/wire.mjs');
const { decodeMessage } = await import(process.argv[1] + '/vws.mjs');
const actions = {
  decode: ({ hex }) => {
    const { type, metadata, rest } = new EnvelopeDecoder().push(Buffer.from(hex, 'hex'));
    return { type, metadata, rest: rest.toString('hex') };
  },
  encode: ({ type, metadata }) => encodeEnvelope(type, metadata).toString('hex'),
  message: ({ hex }) => decodeMessage(Buffer.from(hex, 'hex')),
  line: ({ value }) => Buffer.from(encodeLine(value)).toString('hex'),
  ascii: ({ value }) => asciiJson(value),
  split: ({ headers }) => splitHeaders(headers).kept,
  domain: ({ authority }) => normalizeDomain(authority),
};
for await (const line of createInterface({ input: process.stdin })) {
  const question = JSON.parse(line);
  let answer;
  try {
    answer = { value: actions[question.do](question) };
  } catch (error) {
    answer = { error: error.message };
  }
  console.log(JSON.stringify(answer));
}
"""

HEADERS = {"host": "a.local.test", "x": "caf\u00e9 \u00ff", "cookie": 'a="1"; b=\\', "tab": "a\tb"}


def ask(*questions: dict[str, Any]) -> list[Any]:
    """The answers of one Node process; an error is answered as `{"error": …}`."""
    done = subprocess.run(
        ["node", "--input-type=module", "-e", SCRIPT, str(PEER)],
        input="".join(json.dumps(question) + "\n" for question in questions),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.split("\n") if line]


def test_6_node_reads_our_envelopes() -> None:
    request = encode_request(RequestHead("b-1", "b", "g", "POST", "/a?q=%20", HEADERS, "a.local.test", 5_000))
    response = encode_response("b-1", 404, {**HEADERS, "set-cookie": ["x=1", "y=2"]})
    error = encode_error("b-1", "local-handler-failure", "boom \u20ac \x1b", {"a": 1, "b": True})
    answers = ask(*[{"do": "decode", "hex": (head + b"body").hex()} for head in (request, response, error)])
    assert [answer["value"] for answer in answers] == [
        {
            "type": 1,
            "rest": b"body".hex(),
            "metadata": {
                "requestId": "b-1",
                "sourceId": "b",
                "targetId": "g",
                "method": "POST",
                "path": "/a?q=%20",
                "headers": HEADERS,
                "routeDomain": "a.local.test",
                "timeoutMs": 5_000,
            },
        },
        {
            "type": 2,
            "rest": b"body".hex(),
            "metadata": {
                "requestId": "b-1",
                "statusCode": 404,
                "headers": {**HEADERS, "set-cookie": ["x=1", "y=2"]},
            },
        },
        {
            "type": 3,
            "rest": b"body".hex(),
            "metadata": {
                "requestId": "b-1",
                "code": "local-handler-failure",
                "message": "boom \u20ac \x1b",
                "context": {"a": 1, "b": True},
            },
        },
    ]


def test_6_we_read_nodes_envelopes() -> None:
    metadata = {
        "requestId": "b-1",
        "sourceId": "b",
        "targetId": "g",
        "method": "GET",
        "path": "/",
        "headers": HEADERS,
    }
    (answer,) = ask({"do": "encode", "type": 1, "metadata": metadata})
    head = EnvelopeParser().feed(bytes.fromhex(answer["value"]))
    assert isinstance(head, RequestHead)
    assert head == RequestHead("b-1", "b", "g", "GET", "/", HEADERS)
    assert dict(request_fields(head.headers))[b"x"] == b"caf\xe9 \xff"


def test_7_our_headers_on_the_broker_s_way_are_node_s() -> None:
    (answer,) = ask({"do": "ascii", "value": HEADERS})
    request = BrokerRequest("r", "b", "g", None, "GET", "/", HEADERS)
    assert dict(encode_broker_request(request))[b"x-verser-headers"].decode("ascii") == answer["value"]


def test_6_headers_are_stripped_alike() -> None:
    given = {"Connection": "close, X-One", "x-one": "1", "X-Two": "2", "TE": "trailers", "upgrade": "h2c"}
    (answer,) = ask({"do": "split", "headers": given})
    assert {name.decode(): value.decode() for name, value in request_fields(given)} == answer["value"]


def test_7_domains_are_compared_alike() -> None:
    authorities = ["A.Local.Test.", "a.test:80", "[::1]:80", "localhost", "a.test", "A.TEST:8443"]
    answers = ask(*[{"do": "domain", "authority": authority} for authority in authorities])
    assert [answer["value"] for answer in answers] == [
        normalize_domain(authority) for authority in authorities
    ]


def test_11_websocket_lines_are_read_both_ways() -> None:
    messages: list[Message] = [
        Open("a.local.test", "/room?x=1", "chat.v1"),
        Accept("chat.v1"),
        Text('h\u00e9 "\\ \u2028 😀'),
        Binary(bytes(range(256))),
        Ping("n"),
        Close(1000, "done"),
    ]
    read = ask(*[{"do": "message", "hex": encode(message).hex()} for message in messages])
    lines = ask(*[{"do": "line", "value": answer["value"]} for answer in read])
    assert [decode(bytes.fromhex(answer["value"]).rstrip()) for answer in lines] == messages


def test_11_wrong_websocket_lines_are_refused_alike() -> None:
    lines = [
        b'{"type":"text","data":null}',
        b'{"type":"binary","data":"AB=="}',
        b'{"type":"close","code":1005}',
        b'{"type":"ping","data":5}',
        b'{"type":"open"}',
        b'{"type":"hello"}',
        b'{"type":"text","data":"\xff"}',
    ]
    for line, answer in zip(
        lines, ask(*[{"do": "message", "hex": line.hex()} for line in lines]), strict=True
    ):
        assert "error" in answer, line
        with pytest.raises(VwsViolation):
            decode(line)
