"""Asking a host for a file over HTTP, where the host may be slow, broken or hostile.

Whatever a host does ends: it must begin to send the file, and go on, at a least rate; redirects lead to http and https and
their bodies are not read. What it says is shown without control characters, and never a password that an address holds.
"""

import base64
import http.client
import io
import re
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from email.utils import parsedate_to_datetime
from functools import partial
from typing import Any, NamedTuple
from urllib.parse import unquote, urlsplit

from text2image.errors import printable

TIMEOUT_SECONDS = 30   # without a byte
STALL_SECONDS = 60     # with fewer than LEAST_BYTES of the file: headers and whatever else is no content count nothing
LEAST_BYTES = 60_000   # a kilobyte a second
BLOCK = 1 << 18
LONGEST_TEXT = 200     # characters of what a host says
USER_AGENT = "text2image/1.0"
SCHEMES = ("http", "https")
STRONG_ETAG = re.compile(r'"[\x21\x23-\x7e]{0,200}"')  # a weak one, W/"...", allows files that differ
DATE = re.compile(r"[\w,: +-]{1,40}", re.ASCII)
CONTENT_RANGE = re.compile(r"bytes (\d{1,18})-(\d{1,18})/(\d{1,18}|\*)", re.ASCII)


class Fault(Exception):
    """What a host did wrong, in words to show; `passing` says whether it may do better if it is asked again."""

    def __init__(self, words: str, passing: bool = True, status: int = 0, headers: Any = None):
        super().__init__(words)
        self.passing = passing
        self.status = status
        self.headers = {} if headers is None else headers


class Validator(NamedTuple):
    """By what a host tells a version of a file from others: one of its headers."""

    header: str
    value: str


class Address(NamedTuple):
    """Of a file below a base URL: the URL without the name and password that it may hold, and the header that these make."""

    url: str
    headers: dict[str, str]


def without_password(text: str) -> str:
    """A URL, or what is said of one, to be shown: no more of what stands before its last @ than http://."""
    hidden, at, rest = text.rpartition("@")
    scheme, mark, _ = hidden.partition("://")
    return f"{scheme + mark if mark else ''}...@{rest}" if at else text


def address(base: str, name: str) -> Address:
    """Of a file below a base URL. Raises Fault where that is none of http or https."""
    try:
        parts = urlsplit(f"{base.rstrip('/')}/{name}")
        user, at, host = parts.netloc.rpartition("@")
        if parts.scheme not in SCHEMES or not parts._replace(netloc=host).hostname or parts._replace(netloc=host).port == 0:
            raise ValueError
    except ValueError:  # its words may hold the password
        raise Fault("not a URL to fetch from: it must be http://host/... or https://host/..., and / ? # [ ] in a password are "
                    "written %2F %3F %23 %5B %5D", passing=False) from None
    login = base64.b64encode(unquote(user).encode()).decode("ascii")
    return Address(parts._replace(netloc=host).geturl(), {"Authorization": f"Basic {login}"} if at else {})


def validator(headers: Any) -> Validator | None:
    """What tells this version of a file for certain: a strong ETag, else a date of change well before that of the answer."""
    etag, modified = headers.get("ETag") or "", headers.get("Last-Modified") or ""
    if STRONG_ETAG.fullmatch(etag):
        return Validator("ETag", etag)
    try:
        age = parsedate_to_datetime(headers.get("Date") or "") - parsedate_to_datetime(modified)
    except (ValueError, TypeError, OverflowError):
        return None
    # Of a file that changes twice within a second both versions have one date.
    return Validator("Last-Modified", modified) if DATE.fullmatch(modified) and age > timedelta(seconds=1) else None


class Answer:
    """What a host answers to a request for a file; use it as a context. Raises Fault, at any step, for all that goes wrong."""

    def __init__(self, where: Address, headers: Mapping[str, str] | None = None, method: str = "GET"):
        self._watch = _Watch()
        request = urllib.request.Request(where.url, headers={"User-Agent": USER_AGENT} | dict(headers or {}), method=method)
        for key, value in where.headers.items():
            request.add_unredirected_header(key, value)  # it is not another host's to know
        with _faults():
            self._response = _opener(self._watch).open(request, timeout=TIMEOUT_SECONDS)
        self.status: int = self._response.status
        self.headers: Any = self._response.headers

    def __enter__(self) -> "Answer":
        return self

    def __exit__(self, *_: object) -> None:
        self._response.close()

    @property
    def length(self) -> int | None:
        """Bytes of content, where the host says so and it makes sense."""
        with _faults():
            length = int(self.headers.get("Content-Length") or 0)
        return length if length > 0 else None

    @property
    def range(self) -> tuple[int, int | None] | None:
        """The first byte of the part of the file that this is, and the size of the whole where that is given."""
        found = CONTENT_RANGE.fullmatch(self.headers.get("Content-Range") or "")
        return (int(found[1]), None if found[3] == "*" else int(found[3])) if found else None

    def read(self) -> bytes:
        """What there is, so that a host that stalls leaves it; nothing at the end."""
        with _faults():
            block = self._response.read1(BLOCK)
        self._watch.came(len(block))
        return block


