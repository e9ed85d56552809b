"""Any folder of captioned pictures, from captions.csv to prepared data."""

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from text2image import datasets, folders, skipped, toronto
from text2image.captions import UNKNOWN, Vocabulary
from text2image.errors import UserError, UserWarningLine
from text2image.folders import Shares
from text2image.skipped import Skipped

SHARES = Shares(train=0.8, dev=0.1, test=0.1, seed=1)
RNG = np.random.default_rng(0)


def make(folder: Path, pictures: dict[str, np.ndarray], rows: list[tuple[str, str]] | None = None) -> None:
    """Pictures (H, W, 3) in files of the kinds that their names say, and a captions.csv as Excel writes it."""
    folder.mkdir(exist_ok=True)
    for name, picture in pictures.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture).save(folder / name, **({"lossless": True} if name.endswith("webp") else {}))
    with (folder / "captions.csv").open("w", encoding="utf-8-sig", newline="") as file:
        writer = csv.writer(file, lineterminator="\r\n")
        writer.writerow(["image", "caption"])
        writer.writerows([(name, "A picture .") for name in pictures] if rows is None else rows)


def some(count: int, height: int = 8, width: int = 8) -> dict[str, np.ndarray]:
    return {f"{n % 3}/{n}.{('png', 'webp')[n % 2]}": RNG.integers(0, 256, (height, width, 3), np.uint8) for n in range(count)}


@pytest.mark.parametrize("text", [
    "image,caption\na.png,A dog .\nb/c.jpg,\"A cat, a mat .\"\n",
    "\ufeffimage,caption\r\na.png,A dog .\r\nb/c.jpg,\"A cat, a mat .\"\r\n",
    "Caption , IMAGE,source\nA dog .,a.png,me\n\"A cat, a mat .\",b/c.jpg,\"you, too\"",
    "\"image\",\"caption\"\n\n\"./a.png\",\"A dog .\"\n\n\"b//c.jpg\",\"A cat, a mat .\"\n"])
def test_tables_as_programs_write_them(tmp_path, text):
    (tmp_path / "captions.csv").write_text(text, encoding="utf-8", newline="")
    assert [row[:2] for row in folders.read_table(tmp_path / "captions.csv")] == [("a.png", "A dog ."), ("b/c.jpg", "A cat, a mat .")]


def test_a_caption_may_hold_quotes_line_ends_and_accents(tmp_path):
    (tmp_path / "captions.csv").write_text('image,caption\na.png,"A ""big""\r\ncafé ."\n', encoding="utf-8", newline="")
    assert folders.read_table(tmp_path / "captions.csv") == [("a.png", 'A "big"\r\ncafé .', 3)]


@pytest.mark.parametrize(("text", "words"), [
    ("", "must name the columns image and caption, it reads ''"),
    ("a.png,A dog .\n", "must name the columns image and caption, it reads 'a.png,a dog .'"),
    ("image,image,caption\na,b,c\n", "must name the columns"),
    ("image,caption\n", "holds no captions"),
    ("image,caption\na.png,A dog, a cat\n", "line 2 has 3 fields, the header has 2: put captions that hold commas in double quotes"),
    ("image,caption\na.png\n", "line 2 has 1 fields"),
    ("image,caption\na.png,\"A dog\nb.png,A cat\n", "not readable as CSV (unexpected end of data)"),
    ("image,caption\na.png,\"A dog\" x\n", "line 2: not readable as CSV"),
    (f"image,caption\na.png,{'x' * 200_000}\n", "line 2: not readable as CSV (field larger than field limit"),
    ("image,caption\n,A dog\n", "line 2 names no picture: ''"),
    ("image,caption\n.,A dog\n", "line 2 names no picture: '.'"),
    ("image,caption\na\tb.png,A dog\n", "line 2 names no picture: 'a\\tb.png'"),
    ("image,caption\n../a.png,A dog\n", "line 2: '../a.png' is no path below the folder"),
    ("image,caption\na/../../a.png,A dog\n", "is no path below the folder"),
    ("image,caption\n/etc/a.png,A dog\n", "'/etc/a.png' is no path below the folder"),
    ("image,caption\nC:/a.png,A dog\n", "is no path below the folder"),
    ("image,caption\nb\\a.png,A dog\n", "name pictures relative to it, with /, without .."),
    ("image,caption\na.png,caf\xe9\n".encode("latin-1"), "not UTF-8 (invalid continuation byte at byte 23): save it as UTF-8"),
    ("image,caption\na.png,A dog\n".encode("utf-16"), "not UTF-8")])
