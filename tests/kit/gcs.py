"""Google Cloud Storage on loopback: the requests of its XML API that obstore's client makes.

It does what Google's reference of the XML API says (cloud.google.com/storage/docs/xml-api, read in November 2026):

- An object has a *generation*, greater than any before: `x-goog-generation`. `x-goog-if-generation-match` holds a PUT,
  a DELETE or a GET to it; 0 means that there must be no object; else the answer is 412. `If-Match` and `If-None-Match`
  are heeded where data is asked for, and by no PUT.
- The ETag of an object that was put at once is its MD5. That of one that was put in parts is not, and there is no MD5
  of it. Parts but for the last have 5 MiB or more. Completing an upload knows no conditions, and removes the upload:
  whoever completes it again is told that there is none.
- Listings are by names in the order of their bytes, at most 1000 a page, prefixes counted; what was put is there at
  once. They give no generation that the client reads.
- Requests without the bearer token are refused with 401. Objects are removed one by one.

Not here: several versions of an object, signed requests, copies, the metadata and the rights of objects; and the limit
of about one write a second to an object, which tests ask for as a fault.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import threading
import time
import uuid
from collections.abc import Iterable
from dataclasses import dataclass, field
from email.utils import formatdate
from typing import Any
from xml.etree import ElementTree
from xml.sax.saxutils import escape

from werkzeug.http import parse_etags, parse_range_header
from werkzeug.wrappers import Request, Response

from .s3 import SECRET, Environ, StoreServer

_SMALLEST_PART = 5 << 20
_NAMESPACE = "http://doc.s3.amazonaws.com/2006-03-01"
_MOST_KEYS = 1000


class GcsServer(StoreServer):
    """Google Cloud Storage, in a thread of this process."""

    authorization = f"Bearer {SECRET}"
    reset_path = "/-/reset"

    def __init__(self) -> None:
        super().__init__(Gcs(self.authorization, self.reset_path))
        self.environment = {"GOOGLE_BASE_URL": self.endpoint, "GOOGLE_BEARER_TOKEN": SECRET}


@dataclass(frozen=True, slots=True)
class _Object:
    data: bytes
    generation: int
    etag: str
    md5: bytes | None
    changed: float = field(default_factory=time.time)

    def headers(self) -> dict[str, str]:
        """Return what each answer says of it."""
        hashes = [] if self.md5 is None else [f"md5={base64.b64encode(self.md5).decode()}"]
        return {
            "ETag": self.etag,
            "Last-Modified": formatdate(self.changed, usegmt=True),
            "x-goog-generation": str(self.generation),
            "x-goog-metageneration": "1",
            "x-goog-stored-content-length": str(len(self.data)),
            **({"x-goog-hash": ",".join(hashes)} if hashes else {}),
        }


@dataclass(slots=True)
class _Upload:
    place: tuple[str, str]
    parts: dict[int, tuple[str, bytes]] = field(default_factory=dict)


class _Refusal(Exception):
    """A request that is refused."""

    def __init__(self, status: int, code: str) -> None:
        super().__init__(code)
        self.status = status
        self.code = code


class Gcs:
    """A WSGI application: buckets and objects in memory.

    Args:
        authorization: the header that requests must have.
        reset_path: a POST there removes everything.
    """

    def __init__(self, authorization: str, reset_path: str) -> None:
        self._authorization = authorization
        self._reset_path = reset_path
        self._lock = threading.Lock()
        self._buckets: dict[str, dict[str, _Object]] = {}
        self._uploads: dict[str, _Upload] = {}
        self._generation = 0

    def __call__(self, environ: Environ, start_response: Any) -> Iterable[bytes]:
        """Answer a request."""
        request = Request(environ)
        data = request.get_data()
        try:
            with self._lock:
                response = self._answer(request, data)
        except _Refusal as refusal:
            body = f"<?xml version='1.0' encoding='UTF-8'?><Error><Code>{refusal.code}</Code></Error>"
            response = Response(body, refusal.status, content_type="application/xml; charset=UTF-8")
        return response(environ, start_response)

    def _answer(self, request: Request, data: bytes) -> Response:
        if request.headers.get("Authorization") != self._authorization:
            raise _Refusal(401, "AuthenticationRequired")
        if request.path == self._reset_path:
            self._buckets.clear()
            self._uploads.clear()
            return Response()
        bucket, _, key = request.path.removeprefix("/").partition("/")
        if not key and request.method == "PUT":
            self._buckets.setdefault(bucket, {})
            return Response()
        if bucket not in self._buckets:
            raise _Refusal(404, "NoSuchBucket")
        objects = self._buckets[bucket]
        if not key:
            return _listing(objects, bucket, request.args)
        if "uploads" in request.args or "uploadId" in request.args:
            return self._of_upload(request, data, bucket, key)
        there = objects.get(key)
        if request.method == "PUT":
            _check_generation(request, there)
            md5 = hashlib.md5(data, usedforsecurity=False)
            put = objects[key] = _Object(data, self._new_generation(), f'"{md5.hexdigest()}"', md5.digest())
            return Response(headers=put.headers())
        if there is None or request.args.get("generation", str(there.generation)) != str(there.generation):
            raise _Refusal(404, "NoSuchKey")
        _check_generation(request, there)
        if request.method == "DELETE":
            del objects[key]
            return Response(status=204)
        if request.method not in {"GET", "HEAD"}:
            raise _Refusal(405, "MethodNotAllowed")
        return _reading(request, there)

    def _new_generation(self) -> int:
        self._generation = max(self._generation + 1, time.time_ns() // 1000)
        return self._generation

    def _of_upload(self, request: Request, data: bytes, bucket: str, key: str) -> Response:
        if request.method == "POST" and "uploads" in request.args:
            name = uuid.uuid4().hex
            self._uploads[name] = _Upload((bucket, key))
            return _xml("InitiateMultipartUploadResult", _tags(Bucket=bucket, Key=key, UploadId=name))
        name = request.args["uploadId"]
        upload = self._uploads.get(name)
        if upload is None or upload.place != (bucket, key):
            raise _Refusal(404, "NoSuchUpload")
        if request.method == "PUT":
            etag = f'"{hashlib.md5(data, usedforsecurity=False).hexdigest()}"'
            upload.parts[int(request.args["partNumber"])] = etag, data
            return Response(headers={"ETag": etag})
        if request.method == "DELETE":
            del self._uploads[name]
            return Response(status=204)
        if request.method != "POST":
            raise _Refusal(405, "MethodNotAllowed")
        whole = _put_together(upload, data)
        generation = self._new_generation()
        etag = f'"-{base64.b64encode(str(generation).encode()).decode()}"'
        put = self._buckets[bucket][key] = _Object(whole, generation, etag, None)
        del self._uploads[name]
        response = _xml("CompleteMultipartUploadResult", _tags(Bucket=bucket, Key=key, ETag=etag))
        response.headers["x-goog-generation"] = str(put.generation)
        return response


def _check_generation(request: Request, there: _Object | None) -> None:
    wanted = request.headers.get("x-goog-if-generation-match")
    if wanted is not None and int(wanted) != (0 if there is None else there.generation):
        raise _Refusal(412, "PreconditionFailed")


def _put_together(upload: _Upload, body: bytes) -> bytes:
    try:
        listed = ElementTree.fromstring(body).findall("{*}Part")
        wanted = [(int(part.findtext("{*}PartNumber", "")), part.findtext("{*}ETag", "")) for part in listed]
    except (ElementTree.ParseError, ValueError):
        raise _Refusal(400, "MalformedCompleteMultipartUploadRequest") from None
    numbers = [number for number, _ in wanted]
    if not numbers:
        raise _Refusal(400, "MalformedCompleteMultipartUploadRequest")
    if numbers != sorted(set(numbers)):
        raise _Refusal(400, "InvalidPartOrder")
    parts = []
    for number, etag in wanted:
        if number not in upload.parts or upload.parts[number][0].strip('"') != etag.strip('"'):
            raise _Refusal(400, "InvalidPart")
        parts.append(upload.parts[number][1])
    if any(len(part) < _SMALLEST_PART for part in parts[:-1]):
        raise _Refusal(400, "EntityTooSmall")
    return b"".join(parts)


def _reading(request: Request, there: _Object) -> Response:
    headers = request.headers
    if "If-Match" in headers and not parse_etags(headers["If-Match"]).contains_raw(there.etag):
        raise _Refusal(412, "PreconditionFailed")
    if "If-None-Match" in headers and parse_etags(headers["If-None-Match"]).contains_raw(there.etag):
        return Response(status=304, headers=there.headers())
    asked = parse_range_header(headers.get("Range"))
    if asked is None:
        return _data(there, there.data, 200, {})
    found = asked.range_for_length(len(there.data))
    if found is None:
        raise _Refusal(416, "InvalidRange")
    begin, end = found
    of_range = {"Content-Range": f"bytes {begin}-{end - 1}/{len(there.data)}"}
    return Response(
        there.data[begin:end], 206, {**there.headers(), **of_range}, content_type="application/octet-stream"
    )


def _data(there: _Object, data: bytes, status: int, more: dict[str, str]) -> Response:
    return Response(data, status, {**there.headers(), **more}, content_type="application/octet-stream")


def _listing(objects: dict[str, _Object], bucket: str, asked: Any) -> Response:
    """Return a page. A prefix that is shown is one entry, and the next page goes on behind all that it stands for."""
    prefix, delimiter = asked.get("prefix", ""), asked.get("delimiter", "")
    after, bound = asked.get("start-after", ""), int(asked.get("max-keys", _MOST_KEYS))
    if token := asked.get("continuation-token"):
        try:
            after = base64.urlsafe_b64decode(token).decode()
        except (binascii.Error, UnicodeDecodeError):
            raise _Refusal(400, "InvalidArgument") from None
    entries, last, following = list[str](), "", ""
    for key in sorted(objects, key=str.encode):
        if not key.startswith(prefix) or key.encode() <= after.encode():
            continue
        shared = _shared(key, prefix, delimiter)
        if shared and shared in {last, after}:
            continue
        if len(entries) == bound:
            following = base64.urlsafe_b64encode(last.encode()).decode()
            break
        last = shared or key
        entries.append(_tag("CommonPrefixes", _tags(Prefix=shared)) if shared else _contents(key, objects[key]))
    told = _tags(Name=bucket, Prefix=prefix, MaxKeys=bound, KeyCount=len(entries))
    told += _tags(IsTruncated="true" if following else "false")
    told += _tags(NextContinuationToken=following) if following else ""
    return _xml("ListBucketResult", told + "".join(entries))


def _shared(key: str, prefix: str, delimiter: str) -> str:
    if not delimiter:
        return ""
    before, found, _ = key[len(prefix) :].partition(delimiter)
    return prefix + before + delimiter if found else ""


def _contents(key: str, there: _Object) -> str:
    changed = (
        time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(there.changed)) + f".{int(there.changed * 1000) % 1000:03}Z"
    )
    told = _tags(Key=key, Generation=there.generation, MetaGeneration=1, LastModified=changed, ETag=there.etag)
    return _tag("Contents", told + _tags(Size=len(there.data)))


def _tags(**values: object) -> str:
    return "".join(_tag(name, escape(str(value))) for name, value in values.items())


def _tag(name: str, inner: str) -> str:
    return f"<{name}>{inner}</{name}>"


def _xml(name: str, inner: str) -> Response:
    text = f"<?xml version='1.0' encoding='UTF-8'?><{name} xmlns='{_NAMESPACE}'>{inner}</{name}>"
    return Response(text, content_type="application/xml; charset=UTF-8")
