"""What a public project has: licence, citation, workflow, hooks, documents whose links lead somewhere."""

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path, PurePosixPath

import pytest
import yaml

from tests.conftest import ROOT, repository_files
from tests.documents import apply, blocks

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("pretrained/*.md")])
LINK = re.compile(r"\]\(([^()\s]+)\)")
FENCE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
# Absolute paths of somebody's machine. Tests of hostile archives name some on purpose.
ABSOLUTE = re.compile(r"(?<![\w.:/~}*<$@%-])/(?:data|etc|home|mnt|opt|root|srv|tmp|Users|usr(?!/bin/env)|var|work)(?=/\w)")
UPWARD = re.compile(r"(?<![\w./])(?:\$PWD/)?((?:\.\./)+[\w.-]+(?:/[\w.-]+)*)")
# Beside the repository, on purpose: published data for the tests, where there is any; the folder of the `folder` example.
BESIDE = {(".ci/run", "../shared/data"), ("params.yaml", "../captioned-pictures"), ("params.yaml", "../captioned-images")}


def check(schema: str, *files: Path) -> None:
    command = (sys.executable, "-m", "check_jsonschema", "--builtin-schema", schema, *map(str, files))
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr


def slug(heading: str) -> str:
    """A heading's anchor, as GitHub makes it."""
    return re.sub(r"[^\w\- ]", "", re.sub(r"[`*]", "", heading).strip().lower()).replace(" ", "-")


def anchors(document: Path) -> set[str]:
    text = FENCE.sub("", document.read_text(encoding="utf-8"))
    return {slug(heading) for heading in re.findall(r"^#+ (.+)$", text, re.MULTILINE)}


def test_the_licence_is_mit_everywhere():
    text = (ROOT / "LICENSE").read_text(encoding="utf-8")
    assert text.startswith("MIT License\n\nCopyright (c) ")
    assert PROJECT["license"] == "MIT" and PROJECT["license-files"] == ["LICENSE"]
    assert "[MIT](LICENSE)" in (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_citation_is_valid_and_agrees_with_the_package():
    check("vendor.citation-file-format", ROOT / "CITATION.cff")
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["title"] == PROJECT["name"]
    assert citation["version"] == PROJECT["version"]
    assert citation["license"] == PROJECT["license"]
    assert citation["keywords"] == PROJECT["keywords"]
    assert citation["authors"] == PROJECT["authors"]
    assert citation["preferred-citation"]["url"] == PROJECT["urls"]["Paper"]


def test_the_changelog_has_the_version():
    assert re.search(rf"^## \[?{re.escape(PROJECT['version'])}\b", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)


def test_the_workflow_is_valid_and_calls_what_anyone_can_call():
    workflows = sorted((ROOT / ".github/workflows").glob("*.yml"))
    check("vendor.github-workflows", *workflows)
    jobs = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text(encoding="utf-8"))["jobs"]
    assert [step["run"] for job in jobs.values() for step in job["steps"] if "run" in step] == [".ci/run"]
    versions = jobs["run"]["strategy"]["matrix"]["python"]
    supported = {line.rsplit(" ", 1)[1] for line in PROJECT["classifiers"] if re.search(r":: 3\.\d+$", line)}
    assert set(versions) <= supported and PROJECT["requires-python"] == f">={min(versions)}"


def test_hooks_fetch_nothing_and_run_what_is_installed():
    configuration = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))
    files = repository_files()
    for repository in configuration["repos"]:
        assert repository["repo"] == "local"
        for hook in repository["hooks"]:
            assert hook["language"] == "system"
            program = PurePosixPath(hook["entry"].split()[0])
            assert program.parent == PurePosixPath(".venv/bin")
            assert (Path(sys.executable).parent / program.name).exists(), f"{program.name} is not installed"
            assert any(re.search(hook.get("files", r"\.py$"), name) for name in files), hook["id"]
    done = subprocess.run((sys.executable, "-m", "pre_commit", "validate-config"), cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_requirement_has_a_tested_version():
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pinned = {normal(line.partition("==")[0]) for line in lines if "==" in line}
    requirements = [*PROJECT["dependencies"], *(line for extra in PROJECT["optional-dependencies"].values() for line in extra)]
    assert {normal(re.match(r"[\w.-]+", line)[0]) for line in requirements} <= pinned


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(document):
    for target in LINK.findall(document.read_text(encoding="utf-8")):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        file = (document.parent / path).resolve() if path else document
        assert file.is_relative_to(ROOT), f"{target} leads out of the repository"
        assert file.exists(), f"{target} is not there"
        if anchor:
            assert anchor in anchors(file), f"{path or document.name} has no heading #{anchor}"


def test_every_document_is_found_from_the_readme():
    seen, todo = set(), [ROOT / "README.md"]
    while todo:
        document = todo.pop()
        seen.add(document)
        for target in LINK.findall(document.read_text(encoding="utf-8")):
            file = (document.parent / target.partition("#")[0]).resolve()
            if file.suffix == ".md" and file.is_file() and file not in seen:
                todo.append(file)
    assert seen >= set(DOCUMENTS)


def test_no_file_names_a_path_outside_the_repository():
    found = []
    for name in repository_files():
        if name.startswith(("dvc-remote/", "tests/")):
            continue
        try:
            text = (ROOT / name).read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        for number, line in enumerate(text.splitlines(), 1):
            found += [f"{name}:{number}: {line.strip()}" for _ in ABSOLUTE.findall(line)]
            found += [f"{name}:{number}: {path}" for path in UPWARD.findall(line) if (name, path) not in BESIDE
                      and not (ROOT / name).parent.joinpath(path).resolve().is_relative_to(ROOT)]
    assert not found, "\n".join(found)


EXTENDING = ROOT / "docs/extending.md"


def test_the_blocks_of_extending_are_code_and_go_where_they_say(tmp_path):
    found = blocks(EXTENDING)
    assert {block.path for block in found if block.how == "merge"} == {"params.yaml", "dvc.yaml"}
    for name in ("params.yaml", "dvc.yaml"):
        shutil.copy(ROOT / name, tmp_path / name)
    for block in found:
        (tmp_path / block.path).parent.mkdir(parents=True, exist_ok=True)
        assert (ROOT / block.path).exists() == (block.how == "merge")
    apply(found, tmp_path)
    for block in found:
        if block.path.endswith(".py"):
            compile(block.text, block.path, "exec")
    parameters = yaml.safe_load((tmp_path / "params.yaml").read_text(encoding="utf-8"))
    assert parameters["pipeline"]["runs"]["stripes"]["model"] == "bag_of_words"
    assert parameters["runs"]["stripes"].keys() >= {"model", "train", "sample", "bounds", "squared_error"}


@pytest.mark.parametrize("block", [block for block in blocks(EXTENDING) if block.path.endswith(".py")], ids=lambda b: b.path)
def test_code_in_the_documents_is_clean(block):
    """In the style of the repository's own, as if it lay where it says."""
    command = (sys.executable, "-m", "ruff", "check", "--no-cache", "--stdin-filename", block.path, "-")
    done = subprocess.run(command, cwd=ROOT, input=block.text, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