def test_tables_that_cannot_be_meant(tmp_path, text, words):
    path = tmp_path / "captions.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(UserError) as error:
        folders.read_table(path)
    assert words in str(error.value)
    assert str(path) in str(error.value)


def test_fetching_copies_what_the_table_names_as_it_is(tmp_path):
    make(tmp_path / "given", {"a.png": some(1)["0/0.png"], "sub/b.webp": some(1)["0/0.png"], "c.png": some(1)["0/0.png"]},
         [("sub/b.webp", "A dog ."), ("a.png", "A cat ."), ("absent.png", "Nothing .")])
    (tmp_path / "given/notes.txt").write_text("nobody's")
    (tmp_path / "given/d.JPG").write_bytes(b"no matter")
    (tmp_path / "given/inner.png").symlink_to("a.png")
    (tmp_path / "out").mkdir()
    left = folders.copy(tmp_path / "given", tmp_path / "out")
    assert left == [Skipped("picture", name, "no caption names it") for name in ("c.png", "d.JPG", "inner.png")]
    copied = {file.relative_to(tmp_path / "out").as_posix(): file for file in (tmp_path / "out").rglob("*") if file.is_file()}
    assert set(copied) == {"captions.csv", "images/a.png", "images/sub/b.webp"}
    for name, file in copied.items():
        assert file.read_bytes() == (tmp_path / "given" / name.removeprefix("images/")).read_bytes()


def test_a_picture_may_be_a_link_within_the_folder_and_not_out_of_it(tmp_path):
    make(tmp_path / "given", {"a.png": some(1)["0/0.png"]}, [("link.png", "A dog .")])
    (tmp_path / "given/link.png").symlink_to("a.png")
    (tmp_path / "other").symlink_to("given")
    (tmp_path / "out").mkdir()
    folders.copy(tmp_path / "other", tmp_path / "out")
    assert not (tmp_path / "out/images/link.png").is_symlink()
    assert (tmp_path / "out/images/link.png").read_bytes() == (tmp_path / "given/a.png").read_bytes()
    (tmp_path / "secret").write_text("secret")
    (tmp_path / "given/link.png").unlink()
    (tmp_path / "given/link.png").symlink_to(tmp_path / "secret")
    with pytest.raises(UserError, match=r"link\.png: a link that leads out of the folder"):
        folders.copy(tmp_path / "given", tmp_path / "out")
    (tmp_path / "given/link.png").unlink()
    (tmp_path / "given/link.png").symlink_to("link.png")
    with pytest.raises(UserError, match=r"link\.png: not readable"):
        folders.copy(tmp_path / "given", tmp_path / "out")


def test_folders_that_hold_nothing(tmp_path):
    with pytest.raises(UserError, match="there is no such folder"):
        folders.copy(tmp_path / "absent", tmp_path)
    with pytest.raises(UserError, match=r"captions\.csv: not readable \(No such file"):
        folders.copy(tmp_path, tmp_path)
    make(tmp_path / "given", {}, [("a.png", "A dog ."), ("b.png", "A cat .")])
    with pytest.raises(UserError, match=r"holds none of the 2 pictures that captions\.csv names; the first is 'a\.png'"):
        folders.copy(tmp_path / "given", tmp_path)


