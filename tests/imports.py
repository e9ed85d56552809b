"""Which of the repository's modules a stage imports, read from the source: the truth that dvc.yaml must tell."""

import ast
from pathlib import Path

ROOT = Path(__file__).parent.parent
PACKAGES = {"text2image": ROOT / "src" / "text2image", "pipeline": ROOT / "pipeline"}


def file_of(module: str) -> Path | None:
    """The file of one of our modules, or None for anybody else's (or a name inside a module)."""
    package, *rest = module.split(".")
    if package not in PACKAGES:
        return None
    path = PACKAGES[package].joinpath(*rest)
    for candidate in (path.with_suffix(".py"), path / "__init__.py"):
        if candidate.is_file():
            return candidate
    return None


def imported(path: Path) -> set[Path]:
    """The files of ours that one file imports, packages on the way included."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    prefixes = {".".join(name.split(".")[:n]) for name in names for n in range(1, name.count(".") + 2)}
    return {file for name in prefixes if (file := file_of(name)) is not None}


def closure(path: Path) -> set[str]:
    """All files of ours that running `path` reads as code, itself included, relative to the root."""
    found, todo = set(), {path}
    while todo:
        file = todo.pop()
        found.add(file)
        todo |= imported(file) - found
    return {file.relative_to(ROOT).as_posix() for file in found}


if __name__ == "__main__":
    import sys

    for stage in sys.argv[1:]:
        print(stage, *(f"      - {file}" for file in sorted(closure(ROOT / "pipeline" / f"{stage}.py"))), sep="\n")
