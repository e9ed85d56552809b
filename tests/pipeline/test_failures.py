"""How commands end: one line for what a user can put right, in every locale, at every moment."""

import errno
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline import draw, failures
from tests.conftest import ROOT, Repository
from text2image.errors import UserError
from text2image.models import checkpoints

ASCII = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": "ascii"}
CAPTION = "the digit 3 is at the top left of the image ."
STAGES = sorted(path.stem for path in (ROOT / "pipeline").glob("*.py") if "__main__" in path.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def pulled(checkout, tmp_path_factory) -> Repository:
    """A clone with the pretrained model. Read only."""
    copy = checkout.copy(tmp_path_factory.mktemp("pulled") / "text2image")
    copy.dvc("pull", "pretrained/mnist")
    return copy


def line(said: str) -> str:
    """The one line of a command that failed."""
    assert "Traceback" not in said
    (found,) = said.splitlines()
    assert found.startswith("error: ")
    return found.removeprefix("error: ")


def ends(work, capsys) -> tuple[int, str]:
    with pytest.raises(SystemExit) as left:
        failures.run(work)
    return left.value.code, capsys.readouterr().err


def fails(error: BaseException):
    def work() -> None:
        raise error

    return work


@pytest.mark.parametrize(("error", "code", "words"), [
    (UserError("this\nis wrong"), 1, "this is wrong"),
    (KeyboardInterrupt(), 130, "interrupted"),
    (MemoryError(), 1, "memory is full: lower batch_size"),
    (RuntimeError("[enforce fail at alloc_cpu.cpp:121] can't allocate memory: you tried to allocate 8 bytes"), 1, "memory is full"),
    (type("OutOfMemoryError", (RuntimeError,), {})("CUDA"), 1, "the GPU is out of memory: lower batch_size"),
    (OSError(errno.ENOSPC, "No space left on device", "x"), 1, "the disk is full"),
    (UnicodeEncodeError("ascii", "señor", 2, 3, "ordinal not in range"), 1, r"the locale is not UTF-8 but ascii, which cannot write '\xf1'"),
    (OSError("a library's own words"), 1, "a library's own words"),
    (OSError(errno.ENAMETOOLONG, "File name too long", "a" * 300), 1, "aaa (300 characters): file name too long; name it shorter"),
    (PermissionError(errno.EACCES, "Permission denied", "models"), 1, "models: permission denied; change its permissions"),
    (OSError(errno.EROFS, "Read-only file system", Path("models")), 1, "models: read-only file system; its file system"),
    (IsADirectoryError(errno.EISDIR, "Is a directory", b"models"), 1, "models: is a directory; a folder lies where a file belongs"),
    (OSError(errno.EDQUOT, "Disk quota exceeded"), 1, "disk quota exceeded"),
    (UserError("x" * 10**6), 1, "xxx ... xxx"),
])
def test_every_error_that_a_user_can_put_right_is_one_line(error, code, words, capsys):
    left, said = ends(fails(error), capsys)
    assert left == code
    assert words in line(said)
    assert len(said) < 2100


@pytest.mark.parametrize("error", [ZeroDivisionError(), UnicodeEncodeError("utf-8", "\ud800", 0, 1, "surrogates"), KeyError("x"),
                                   RuntimeError("shapes differ")])
def test_an_error_of_the_program_keeps_its_traceback(error):
    with pytest.raises(type(error)):
        failures.run(fails(error))


def test_a_file_where_a_folder_belongs_is_named(tmp_path, capsys):
    (tmp_path / "models").write_text("no folder")
    for work in (lambda: (tmp_path / "models/run/deep").mkdir(parents=True), lambda: (tmp_path / "models").mkdir(),
                 lambda: (tmp_path / "models/x").read_text()):
        said = line(ends(work, capsys)[1])
        assert said.startswith(f"{tmp_path / 'models'}: ") and "a file lies where a folder belongs: move it away" in said


@pytest.mark.parametrize("content", ["{", '{"dev": {"elbo": {"mean": 1}}}'])
@pytest.mark.parametrize("script", ["report", "table", "docs"])
def test_a_report_of_damaged_results_is_one_line(pulled, tmp_path, script, content):
    copy = pulled.copy(tmp_path / "text2image")
    (copy.path / "results/digits/bounds.json").write_text(content)
    before = copy.read("README.md")
    said = copy.stage(script, code=1)
    assert said.startswith("error: ") and said.count("\n") == 1 and said.endswith(" makes it again\n")
    assert copy.read("README.md") == before
    assert not (copy.path / "report").exists()


def test_a_reader_that_has_enough_ends_it_quietly(pulled):
    done = subprocess.run(["sh", "-c", "python -m pipeline.table; echo $? >&2"], cwd=pulled.path, env=pulled.environment | {"PYTHONPATH": "src"},
                          stdout=_closed_pipe(), stderr=subprocess.PIPE, text=True, timeout=120)
    assert done.stderr == "141\n"


def _closed_pipe() -> int:
    read, write = os.pipe()
    os.close(read)
    return write


@pytest.mark.parametrize(("arguments", "words"), [
    (("pretrained/mnist", CAPTION, "--into", "n" * 300), "(300 characters): file name too long; name it shorter"),
    (("n" * 300, CAPTION), "characters): file name too long; name it shorter"),
    (("README.md/x", CAPTION), "README.md/x/model.safetensors: no such checkpoint; `dvc pull` fetches it"),
    (("pretrained", CAPTION), "pretrained/model.safetensors: no such checkpoint; `dvc pull` fetches it"),
    (("pretrained/mnist", CAPTION, "--into", "README.md/x"), "README.md: not a directory; a file lies where a folder belongs"),
    (("pretrained/mnist", CAPTION, "--into", "."), ". holds something else than images drawn before"),
    (("pretrained/mnist", CAPTION, "--images", "401"), "parameter 'draw.images' is 401; it must be at most 400"),
    (("pretrained/mnist", CAPTION, "--images", "9" * 40), "parameter 'draw.images' is 9999999999999999999999999999999999999999; it"),
    (("pretrained/mnist", CAPTION, "--seed", str(2**63)), "parameter 'draw.seed' is 9223372036854775808; it must be at most"),
    (("pretrained/mnist", "the digit 3 " * 300), "there are 900 words of a caption; a figure shows 400"),
    (("pretrained/mnist", *["the digit 3"] * 401), "there are 401 captions; a figure shows 400"),
    (("pretrained/mnist", "the digit \udcff"), "the caption 'the digit \\udcff' is not UTF-8"),
])
def test_what_draw_cannot_do_is_one_line(pulled, arguments, words, monkeypatch, capsys):
    monkeypatch.chdir(pulled.path)
    monkeypatch.setattr(sys, "argv", ["draw", *arguments])
    before = sorted(path.name for path in Path().iterdir())
    code, said = ends(draw.main, capsys)
    assert code == 1
    assert words in line(said)
    assert sorted(path.name for path in Path().iterdir()) == before, "nothing is half-written"


def test_a_caption_of_any_letters_in_a_locale_of_ascii(pulled):
    """The caption is what was given, whatever Python makes of the command line."""
    said = pulled.stage("draw", "pretrained/mnist", "caf\u00e9", "--into", "se\u00f1or", code=1, **ASCII)
    assert line(said).startswith("the word 'caf\\xe9' of the caption 'caf\\xe9' is not in the vocabulary")


def test_a_checkpoint_is_called_missing_only_where_there_is_none(tmp_path):
    (tmp_path / "file").touch()
    (tmp_path / "ring").symlink_to("ring")
    (tmp_path / "folder.safetensors").mkdir()
    for name, words in (("none.safetensors", "no such checkpoint"), ("file/x", "no such checkpoint"),
                        ("n" * 300, "cannot be opened (File name too long)"), ("ring", "cannot be opened (Too many levels"),
                        ("folder.safetensors", "not a readable checkpoint (it is no file)"), ("file", "not a readable checkpoint")):
        with pytest.raises(UserError) as error:
            checkpoints.load(tmp_path / name)
        assert words in str(error.value)


def test_the_report_in_a_locale_of_ascii(pulled):
    elbo = json.loads(pulled.read("results/digits/bounds.json"))["dev"]["elbo"]
    assert f"| digits | {elbo['mean']:.2f} \\xb1 {elbo['se']:.2f} |" in pulled.stage("table", **ASCII)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes")
@pytest.mark.parametrize("script", STAGES)
def test_an_interrupt_while_modules_load_is_one_line(script, tmp_path):
    """Every command imports dvc or torch; here a torch and a dvc that wait for the interrupt."""
    (tmp_path / "reached").mkdir()
    os.mkfifo(tmp_path / "ready")
    for name in ("dvc", "torch", "pandas", "numpy"):
        (tmp_path / f"{name}.py").write_text(f"import time\nopen({str(tmp_path / 'ready')!r}, 'w').close()\ntime.sleep(60)\n")
    path = os.pathsep.join([str(tmp_path), str(ROOT / "src")])
    # A suite in the background of a shell ignores interrupts, and what it starts would, too.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        started = subprocess.Popen([sys.executable, "-m", f"pipeline.{script}"], cwd=ROOT, env=os.environ | {"PYTHONPATH": path},
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    finally:
        signal.signal(signal.SIGINT, before)
    (tmp_path / "ready").open().close()  # waits until a module is being imported
    started.send_signal(signal.SIGINT)
    out, error = started.communicate(timeout=60)
    assert (out, error) == ("", "error: interrupted before anything was done\n")
    assert started.returncode in (130, -signal.SIGINT)


def _flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.unlink()
    path.write_bytes(content)


def _all_nan(path: Path) -> None:
    _rewrite(path, lambda value: value * float("nan"))


def _half(path: Path) -> None:
    _rewrite(path, lambda value: value.half())


def _rewrite(path: Path, change) -> None:
    from safetensors import safe_open
    from safetensors.torch import save_file

    with safe_open(path, "pt") as file:
        tensors, metadata = {name: change(file.get_tensor(name)) for name in file.keys()}, file.metadata()  # noqa: SIM118
    path.unlink()
    save_file(tensors, path, metadata)


@pytest.fixture
def altered(pulled, tmp_path) -> Repository:
    """A clone with the pretrained model, to alter it."""
    return pulled.copy(tmp_path / "text2image")


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
def test_make_draw_says_that_weights_were_altered(altered):
    (altered.path / ".venv/bin").mkdir(parents=True)
    (altered.path / ".venv/ready").touch()
    _flip(altered.path / "pretrained/mnist/model.safetensors")
    said = altered.run("make", "draw", code=None)
    assert "Can't remove the following unsaved files" in said
    assert "error: pretrained/mnist is not as it came with the clone (above, DVC says why)" in said
    assert not (altered.path / "drawn").exists()


@pytest.mark.parametrize(("alter", "words"), [(_flip, None), (_all_nan, "not finite numbers"), (_half, "is of type F16")])
def test_altered_weights_are_not_drawn_with(altered, tmp_path, alter, words, monkeypatch, capsys):
    """Where a record lies beside them, no byte may differ; a file of version 1 that lies alone has no digest."""
    model = altered.path / "pretrained/mnist/model.safetensors"
    alter(model)
    monkeypatch.chdir(altered.path)
    monkeypatch.setattr(sys, "argv", ["draw", "pretrained/mnist/", CAPTION])
    assert "pretrained/mnist is not what pretrained/mnist.dvc records: a file of it was altered, added or lost" in line(
        ends(draw.main, capsys)[1])
    if words:
        monkeypatch.setattr(sys, "argv", ["draw", str(tmp_path), CAPTION])
        shutil.copy(model, tmp_path)
        assert words in line(ends(draw.main, capsys)[1])
    assert not Path("drawn").exists()


def test_a_flipped_bit_of_dvc_s_cache_is_not_drawn_with(altered, monkeypatch, capsys):
    copy = altered
    model = copy.path / "pretrained/mnist/model.safetensors"
    (cached,) = (file for file in (copy.path / ".dvc/cache/files/md5").rglob("*") if file.is_file() and file.read_bytes() == model.read_bytes())
    _flip(cached)
    cached.chmod(0o444)
    model.unlink()
    copy.dvc("pull", "pretrained/mnist")
    monkeypatch.chdir(copy.path)
    monkeypatch.setattr(sys, "argv", ["draw", "pretrained/mnist", CAPTION])
    assert "pretrained/mnist is not what pretrained/mnist.dvc records" in line(ends(draw.main, capsys)[1])


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
def test_a_caption_reaches_draw_as_it_was_given(checkout, tmp_path):
    copy = checkout.copy(tmp_path / "text2image")
    (copy.path / ".venv/bin").mkdir(parents=True)
    (copy.path / ".venv/ready").touch()
    for name in ("dvc", "python"):
        (copy.path / ".venv/bin" / name).write_text('#!/bin/sh\nprintf "<%s>" "$@"\n')
        (copy.path / ".venv/bin" / name).chmod(0o755)
    caption = """a "b" 'c' $HOME `id` 50% $(shell id) ; #"""
    assert f"<pretrained/mnist><{caption}>" in copy.run("make", "draw", f"CAPTION={caption}")


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
def test_clean_state_forgets_unfinished_work_and_nothing_else(checkout, tmp_path):
    for name in ("digits-0123456789ab", "fetch-mnist", "photographs", "holiday-2024"):
        (tmp_path / name).mkdir()
    checkout.run("make", "clean-state", TEXT2IMAGE_STATE=str(tmp_path))
    assert {path.name for path in tmp_path.iterdir()} == {"photographs", "holiday-2024"}


def test_the_commands_of_troubleshooting(altered, tmp_path):
    """As they stand there: a cache with a damaged file is found, and mended; a note of DVC's that is empty is deleted."""
    text = (ROOT / "docs/troubleshooting.md").read_text(encoding="utf-8")
    model = altered.path / "pretrained/mnist/model.safetensors"
    content = model.read_bytes()
    (altered.path / ".dvc/tmp/rwlock").write_text("")
    assert re.search(r"ERROR: (Unable to read RWLock-file '.*JSON structure is corrupted: .*\))\n", text)[1] in altered.dvc(
        "repro", "pretrained/mnist.dvc", code=None)
    altered.run("sh", "-c", re.search(r"^\$ (rm .*rwlock)$", text, re.MULTILINE)[1])
    find, bad = re.search(r"^\$ (python - <<'END'\n.*?^END)\n(.*?)$", text, re.MULTILINE | re.DOTALL).groups()
    assert altered.run("sh", "-c", find) == ""
    assert altered.run("sh", "-c", find.replace(".dvc/cache", "dvc-remote")) == ""
    _flip(altered.path / bad)
    (altered.path / bad).chmod(0o444)
    model.unlink()
    altered.dvc("pull", "pretrained/mnist")
    assert model.read_bytes() != content, "DVC believes its cache"
    assert altered.run("sh", "-c", find) == f"{bad}\n"
    mend = re.search(r"^(\$ bad=.*?)^```$", text, re.MULTILINE | re.DOTALL)[1]
    commands = [line.removeprefix("$ ") for line in mend.splitlines() if line.startswith("$ ")]
    (answer,) = [line for line in mend.splitlines() if not line.startswith("$ ")]
    assert altered.run("sh", "-c", "\n".join([*commands[:2], "true"])).strip() == answer
    altered.run("sh", "-c", "\n".join(commands))
    assert model.read_bytes() == content
    assert altered.run("sh", "-c", find) == ""


def test_an_override_is_for_the_top_folder(checkout):
    said = checkout.run("sh", "-c", "cd docs && dvc exp run --dry -S runs.digits.train.epochs=1 evaluate@digits", code=None)
    assert "Could not override 'runs.digits.train.epochs'" in said
    assert "Key 'runs' is not in struct" in said
