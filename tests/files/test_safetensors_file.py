"""Described safetensors files: what is written comes back, and nothing else is taken for it."""

import json
import os
import struct
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file

from text2image.errors import UserError
from text2image.files import safetensors_file
from text2image.files.safetensors_file import Format

FORMAT = Format(key="a test's", version=3, digest_since=2, noun="box", missing="`make` makes it", remedy="make it again")
TENSORS = {"b": torch.arange(6.0).view(2, 3), "a": torch.tensor(7.0), "empty": torch.zeros(0, 5)}


@pytest.fixture
def path(tmp_path):
    safetensors_file.write(tmp_path / "box.safetensors", TENSORS, {"name": "naïve", "sizes": [1, 2]}, FORMAT)
    return tmp_path / "box.safetensors"


def read(path):
    with safetensors_file.opened(path, FORMAT) as file:
        return file.metadata, file.shapes, file.tensors()


def refused(path) -> str:
    with pytest.raises(UserError) as error:
        read(path)
    said = str(error.value)
    assert said.startswith(f"{path}: ")
    assert "\n" not in said
    assert len(said) < 1000
    return said.removeprefix(f"{path}: ")


def rewrite(path, described: object = None, tensors: dict | None = None, key: str = FORMAT.key) -> None:
    """The file with other metadata (text as it is, else as JSON) or other tensors."""
    from safetensors import safe_open

    with safe_open(path, "pt") as file:
        before = json.loads(file.metadata()[FORMAT.key])
    described = described(before) if callable(described) else before if described is None else described
    save_file(load_file(path) if tensors is None else tensors, path,
              {key: described if isinstance(described, str) else json.dumps(described)})


def test_what_is_written_comes_back(path):
    metadata, shapes, tensors = read(path)
    assert metadata == {"name": "naïve", "sizes": [1, 2], "version": 3, "digest": safetensors_file.digest(TENSORS)}
    assert shapes == {"a": (), "b": (2, 3), "empty": (0, 5)}
    assert tensors.keys() == TENSORS.keys()
    assert all(torch.equal(tensors[name], value) for name, value in TENSORS.items())
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_equal_contents_are_equal_files(path):
    other = path.with_name("other.safetensors")
    safetensors_file.write(other, dict(reversed(TENSORS.items())), {"sizes": [1, 2], "name": "naïve"}, FORMAT)
    assert other.read_bytes() == path.read_bytes()


def test_the_digest_knows_names_types_shapes_and_bytes():
    of = safetensors_file.digest
    assert of({"a": torch.ones(2, 3)}) == of({"a": torch.ones(3, 2).T})
    different = [{"a": torch.ones(2, 3)}, {"b": torch.ones(2, 3)}, {"a": torch.ones(3, 2)}, {"a": torch.ones(2, 3).double()},
                 {"a": torch.zeros(2, 3)}, {"a": torch.ones(2, 3), "b": torch.zeros(0)}, {"a": torch.ones(1, 3), "b": torch.ones(1, 3)}, {}]
    assert len({of(tensors) for tensors in different}) == len(different)


def test_another_type_is_neither_written_nor_read(path):
    with pytest.raises(ValueError, match=r"'b' is torch.float64; a box holds float32"):
        safetensors_file.write(path.with_name("other"), {"b": torch.zeros(2).double()}, {}, FORMAT)
    assert not path.with_name("other").exists()
    for dtype, name in ((torch.float64, "F64"), (torch.bfloat16, "BF16"), (torch.int64, "I64"), (torch.bool, "BOOL")):
        rewrite(path, tensors={"b": torch.ones(2).to(dtype)})
        assert refused(path) == f"'b' is of type {name}; a box holds float32 (F32): make it again"


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_values_that_are_not_finite(path, value):
    safetensors_file.write(path, {"a": torch.ones(2), "b": torch.tensor([1.0, value])}, {}, FORMAT)
    assert refused(path) == "'b' holds values that are not finite numbers; make it again"


