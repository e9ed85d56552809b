"""Which of the repository's modules a module imports, read from the source: the truth that dvc.yaml must tell.

What stands at the top of a module counts. Inside functions none of ours is imported (a test holds that): what is looked up by
name goes through text2image.lookup.
"""

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parent.parent
METRICS = ("bounds", "caption_accuracy", "retrieval", "similarity")  # stages of pipeline/measure.py
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


def statements(node: ast.AST, top: bool) -> Iterator[ast.AST]:
    """All that a module runs when it is imported; or, not `top`, what stands inside its functions."""
    for child in ast.iter_child_nodes(node):
        inside = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            continue
        if inside:
            if not top:
                yield from ast.walk(child)
        else:
            if top:
                yield child
            yield from statements(child, top)


@cache
def imported(path: Path, top: bool = True) -> set[Path]:
    """The files of ours that one file imports, packages on the way included."""
    names = set()
    for node in statements(ast.parse(path.read_text(encoding="utf-8")), top):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    prefixes = {".".join(name.split(".")[:n]) for name in names for n in range(1, name.count(".") + 2)}
    return {file for name in prefixes if (file := file_of(name)) is not None}


def closure(*paths: Path) -> set[str]:
    """All files of ours that running `paths` reads as code, they themselves included, relative to the root."""
    found: set[Path] = set()
    todo = {parent for path in paths for parent in (path, *packages_of(path))}
    while todo:
        file = todo.pop()
        found.add(file)
        todo |= imported(file) - found
    return {file.relative_to(ROOT).as_posix() for file in found}


def packages_of(path: Path) -> set[Path]:
    """The __init__.py of every package that a file lies in."""
    return {folder / "__init__.py" for folder in path.parents if (folder / "__init__.py").is_file() and folder.is_relative_to(ROOT)}


def doors(stage: str, item: dict[str, str]) -> set[Path]:
    """What a stage looks up by name for an item of its foreach: modules of src/text2image."""
    by_name = {"source": "sources", "model": "models", "conditioning": "sharpening", "encoder": "sentences",
               "labels": "classifiers"}
    looked_up = {"fetch": ("source",), "preprocess": ("source",), "train": ("model",), "sample": ("model",),
                 **dict.fromkeys(METRICS, ("model",)), "diversity": ("model",), "train_sharpener": (),
                 "sharpen": ("conditioning",), "evaluate": (), "report": (), "add_sentence_encoder": ("encoder",),
                 "train_classifier": ("labels",), "caption_accuracy": ("model", "labels")}[stage]
    names = [f"{by_name[key]}/{item[key]}" for key in looked_up]
    if stage in METRICS:
        names.append(f"results/{stage}")
    if stage == "train" and item["model"] == "align_draw":
        names.append("models/released")   # where train.init is released_weights
    if stage in ("train_sharpener", "sharpen"):
        names.append("models/align_draw")  # whose caption encoder conditions the sharpener
    if stage == "add_sentence_encoder":
        names += ["models/align_draw", "models/noalign"]  # whose caption encoder may be the one
    return {PACKAGES["text2image"] / f"{name}.py" for name in names}


BESIDE = {"report": {"src/text2image/results/page.html"}}  # files of the package that a stage reads and that are no modules
# What a template lists for all of its items and some alone run: a template has one list, in which only a path can vary.
LISTED_FOR_SOME = {"train": {"src/text2image/models/released.py"}}


def needs(stage: str, item: dict[str, str]) -> set[str]:
    """All files of ours that a stage runs for an item: what its script imports, and what it looks up by name."""
    script = "measure" if stage in METRICS else stage
    return closure(ROOT / "pipeline" / f"{script}.py", *doors(stage, item)) | BESIDE.get(stage, set())