def test_captions_twice_or_without_words_are_left_out(tmp_path):
    make(tmp_path, {}, [("a.png", "A big-eyed dog, asleep ."), ("a.png", "A dog ."), ("b.png", "A dog ."), ("a.png", "A dog ."),
                        ("b.png", ""), ("b.png", " # ")])
    captions, left = folders.read_captions(tmp_path)
    assert captions == [("a.png", ["a", "big-eyed", "dog", ",", "asleep", "."]), ("a.png", ["a", "dog", "."]), ("b.png", ["a", "dog", "."])]
    assert left == [Skipped("caption", "a.png", "line 5 repeats line 3"), Skipped("caption", "b.png", "line 6 has no words"),
                    Skipped("caption", "b.png", "line 7 has no words")]


def test_splits_depend_on_names_and_seed_alone():
    names = [f"{n}.png" for n in range(2000)]
    splits = folders.divide(names, SHARES)
    assert sorted([*splits["train"], *splits["dev"], *splits["test"]]) == sorted(names)
    assert {split: len(part) for split, part in splits.items()} == pytest.approx({"train": 1600, "dev": 200, "test": 200}, abs=60)
    fewer = folders.divide(names[::-1][:700], SHARES)
    for split, part in fewer.items():
        assert part == [name for name in names[::-1][:700] if name in set(splits[split])], "more pictures move none"
    assert folders.divide(names, Shares(0.8, 0.1, 0.1, seed=2)) != splits
    with pytest.raises(UserError, match=r"sum to 0\.9; they must sum to 1"):
        folders.divide(names, Shares(0.7, 0.1, 0.1, seed=1))


def test_what_is_skipped_is_told_in_a_few_lines_and_listed(tmp_path):
    left = [Skipped("picture", f"{n}, \u00e9\udcff.png", "it is\nnot there") for n in range(13)]
    with pytest.warns(UserWarningLine) as told:
        skipped.tell(left, Path("data/raw/mine/skipped.csv"))
    lines = [str(warning.message) for warning in told]
    assert len(lines) == 11
    assert lines[0].startswith("picture skipped: 0, ")
    assert lines[-1] == "skipped as well: 3 more; data/raw/mine/skipped.csv lists all"
    skipped.write(tmp_path, left)
    again = skipped.read(tmp_path)
    assert [(item.what, item.why) for item in again] == [("picture", "it is\nnot there")] * 13
    assert again[0].name == "0, \u00e9\\udcff.png"
    assert skipped.count([*again, Skipped("caption", "a", "b")]) == {"pictures": 13, "captions": 1}
    assert skipped.read(tmp_path / "elsewhere") == []
    (tmp_path / "skipped.csv").write_text("nonsense\n1,2,3\n")
    with pytest.raises(UserError, match=r"skipped\.csv: not readable"):
        skipped.read(tmp_path)


