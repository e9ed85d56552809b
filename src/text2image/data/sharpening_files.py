"""The files that an applied sharpening network is read from: their names, and the words of skip-thoughts.

Beside the network, sharpener.safetensors, lies what gives captions their vectors where that is skip-thoughts:

    dictionary.txt        a word a line, UTF-8; line n belongs to row n of both tables
    utable.npy, btable.npy  word embeddings of uni-skip and bi-skip, float32
    encoder.safetensors   the GRUs of both, by the names of torch.nn.GRU after `uni.` and `bi.`
"""

from pathlib import Path

from text2image.data.vocabulary import UNKNOWN
from text2image.errors import UserError
from text2image.files.safetensors_file import Format

SHARPENER = "sharpener.safetensors"
# Its metadata: the config of text2image.sharpening.generator. Version 1 had no digest.
FORMAT = Format(key="text2image sharpener", version=2, digest_since=2, noun="sharpener",
                missing="`dvc pull` fetches it, `dvc repro` makes it", remedy="run `dvc repro` to make it again")
SKIP_THOUGHTS = "skip-thoughts"           # in the config: what the network's captions come from
DICTIONARY, GRUS = "dictionary.txt", "encoder.safetensors"
TABLES = {"uni": "utable.npy", "bi": "btable.npy"}
LARGEST_DICTIONARY = 1 << 26  # bytes; the published one has 8 million
MOST_WORDS = 1 << 22          # the published one has 930,913


def read_dictionary(path: Path) -> list[str]:
    """The words, a row of the tables each. Lines end at \\n alone: other line breaks are words of their own.

    Raises UserError where it is no such list, or lacks UNK.
    """
    if path.stat().st_size > LARGEST_DICTIONARY:
        raise UserError(f"{path.name}: {path.stat().st_size:,} bytes are no list of words; fetch it again")
    content = path.read_bytes()
    if content.count(b"\n") > MOST_WORDS:
        raise UserError(f"{path.name}: more than {MOST_WORDS:,} lines are no list of words; fetch it again")
    *lines, last = content.split(b"\n")
    try:
        words = [line.decode("utf-8").strip() for line in ([*lines, last] if last else lines)]
    except UnicodeDecodeError as error:
        raise UserError(f"{path.name}: not a list of words in UTF-8 ({error}); fetch it again") from error
    if UNKNOWN not in words:
        raise UserError(f"{path.name}: it lacks the word '{UNKNOWN}'; fetch it again")
    return words
