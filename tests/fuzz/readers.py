"""The readers of foreign bytes, each with whole files of its kind, and what such files are made of."""

import gzip
import io
import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np
import torch
from PIL import Image

from tests.files.test_object_arrays import mixed, python2_table
from tests.files.test_pickles import python2
from tests.models import sentences
from tests.models.small import PRIMES
from tests.sharpening import released_files
from tests.sources import test_binarized_mnist, test_coco
from text2image.classifiers import network as classifiers
from text2image.classifiers.network import Classifier, ClassifierConfig
from text2image.data import sharpening_files, toronto_arrays
from text2image.data.mnist_captions import VOCABULARY, Grammar
from text2image.files import image_files, released_arrays
from text2image.files.image_files import ImageFormat
from text2image.files.object_arrays import ObjectTable
from text2image.models import checkpoints, sentence_encoders
from text2image.models.align_draw import AlignDRAW
from text2image.models.checkpoints import Checkpoint
from text2image.sharpening import generator
from text2image.sharpening.generator import Sharpener, SharpenerConfig
from text2image.sources import binarized_mnist, coco, folder, mnist, sharpening
from text2image.training.resume import ResumableState


class Reader(NamedTuple):
    """A file's name, whole ones, what reads it, and what it is made of. `wrap` packs what was altered."""

    name: str
    whole: list[bytes]
    read: Callable[[Path], object]
    tokens: list[bytes]
    wrap: Callable[[bytes], bytes] = bytes
    weight: int = 1  # of the inputs


OPCODES = [bytes([code]) for code in b"().01234FGIJKLMNPQRSTUVXabcdeghijlopqrstu}]"] + [bytes([code]) for code in range(0x80, 0x99)]
PICKLES = [*OPCODES, b"cnumpy\ndtype\n", b"cnumpy.core.multiarray\nscalar\n", b"cnumpy.core.multiarray\n_reconstruct\n", b"cnumpy\nndarray\n",
           b"c_codecs\nencode\n", b"c__builtin__\nbytes\n", b"(S'i8'\nI0\nI1\ntR", b"S'a'\n", b"I5\n", b"L5L\n", b"p1\n", b"g1\n", b"q\x00", b"h\x00",
           b"Va\\ud83d\n", b"\x8a\x01\x05", b"U\x01a", b"K\x01", b"X\x02\x00\x00\x00ab", b"(", b"t", b"\x85", b")"]
NPY = [b"'<f4'", b"'|O'", b"'<i8'", b"'|V9'", b"'<U9'", b"(", b")", b"True", b"-", b"99999999", b"[", b"'descr'", b"'shape'", b"{", b"}", b",", b"L"]
BRACKETS = [b"[" * 1000, b"[" * 100_000, b'{"a":' * 1000, b"]", b"}", b'"', b",", b":", b"null", b"true", b"NaN", b"1e999", b"-1", b"9" * 5000, b'\\ud800']
HDF5 = [b"\x89HDF\r\n\x1a\n", b"SNOD", b"TREE", b"HEAP", b"OHDR", b"FRHP", b"GCOL", b"\xff" * 8, bytes(8)]
JSON = [*BRACKETS, b'"image_id"', b'"id"', b'"caption"', b'"file_name"', b'"images"', b'"annotations"', b"..", b"/", b"\\u0000"]


def _bytes(write: Callable[[io.BytesIO], object]) -> bytes:
    buffer = io.BytesIO()
    write(buffer)
    return buffer.getvalue()


def _npy(array: np.ndarray) -> bytes:
    return _bytes(lambda file: np.save(file, array))


def _hdf5(arrays: dict[str, np.ndarray], **options: object) -> bytes:
    with h5py.File.in_memory() as h5:
        for name, array in arrays.items():
            h5.create_dataset(name, data=array, **(options if array.ndim else {}))
        h5.flush()
        return h5.id.get_file_image()


def _in_file(folder: Path, name: str, write: Callable[[Path], object]) -> bytes:
    folder.mkdir(parents=True, exist_ok=True)
    write(folder / name)
    return (folder / name).read_bytes()


