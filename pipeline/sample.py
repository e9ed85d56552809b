"""sample: images from captions, into samples/<run>: a grid, an animation, the words attended to, and where it wrote meanwhile.

The arrays that they are made of go into data/samples/<run>.npz.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

from pipeline import stage
from text2image import devices
from text2image.data.vocabulary import pad
from text2image.errors import UserError
from text2image.files import atomic
from text2image.files.npz import write_npz
from text2image.models import checkpoints
from text2image.models.checkpoints import Checkpoint
from text2image.results import figures, sampling, word_attention
from text2image.results.figures import AttendedWord
from text2image.results.sampling import SampleConfig, Samples

IN_ANIMATION = 12  # captions
IN_STRIPS = 4
WORDS_IN_STRIPS = 8  # of a caption


def sample(parameters: dict[str, Any], run: str, captions_file: str) -> None:
    """Draw the captions of the run's parameters, or of its captions file."""
    config = stage.config(SampleConfig, parameters, "runs", run, "sample")
    checkpoint = checkpoints.load(Path("models") / run / "model.safetensors")
    if not config.captions:
        config = replace(config, captions=tuple(read_captions(Path(captions_file))))
    with stage.output_folder(Path("samples") / run) as out:
        arrays = draw(out, checkpoint, config)
        with atomic.atomic_write(Path("data/samples") / f"{run}.npz") as partial:
            write_npz(partial, arrays)


def draw(out: Path, checkpoint: Checkpoint, config: SampleConfig) -> dict[str, Any]:
    """Draw the captions of `config`, and those held out that it asks for, into the folder `out`; returns what was drawn as
    the arrays of `sampling.Samples`, beside captions, word ids (M, L) and seed."""
    device = devices.choose(config.device)
    model = checkpoint.model.to(device)
    held_out = sampling.held_out_captions(checkpoint, config.held_out_captions)
    captions = [*config.captions, *held_out]
    ids = [checkpoint.vocabulary.encode(caption) for caption in captions]
    sampling.check(model, ids, config)
    exchanged = [checkpoint.vocabulary.encode(caption) for captions in config.exchanges for caption in captions]
    if exchanged:
        sampling.check(model, exchanged, config)
    drawn = sampling.draw(model, ids, config.images, config.seed, device)
    titles = [*config.captions, *(f"{caption}  (held out of training)" for caption in held_out)]
    figures.grid(out / "grid.png", drawn.images, titles)
    windows = None if drawn.windows is None else drawn.windows[:, :IN_ANIMATION]
    figures.animation(out / "animation.gif", drawn.canvases[:, :IN_ANIMATION], windows, config.scale)
    if drawn.alphas is not None:
        strips = np.unique(np.linspace(0, len(ids) - 1, min(len(ids), IN_STRIPS)).round().astype(int))
        figures.attention_plot(out / "attention.png", drawn.canvases[:, strips], drawn.alphas[:, strips],
                               [checkpoint.vocabulary.decode(ids[i]) for i in strips])
        draw_words(out / "words.png", drawn, {int(i): checkpoint.vocabulary.decode(ids[i]) for i in strips[:3]})
    if config.exchanges:
        draw_exchanges(out / "exchanged.png", checkpoint, config, device)
    arrays = {name: value for name, value in drawn._asdict().items() if value is not None}
    return {"captions": np.array(captions), "words": pad(ids)[0], "seed": config.seed} | arrays


def draw_words(path: Path, drawn: Samples, captions: dict[int, list[str]]) -> None:
    """Where the model wrote while it attended to each content word of `captions`, rows of `drawn` and their words; nothing
    for a model without windows or attention, or where no caption has a content word."""
    if drawn.alphas is None or drawn.windows is None:
        return
    found = []
    for row, words in captions.items():
        alphas, windows = drawn.alphas[:, row], drawn.windows[:, row]
        share = word_attention.share_of_glimpses(alphas)
        where = word_attention.maps(alphas, windows, *drawn.images.shape[-2:])
        found += [AttendedWord(" ".join(words), words[k], drawn.canvases[:, row], windows, share[:, k], where[k])
                  for k in word_attention.content_words(words)[:WORDS_IN_STRIPS]]
    if found:
        figures.words_plot(path, found)


def draw_exchanges(path: Path, checkpoint: Checkpoint, config: SampleConfig, device: torch.device) -> None:
    """The paper's experiment: captions that differ in a word, drawn with the same noise."""
    groups = []
    for captions in config.exchanges:
        ids = [checkpoint.vocabulary.encode(caption) for caption in captions]
        groups.append((captions, sampling.draw(checkpoint.model, ids, config.images, config.seed, device).images))
    figures.exchange_plot(path, groups)


def read_captions(path: Path) -> list[str]:
    """The captions of a YAML file: a list of strings."""
    try:
        captions = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:  # ValueError: not UTF-8
        raise UserError(f"{path}: not readable as YAML ({error})") from error
    if not isinstance(captions, list) or not captions or not all(isinstance(caption, str) for caption in captions):
        raise UserError(f"{path}: must be a list of captions, one '- a caption .' a line")
    return captions


if __name__ == "__main__":
    stage.main("sample", sample)
