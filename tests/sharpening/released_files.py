"""The authors' sharpening files, small: right names, types and layouts, random weights."""

from pathlib import Path

import h5py
import numpy as np

from tests.files.test_object_arrays import python2_table
from text2image.data import toronto_arrays
from text2image.sharpening.generator import Sharpener, SharpenerConfig
from text2image.sources import sharpening

WORDS = ["<eos>", "UNK", "a", "red", "dog", "caf\xe9", ".", "line\x85break", "dog"]
DIMENSION, UNI, BI = 5, 6, 3  # of a word, of uni-skip's GRU, of each of bi-skip's
LANGUAGE = UNI + 2 * BI
ROWS = {"uni": "utable.npy", "bi": "btable.npy"}


def gru(rng: np.random.Generator, units: int, prefix: str, dimension: int = DIMENSION) -> dict[str, np.ndarray]:
    shapes = {"W": (dimension, 2 * units), "b": (2 * units,), "U": (units, 2 * units), "Wx": (dimension, units),
              "Ux": (units, units), "bx": (units,)}
    return {prefix + name: rng.normal(0, 0.5, shape).astype(np.float32) for name, shape in shapes.items()}


def gan(rng: np.random.Generator, side: int = 8, language: int = LANGUAGE, planes: int = 4) -> dict[str, np.ndarray]:
    arrays = {"skipthought2image": (language, side * side), "skipthought2image-bias": (side * side,),
              "W_conv0": (planes, 5, 7, 7), "b_conv0": (planes,), "W_conv1": (planes, planes, 7, 7), "b_conv1": (planes,),
              "W_conv2": (3, planes, 5, 5), "b_conv2": (3,)}
    return {name: rng.normal(0, 0.2, shape).astype(np.float32) for name, shape in arrays.items()}


def write_gan(path: Path, arrays: dict[str, np.ndarray]) -> None:
    with h5py.File(path, "w") as h5:
        for name, array in arrays.items():
            h5[name] = array


def write(base: Path) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray], dict[str, np.ndarray]]:
    """All of them below `base` as their hosts have them; returns the arrays of the GRUs, the tables and the network."""
    rng = np.random.default_rng(0)
    models, host = base / sharpening.FOLDER, base / toronto_arrays.FOLDER
    for folder in (models, host):
        folder.mkdir(parents=True, exist_ok=True)
    (models / "dictionary.txt").write_bytes("\n".join([*WORDS, ""]).encode())
    tables = {half: rng.normal(size=(len(WORDS), DIMENSION)).astype(np.float32) for half in ROWS}
    for half, name in ROWS.items():
        (models / name).write_bytes(python2_table([tables[half][:1], *tables[half][1:]]))
    weights = {"uni": gru(rng, UNI, "encoder_"), "bi": gru(rng, BI, "encoder_") | gru(rng, BI, "encoder_r_")}
    np.savez(models / "uni_skip.npz", **weights["uni"], Wemb=np.ones((4, DIMENSION), np.float32))
    np.savez(models / "bi_skip.npz", **weights["bi"])
    network = gan(rng)
    write_gan(host / sharpening.GAN, network)
    return weights, tables, network


def read_gan(path: Path) -> Sharpener:
    """The network of a gan.hdf5, as it is applied."""
    found = sharpening.read_gan(path)
    network = Sharpener(SharpenerConfig(**found.config | {"kernels": tuple(found.config["kernels"])}))
    network.load_state_dict(found.tensors)
    return network
