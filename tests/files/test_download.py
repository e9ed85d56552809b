"""Fetching from hosts that fail in every way."""

import base64
import errno
import hashlib
import http.server
import json
import os
import shutil
import socket
import threading
from email.utils import formatdate
from pathlib import Path

import pytest

from text2image.errors import UserError
from text2image.files import atomic, download, hosts, partial
from text2image.files.download import Expected

CONTENT = b"captioned pictures " * 50_000
OTHER = b"the second version " * 50_000
HALF = len(CONTENT) // 2
LARGEST = 10**16
LENGTHS = {"short": str(len(CONTENT) - 100), "many": "many", "endless": str(10**15), "negative": "-5"}  # that hosts claim


# Headers of the first half, of what comes then, and whether that is of OTHER.
ONE, TWO, OLD, NEW = 'ETag: "one"', 'ETag: "two"', "Last-Modified: Mon, 03 Jan 2000 00:00:00 GMT", "Last-Modified: {now}"
VERSIONS = {
    "changes": (ONE, TWO, True), "untells": (ONE, "", True), "resized": (ONE, ONE, False), "newer": (OLD, NEW, True),
    "both": (f"{ONE}\n{OLD}", f"{TWO}\n{OLD}", True), "same": (ONE, ONE, False), "dated": (OLD, OLD, False),
    "untold": ("", "", True), "weak": (f"ETag: W/{ONE[6:]}", f"ETag: W/{ONE[6:]}", True), "moment": (NEW, NEW, True),
    "folded": ('ETag: "o\tne"', 'ETag: "o\tne"', True), "undated": ("Last-Modified: once", "Last-Modified: once", True)}
OK = b"HTTP/1.1 200 OK\r\n"
SLOW = {
    "drips": (OK + b"\r\n", b"x", 0.01), "headers": (b"", b"H", 0.01), "continues": (b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 99, 0),
    "trailers": (OK + b"Transfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n", b"Trailer: of many\r\n" * 99, 0),
    "extensions": (OK + b"Transfer-Encoding: chunked\r\n\r\n", b"1;" + b"e" * 9999 + b"\r\nx\r\n", 0.01)}
REDIRECTS = {
    "flood": "/good/folder/file.bin", "elsewhere": "http://localhost:{port}/good/folder/file.bin", "ftp": "ftp://127.0.0.1/x",
    "file": "file:///etc/passwd", "data": "data:text/plain,x", "here": "/secret/x"}


