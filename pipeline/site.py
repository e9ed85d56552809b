"""site: a folder with the page and its models, for any static host. No stage: it changes no result.

    python -m pipeline.site             write it: site/
    python -m pipeline.site --serve     write it, and serve it on 127.0.0.1
"""

import argparse
import functools
import http.server
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import yaml

from pipeline import failures, outputs
from pipeline.sample import read_captions
from text2image.config import from_mapping, frozen
from text2image.errors import UserError
from text2image.results import slim

WEB = Path("web")
LIST = "models.json"
REPORT = Path("report")
FIRST_PORT, PORTS = 8000, 20
TYPES = {".html": "text/html", ".js": "text/javascript", ".css": "text/css", ".json": "application/json", ".png": "image/png",
         ".svg": "image/svg+xml", ".gif": "image/gif", "": "application/octet-stream"}


@frozen
class Listed:
    """A line of web/models.yaml."""

    name: str
    title: str
    checkpoint: str
    captions: str


def build(into: Path) -> None:
    """Write the page, the models that are there, and the report where it is there."""
    if into.exists() and not (into.is_dir() and (not any(into.iterdir()) or (into / LIST).is_file())):
        raise UserError(f"{into} holds something else than a site: name another folder by --into")
    models = []
    with outputs.replaced(into) as out:
        for part in ("index.html", "style.css", "page", "model"):
            copy = shutil.copytree if (WEB / part).is_dir() else shutil.copyfile
            copy(WEB / part, out / part)
        (out / "models").mkdir()
        for listed in read_list(WEB / "models.yaml"):
            source = Path(listed.checkpoint) / "model.safetensors"
            if source.is_file():
                models.append(add(listed, source, out, into))
        report = (REPORT / "index.html").is_file()
        if report:
            shutil.copytree(REPORT, out / "report")
        listing = {"models": models, "report": "report/index.html" if report else None}
        (out / LIST).write_text(json.dumps(listing, indent=1, ensure_ascii=False) + "\n", encoding="utf-8", newline="\n")
    if not models:
        sys.stderr.write("warning: no checkpoint of web/models.yaml is there; `dvc pull` fetches them\n")


def read_list(path: Path) -> list[Listed]:
    """The lines of web/models.yaml. Raises UserError where it is not readable, or names a model twice."""
    try:
        lines = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise UserError(f"{path}: not readable ({error})") from error
    listed = [from_mapping(Listed, line, f"{path}[{i}]") for i, line in enumerate(lines or [])]
    if len({each.name for each in listed}) != len(listed):
        raise UserError(f"{path}: a name stands twice: give each model its own")
    return listed


def add(listed: Listed, source: Path, out: Path, before: Path) -> dict[str, Any]:
    """Put a model into the folder, from the site of before where it is the same; what the page is told of it."""
    outputs.require_recorded(source.parent)
    file = f"models/{listed.name}.safetensors"
    captions = read_captions(Path(listed.captions))
    if slim.is_of(before / file, source):
        shutil.copyfile(before / file, out / file)
    else:
        sys.stderr.write(f"{source}: made smaller for the page\n")
        slim.write(out / file, source, captions)
    return {"name": listed.name, "title": listed.title, "file": file, "captions": captions}


class Handler(http.server.SimpleHTTPRequestHandler):
    """Files with the types that browsers ask for, whatever the system's table says; nothing is kept in a cache."""

    extensions_map = TYPES

    def end_headers(self) -> None:
        """Headers of every answer."""
        self.send_header("Cache-Control", "no-cache")
        super().end_headers()

    def log_message(self, *_: Any) -> None:
        """Say nothing of each request."""


def server(folder: Path, first: int = FIRST_PORT) -> http.server.ThreadingHTTPServer:
    """A server of the folder on 127.0.0.1, at the first port from `first` on that is free."""
    handler = functools.partial(Handler, directory=str(folder))
    for port in (*range(first, first + PORTS), 0):
        try:
            return http.server.ThreadingHTTPServer(("127.0.0.1", port), handler)
        except (OSError, OverflowError):
            continue
    raise UserError("no port of 127.0.0.1 is free")


def serve(folder: Path, port: int) -> None:
    """Serve the folder until Ctrl-C."""
    with server(folder, port) as running:
        sys.stdout.write(f"http://127.0.0.1:{running.server_port}/   (Ctrl-C ends it)\n")
        sys.stdout.flush()
        try:
            running.serve_forever()
        except KeyboardInterrupt:
            sys.stdout.write("\n")


def main() -> None:
    """Write the site, and serve it where that is asked for."""
    parser = argparse.ArgumentParser(prog="python -m pipeline.site", description="The page with its models.")
    parser.add_argument("--into", type=Path, default=Path("site"), help="folder, replaced (default: site)")
    parser.add_argument("--serve", action="store_true", help="serve it on 127.0.0.1")
    parser.add_argument("--port", type=int, default=FIRST_PORT, help="the first port to try (default: 8000)")
    given = parser.parse_args()
    if not 0 <= given.port < 2**16:
        raise UserError("--port must be from 0 to 65535")
    build(given.into)
    size = sum(file.stat().st_size for file in given.into.rglob("*") if file.is_file())
    sys.stdout.write(f"{given.into}: {size / 1e6:.1f} MB\n")
    if given.serve:
        serve(given.into, given.port)


if __name__ == "__main__":
    failures.run(main)
