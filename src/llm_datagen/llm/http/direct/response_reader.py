"""Reads the responses of one connection, one after the other: head and body, each up to a bound."""

from __future__ import annotations

from collections.abc import Callable

from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser
from multidict import CIMultiDict

from llm_datagen.llm.http.body import BoundedBody, DamagedBodyError
from llm_datagen.llm.http.network_errors import NoHttpError
from llm_datagen.llm.http.response import Response, longest_body

_INTERIM = range(100, 200)
"""Statuses of what is said before the response."""
_SWITCHING_PROTOCOLS = 101
_MAX_OVERHEAD_BYTES = 1 << 20
"""What of a response may come without a piece of its body: its head, for one, or what stands behind the body."""
_MAX_OVERHEAD = 16
"""How many times its length a piece of the body may take: a chunk of one byte takes six."""


class ResponseReader:
    """Makes a response of what comes on a connection. The methods with ``on_`` are called by its parser.

    Attributes:
        is_over: whether nothing more is read of the response: it is complete, or was cut.
        is_last: whether the connection is of no use after it.
    """

    def __init__(self) -> None:
        self.is_over = True
        self.is_last = False
        self._parser = HttpResponseParser(self)
        # What servers are known to send in spite of the standard, and what aiohttp lets pass as well.
        self._parser.set_dangerous_leniencies(
            lenient_headers=True, lenient_optional_cr_before_lf=True, lenient_spaces_after_chunk_size=True
        )
        self._most = 0
        self._begun: Callable[[int], None]
        self._status = 0
        self._headers: CIMultiDict[str]
        self._body: BoundedBody | None = None
        self._overhead = 0
        self._is_cut = False

    def begin(self, max_response_bytes: int, begun: Callable[[int], None]) -> None:
        """Begin to read the response to a request that is sent now.

        Args:
            max_response_bytes: the longest body of an answer, unpacked.
            begun: called with the status, before the body is read.
        """
        self.is_over = False
        self._most = max_response_bytes
        self._begun = begun
        self._headers = CIMultiDict()
        self._body = None
        self._overhead = 0

    def feed(self, data: bytes) -> None:
        """Take what came.

        Raises:
            NoHttpError: when it is no HTTP.
            DamagedBodyError: when the body cannot be unpacked.
        """
        self._overhead += len(data)
        try:
            self._parser.feed_data(data)
        except HttpParserUpgrade:
            self._end(is_last=True)
        except HttpParserError as error:
            self.is_last = True
            if self.is_over:  # it is about what is behind it
                return
            if isinstance(error.__context__, DamagedBodyError):  # of one of the methods below
                raise error.__context__ from None
            raise NoHttpError(f"what came is no HTTP: {error}") from error
        if not self.is_over and self._overhead > _MAX_OVERHEAD_BYTES:
            raise NoHttpError("more came than a response of this length may have")

    def end(self) -> bool:
        """Return whether the end of the connection is that of the response. Call it when that ends in good order."""
        if self._body is None or self._has_length():
            return False
        self._end(is_last=True)
        return True

    def response(self) -> Response:
        """Return it, once it is over. Its body is not kept."""
        body, self._body = self._body, None
        content = b"" if body is None else body.content()
        return Response(self._status, self._headers, content, self._is_cut)

    def on_message_begin(self) -> None:
        """Record that there is something behind this response."""
        if self.is_over:
            self.is_last = True

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header; not one that follows the body."""
        if self._body is None:
            self._headers.add(name.decode("utf-8", "surrogateescape"), value.decode("utf-8", "surrogateescape"))

    def on_headers_complete(self) -> None:
        """Begin to read the body, unless this is only what is said before the response."""
        if self.is_over:
            return
        self._status = status = self._parser.get_status_code()
        if status in _INTERIM and status != _SWITCHING_PROTOCOLS:
            self._headers.clear()
            return
        self._begun(status)
        self._body = BoundedBody(self._headers.get("Content-Encoding", ""), longest_body(status, self._most))

    def on_body(self, piece: bytes) -> None:
        """Take a piece of the body."""
        if self.is_over or self._body is None:
            return
        self._overhead = max(0, self._overhead - _MAX_OVERHEAD * len(piece))
        if self._body.add(piece):
            self._is_cut = True
            self._end(is_last=True)

    def on_message_complete(self) -> None:
        """End, unless that was only what is said before the response."""
        if self._body is not None and not self.is_over:
            self._end(is_last=not self._parser.should_keep_alive())

    def _end(self, *, is_last: bool) -> None:
        self.is_over = True
        self.is_last = self.is_last or is_last

    def _has_length(self) -> bool:
        """Return whether the response says itself where it ends."""
        codings = ", ".join(self._headers.getall("Transfer-Encoding", ())).lower()
        return codings.endswith("chunked") or "Content-Length" in self._headers