def test_a_folder_through_the_pipeline(checkout, tmp_path):
    """From the folder to prepared data and counts of it; the folder is not needed after it has been fetched."""
    pictures = some(60)
    names = list(pictures)
    rows = [(name, f"A picture of {name[0]} and of {'zebras' if n == 0 else 'horses'} .") for n, name in enumerate(names)]
    rows += [("gone.png", "A picture ."), rows[-1], (names[0], "?!"), (names[0], " "), ("cut.png", "A picture .")]
    make(tmp_path / "given", pictures, rows)
    content = (tmp_path / "given" / names[0]).read_bytes()
    (tmp_path / "given/cut.png").write_bytes(content[:len(content) // 2])
    (tmp_path / "given/stray.webp").write_bytes(content)
    copy = checkout.copy(tmp_path / "text2image")
    copy.replace("params.yaml", "    # folder: {", "    folder: {")
    copy.set_parameters({"datasets.folder.fetch.folder": str(tmp_path / "given"),
                         "datasets.folder.preprocess.pictures.height": 8, "datasets.folder.preprocess.pictures.width": 8})
    said = copy.dvc("repro", "preprocess@folder")
    for line in ("picture skipped: stray.webp: no caption names it", "picture skipped: gone.png: it is not there",
                 "picture skipped: cut.png: it cannot be decoded", f"caption skipped: {names[0]}: line 65 has no words",
                 f"caption skipped: {names[-1]}: line 63 repeats line 61"):
        assert f"warning: {line}" in said
    counts = json.loads(copy.read("metrics/preprocess/folder.json"))
    splits = folders.divide(names, SHARES)
    vocabulary = Vocabulary.load(copy.path / "data/prepared/folder/vocabulary.json")
    assert counts["skipped"] == {"pictures": 3, "captions": 2}
    assert counts["vocabulary"] == len(vocabulary)
    for split, part in splits.items():
        data = datasets.load(copy.path / f"data/prepared/folder/{split}.h5")
        assert np.array_equal(data.images.numpy().transpose(0, 2, 3, 1), np.stack([pictures[name] for name in part]))
        said_of = [rows[names.index(part[picture])][1] for picture in data.image_of_caption[:len(part)]]
        words = [vocabulary.decode(ids) for ids in data.captions[:len(part)].tolist()]
        assert [" ".join(w).replace("zebras", UNKNOWN) for w in words] == [text.lower().replace("zebras", UNKNOWN) for text in said_of]
        assert counts[split]["pictures"] == len(part)
        assert counts[split]["captions"] == len(data.lengths) == len(part) + (names[0] in part)
        unknown = (data.captions == vocabulary.words.index(UNKNOWN)).sum().item()
        assert counts[split]["unknown_words"] == round(unknown / data.lengths.sum(), 6)
    assert UNKNOWN in vocabulary.words
    assert "zebras" not in vocabulary.words, "once in all"
    shutil.rmtree(tmp_path / "given")
    copy.set_parameters({"datasets.folder.preprocess.pictures.channels": 1, "datasets.folder.preprocess.pictures.width": 5})
    copy.stage("preprocess", "folder")
    assert datasets.load(copy.path / "data/prepared/folder/dev.h5").shape == (1, 8, 5)
    assert skipped.count(skipped.read(copy.path / "data/prepared/folder")) == {"pictures": 2, "captions": 2}
    before = copy.read("metrics/preprocess/folder.json")
    copy.set_parameters({"datasets.folder.preprocess.splits": {"train": 0.999998, "dev": 0.000001, "test": 0.000001, "seed": 1}})
    said = copy.stage("preprocess", "folder", code=1)
    assert said.splitlines()[-1].startswith("error: data/raw/folder: the split dev is empty, of 0 pictures that would be its own")
    assert "Traceback" not in said
    assert not list(copy.path.rglob("*.partial*")), "something is half-written"
    assert datasets.load(copy.path / "data/prepared/folder/dev.h5").shape == (1, 8, 5), "what was there is still there"
    assert copy.read("metrics/preprocess/folder.json") == before


def test_real_photographs_in_files(mirror, tmp_path):
    """Photographs of the mirror as PNG and WebP files come back to the byte, as JPEG to a few shades."""
    source = mirror / toronto.FOLDER / "dev-images-32x32.npy"
    if not source.is_file():
        pytest.skip(f"TEXT2IMAGE_MIRROR has no {toronto.FOLDER}")
    photographs = np.rint(np.load(source, mmap_mode="r")[:90] * 255).astype(np.uint8).reshape(-1, 3, 32, 32)
    (tmp_path / "images").mkdir()
    names = [f"{n}.{('png', 'webp', 'jpg')[n % 3]}" for n in range(90)]
    for name, photograph in zip(names, photographs, strict=True):
        options = {"webp": {"lossless": True}, "jpg": {"quality": 95, "subsampling": 0}, "png": {}}[name.rpartition(".")[2]]
        Image.fromarray(photograph.transpose(1, 2, 0)).save(tmp_path / "images" / name, **options)
    (tmp_path / "captions.csv").write_text("image,caption\n" + "".join(f"{name},A photograph .\n" for name in names))
    images, captions, left = folders.decode(tmp_path, tmp_path, folders.Frame(3, 32, 32, "centre", "lanczos"), SHARES)
    assert left == []
    for split, part in folders.divide(names, SHARES).items():
        assert [row for row, _ in captions[split]] == list(range(len(part)))
        for name, decoded in zip(part, np.concatenate(list(images[split])), strict=True):
            difference = np.abs(decoded.astype(int) - photographs[names.index(name)])
            assert difference.max() == 0 if not name.endswith("jpg") else difference.mean() < 4, name