class _Watch:
    """The time since LEAST_BYTES of the file came."""

    def __init__(self) -> None:
        self._since, self._bytes = time.monotonic(), 0

    def came(self, size: int) -> None:
        """So many bytes of the file came."""
        self._bytes += size
        if self._bytes >= LEAST_BYTES:
            self._since, self._bytes = time.monotonic(), 0

    def check(self) -> None:
        """Raise TimeoutError where the last of them came too long ago."""
        if time.monotonic() - self._since > STALL_SECONDS:
            raise TimeoutError(f"it stalls: less than {LEAST_BYTES:,} bytes of the file in {STALL_SECONDS:g} seconds")


class _Watched(io.RawIOBase):
    """A socket's bytes, under a watch: before each of them, be it of a header, of which there may be no end."""

    def __init__(self, raw: Any, watch: _Watch):
        self._raw = raw
        self._watch = watch

    def readable(self) -> bool:
        """It is."""
        return True

    def readinto(self, buffer: Any) -> int | None:
        """What there is, as RawIOBase has it."""
        self._watch.check()
        return self._raw.readinto(buffer)

    def close(self) -> None:
        """Let the socket go."""
        if not self.closed:
            self._raw.close()
        super().close()


class _Response(http.client.HTTPResponse):
    def __init__(self, watch: _Watch, *arguments: Any, **keywords: Any):
        super().__init__(*arguments, **keywords)
        self.fp: Any = io.BufferedReader(_Watched(self.fp.detach(), watch))


class _Watching(urllib.request.AbstractHTTPHandler):
    """Connections whose answers are under a watch, those of a proxy too."""

    def __init__(self, watch: _Watch):
        super().__init__()
        self._watch = watch

    def do_open(self, http_class: Any, req: urllib.request.Request, **arguments: Any) -> http.client.HTTPResponse:
        """As urllib does, over connections that make answers of ours."""
        def connect(*places: Any, **keywords: Any) -> http.client.HTTPConnection:
            connection = http_class(*places, **keywords)
            connection.response_class = partial(_Response, self._watch)
            return connection

        return super().do_open(connect, req, **arguments)


class _Http(_Watching, urllib.request.HTTPHandler):
    pass


class _Https(_Watching, urllib.request.HTTPSHandler):
    pass


class _Redirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, request: urllib.request.Request, response: Any, code: int, reason: str, headers: Any,
                         url: str) -> urllib.request.Request | None:
        """The request to follow with. What goes with it to another host tells that nothing of the user."""
        response.close()  # else it is read to its end, which may never come
        if urlsplit(url).scheme not in SCHEMES:
            raise urllib.error.HTTPError(url, code, f"{reason}, to {url}, which is neither http nor https", headers, response)
        new = super().redirect_request(request, response, code, reason, headers, url)
        if new and urlsplit(url)[:2] == urlsplit(request.full_url)[:2] and request.has_header("Authorization"):
            new.add_unredirected_header("Authorization", request.get_header("Authorization") or "")
        return new


def _opener(watch: _Watch) -> urllib.request.OpenerDirector:
    """For http and https alone: urllib's own opener knows ftp, files and data as well."""
    opener = urllib.request.OpenerDirector()
    for handler in (urllib.request.ProxyHandler(), urllib.request.UnknownHandler(), urllib.request.HTTPDefaultErrorHandler(),
                    urllib.request.HTTPErrorProcessor(), _Redirects(), _Http(watch), _Https(watch)):
        opener.add_handler(handler)
    return opener


@contextmanager
def _faults() -> Iterator[None]:
    """Whatever goes wrong as a Fault."""
    try:
        yield
    except urllib.error.HTTPError as error:
        error.close()
        passing = error.code in (408, 429) or error.code >= 500
        raise Fault(_words(f"HTTP {error.code} {error.reason}"), passing, error.code, error.headers) from error
    except (ValueError, http.client.InvalidURL) as error:
        raise Fault(_words(f"not a URL to fetch from, or no sense in its answer ({error})"), passing=False) from error
    except (OSError, http.client.HTTPException) as error:
        raise Fault(_words(f"unreachable ({getattr(error, 'reason', None) or error})")) from error


def _words(text: str) -> str:
    return printable(without_password(text), LONGEST_TEXT)
