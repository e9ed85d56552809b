"""draw: pictures of your captions by a trained model, into a folder. No stage: DVC does not keep them.

    python -m pipeline.draw pretrained/mnist 'the digit 3 is on the left of the digit 7 .'
"""

import argparse
import sys
import warnings
from pathlib import Path

from pipeline import stage
from pipeline.sample import draw
from text2image import checkpoints
from text2image.errors import UserError
from text2image.sampling import SampleConfig

SIDE_IN_FILM = 240  # pixels, at least, of a picture
DRAWN = {"grid.png", "film.gif", "words.png"}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m pipeline.draw", description="Draw captions with a trained model.")
    parser.add_argument("model", type=Path, help="folder of model.safetensors: pretrained/mnist, models/digits")
    parser.add_argument("captions", nargs="+", metavar="caption")
    parser.add_argument("--pictures", type=int, default=8, help="of each caption (default: 8)")
    parser.add_argument("--seed", type=int, default=0, help="picture n comes from seed + n (default: 0)")
    parser.add_argument("--into", type=Path, default=Path("drawn"), help="folder, replaced (default: drawn)")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    given = parser.parse_args()
    warnings.formatwarning = lambda message, *_, **__: f"warning: {message}\n"
    try:
        if given.pictures < 1 or given.seed < 0:
            raise UserError("--pictures must be 1 or more, and --seed 0 or more")
        if given.into.exists() and not (given.into.is_dir() and {path.name for path in given.into.iterdir()} <= DRAWN):
            raise UserError(f"{given.into} holds something else than pictures drawn before: name another folder by --into")
        checkpoint = checkpoints.load(given.model / "model.safetensors")
        scale = -(-SIDE_IN_FILM // max(checkpoint.model.config.height, checkpoint.model.config.width))
        config = SampleConfig(tuple(given.captions), 0, given.pictures, given.seed, scale, given.device)
        with stage.output_folder(given.into) as out:
            draw(out, checkpoint, config)
    except (UserError, OSError) as error:
        sys.exit("error: " + " ".join(str(error).split()))
    sys.stdout.write("".join(f"{path}\n" for path in sorted(given.into.iterdir())))


if __name__ == "__main__":
    main()
