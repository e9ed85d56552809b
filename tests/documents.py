"""Code and configuration in the documents, taken out so that tests can run it.

In a document, a comment above a fenced block says where the block goes:

    <!-- file: src/text2image/sources/stripes.py -->    it is the whole of that file
    <!-- merge: params.yaml -->                         its maps are merged into those of that YAML file
"""

import re
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from dvc.utils.serialize import modify_yaml

BLOCK = re.compile(r"^<!-- (file|merge): (\S+) -->\n\n```\w*\n(.*?)^```$", re.MULTILINE | re.DOTALL)
MARK = re.compile(r"^<!-- (?:file|merge):", re.MULTILINE)


class Block(NamedTuple):
    """A block of a document, and the file of the repository that it is for."""

    how: str   # file, merge
    path: str  # relative to the repository's root
    text: str


def blocks(document: Path) -> list[Block]:
    """The marked blocks of a document, in their order."""
    text = document.read_text(encoding="utf-8")
    found = [Block(*match) for match in BLOCK.findall(text)]
    assert len(found) == len(MARK.findall(text)), f"{document}: a mark has no block below it"
    return found


def apply(found: list[Block], root: Path) -> None:
    """Do to a copy of the repository what a reader of the document would do."""
    for block in found:
        path = root / block.path
        if block.how == "file":
            assert not path.exists(), f"{block.path} is there already"
            path.write_text(block.text, encoding="utf-8", newline="\n")
        else:
            with modify_yaml(str(path)) as content:
                merge(content, yaml.safe_load(block.text), block.path)


def merge(into: Any, new: dict[str, Any], where: str) -> None:
    """Add the keys of `new`; none may be there with another value."""
    for key, value in new.items():
        if key not in into:
            into[key] = value
        else:
            assert isinstance(into[key], dict) and isinstance(value, dict), f"{where}: {key} is there already"
            merge(into[key], value, f"{where}: {key}")
