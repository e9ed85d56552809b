"""The house: which room may import which, no circle, no arrow that runs up, every public function described."""

import ast

import pytest

from tests.imports import PACKAGES, ROOT, closure, imported

# From the ground up. A module imports from its own room and from floors below it; rooms on one floor know nothing of each other.
FLOORS = (("config", "errors", "seeds", "devices", "lookup"), ("files",), ("data",), ("models",), ("training",),
          ("classifiers",), ("results",), ("sharpening",), ("sources", "sentences"), ("pretrained",), ("pipeline",))
# No module of the ground floor is a room: these may know each other as they are listed.
GROUND = ("errors", "config", "seeds", "devices", "lookup")
FILES = sorted(path for package in PACKAGES.values() for path in package.rglob("*.py"))


def room(name: str) -> str:
    """The room of a file of ours, by its path from the root."""
    parts = name.split("/")
    if parts[0] == "pipeline":
        return "pipeline"
    return parts[2].removesuffix(".py") if len(parts) > 2 else ""


def floor(name: str) -> int:
    return next(number for number, rooms in enumerate(FLOORS) if name in rooms)


def imports() -> list[tuple[str, str]]:
    """Every arrow: a file, and a file that it imports; a package on the way to a module of its own room is no arrow."""
    return [(path.relative_to(ROOT).as_posix(), other.relative_to(ROOT).as_posix())
            for path in FILES for other in imported(path) if other.name != "__init__.py"]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_a_module_imports_from_its_own_room_and_from_below(path):
    name = path.relative_to(ROOT).as_posix()
    if name == "src/text2image/__init__.py":
        assert not imported(path), "the public face imports when it is asked"
        return
    for other in imported(path):
        here, there = room(name), room(other.relative_to(ROOT).as_posix())
        if there in ("", "__init__", here):
            continue
        assert floor(there) < floor(here) or (here in GROUND and there in GROUND and GROUND.index(there) < GROUND.index(here)), (
            f"{name} imports {other.relative_to(ROOT)}")


def test_there_is_no_circle_of_imports():
    arrows: dict[str, set[str]] = {}
    for one, other in imports():
        arrows.setdefault(one, set()).add(other)
    done: set[str] = set()

    def visit(name: str, way: tuple[str, ...]) -> None:
        assert name not in way, f"a circle: {' -> '.join([*way, name])}"
        if name not in done:
            for other in arrows.get(name, ()):
                visit(other, (*way, name))
            done.add(name)

    for name in sorted(arrows):
        visit(name, ())


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_nothing_of_ours_is_imported_inside_a_function(path):
    """What is looked up by its name is looked up by text2image.lookup, so that a file's head tells all that it needs."""
    assert not imported(path, top=False)


def test_a_source_and_a_model_kind_know_no_other_of_their_kind():
    for kind, door in (("sources", "FetchConfig"), ("models", "Model")):
        modules = [path for path in FILES if path.parent.name == kind and _defines(path, door)]
        assert modules
        for path in modules:
            others = {other.relative_to(ROOT).as_posix() for other in modules if other != path}
            assert not closure(path) & others, path


def _defines(path, name: str) -> bool:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return any(name in {getattr(node, "name", None), *(ast.unparse(target) for target in getattr(node, "targets", ()))}
               for node in tree.body)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_every_module_class_and_public_function_has_a_docstring(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    assert ast.get_docstring(tree), "the module"
    for node in tree.body:
        nodes = [node, *(node.body if isinstance(node, ast.ClassDef) else ())]
        for item in nodes:
            if isinstance(item, ast.FunctionDef | ast.ClassDef) and not item.name.startswith("_") and item.name != "main":
                assert ast.get_docstring(item) or _setter(item), f"{item.name} has no docstring"


def _setter(item: ast.AST) -> bool:
    """A property is described where it is read."""
    return any(isinstance(each, ast.Attribute) and each.attr == "setter" for each in getattr(item, "decorator_list", ()))
