"""The gateway's HTTP/1.1 parser beside llhttp (PyPI httptools), on the corpus of lib/h1_corpus.py and on
mutations of it: both read the same messages, or the gateway refuses. What llhttp refuses and the gateway
takes is listed in TAKEN with its reason. Each message also comes in two pieces, cut at every byte.

SLUICE_CORPUS_MUTATIONS (10000) is how many mutations are tried, SLUICE_CORPUS_SEED (1) makes others: the two
parsers' tastes differ in about one of 100,000, so that a seed of the day would fail now and then."""
import collections
import itertools
import json
import os
import pathlib
import re
import subprocess

import httptools
import pytest

from lib import h1_corpus as corpus
from lib.gateway import binary

DUMP = pathlib.Path(binary()).with_name("h1_dump")
MUTATIONS = int(os.environ.get("SLUICE_CORPUS_MUTATIONS", "10000"))


def ours(kind, messages, cuts="all"):
    """What tools/h1_dump.c says of each."""
    data = b"".join(b"%s %d %s\n%s" % (kind.encode(), len(m), cuts.encode(), m) for m in messages)
    out = subprocess.run([DUMP], input=data, capture_output=True, check=True, timeout=100).stdout
    results = [json.loads(line) for line in out.splitlines()]
    assert len(results) == len(messages)
    return results


class Theirs:
    """llhttp's events, as messages like those of h1_dump."""

    def __init__(self, kind, data):
        self.messages, self.error = [], None
        self.kind = kind
        self.parser = (httptools.HttpRequestParser if kind == "request" else httptools.HttpResponseParser)(self)
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self.error = UPGRADE
        except httptools.HttpParserError as e:
            self.error = str(e) or type(e).__name__

    def on_message_begin(self):
        self.now = {"target": "", "fields": [], "trailers": [], "body": "", "complete": False, "head": False}

    def on_url(self, url):
        self.now["target"] += url.decode("latin-1")

    def on_header(self, name, value):
        fields = self.now["trailers" if self.now["head"] else "fields"]
        fields.append([name.decode("latin-1").lower(), value.decode("latin-1").strip(" \t")])

    def on_headers_complete(self):
        self.now |= {"head": True, "minor": int(self.parser.get_http_version()[2:]),
                     "keep_alive": self.parser.should_keep_alive()}
        if self.kind == "request":
            self.now["method"] = self.parser.get_method().decode()
        else:
            self.now["status"] = self.parser.get_status_code()
        self.messages.append(self.now)

    def on_body(self, body):
        self.now["body"] += body.decode("latin-1")

    def on_message_complete(self):
        self.now["complete"] = True


def view(message):
    """What has to be the same."""
    keys = ("method", "target") if message.get("method") else ("status",)
    trailers = message.get("trailers", []) if message["complete"] else []  # the gateway reads them at once
    return {k: message[k] for k in (*keys, "minor", "fields", "body", "complete")} | {"trailers": trailers}


# What llhttp says of messages that the gateway takes, in their head or behind it: why it may, an example, and
# what has to be in a message for that to be the reason.
ANY_METHOD = "RFC 9110 section 9.1: a method is any token"
TARGET = "RFC 9112 section 3.2: not for the parser; proxy/request.c refuses what is neither a path nor a URL"
BLANKS = "RFC 9112 section 7.1.1: bad white space before and behind ; and = is parsed and ignored"
TRAILER = "RFC 9110 section 6.5.1: a trailer frames nothing; proxy/headers.c drops it"
BLANK_IN_EXTENSION = rb"[0-9a-fA-F]([ \t]*;|[^\r\n]*[;=\t ][\t ]|[^\r\n]*[\t ][;=])"
UPGRADE = "stops at an Upgrade"
TAKEN = {
    ("head", "Invalid method encountered"): (ANY_METHOD, corpus.get(line=b"X / HTTP/1.1"), b""),
    ("head", "Expected space after method"): (ANY_METHOD, corpus.get(line=b"GETS / HTTP/1.1"), b""),
    ("head", "Unexpected start char in url"): (TARGET, corpus.get(line=b"GET :/ HTTP/1.1"), b""),
    ("head", "Unexpected char in url schema"): (TARGET, corpus.get(line=b"GET a/b HTTP/1.1"), b""),
    ("head", "Unexpected char in url server"): (TARGET, corpus.get(line=b'GET http://" HTTP/1.1'), b""),
    ("head", "Invalid characters in url"): (TARGET, corpus.get(line=b"GET a HTTP/1.1"), b""),
    ("head", "Invalid character in Content-Length"): (
        "RFC 9110 section 5.6.3: white space around a value may be tabs",
        corpus.post(b"Content-Length: 3\t", body=b"abc"), rb"(?i)\ncontent-length:[ \t]*[0-9]+[ \t]*\t[ \t]*\r\n"),
    ("head", "Data after `Connection: close`"): (
        "RFC 9110 section 5.6.3, tabs again; and RFC 9112 appendix C.2.2: Proxy-Connection says nothing",
        corpus.get(b"Connection: keep-alive\t", line=b"GET / HTTP/1.0") + corpus.get(),
        rb"(?i)\nconnection:[ \t]*keep-alive[ \t]*\t[ \t]*\r\n|\nproxy-connection:"),
    ("body", "Request has invalid `Transfer-Encoding`"): (
        "RFC 9110 section 5.6.3: white space around a value may be tabs",
        corpus.post(b"Transfer-Encoding: chunked\t", body=b"0\r\n\r\n"), rb"(?i)\ntransfer-encoding:[ \t]*chunked[ \t]*\t"),
    ("body", "Content-Length can't be present with Transfer-Encoding"): (
        TRAILER, corpus.coded(b"abc", trailers=[("Content-Length", "3")]), b""),
    ("body", "Invalid `Transfer-Encoding` header value"): (
        TRAILER, corpus.coded(b"abc", trailers=[("Transfer-Encoding", "chunked")]), b""),
    ("body", "Invalid character in chunk size"): (BLANKS, corpus.raw_chunks(b"3 ;a\r\nabc\r\n0\r\n\r\n"), BLANK_IN_EXTENSION),
    ("body", "Invalid character in chunk extensions"): (
        BLANKS, corpus.raw_chunks(b"3; a\r\nabc\r\n0\r\n\r\n"), BLANK_IN_EXTENSION),
    ("body", "Invalid character in chunk extensions name"): (
        BLANKS, corpus.raw_chunks(b"3;a =b\r\nabc\r\n0\r\n\r\n"), BLANK_IN_EXTENSION),
    ("body", "Invalid character in chunk extensions value"): (
        BLANKS, corpus.raw_chunks(b"3;a= b\r\nabc\r\n0\r\n\r\n"), BLANK_IN_EXTENSION),
    ("body", "Invalid character in chunk extensions quote value"): (
        BLANKS, corpus.raw_chunks(b'3;a="b" ;c\r\nabc\r\n0\r\n\r\n'), BLANK_IN_EXTENSION),
    ("body", UPGRADE): (
        "RFC 9110 section 7.8: the protocol changes behind the request, and its body is part of it",
        corpus.sized(b"abc", b"Connection: upgrade", b"Upgrade: websocket"), rb"(?i)\nupgrade:"),
}