def _pictures() -> list[bytes]:
    rng = np.random.default_rng(0)
    colour, grey, deep = rng.integers(0, 256, (9, 7, 3), np.uint8), rng.integers(0, 256, (9, 7), np.uint8), rng.integers(0, 65536, (9, 7), np.uint16)
    clear = rng.integers(0, 256, (9, 7, 4), np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6
    images = [Image.fromarray(colour), Image.fromarray(grey), Image.fromarray(clear), Image.fromarray(colour).quantize(5)]
    pictures = [_bytes(lambda file, i=i: i.save(file, "PNG")) for i in [*images, Image.fromarray(deep)]]
    pictures += [_bytes(lambda file, i=i: i.convert("RGB").save(file, "JPEG", exif=exif)) for i in images]
    pictures += [_bytes(lambda file, i=i: i.convert("RGBA").save(file, "WEBP", lossless=bool(i.width % 2))) for i in images[:2]]
    return [*pictures, _bytes(lambda file: images[0].save(file, "PNG", transparency=(1, 2, 3), icc_profile=bytes(500)))]


def _read_picture(path: Path) -> None:
    for shape in ((1, 5, 4), (3, 4, 6)):
        image_format = ImageFormat(*shape, "centre", "lanczos")  # type: ignore[arg-type]
        image_files.write(path.with_name("out.npy"), ["x"], lambda _: image_files.read_file(path), image_format, flat=False)


def _read_table(path: Path) -> None:
    folder.read_words(path.parent)


def _read_idx(path: Path) -> None:
    mnist._array(path, mnist._gunzip(path))


def _read_state(path: Path) -> None:
    work = ResumableState(path.parent.parent, "run", "f" * 64, read_only=True)
    assert work.path == path.parent
    work.load()


def _coco(whole: Path, name: str) -> Callable[[Path], None]:
    def read(path: Path) -> None:
        place, out = path.with_name("coco"), path.with_name("out")
        for each in (place, out):
            shutil.rmtree(each, ignore_errors=True)
        shutil.copytree(whole, place)
        out.mkdir()
        (place / name).parent.mkdir(exist_ok=True)
        shutil.copyfile(path, place / name)
        coco.convert(place, out, test_coco.CONFIG)
    return read


def readers(place: Path) -> list[Reader]:
    """All of them. Whole files that lie beside the altered one are below `place`."""
    mnist.H5_SIZES = {"train": 5, "validation": 2, "test": 3}
    rng = np.random.default_rng(0)
    words = {"UNK": 1, "a": 2, "caf\xe9": 3, **{f"word{n}": n + 4 for n in range(9)}}
    rows = {row: row // 5 for row in range(30)}
    mappings = [[*(pickle.dumps(mapping, protocol) for protocol in (0, 1, 2, 4)), python2(mapping),
                 *(pickle.dumps({key: np.int64(value) for key, value in mapping.items()}, protocol) for protocol in (0, 2, 4))]
                for mapping in (words, rows)]
    table = np.empty(6, object)
    table[:] = mixed(6)
    tables = [python2_table(mixed(6)), python2_table(mixed(6), memo=False),
              *(_npy(np.zeros(6))[:0] + python2_table(mixed(6))[:128] + pickle.dumps(table, protocol) for protocol in (2, 4))]
    pixels = rng.integers(0, 256, (4, 192), np.uint8)
    idx = [b"".join(n.to_bytes(4, "big") for n in (2049, 30)) + bytes(30), b"".join(n.to_bytes(4, "big") for n in (2051, 2, 28, 28)) + bytes(1568)]
    digits = {f"{name}{part}": value for name, n in mnist.H5_SIZES.items()
              for part, value in (("", np.zeros((n, 784), np.float32)), ("_labels", np.arange(n, dtype=np.uint8)))}
    sizes = released_arrays.ArraySizes(words=5, language=3, align=2, infer=4, generate=3, latent=2, seen=6, patch=3, image=12)
    weights = {name: rng.normal(size=shape).astype(np.float32) for name, shape in released_arrays._shapes(sizes).items()}
    network = released_files.gan(rng)
    gru = released_files.gru(rng, 3, "encoder_")
    model = AlignDRAW(PRIMES, len(VOCABULARY))
    model.reset(torch.Generator().manual_seed(3))
    checkpoint = _in_file(place / "m", "model.safetensors", lambda path: checkpoints.save(path, Checkpoint(model, VOCABULARY, Grammar.from_seed(5))))
    views = ClassifierConfig("words", 3, 5, 6, (2, 3), 1, 4, ((0, 0), (1, 2)), 4, 4, ("dog", "grass"))
    classifier = _in_file(place / "c", classifiers.FILE, lambda path: classifiers.save(path.parent, Classifier(views)))
    sharpener = _in_file(place / "m", "s.safetensors", lambda path: generator.save(path, Sharpener(SharpenerConfig(3, 4, 5, 6, 2, (3, 5), 2, "x"))))
    encoder = _in_file(place / "m", sentence_encoders.FILE, lambda path: sentence_encoders.save(path.parent, sentences.filled(sentences.CAPTION_ENCODER.make(5))))
    csvs = ["image,caption\na.png,a red dog\nb/c.png,\"a cat, asleep\"\na.png,\"two\nlines\"\n", "caption,other,image\r\nx,y,z.png\r\n\"q\"\"q\",,é.jpg\r\n"]
    for packed in (True, False):
        test_coco.make(place / f"packed-{packed}", packed=True)
    (place / "packed-False" / test_coco.ANNOTATIONS).unlink()
    for part in test_coco.COUNTS:
        (place / "packed-False" / f"captions_{part}.json").write_text(json.dumps(test_coco.captions_of(part)))
    with ResumableState(place, "run", "f" * 64) as work:
        work.save({"step": 3, "weights": torch.arange(50.0), "history": [(1, 0.5)]})
        state = (work.path / "state.pt").read_bytes()
    config = [name.encode() for name in (*PRIMES.__dataclass_fields__, "kernels", "factor", "language", "filters", "version", "digest", "units", "kind")]
    metadata = [*BRACKETS, *config, b'\\"', b"F32", b"F64", b"data_offsets", b"shape", b"__metadata__"]
    return [
        Reader("dictionary.pkl", mappings[0], toronto_arrays.read_dictionary, PICKLES, weight=4),
        Reader("train-cap2im.pkl", mappings[1], toronto_arrays.read_image_rows, PICKLES, weight=4),
        Reader("utable.npy", tables, lambda path: list(ObjectTable(path)), PICKLES, weight=2),
        Reader("train-images-8x8.npy", [_npy(pixels), _npy((pixels / 255).astype(np.float32))], lambda path: list(toronto_arrays.Images(path)), NPY),
        Reader("train-captions.npy", [_npy(np.arange(12).reshape(3, 4)), _npy(np.ones((3, 4), np.uint8))], toronto_arrays.read_caption_ids, NPY),
        Reader("train-captions-len.npy", [_npy(np.ones((3, 1), int))], toronto_arrays.read_lengths, NPY),
        Reader("t10k-labels-idx1-ubyte.gz", [gzip.compress(idx[0])], _read_idx, []),
        Reader("t10k-labels-idx1-ubyte.gz", idx, _read_idx, [], gzip.compress),
        Reader("t10k-images-idx3-ubyte.gz", idx, _read_idx, [], gzip.compress),
        Reader("mnist.h5", [_hdf5(digits), _hdf5(digits, chunks=True, compression="gzip", shuffle=True)], mnist.read_h5, HDF5, weight=2),
        Reader("binarized_mnist_test.amat", [test_binarized_mnist.TEST], lambda path: binarized_mnist.read(path, 3),
               [b"0", b"1", b" ", b"\n", b"\r\n", b"\0", b"\xff", b"0 1 " * 400, test_binarized_mnist.TEST[:binarized_mnist.LINE]]),
        Reader("aligndraw.h5", [_hdf5(weights), _hdf5(weights, chunks=True, compression="gzip", fletcher32=True)], released_arrays.read, HDF5, weight=2),
        Reader("gan.hdf5", [_hdf5(network), _hdf5(network, chunks=True, compression="gzip")], sharpening.read_gan, HDF5),
        Reader("uni_skip.npz", [_bytes(lambda file: np.savez(file, **gru)), _bytes(lambda file: np.savez_compressed(file, **gru))],
               lambda path: sharpening.read_weights("uni", path), [*NPY, b"PK\x01\x02", b"PK\x03\x04", b"PK\x05\x06"]),
        Reader("dictionary.txt", ["\n".join([*released_files.WORDS, ""]).encode()], sharpening_files.read_dictionary, [b"UNK", b"\n", b"\xff"]),
        Reader("model.safetensors", [checkpoint], checkpoints.load, metadata, weight=2),
        Reader("model.safetensors", [classifier], lambda path: classifiers.load(path.parent), metadata, weight=2),
        Reader("sharpener.safetensors", [sharpener], lambda path: generator.load(path.parent), metadata, weight=2),
        Reader(sentence_encoders.FILE, [encoder], lambda path: sentence_encoders.load_into(sentences.CAPTION_ENCODER.make(5), path.parent), metadata),
        Reader("captions.csv", [text.encode() for text in csvs], _read_table, [b'"', b",", b"\n", b"\r", b"\0", b";", b"\t", b"../", b"\\", b"\xef\xbb\xbf",
                                                                         b"x" * 200_000, b"image", b"caption", b"\xcc\x83"], weight=2),
        Reader("captions.json", [json.dumps(test_coco.captions_of("val2014")).encode()], _coco(place / "packed-False", "captions_val2014.json"), JSON),
        Reader("val2014.zip", [(place / "packed-True/val2014.zip").read_bytes()], _coco(place / "packed-True", "val2014.zip"),
               [b"PK\x01\x02", b"PK\x03\x04", b"PK\x05\x06", b"PK\x06\x06", b"PK\x06\x07", b"val2014/"]),
        Reader("annotations.zip", [(place / f"packed-True/{test_coco.ANNOTATIONS}").read_bytes()], _coco(place / "packed-True", test_coco.ANNOTATIONS),
               [b"PK\x01\x02", b"PK\x03\x04", b"PK\x05\x06", b"PK\x06\x06", b"PK\x06\x07", b"annotations/"]),
        Reader("picture", _pictures(), _read_picture, [b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND", b"eXIf", b"iCCP", b"zTXt", b"\xff\xd8", b"\xff\xdb",
                                                       b"\xff\xc0", b"\xff\xc4", b"\xff\xda", b"\xff\xe1", b"VP8L", b"VP8X", b"ALPH", b"RIFF"], weight=3),
        Reader("run-ffffffffffff/state.pt", [state], _read_state, []),
    ]
