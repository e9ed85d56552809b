"""Fetching from hosts that fail in every way, and raw files that are not what they should be."""

import gzip
import http.server
import shutil
import threading
import time
from pathlib import Path

import h5py
import numpy as np
import pytest

from text2image import archives, disk, fetching
from text2image.errors import UserError

CONTENT = b"captioned pictures " * 50_000
LENGTHS = {"short": str(len(CONTENT) - 100), "many": "many", "endless": str(10**15), "negative": "-5"}  # that hosts claim


class Host(http.server.ThreadingHTTPServer):
    """A file host whose manners are the path's first part; `asked` lists what it was asked for, with any range."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Answer)
        self.asked: list[str] = []

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
        first = manners not in (asked.split()[0] for asked in self.server.asked)
        self.server.asked.append(" ".join([manners, self.headers.get("Range", "")]).strip())
        if manners.isdigit():
            self.send_error(int(manners))
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

    def body(self, content: bytes, cut: int | None = None, length: int | None = None, stall: bool = False,
             ranges: bool = False, shift: int = 0, **headers: str) -> None:
        start = int(self.headers["Range"].removeprefix("bytes=").rstrip("-")) if ranges and "Range" in self.headers else 0
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
        self.end_headers()
        self.wfile.write(content[:cut])
        self.wfile.flush()
        if stall:
            time.sleep(1.5)

    def log_message(self, *_) -> None:
        pass


@pytest.fixture
def host():
    with Host() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr(fetching, "FIRST_PAUSE_SECONDS", 0.01)
    monkeypatch.setattr(fetching, "TIMEOUT_SECONDS", 5)
    monkeypatch.delenv(fetching.MIRROR, raising=False)


def check(path: Path) -> None:
    if path.read_bytes() != CONTENT:
        raise UserError(f"{path.name}: not the file that we know")


def fetch(bases: list[str], keep: Path, name: str = "folder/file.bin") -> Path:
    return fetching.fetch({name: check}, bases, keep)[0]


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


def test_what_another_fetch_left_is_gone_on_with(host, tmp_path):
    with pytest.raises(UserError, match=rf"{len(CONTENT) // 2:,} bytes of it are kept"):
        fetch([host.base("truncated")], tmp_path)
    host.asked.clear()
    assert fetch([host.base("good")], tmp_path).read_bytes() == CONTENT
    assert host.asked == [f"good bytes={len(CONTENT) // 2}-"]


@pytest.mark.parametrize("left", [b"of another file", CONTENT + b"too much", CONTENT[:-5] + b"wrong"])
def test_a_part_of_another_file_is_found_out_and_fetched_anew(host, tmp_path, left):
    (tmp_path / "partial").mkdir()
    (tmp_path / "partial/file.bin").write_bytes(left)
    assert fetch([host.base("good")], tmp_path).read_bytes() == CONTENT


def test_a_whole_file_that_was_not_yet_named_is_not_fetched_again(host, tmp_path):
    (tmp_path / "partial").mkdir()
    (tmp_path / "partial/file.bin").write_bytes(CONTENT)
    assert fetch([host.base("good")], tmp_path).read_bytes() == CONTENT
    assert host.asked == [f"good bytes={len(CONTENT)}-"]


@pytest.mark.parametrize(("manners", "words", "times"), [
    ("404", "HTTP 404 Not Found", 1), ("403", "HTTP 403 Forbidden", 1), ("429", "HTTP 429 Too Many Requests", 4),
    ("500", "HTTP 500 Internal Server Error", 4), ("reset", "unreachable", 4), ("truncated", "unreachable", 5),
    ("stalls", "unreachable (timed out); 10,000 bytes of it are kept", 5), ("lies", "unreachable", 5),
    ("altered", "file.bin: not the file that we know", 1), ("html", "file.bin: not the file that we know", 1),
    ("empty", "file.bin: not the file that we know", 1), ("short", "file.bin: not the file that we know", 1),
    ("many", "not a URL to fetch from, or no sense in its answer", 1), ("endless", "the disk is full", 1),
    ("part", "unreachable (it sent another part of the file than was asked for)", 4), ("chunks", "unreachable", 5),
    ("loop", "HTTP 302", 5), ("garbage", "unreachable", 4)])
def test_a_host_that_fails_is_named_with_the_reason_and_leaves_nothing_under_the_name(host, tmp_path, monkeypatch, manners, words, times):
    if manners == "stalls":
        monkeypatch.setattr(fetching, "TIMEOUT_SECONDS", 0.5)
    with pytest.raises(UserError) as error:
        fetch([host.base(manners)], tmp_path, "file.bin")
    assert str(error.value).startswith(f"cannot fetch file.bin: {host.base(manners)}: {words}")
    assert "TEXT2IMAGE_MIRROR" in str(error.value)
    assert len(host.asked) == times
    assert not (tmp_path / "file.bin").exists()


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

    files = dict.fromkeys(names, check)
    with pytest.raises(UserError, match=r"cannot fetch folder/5\.bin: .*5\.bin: not what it should be"):
        fetching.fetch(files | {names[5]: refuse}, [host.base("good")], tmp_path)
    kept = {path.name for path in tmp_path.glob("*.bin")}
    assert {"0.bin", "1.bin"} <= kept
    host.asked.clear()
    assert [path.name for path in fetching.fetch(files, [host.base("good")], tmp_path)] == [f"{n}.bin" for n in range(6)]
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
        monkeypatch.setenv(fetching.MIRROR, mirror)
        assert fetch([host.base("404")], tmp_path / f"keep{n}").read_bytes() == CONTENT
    monkeypatch.setenv(fetching.MIRROR, str(tmp_path / "nothing"))
    with pytest.raises(UserError, match=r"cannot read folder/other\.bin in this directory \(No such file"):
        fetch([], tmp_path, "folder/other.bin")


def test_a_disk_without_room_is_noticed_before_the_first_byte(tmp_path, monkeypatch):
    directory = tmp_path / "mirror"
    directory.mkdir()
    for name in ("a.bin", "b.bin"):
        (directory / name).write_bytes(CONTENT)
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(disk.shutil, "disk_usage", lambda _: usage._replace(free=1_500_000))
    with pytest.raises(UserError, match=r"the disk is full: .* needs 1,900,000 bytes and has 1,500,000 free; make room"):
        fetching.fetch({"a.bin": check, "b.bin": check}, [str(directory)], tmp_path / "keep")
    assert not list((tmp_path / "keep").iterdir())


IMAGES, LABELS = "t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz"


def idx(magic: int, count: int, shape: tuple[int, ...], data: int) -> bytes:
    return b"".join(n.to_bytes(4, "big") for n in (magic, count, *shape)) + bytes(data)


@pytest.mark.parametrize(("name", "content", "words"), [
    (IMAGES, idx(2049, 2, (), 2), "magic number 2049, not 2051"),
    (LABELS, idx(2051, 2, (28, 28), 1568), "magic number 2051, not 2049"),
    (IMAGES, idx(2051, 2, (27, 28), 1512), "pictures of 27x28, not 28x28"),
    (IMAGES, idx(2051, 3, (28, 28), 1568), "1568 bytes for 3 items, not 2352"),
    (IMAGES, idx(2051, 2, (28, 28), 1568), "the file was altered"),
    (IMAGES, b"", "magic number 0"),
])
def test_an_archive_file_that_is_not_what_its_name_says(tmp_path, name, content, words):
    (tmp_path / name).write_bytes(gzip.compress(content))
    with pytest.raises(UserError, match=words) as error:
        archives.check_mnist_file(tmp_path / name)
    assert name in str(error.value)


def test_an_archive_file_truncated_or_no_gzip_at_all(tmp_path):
    whole = gzip.compress(np.random.default_rng(0).bytes(4000))
    for content in (whole[:-1], whole[:len(whole) // 2], whole[:5], b"<html></html>", b"\x1f\x8b" + bytes(30)):
        (tmp_path / IMAGES).write_bytes(content)
        with pytest.raises(UserError, match=f"{IMAGES}: (not a whole gzip file|magic number)"):
            archives.check_mnist_file(tmp_path / IMAGES)


def test_the_real_archive_is_the_one_we_know(mirror):
    for name in archives.MNIST_FILES:
        archives.check_mnist_file(mirror / "mnist" / name)
    bank = archives.read_mnist_archive(mirror / "mnist")
    splits = archives.cut(bank, {"train": 50_000, "dev": 10_000, "test": 10_000})
    assert {name: part.images.shape for name, part in splits.items()} == {
        "train": (50_000, 28, 28), "dev": (10_000, 28, 28), "test": (10_000, 28, 28)}
    assert bank.labels[:6].tolist() == [5, 0, 4, 1, 9, 2]
    assert np.bincount(splits["test"].labels).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]


def test_one_bit_of_the_real_archive_altered_is_noticed(mirror, tmp_path):
    content = bytearray(gzip.decompress((mirror / "mnist" / LABELS).read_bytes()))
    content[5000] ^= 1
    (tmp_path / LABELS).write_bytes(gzip.compress(bytes(content), 1))
    with pytest.raises(UserError, match="the file was altered"):
        archives.check_mnist_file(tmp_path / LABELS)


def write_h5(path: Path, bank: archives.Digits, **changes: np.ndarray) -> None:
    first = 0
    with h5py.File(path, "w") as h5:
        for name, size in archives.MNIST_H5_SIZES.items():
            part = slice(first, first := first + size)
            arrays = {name: bank.images[part].reshape(-1, 784).astype(np.float32) / 255, f"{name}_labels": bank.labels[part]}
            for key, array in (arrays | {k: v for k, v in changes.items() if k in arrays}).items():
                if isinstance(array, np.ndarray):
                    h5[key] = array
                elif array == "group":
                    h5.create_group(key)


def test_mnist_h5_gives_the_digits_of_the_archive(mirror, tmp_path):
    bank = archives.read_mnist_archive(mirror / "mnist")
    write_h5(tmp_path / "mnist.h5", bank)
    again = archives.read_mnist_h5(tmp_path / "mnist.h5")
    assert np.array_equal(bank.images, again.images)
    assert np.array_equal(bank.labels, again.labels)


@pytest.mark.parametrize(("change", "words"), [
    ({"test": np.zeros((3, 783), np.float32)}, r"'test' is .*3, 783.*, not \(3, 784\) numbers"),
    ({"test": np.full((3, 784), b"1")}, "'test' is .*S1.*, not"),
    ({"test": np.full((3, 784), np.nan, np.float32)}, "'test' has values outside"),
    ({"test": None}, r"'test' is None, not \(3, 784\) numbers"),
    ({"test": "group"}, "'test' is None, not"),
    ({"test_labels": np.full(3, 1.5)}, "'test_labels' has labels other than 0 to 9"),
    ({"test": np.full((3, 784), 1.5, np.float32)}, "'test' has values outside"),
    ({"test": np.full((3, 784), 0.5001, np.float32)}, "'test' is not bytes divided by 255"),
    ({"test_labels": np.full(3, 11)}, "'test_labels' has labels other than 0 to 9")])
def test_mnist_h5_of_the_wrong_shape_or_range(tmp_path, monkeypatch, change, words):
    monkeypatch.setattr(archives, "MNIST_H5_SIZES", {"train": 5, "validation": 2, "test": 3})
    bank = archives.Digits(np.zeros((10, 28, 28), np.uint8), np.zeros(10, np.uint8))
    write_h5(tmp_path / "mnist.h5", bank, **change)
    with pytest.raises(UserError, match=words):
        archives.read_mnist_h5(tmp_path / "mnist.h5")


def test_more_digits_asked_for_than_there_are():
    bank = archives.Digits(np.zeros((5, 8, 8), np.uint8), np.zeros(5, np.uint8))
    with pytest.raises(UserError, match="ask for 6, the bank has 5"):
        archives.cut(bank, {"train": 4, "dev": 1, "test": 1})
