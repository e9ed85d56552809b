"""draw: images of your captions by a trained model, into a folder. No stage: DVC does not keep them.

    python -m pipeline.draw pretrained/mnist 'the digit 3 is on the left of the digit 7 .'
"""

import argparse
import os
import sys
from pathlib import Path

from pipeline import failures, outputs
from pipeline.sample import draw
from text2image.config import from_mapping
from text2image.errors import UserError
from text2image.models import checkpoints
from text2image.results.sampling import SampleConfig

SIDE_IN_ANIMATION = 240  # pixels, at least, of an image
DRAWN = {"grid.png", "animation.gif", "attention.png", "words.png", "film.gif"}  # the last one of earlier versions


def main() -> None:
    """Draw what the command line asks for."""
    parser = argparse.ArgumentParser(prog="python -m pipeline.draw", description="Draw captions with a trained model.")
    parser.add_argument("model", type=Path, help="folder of model.safetensors: pretrained/mnist, models/digits")
    parser.add_argument("captions", nargs="+", metavar="caption")
    parser.add_argument("--images", type=int, default=8, help="of each caption (default: 8)")
    parser.add_argument("--seed", type=int, default=0, help="image n comes from seed + n (default: 0)")
    parser.add_argument("--into", type=Path, default=Path("drawn"), help="folder, replaced (default: drawn)")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    given = parser.parse_args()
    captions = [as_text(caption) for caption in given.captions]
    if given.images < 1 or given.seed < 0:
        raise UserError("--images must be 1 or more, and --seed 0 or more")
    if given.into.exists() and not (given.into.is_dir() and {path.name for path in given.into.iterdir()} <= DRAWN):
        raise UserError(f"{given.into} holds something else than images drawn before: name another folder by --into")
    outputs.require_recorded(given.model)  # a digest of its own has a checkpoint since version 2, and of its weights alone
    checkpoint = checkpoints.load(given.model / "model.safetensors")
    scale = -(-SIDE_IN_ANIMATION // max(checkpoint.model.image_shape[1:]))
    config = from_mapping(SampleConfig, {"captions": captions, "held_out_captions": 0, "images": given.images,
                                         "seed": given.seed, "scale": scale, "device": given.device}, "draw")
    with outputs.replaced(given.into) as out:
        draw(out, checkpoint, config)
    sys.stdout.write("".join(f"{path}\n" for path in sorted(given.into.iterdir())))


def as_text(argument: str) -> str:
    """A command-line argument that was given in UTF-8, whatever the locale. Raises UserError where it is none."""
    try:
        return os.fsencode(argument).decode("utf-8")
    except UnicodeError as error:
        raise UserError(f"the caption {argument!a} is not UTF-8") from error


if __name__ == "__main__":
    failures.run(main)
