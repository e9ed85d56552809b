"""report: all that was measured and drawn, as one page that opens anywhere, report/index.html, and as docs/results.md."""

import sys
from pathlib import Path
from typing import Any

from pipeline import stage
from text2image.results import page, record

PAGE, DOCUMENT = Path("report/index.html"), Path("docs/results.md")


def report(parameters: dict[str, Any]) -> None:
    """Read results/, metrics/, plots/ and figures; write both."""
    found = record.read(Path(), stage.block(parameters, ("pipeline", "runs")))
    written = {PAGE: page.html(found, Path()), DOCUMENT: page.markdown(found)}
    for path, text in written.items():
        stage.write_text(path, text)
    sys.stdout.write(f"{PAGE}: {len(found.runs)} runs, {PAGE.stat().st_size / 1e6:.1f} MB; open it in a browser\n")


if __name__ == "__main__":
    stage.main("report", report, lambda: "report", noted=False)  # a note would be new at each run, and the page reads all notes