class Host(http.server.ThreadingHTTPServer):
    """A file host whose manners are the path's first part; `asked` lists what it was asked for, with any range."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Answer)
        self.asked: list[str] = []
        self.logins: list[str | None] = []
        self.closing = threading.Event()  # what stalls does so until the test is over, however slow the machine

    def base(self, manners: str) -> str:
        return f"http://127.0.0.1:{self.server_port}/{manners}"

    def handle_error(self, *_) -> None:
        pass  # a client that goes away in the middle is part of the game


class Answer(http.server.BaseHTTPRequestHandler):
    def do_HEAD(self) -> None:
        self.send_response(200 if self.path.startswith("/vast") else 405)
        self.send_header("Content-Length", str(10**15))
        self.end_headers()

    def do_GET(self) -> None:
        manners = self.path.split("/")[1]
        self.server.logins.append(self.headers.get("Authorization"))
        first = manners not in (asked.split()[0] for asked in self.server.asked)
        self.server.asked.append(" ".join([manners, self.headers.get("Range", "")]).strip())
        if manners.isdigit():
            self.send_error(int(manners))
        elif manners in VERSIONS:
            self.version(manners, first)
        elif manners in SLOW:
            self.slow(manners)
        elif manners in REDIRECTS:
            self.redirect(REDIRECTS[manners].format(port=self.server.server_port), flood=manners == "flood")
        elif manners == "large":  # it says so
            self.body(CONTENT, length=10**9)
        elif manners == "stream":  # it does not, and has no end
            self.send_response(200)
            self.end_headers()
            while not self.server.closing.is_set():
                self.wfile.write(CONTENT)
        elif manners == "rude":
            self.wfile.write(b"HTTP/1.0 404 \x1b[2Jgone\x07\x9b " + b"so " * 10_000 + b"\r\n\r\n")
        elif manners == "secret":
            self.send_error(404 if self.headers.get("Authorization") else 401)
        elif manners == "once503" and first:
            self.send_error(503)
        elif manners == "reset":
            self.connection.close()
        elif manners == "stalls":
            self.body(CONTENT, cut=10_000, stall=True)
        elif manners == "html":
            self.body(b"<html>no such page</html>")
        elif manners == "altered":
            self.body(CONTENT[:-1] + b"!")
        elif manners == "truncated":
            self.body(CONTENT, cut=len(CONTENT) // 2)
        elif manners == "lies":
            self.body(CONTENT, length=len(CONTENT) + 7)
        elif manners in ("breaks", "forgets"):  # breaks off the first time; then goes on, or starts again
            self.body(CONTENT, cut=len(CONTENT) // 2 if first else None, ranges=manners == "breaks")
        elif manners == "crooked":  # breaks off, then sends another part than was asked for, then is good
            times = sum(asked.startswith(manners) for asked in self.server.asked)
            self.body(CONTENT, cut=len(CONTENT) // 2 if times == 1 else None, ranges=times == 2, shift=3)
        elif manners == "part":  # of which there was no question
            self.send_response(206)
            self.send_header("Content-Range", f"bytes 5-{len(CONTENT) - 1}/{len(CONTENT)}")
            self.end_headers()
            self.wfile.write(CONTENT[5:])
        elif manners == "chunks":
            self.body(b"ffff\r\n" + CONTENT[:1000], **{"Transfer-Encoding": "chunked"})
        elif manners in LENGTHS:
            self.body(CONTENT, **{"Content-Length": LENGTHS[manners]})
        elif manners == "empty":
            self.body(b"")
        elif manners == "loop":
            self.send_response(302)
            self.send_header("Location", self.path)
            self.send_header("Content-Length", "0")
            self.end_headers()
        elif manners == "garbage":
            self.wfile.write(b"\0no HTTP at all\r\n\r\n")
        else:
            self.body(CONTENT, ranges=True)

    def version(self, manners: str, first: bool) -> None:
        """Half of CONTENT; then, whatever the range was to depend on, OTHER, or the rest of CONTENT told otherwise."""
        one, two, rest = VERSIONS[manners]
        content = CONTENT if first or not rest else OTHER
        start = self.start()
        self.send_response(206 if start else 200)
        if start:
            total = len(content) + (manners == "resized")
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{total}")
        for line in (one if first else two).format(now=formatdate(usegmt=True)).splitlines():
            self.send_header(*line.split(": ", 1))
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        self.wfile.write(content[start:][:HALF if first else None])

    def slow(self, manners: str) -> None:
        """What never ends, however much of it there is."""
        begin, again, pause = SLOW[manners]
        self.wfile.write(begin)
        while not self.server.closing.wait(pause):
            self.wfile.write(again)

    def redirect(self, where: str, flood: bool) -> None:
        self.send_response(302)
        self.send_header("Location", where)
        self.end_headers()
        while flood and not self.server.closing.is_set():
            self.wfile.write(CONTENT)

    def start(self) -> int:
        return int(self.headers["Range"].removeprefix("bytes=").rstrip("-")) if "Range" in self.headers else 0

    def body(self, content: bytes, cut: int | None = None, length: int | None = None, stall: bool = False,
             ranges: bool = False, shift: int = 0, **headers: str) -> None:
        tag = f'"{hashlib.md5(content).hexdigest()}"'
        start = self.start() if ranges and self.headers.get("If-Range") == tag else 0
        if start > 0 and start >= len(content):
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(content)}")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start + shift}-{len(content) - 1}/{len(content)}")
        content = content[start:]
        for name, value in (headers or {"Content-Length": str(length or len(content))}).items():
            self.send_header(name, value)
        self.send_header("ETag", tag)
        self.end_headers()
        self.wfile.write(content[:cut])
        self.wfile.flush()
        if stall:
            self.server.closing.wait()

    def log_message(self, *_) -> None:
        pass


@pytest.fixture
def host():
    with Host() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.closing.set()
        server.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr(download, "FIRST_PAUSE_SECONDS", 0.01)
    monkeypatch.setattr(hosts, "TIMEOUT_SECONDS", 5)
    monkeypatch.setattr(hosts, "LEAST_BYTES", 1000)
    monkeypatch.delenv(download.MIRROR, raising=False)


def check(path: Path) -> None:
    if path.read_bytes() != CONTENT:
        raise UserError(f"{path.name}: not the file that we know")


def either(path: Path) -> None:
    """As of a file of which no digest is known: any version will do, and no other."""
    if path.read_bytes() not in (CONTENT, OTHER):
        raise AssertionError("a mixture")


def fetch(bases: list[str], keep: Path, name: str = "folder/file.bin", largest: int = LARGEST, check=check) -> Path:
    return download.fetch({name: Expected(check, largest)}, bases, keep)[0]


def part(keep: Path, content: bytes, recorded: bytes, url: str) -> None:
    """Leave a part of a file, and what a record says that it is."""
    (keep / "partial").mkdir()
    (keep / "partial/file.bin").write_bytes(content)
    (keep / "partial/file.bin.json").write_text(json.dumps({
        "url": f"{url}/folder/file.bin", "validator": ["ETag", f'"{hashlib.md5(CONTENT).hexdigest()}"'], "total": len(CONTENT),
        "size": len(recorded), "sha256": hashlib.sha256(recorded).hexdigest()}))


def test_a_file_comes_whole_and_is_kept(host, tmp_path):
    path = fetch([host.base("good")], tmp_path)
    assert path == tmp_path / "file.bin"
    assert path.read_bytes() == CONTENT
    fetch([host.base("404")], tmp_path)
    assert host.asked == ["good"], "what has come whole is not asked for again"


def test_a_passing_fault_is_tried_again(host, tmp_path):
    assert fetch([host.base("once503")], tmp_path).exists()
    assert host.asked == ["once503", "once503"]


def test_bases_are_tried_in_turn(host, tmp_path):
    assert fetch([host.base("404"), host.base("altered"), host.base("good")], tmp_path).exists()
    assert host.asked == ["404", "altered", "good"]


def test_a_broken_transfer_goes_on_where_it_broke(host, tmp_path):
    assert fetch([host.base("breaks")], tmp_path).read_bytes() == CONTENT
    assert host.asked == ["breaks", f"breaks bytes={len(CONTENT) // 2}-"]


def test_a_host_that_ignores_ranges_is_asked_for_the_whole(host, tmp_path):
    assert fetch([host.base("forgets")], tmp_path).read_bytes() == CONTENT
    assert len(host.asked) == 2


def test_a_host_that_sends_another_part_is_not_believed(host, tmp_path):
    assert fetch([host.base("crooked")], tmp_path).read_bytes() == CONTENT
    assert host.asked == ["crooked", f"crooked bytes={len(CONTENT) // 2}-", "crooked"]


def test_what_another_fetch_left_is_gone_on_with(host, tmp_path, monkeypatch):
    monkeypatch.setattr(download, "ATTEMPTS", 0)
    with pytest.raises(UserError, match=rf"{HALF:,} bytes of it are kept"):
        fetch([host.base("breaks")], tmp_path)
    assert fetch([host.base("breaks")], tmp_path).read_bytes() == CONTENT
    assert host.asked == ["breaks", f"breaks bytes={HALF}-"]


def test_what_another_host_left_is_not_mixed_with_what_this_one_has(host, tmp_path):
    with pytest.raises(UserError, match=rf"{HALF:,} bytes of it are kept"):
        fetch([host.base("truncated")], tmp_path)
    host.asked.clear()
    assert fetch([host.base("good")], tmp_path).read_bytes() == CONTENT
    assert host.asked == ["good"]


@pytest.mark.parametrize(("left", "recorded", "asked"), [
    (CONTENT[:HALF], CONTENT[:HALF], f"good bytes={HALF}-"),
    (CONTENT[:HALF] + b"written, and not yet recorded", CONTENT[:HALF], f"good bytes={HALF}-"),
    (CONTENT, CONTENT, f"good bytes={len(CONTENT)}-"),
    (CONTENT[:HALF - 1], CONTENT[:HALF], "good"),
    (CONTENT[:999] + b"!" + CONTENT[1000:HALF], CONTENT[:HALF], "good"),
    (bytes(HALF), CONTENT[:HALF], "good"),
    (b"", CONTENT[:HALF], "good"),
    (CONTENT[:HALF], b"", "good")])
def test_a_part_is_gone_on_with_as_far_as_it_is_undamaged(host, tmp_path, left, recorded, asked):
    part(tmp_path, left, recorded, host.base("good"))
    assert fetch([host.base("good")], tmp_path).read_bytes() == CONTENT
    assert host.asked == [asked]


@pytest.mark.parametrize("record", ["", "[]", "{}", "null", "[" * 10**5, '{"size": -1}', '{"size": 1, "total": 1, "validator": 7}'])
def test_a_part_whose_record_is_damaged_or_missing_is_fetched_anew(host, tmp_path, record):
    part(tmp_path, CONTENT[:HALF], CONTENT[:HALF], host.base("good"))
    path = tmp_path / "partial/file.bin.json"
    path.write_text(record) if record else path.unlink()
    assert fetch([host.base("good")], tmp_path).read_bytes() == CONTENT
    assert host.asked == ["good"]


@pytest.mark.parametrize("wrong", [b"of another file", CONTENT + b"too much", CONTENT[:-5] + b"wrong"])
def test_a_part_of_another_file_is_found_out_and_fetched_anew(host, tmp_path, wrong):
    """By what the whole must be, where a host tells two versions by one mark."""
    part(tmp_path, wrong, wrong, host.base("good"))
    assert fetch([host.base("good")], tmp_path).read_bytes() == CONTENT
    assert host.asked[0] == f"good bytes={len(wrong)}-"
    assert host.asked[-1] == "good"


@pytest.mark.parametrize(("manners", "then"), [
    *((name, [f"{name} bytes={HALF}-", name]) for name in ("changes", "untells", "resized", "newer", "both")),
    *((name, [f"{name} bytes={HALF}-"]) for name in ("same", "dated")),
    *((name, [name]) for name in ("untold", "weak", "moment", "folded", "undated"))])
def test_two_versions_of_a_file_are_never_mixed(host, tmp_path, manners, then):
    """What goes on with a part is the same version: by a strong ETag, else by a date that no two versions can share."""
    assert fetch([host.base(manners)], tmp_path, check=either).read_bytes() == (OTHER if VERSIONS[manners][2] else CONTENT)
    assert host.asked == [manners, *then]


def test_a_file_that_changes_each_time_ends(host, tmp_path, monkeypatch):
    tags = iter(range(99))
    monkeypatch.setattr(Answer, "version", lambda self, manners, first: self.body(bytes([next(tags)]) * len(CONTENT), cut=HALF, ranges=True))
    with pytest.raises(UserError, match="it broke off"):
        fetch([host.base("changes")], tmp_path)
    assert len(host.asked) == download.ATTEMPTS + 1


def test_a_long_transfer_is_recorded_on_the_way(host, tmp_path, monkeypatch):
    """What a killed process leaves is gone on with."""
    monkeypatch.setattr(partial, "RECORD_EVERY", 1000)
    records: list[int] = []
    write = partial.Part._write_record
    monkeypatch.setattr(partial.Part, "_write_record", lambda self: (write(self), records.append(self.size)))
    fetch([host.base("good")], tmp_path)
    assert len(records) > 2
    assert records == sorted(records)
    assert records[-1] == len(CONTENT)


@pytest.mark.parametrize("damage", [lambda b: b"", lambda b: b[:-1], lambda b: b[:99] + bytes([b[99] ^ 1]) + b[100:],
                                    lambda b: b[:4096] + bytes(4096) + b[8192:]])
@pytest.mark.parametrize("record", [True, False])
def test_what_was_kept_and_damaged_is_fetched_again(host, tmp_path, damage, record):
    """Though its check finds nothing wrong with it."""
    def fine(path: Path) -> None:
        pass

    path = fetch([host.base("good")], tmp_path, check=fine)
    path.write_bytes(damage(CONTENT))
    if not record:
        (tmp_path / "partial/file.bin.json").unlink()
    assert fetch([host.base("good")], tmp_path, check=fine).read_bytes() == CONTENT
    assert fetch([host.base("good")], tmp_path, check=fine).read_bytes() == CONTENT
    assert host.asked == ["good", "good"]


def test_what_was_kept_is_checked_again(host, tmp_path):
    """By a check that has become stricter."""
    fetch([host.base("altered")], tmp_path, check=lambda path: None)
    assert fetch([host.base("good")], tmp_path).read_bytes() == CONTENT


@pytest.mark.parametrize(("manners", "words", "times"), [
    ("404", "HTTP 404 Not Found", 1), ("403", "HTTP 403 Forbidden", 1), ("429", "HTTP 429 Too Many Requests", 4),
    ("500", "HTTP 500 Internal Server Error", 4), ("reset", "unreachable", 4), ("truncated", "unreachable", 5),
    ("stalls", "unreachable (timed out); 10,000 bytes of it are kept", 5), ("lies", "unreachable", 5),
    ("rude", "HTTP 404 \\x1b[2Jgone\\x07\\x9b so so", 1),
    ("ftp", "HTTP 302 Found, to ftp://127.0.0.1/x, which is neither http nor https", 1), ("file", "HTTP 302 Found", 1),
    ("data", "HTTP 302 Found", 1), ("here", "HTTP 401", 2),
    ("altered", "file.bin: not the file that we know", 1), ("html", "file.bin: not the file that we know", 1),
    ("empty", "file.bin: not the file that we know", 1), ("short", "file.bin: not the file that we know", 1),
    ("many", "not a URL to fetch from, or no sense in its answer", 1), ("endless", "the disk is full", 1),
    ("part", "unreachable (it sent another part of the file than was asked for)", 4), ("chunks", "unreachable", 5),
    ("loop", "HTTP 302", 5), ("garbage", "unreachable", 4)])
def test_a_host_that_fails_is_named_with_the_reason_and_leaves_nothing_under_the_name(host, tmp_path, monkeypatch, manners, words, times):
    if manners == "stalls":
        monkeypatch.setattr(hosts, "TIMEOUT_SECONDS", 1)
    with pytest.raises(UserError) as error:
        fetch([host.base(manners)], tmp_path, "file.bin")
    assert str(error.value).startswith(f"cannot fetch file.bin: {host.base(manners)}: {words}")
    assert "TEXT2IMAGE_MIRROR" in str(error.value)
    assert len(host.asked) == times
    assert not (tmp_path / "file.bin").exists()


@pytest.mark.parametrize("manners", SLOW)
def test_a_host_that_goes_on_for_ever_and_sends_next_to_nothing_is_left(host, tmp_path, monkeypatch, manners):
    monkeypatch.setattr(hosts, "STALL_SECONDS", 0.2)
    monkeypatch.setattr(hosts, "LEAST_BYTES", 10_000)
    monkeypatch.setattr(download, "ATTEMPTS", 2)
    with pytest.raises(UserError, match=r"unreachable \(it stalls: less than 10,000 bytes of the file in 0.2 seconds\)"):
        fetch([host.base(manners)], tmp_path)
    assert host.asked.count(manners) == 2


def test_a_host_that_sends_a_byte_an_answer_is_left(host, tmp_path, monkeypatch):
    monkeypatch.setattr(Answer, "version", lambda self, *_: self.body(CONTENT, cut=self.start() * 0 + 1, ranges=True))
    with pytest.raises(UserError, match="4 bytes of it are kept"):
        fetch([host.base("same")], tmp_path)
    assert host.asked == ["same", "same bytes=1-", "same bytes=2-", "same bytes=3-"]


@pytest.mark.parametrize("manners", ["large", "stream", "good"])
def test_a_file_that_is_larger_than_it_may_be_is_not_fetched(host, tmp_path, manners):
    words = rf"cannot fetch folder/file\.bin: {host.base(manners)}: file\.bin: more than 900,000 bytes, which is more than this file may have"
    with pytest.raises(UserError, match=words):
        fetch([host.base(manners)], tmp_path, largest=900_000)
    assert not [path for path in tmp_path.rglob("*.bin") if path.is_file()]
    assert fetch([host.base(manners), host.base("good")], tmp_path, largest=len(CONTENT)).read_bytes() == CONTENT


def test_a_redirect_is_followed_and_what_it_brings_along_is_not_read(host, tmp_path):
    assert fetch([host.base("flood")], tmp_path).read_bytes() == CONTENT


def test_a_reason_of_a_host_is_one_short_line(host, tmp_path):
    with pytest.raises(UserError) as error:
        fetch([host.base("rude")], tmp_path)
    assert str(error.value).isprintable()
    assert len(str(error.value)) < 500


@pytest.mark.parametrize(("manners", "first", "second"), [("secret", True, None), ("here", True, True), ("elsewhere", True, False)])
def test_a_password_is_given_to_its_host_alone_and_never_shown(host, tmp_path, manners, first, second):
    base = host.base(manners).replace("http://", "http://me%40home:s%2Fecret@")
    if manners == "elsewhere":
        assert fetch([base], tmp_path).read_bytes() == CONTENT
    else:
        with pytest.raises(UserError, match=rf"http://\.\.\.@127\.0\.0\.1:{host.server_port}/{manners}: HTTP 404") as error:
            fetch([base], tmp_path)
        assert "ecret@" not in str(error.value)
    login = "Basic " + base64.b64encode(b"me@home:s/ecret").decode()
    assert host.logins == [login if given else None for given in (first, second) if given is not None]
    assert not [path for path in tmp_path.rglob("*.json") if b"ecret@" in path.read_bytes()]


@pytest.mark.parametrize("base", [
    "http://me:hush/mum@127.0.0.1:9/x", "http://me:hush mum@127.0.0.1:9", "http://me:hush@mum@127.0.0.1:9", "ftp://me:hushmum@127.0.0.1",
    "http://me:hush\u2100mum@127.0.0.1", "http://me:hushmum@[::1", "http://me:hushmum@127.0.0.1:port", "http://me:hush#mum@127.0.0.1:9",
    "http://me:hushmum@", "http://hushmum@127.0.0.1:9", "http://me:hush?mum@127.0.0.1:9", "http://me:hush%2Fmum@127.0.0.1:9", "http://me:hush\x1bmum@127.0.0.1:9", "http://me:hushmum@127.0.0.1:9/ a"])
def test_a_password_in_a_url_without_sense_is_not_shown(tmp_path, base):
    with pytest.raises(UserError) as error:
        fetch([base], tmp_path)
    assert "hush" not in str(error.value)
    assert "mum" not in str(error.value)
    assert str(error.value).startswith(f"cannot fetch folder/file.bin: {base.split('://')[0]}://...@")


def test_a_length_without_sense_does_no_harm(host, tmp_path):
    assert fetch([host.base("negative")], tmp_path).read_bytes() == CONTENT


def test_a_host_whose_files_do_not_fit_is_named(host, tmp_path):
    with pytest.raises(UserError, match=rf"{host.base('vast')}: the disk is full: .* needs 1,000,000,000,000,000 bytes"):
        fetch([host.base("vast"), host.base("good")], tmp_path)
    assert not host.asked, "before the first byte"


def test_several_files_and_what_is_kept_when_one_fails(host, tmp_path):
    names = [f"folder/{n}.bin" for n in range(6)]

    def refuse(path: Path) -> None:
        raise UserError(f"{path.name}: not what it should be")

    files = dict.fromkeys(names, Expected(check, LARGEST))
    with pytest.raises(UserError, match=r"cannot fetch folder/5\.bin: .*5\.bin: not what it should be"):
        download.fetch(files | {names[5]: Expected(refuse, LARGEST)}, [host.base("good")], tmp_path)
    kept = {path.name for path in tmp_path.glob("*.bin")}
    assert {"0.bin", "1.bin"} <= kept
    host.asked.clear()
    assert [path.name for path in download.fetch(files, [host.base("good")], tmp_path)] == [f"{n}.bin" for n in range(6)]
    assert len(host.asked) == 6 - len(kept)


def test_an_unreachable_host(tmp_path):
    with pytest.raises(UserError, match="unreachable"):
        fetch(["http://127.0.0.1:9/"], tmp_path)


@pytest.mark.parametrize("base", ["http://[::1", "ftp//nothing", "http://127.0.0.1:port"])
def test_a_base_that_is_no_url(tmp_path, base):
    with pytest.raises(UserError, match=r"cannot fetch folder/file\.bin"):
        fetch([base], tmp_path)


def test_no_base_at_all(tmp_path):
    with pytest.raises(UserError, match="list of base URLs is empty"):
        fetch([], tmp_path)


def test_a_mirror_stands_in_for_every_host(host, tmp_path, monkeypatch):
    directory = tmp_path / "mirror" / "folder"
    directory.mkdir(parents=True)
    (directory / "file.bin").write_bytes(CONTENT)
    for n, mirror in enumerate((str(tmp_path / "mirror"), host.base("good"))):
        monkeypatch.setenv(download.MIRROR, mirror)
        assert fetch([host.base("404")], tmp_path / f"keep{n}").read_bytes() == CONTENT
    monkeypatch.setenv(download.MIRROR, str(tmp_path / "nothing"))
    with pytest.raises(UserError, match=r"cannot read folder/other\.bin in this directory \(No such file"):
        fetch([], tmp_path, "folder/other.bin")


@pytest.mark.parametrize("spelt", ["~/m", "file://{home}/m"])
def test_a_mirror_below_the_home_directory(tmp_path, monkeypatch, spelt):
    (tmp_path / "m/folder").mkdir(parents=True)
    (tmp_path / "m/folder/file.bin").write_bytes(CONTENT)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv(download.MIRROR, spelt.format(home=tmp_path))
    assert fetch([], tmp_path / "keep").read_bytes() == CONTENT
    monkeypatch.setenv(download.MIRROR, "~nobody-of-this-name/m")
    with pytest.raises(UserError, match=r"~nobody-of-this-name/m: cannot read folder/other\.bin in this directory \(No such file"):
        fetch([], tmp_path / "keep", "folder/other.bin")


@pytest.mark.parametrize("kind", ["device", "pipe", "folder", "socket", "dangling", "larger"])
def test_a_file_of_a_mirror_that_is_none(tmp_path, kind):
    (tmp_path / "folder").mkdir()
    path = tmp_path / "folder/file.bin"
    with socket.socket(socket.AF_UNIX) as opened:
        if kind == "device":
            path.symlink_to("/dev/zero")
        elif kind == "pipe":
            os.mkfifo(tmp_path / "pipe")
            path.symlink_to(tmp_path / "pipe")
        elif kind == "folder":
            path.mkdir()
        elif kind == "socket":
            opened.bind(str(path.relative_to(Path.cwd())) if len(str(path)) > 100 and path.is_relative_to(Path.cwd()) else str(path))
        elif kind == "dangling":
            path.symlink_to(tmp_path / "nothing")
        else:
            path.write_bytes(CONTENT + b"!")
        with pytest.raises(UserError) as error:
            fetch([str(tmp_path)], tmp_path / "keep", largest=len(CONTENT))
    words = {"folder": "cannot read folder/file.bin in this directory (Is a directory)",
             "dangling": "cannot read folder/file.bin in this directory (No such file or directory)",
             "socket": "cannot read folder/file.bin in this directory (No such device or address)",
             "larger": "file.bin: more than 950,000 bytes, which is more than this file may have"}
    shown = words.get(kind, "cannot read folder/file.bin in this directory (it is no regular file)")
    assert str(error.value).startswith(f"cannot fetch folder/file.bin: {tmp_path}: {shown}")


def test_a_file_of_a_mirror_that_changes_while_it_is_read(tmp_path, monkeypatch):
    path = tmp_path / "file.bin"
    path.write_bytes(CONTENT)
    os.utime(path, (1, 1))
    write = partial.Part.write
    monkeypatch.setattr(partial.Part, "write", lambda self, block: (write(self, block), path.write_bytes(OTHER)))
    with pytest.raises(UserError, match=r"cannot read file\.bin in this directory \(it changed while it was read: run again\)"):
        fetch([str(tmp_path)], tmp_path / "keep", "file.bin", check=lambda path: None)
    assert not (tmp_path / "keep/file.bin").exists()


def test_what_cannot_be_written_is_not_put_down_to_the_host(host, tmp_path, monkeypatch):
    def refuse(self, block):
        raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))

    monkeypatch.setattr(partial.Part, "write", refuse)
    (tmp_path / "file.bin").write_bytes(CONTENT)
    for base in (host.base("good"), str(tmp_path)):
        with pytest.raises(OSError, match="quota"):
            fetch([base], tmp_path / "keep", "file.bin")


def test_a_disk_without_room_is_noticed_before_the_first_byte(tmp_path, monkeypatch):
    directory = tmp_path / "mirror"
    directory.mkdir()
    for name in ("a.bin", "b.bin"):
        (directory / name).write_bytes(CONTENT)
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(atomic.shutil, "disk_usage", lambda _: usage._replace(free=1_500_000))
    with pytest.raises(UserError, match=r"the disk is full: .* needs 1,900,000 bytes and has 1,500,000 free; make room"):
        download.fetch(dict.fromkeys(("a.bin", "b.bin"), Expected(check, LARGEST)), [str(directory)], tmp_path / "keep")
    assert not [path for path in (tmp_path / "keep").rglob("*") if path.is_file()]


def test_what_has_come_is_put_into_place(host, tmp_path):
    (tmp_path / "out").mkdir()
    download.put([fetch([host.base("good")], tmp_path / "kept")], tmp_path / "out")
    assert (tmp_path / "out/file.bin").read_bytes() == CONTENT
