"""Skip-thoughts (Kiros et al., 2015): what the authors' sharpening network hears of a caption, from the published files.

    dictionary.txt  a word a line, UTF-8; line n belongs to row n of both tables
    utable.npy      word embeddings of uni-skip, btable.npy of bi-skip: pickled arrays (text2image.object_arrays)
    uni_skip.npz    a GRU of 2400 units, encoder_*
    bi_skip.npz     two of 1200, encoder_* that reads forward and encoder_r_* that reads backward

`convert` makes a folder of plain files of them, once: the tables as float32 .npy, which are mapped into memory, not read;
the GRUs as safetensors. A vector is [uni | bi], each half of length 1, as skipthoughts.encode(model, X) gives it: no end
of sentence is appended, and a word that is not in the dictionary is UNK.
"""

import hashlib
import shutil
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pack_padded_sequence

from text2image.archives import UNREADABLE
from text2image.captions import UNKNOWN
from text2image.disk import require_room
from text2image.errors import UserError
from text2image.object_arrays import ObjectTable

FOLDER = "~rkiros/models"
DICTIONARY, GRUS = "dictionary.txt", "encoder.safetensors"
TABLES = {"uni": "utable.npy", "bi": "btable.npy"}
WEIGHTS = {"uni": "uni_skip.npz", "bi": "bi_skip.npz"}
DIRECTIONS = {"uni": {"encoder_": ""}, "bi": {"encoder_": "", "encoder_r_": "_reverse"}}  # names there, and PyTorch's
LARGEST_DICTIONARY = LARGEST_ARRAY = 1 << 28  # bytes


class Published(NamedTuple):
    size: int
    sha256: str


# As their page publishes them. A file of another size (a smaller vocabulary) is judged by its content alone.
PUBLISHED = {
    "dictionary.txt": Published(7_996_547, "4dc5622978a30cddea8c975c871ea8b6382423efb107d27248ed7b6cfa490c7c"),
    "utable.npy": Published(2_342_138_474, "790951d4b08e843e3bca0563570f4134ffd17b6bd4ab8d237d2e5ae15e4febb3"),
    "btable.npy": Published(2_342_138_474, "4a4ed9d7560bb87f91f241739a8f80d8f2ba787a871da96e1119e913ccd61c53"),
    "uni_skip.npz": Published(663_989_216, "7f40ff16ff5c54ce9b02bd1a3eb24db3e6adaf7712a7a714f160af3a158899c8"),
    "bi_skip.npz": Published(289_340_074, "8ab7965d2db5d146a907956d103badfa723b57e0acffb75e10198ba9f124edb0"),
}


def checks() -> dict[str, Callable[[Path], object]]:
    """What each published file must be by itself, by its path below a base URL."""
    of_each: dict[str, Callable[[Path], object]] = {DICTIONARY: read_dictionary}
    of_each |= {name: read_through for name in TABLES.values()}
    of_each |= {name: partial(read_weights, half) for half, name in WEIGHTS.items()}
    return {f"{FOLDER}/{name}": partial(check_file, check) for name, check in of_each.items()}


def check_file(content: Callable[[Path], object], path: Path) -> None:
    content(path)
    check_published(path)


def check_published(path: Path) -> None:
    """Raise UserError where a file has the size of the published one and not its content."""
    published = PUBLISHED[path.name]
    if path.stat().st_size == published.size:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        if digest != published.sha256:
            raise UserError(f"{path.name}: SHA-256 is {digest}, not {published.sha256}: the file was altered; fetch it from "
                            "another base URL")


def read_through(path: Path) -> None:
    """Raise UserError unless a table is whole."""
    for _ in ObjectTable(path):
        pass


def read_dictionary(path: Path) -> list[str]:
    """The words, a row of the tables each. Lines end at \\n alone: other line breaks are words of their own."""
    if path.stat().st_size > LARGEST_DICTIONARY:
        raise UserError(f"{path.name}: {path.stat().st_size:,} bytes are no list of words; fetch it again")
    *lines, last = path.read_bytes().split(b"\n")
    try:
        words = [line.decode("utf-8").strip() for line in ([*lines, last] if last else lines)]
    except UnicodeDecodeError as error:
        raise UserError(f"{path.name}: not a list of words in UTF-8 ({error}); fetch it again") from error
    if UNKNOWN not in words:
        raise UserError(f"{path.name}: it lacks the word '{UNKNOWN}'; fetch it again")
    return words


def read_weights(half: str, path: Path) -> dict[str, Tensor]:
    """The GRUs of one half, `uni` or `bi`, by the names of torch.nn.GRU: gates r, z, n; one bias, the other is zero."""
    state: dict[str, Tensor] = {}
    try:
        with path.open("rb") as opened, np.load(opened) as file:
            for there, suffix in DIRECTIONS[half].items():
                w, b, u, wx, ux, bx = (_array(file, path, there + name) for name in ("W", "b", "U", "Wx", "Ux", "bx"))
                words, units = wx.shape[0], bx.shape[0]
                found = tuple(a.shape for a in (w, b, u, wx, ux, bx))
                if found != ((words, 2 * units), (2 * units,), (units, 2 * units), (words, units), (units, units), (units,)):
                    raise UserError(f"{path.name}: the arrays {there}W, b, U, Wx, Ux, bx have shapes {found}, which are those "
                                    "of no GRU; fetch it again")
                state |= {f"weight_ih_l0{suffix}": torch.cat([w.T, wx.T]),
                          f"weight_hh_l0{suffix}": torch.cat([u.T, ux.T]),
                          f"bias_ih_l0{suffix}": torch.cat([b, bx]), f"bias_hh_l0{suffix}": torch.zeros(3 * units)}
    except (*UNREADABLE, RuntimeError, MemoryError, AttributeError, IndexError) as error:
        raise UserError(f"{path.name}: not readable as NumPy arrays ({error}); fetch it again") from error
    if len({state[f"weight_ih_l0{suffix}"].shape for suffix in DIRECTIONS[half].values()}) > 1:
        raise UserError(f"{path.name}: its two directions differ in size; fetch it again")
    return state