def test_tensors_that_were_altered(path):
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    assert refused(path) == "its tensors are not those that were saved (their digest differs); make it again"
    rewrite(path, tensors=TENSORS | {"more": torch.zeros(1)})
    assert "digest differs" in refused(path)
    rewrite(path, lambda m: {name: value for name, value in m.items() if name != "digest"}, TENSORS)
    assert "digest differs" in refused(path)


def test_a_version_without_digest_is_read(path):
    rewrite(path, {"version": 1})
    metadata, _, tensors = read(path)
    assert metadata == {"version": 1}
    assert torch.equal(tensors["b"], TENSORS["b"])
    before = replace(FORMAT, version=1)
    safetensors_file.write(path, TENSORS, {}, before)
    assert read(path)[0] == {"version": 1}


@pytest.mark.parametrize(("described", "said"), [
    ("{", "its metadata is damaged (Expecting property name"),
    ("[" * 100_000 + "]" * 100_000, "its metadata is damaged (maximum recursion depth"),
    ("[]", "its metadata is damaged (it has no version)"), ("3", "its metadata is damaged (it has no version)"),
    ("{}", "its metadata is damaged (it has no version)"), ('{"version": "3"}', "its metadata is damaged (it has no version)"),
    ('{"version": true}', "its metadata is damaged (it has no version)"), ('{"version": 2.5}', "its metadata is damaged (it has no version)"),
    ('{"version": 0}', "its metadata is damaged (it has no version)"), ('{"version": NaN}', "its metadata is damaged (it has no version)"),
    ('{"version": ' + "9" * 5000 + "}", "its metadata is damaged (Exceeds the limit"),
    ('{"version": 4}', "of version 4, newer than this code reads (3); update text2image")])
def test_metadata_that_is_none(path, described, said):
    rewrite(path, described)
    assert refused(path).startswith(said)


def test_a_file_of_another_project(path):
    rewrite(path, key="format")
    assert refused(path) == "not a box of this project: its metadata has no entry 'a test's'"
    save_file(TENSORS, path)
    assert refused(path).startswith("not a box of this project")


def test_a_file_cut_anywhere(path):
    content = path.read_bytes()
    for size in range(0, len(content), 7):
        path.write_bytes(content[:size])
        assert refused(path).startswith("not a readable box (")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + content)
    assert refused(path).startswith("not a readable box (")
    path.write_bytes(struct.pack("<Q", 1 << 62) + content)
    assert refused(path).startswith("not a readable box (")


def test_a_header_that_is_too_long_is_neither_read_nor_written(path, monkeypatch):
    monkeypatch.setattr(safetensors_file, "LARGEST_HEADER", 200)
    assert refused(path).startswith("not a readable box (a header of ")
    with pytest.raises(UserError, match=r"characters of metadata are more than a box may have; raise min_count"):
        safetensors_file.write(path, TENSORS, {"vocabulary": ["word"] * 100}, FORMAT)
    monkeypatch.undo()
    read(path)


def test_names_of_tensors_are_shown_without_control_characters(path):
    rewrite(path, tensors={"a\x1b[2J\n" + "b" * 5000: torch.ones(2).double()})
    said = refused(path)
    assert said.startswith("'a?[2J bbbb")
    assert len(said) < 300


def test_tensors_larger_than_the_file(path):
    header = {"__metadata__": {FORMAT.key: '{"version": 1}'}, "a": {"dtype": "F32", "shape": [1 << 40], "data_offsets": [0, 1 << 42]}}
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text)
    assert refused(path).startswith("not a readable box (")


def test_no_file_and_what_is_no_file(path):
    path.unlink()
    assert refused(path) == "no such box; `make` makes it"
    path.symlink_to("nowhere")
    assert refused(path) == "no such box; `make` makes it"
    path.unlink()
    path.mkdir()
    assert refused(path) == "not a readable box (it is no file); make it again"
    path.rmdir()
    os.mkfifo(path)
    assert refused(path) == "not a readable box (it is no file); make it again"


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read(path):
    path.chmod(0)
    assert "Permission denied" in refused(path)


def test_a_long_message_is_cut():
    assert safetensors_file.one_line("a\nb  c") == "a b c"
    assert len(safetensors_file.one_line("x" * 10_000)) < 600