def taken(data, theirs, his):
    """Its key if TAKEN has what llhttp says here, which is when it stopped before the message's end."""
    key = "body" if his and his["head"] else "head", theirs.error
    if key not in TAKEN or (his and his["complete"] and theirs.error != UPGRADE):
        return None
    return key if re.search(TAKEN[key][2], data) else None


class Difference(Exception):
    """They read two things."""


def compare(data, mine, theirs):
    """None where both read the same or the gateway refuses; llhttp's words where only llhttp refuses and
    TAKEN says why that is right; else raises."""
    refused = mine["end"] == "error"
    if mine["split"] != -1:
        raise Difference(f"cut at {mine['split']} it is another message: {data!r}")
    for message, his in itertools.zip_longest(mine["messages"], theirs.messages):
        if refused and not (message and message["complete"]):
            return None  # the connection ends in an error, whatever llhttp sees
        if message is None:
            if mine["end"] in ("close", "upgrade"):
                return None  # the gateway reads no further
            raise Difference(f"llhttp sees one more, {his}, in {data!r}")
        if not his or view(message) != view(his):
            if key := taken(data, theirs, his):
                return key
            raise Difference(f"{message}, but llhttp (error: {theirs.error}) {his}, in {data!r}")
    return None


def compare_all(kind, messages, cuts="all"):
    """How often each of llhttp's refusals was not followed, and how many messages both have read."""
    results = ours(kind, messages, cuts)
    words = [compare(data, mine, Theirs(kind, data)) for data, mine in zip(messages, results)]
    both = sum(1 for mine, word in zip(results, words)
               if word is None and any(m["complete"] for m in mine["messages"]))
    return collections.Counter(w for w in words if w), both


CORPORA = {"request": (corpus.REQUESTS, corpus.BAD_REQUESTS), "response": (corpus.RESPONSES, corpus.BAD_RESPONSES)}


@pytest.mark.parametrize("kind", CORPORA)
def test_valid(kind):
    valid = CORPORA[kind][0]
    for name, result in zip(valid, ours(kind, list(valid.values()))):
        assert result["end"] != "error", (name, result)
    _, both = compare_all(kind, list(valid.values()))
    assert both > len(valid) * 0.7  # the others are cut off on purpose


@pytest.mark.parametrize("kind", CORPORA)
def test_malformed(kind):
    malformed = CORPORA[kind][1]
    for name, result in zip(malformed, ours(kind, list(malformed.values()))):
        assert result["end"] == "error" and result["split"] == -1, (name, result)
        assert result["status"] in (400, 431, 501, 505) and result["details"], (name, result)


@pytest.mark.parametrize("kind", CORPORA)
def test_mutations(kind):
    messages = corpus.mutations(CORPORA[kind], MUTATIONS, int(os.environ.get("SLUICE_CORPUS_SEED", "1")))
    _, both = compare_all(kind, messages, "some")
    assert both > MUTATIONS // 20


@pytest.mark.parametrize("where, words", TAKEN)
def test_what_only_llhttp_refuses(where, words):
    """Each line of TAKEN is needed: llhttp says just that of a message which the gateway takes."""
    reason, message, _ = TAKEN[where, words]
    assert compare_all("request", [message])[0] == {(where, words): 1}, reason