def _array(file: Any, path: Path, name: str) -> Tensor:
    size = file.zip.getinfo(f"{name}.npy").file_size
    if size > LARGEST_ARRAY:
        raise UserError(f"{path.name}: its '{name}' has {size:,} bytes, more than any of its arrays should; fetch it again")
    array = file[name]
    if array.dtype.kind != "f" or not np.isfinite(array).all():
        raise UserError(f"{path.name}: its '{name}' ({array.dtype}) does not hold finite numbers alone; fetch it again")
    return torch.from_numpy(array.astype(np.float32, copy=False))


def check_together(folder: Path, language: int) -> None:
    """Raise UserError where the published files contradict each other, or make no vector of `language` numbers."""
    words = len(read_dictionary(folder / DICTIONARY))
    units = 0
    for half, name in TABLES.items():
        weights = read_weights(half, folder / WEIGHTS[half])
        table = ObjectTable(folder / name)
        if table.count != words:
            raise UserError(f"{name}: {table.count:,} rows, {DICTIONARY} has {words:,} lines; fetch both again")
        width, wanted = next(iter(table)).shape[1], weights["weight_ih_l0"].shape[1]
        if width != wanted:
            raise UserError(f"{name}: rows of {width} numbers, {WEIGHTS[half]} takes {wanted}; fetch both again")
        units += sum(weights[f"weight_hh_l0{suffix}"].shape[1] for suffix in DIRECTIONS[half].values())
    if units != language:
        raise UserError(f"{' and '.join(WEIGHTS.values())} make vectors of {units} numbers, the generator takes {language}; "
                        "fetch all of them again")


def convert(published: Path, out: Path) -> int:
    """The published files as what `SkipThoughts` reads, a block of rows in memory at a time; returns the number of words."""
    shutil.copyfile(published / DICTIONARY, out / DICTIONARY)
    states = {half: read_weights(half, published / name) for half, name in WEIGHTS.items()}
    save_file({f"{half}.{name}": value for half, state in states.items() for name, value in state.items()}, out / GRUS)
    for name in TABLES.values():
        table = ObjectTable(published / name)
        with (out / name).open("wb") as file:
            for number, block in enumerate(table):
                if number == 0:
                    shape = table.count, block.shape[1]
                    require_room(out, block.itemsize * shape[0] * shape[1])
                    np.lib.format.write_array_header_1_0(file, {"descr": "<f4", "fortran_order": False, "shape": shape})
                file.write(block.astype("<f4").tobytes())
    return table.count


class SkipThoughts:
    """The encoder of a converted folder."""

    def __init__(self, folder: Path, device: torch.device | str = "cpu"):
        try:
            words = read_dictionary(folder / DICTIONARY)
            self.tables = {half: np.load(folder / name, mmap_mode="r") for half, name in TABLES.items()}
            weights = load_file(folder / GRUS)
            self.grus = {half: self._gru(half, weights).to(device) for half in TABLES}
        except (*UNREADABLE, SafetensorError, RuntimeError) as error:
            raise UserError(f"{folder}: not readable as converted skip-thoughts ({error}); run `dvc repro` to convert them "
                            "again") from error
        self.rows = {word: row for row, word in enumerate(words)}  # of a word that is listed twice, the last
        for half, table in self.tables.items():
            wanted = len(words), self.grus[half].input_size
            if table.shape != wanted or table.dtype != np.float32:
                raise UserError(f"{folder / TABLES[half]}: {table.dtype} of shape {table.shape}, not float32 of {wanted}; "
                                "run `dvc repro` to convert it again")
        self.device = device

    @staticmethod
    def _gru(half: str, weights: dict[str, Tensor]) -> nn.GRU:
        state = {name.removeprefix(f"{half}."): value for name, value in weights.items() if name.startswith(f"{half}.")}
        units, inputs = state["weight_hh_l0"].shape[1], state["weight_ih_l0"].shape[1]
        gru = nn.GRU(inputs, units, batch_first=True, bidirectional=half == "bi")
        gru.load_state_dict(state, assign=True)
        return gru

    @property
    def language(self) -> int:
        """Numbers of a vector."""
        return sum(gru.hidden_size * (1 + gru.bidirectional) for gru in self.grus.values())

    @torch.no_grad()
    def encode(self, captions: Sequence[Sequence[str]]) -> Tensor:
        """Captions of any lengths, as words: (n, language), both halves of length 1."""
        if not all(captions):
            raise UserError("a caption is empty: skip-thoughts need at least one word")
        unknown = self.rows[UNKNOWN]
        lengths = torch.tensor([len(words) for words in captions])
        rows = np.zeros((len(captions), int(lengths.max())), np.int64)  # beyond a caption's end anything will do
        for row, words in zip(rows, captions, strict=True):
            row[:len(words)] = [self.rows.get(word, unknown) for word in words]
        halves = []
        for half, gru in self.grus.items():
            embedded = torch.from_numpy(np.asarray(self.tables[half][rows])).to(self.device)
            packed = pack_padded_sequence(embedded, lengths, batch_first=True, enforce_sorted=False)
            last = gru(packed)[1]                                              # (directions, n, units)
            halves.append(F.normalize(torch.cat(list(last), -1), dim=-1))
        return torch.cat(halves, -1)
