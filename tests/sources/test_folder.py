"""Any folder of captioned images, from captions.csv to prepared data."""

import csv
import json
import os
import shutil
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from text2image.data import datasets, toronto_arrays
from text2image.data.vocabulary import UNKNOWN, Vocabulary
from text2image.errors import UserError, UserWarningLine
from text2image.files import skipped
from text2image.files.image_files import ImageFormat
from text2image.files.skipped import Skipped
from text2image.sources import folder
from text2image.sources.folder import Shares

SHARES = Shares(train=0.8, dev=0.1, test=0.1, seed=1)
RNG = np.random.default_rng(0)


def make(folder: Path, images: dict[str, np.ndarray], rows: list[tuple[str, str]] | None = None) -> None:
    """Images (H, W, 3) in files of the kinds that their names say, and a captions.csv as Excel writes it."""
    folder.mkdir(exist_ok=True)
    for name, image in images.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(folder / name, **({"lossless": True} if name.endswith("webp") else {}))
    with (folder / "captions.csv").open("w", encoding="utf-8-sig", newline="") as file:
        writer = csv.writer(file, lineterminator="\r\n")
        writer.writerow(["image", "caption"])
        writer.writerows([(name, "A picture .") for name in images] if rows is None else rows)


def some(count: int, height: int = 8, width: int = 8) -> dict[str, np.ndarray]:
    return {f"{n % 3}/{n}.{('png', 'webp')[n % 2]}": RNG.integers(0, 256, (height, width, 3), np.uint8) for n in range(count)}


@pytest.mark.parametrize("text", [
    "image,caption\na.png,A dog .\nb/c.jpg,\"A cat, a mat .\"\n",
    "\ufeffimage,caption\r\na.png,A dog .\r\nb/c.jpg,\"A cat, a mat .\"\r\n",
    "Caption , IMAGE,source\nA dog .,a.png,me\n\"A cat, a mat .\",b/c.jpg,\"you, too\"",
    "\"image\",\"caption\"\n\n\"./a.png\",\"A dog .\"\n\n\"b//c.jpg\",\"A cat, a mat .\"\n",
    "image, caption\na.png, A dog .\nb/c.jpg, \"A cat, a mat .\"\n",
    "\ufeff\ufeffimage,caption\na.png,A dog .\nb/c.jpg,\"A cat, a mat .\"\n",
    "\ufeff\ufeff\ufeff\"image\",\"caption\"\na.png,A dog .\nb/c.jpg,\"A cat, a mat .\"\n",
    "image;caption\r\na.png;A dog .\r\nb/c.jpg;A cat, a mat .\r\n",
    "sep=;\r\nimage;caption\r\na.png;A dog .\r\nb/c.jpg; \"A cat, a mat .\"\r\n;\r\n",
    "image\tcaption\na.png\tA dog .\nb/c.jpg\tA cat, a mat .\n\t\n",
    "caption|image\nA dog .|a.png\nA cat, a mat .|b/c.jpg",
    "image,caption\n a.png ,A dog .\n\"b/c.jpg \",\"A cat, a mat .\"\n",
    "image,caption,,\na.png,A dog .,,\n,,,\nb/c.jpg,\"A cat, a mat .\",\n , ,,\n,,,\n",
    "image,caption,source\na.png,A dog .\nb/c.jpg,\"A cat, a mat .\",me,,\n",
    "image,caption\ra.png,A dog .\rb/c.jpg,\"A cat, a mat .\"\r"])
def test_tables_as_programs_write_them(tmp_path, text):
    (tmp_path / "captions.csv").write_text(text, encoding="utf-8", newline="")
    assert [row[:2] for row in folder.read_table(tmp_path / "captions.csv")] == [("a.png", "A dog ."), ("b/c.jpg", "A cat, a mat .")]


def test_a_caption_may_hold_quotes_line_ends_and_accents(tmp_path):
    (tmp_path / "captions.csv").write_text('image,caption\na.png,"A ""big""\r\ncafé ."\n', encoding="utf-8", newline="")
    assert folder.read_table(tmp_path / "captions.csv") == [("a.png", 'A "big"\r\ncafé .', 2)]


@pytest.mark.parametrize(("text", "words"), [
    ("", "must name the columns image and caption, it reads ''"),
    ("a.png,A dog .\n", "must name the columns image and caption, it reads 'a.png,a dog .'"),
    ("image,image,caption\na,b,c\n", "must name the columns"),
    ("image,caption\n", "holds no captions"),
    ("image,caption\na.png,A dog, a cat\n", "line 2 has 3 fields, the header has 2: put captions that hold commas in double quotes"),
    ("image;caption\na.png;A dog; a cat\n", "line 2 has 3 fields, the header has 2: put captions that hold semicolons in double quotes"),
    ("image,caption\na.png\n", "line 2 has 1 field, the header has 2: it has no caption: write it, or take the line out"),
    ("caption,me,image\n\"A\nb\",me\nA dog\n", "line 2 has 2 fields, the header has 3: it has no image: write it"),
    ("source,caption,image\nme\n", "line 2 has 1 field, the header has 3: it has no image and no caption: write them"),
    ("image,caption\na.png;A dog\n", "semicolons divide it, commas divide the header: write the same in both"),
    ("image;caption\na.png\tA dog\n", "tabs divide it, semicolons divide the header: write the same in both"),
    ("image,caption\n\"a.png,A dog\"\n", "double quotes enclose all of it: put them around the caption alone"),
    ("image,caption\na.png,\"A dog\nb.png,A cat\n", "a double quote opens in line 2 and is never closed: close it, or take it away"),
    ("image,caption\na.png,\"A dog\" x\n", "line 2: a closing double quote is followed by more than the next column: let nothing stand"),
    ("image,caption\na.png,\"A dog\nb.png,\"A cat\"\n", "line 3: a closing double quote is followed by more than the next column, in the "
     "row that begins in line 2"),
    (f"image,caption\na.png,{'x' * (1 << 20)}\n", "the row that begins in line 2 has more than 1,048,576 characters"),
    ("image,caption\na.png,\"A dog\n" + 40_000 * "b.png,A cat on a mat, by the door\n", "the row that begins in line 2 has more than"),
    ("image,caption" + "," * (1 << 20), "the row that begins in line 1 has more than 1,048,576 characters"),
    ("x" * 1_000_000, "it reads '" + "x" * 300 + "...'"),
    ("image,caption\na.png,A dog\n".encode("utf-16-le"), "NUL characters are in it, as in UTF-16: save it as UTF-8"),
    ("image,caption\n,A dog\n", "line 2 names no image: ''"),
    ("image,caption\n.,A dog\n", "line 2 names no image: '.'"),
    ("image,caption\na\tb.png,A dog\n", "line 2 names no image: 'a\\tb.png'"),
    (f"image,caption\n{'../' * 10_000}a.png,A dog\n", "...' is no path below the folder"),
    ("image,caption\n../a.png,A dog\n", "line 2: '../a.png' is no path below the folder"),
    ("image,caption\na/../../a.png,A dog\n", "is no path below the folder"),
    ("image,caption\n/etc/a.png,A dog\n", "'/etc/a.png' is no path below the folder"),
    ("image,caption\nC:/a.png,A dog\n", "is no path below the folder"),
    ("image,caption\nb\\a.png,A dog\n", "name images relative to it, with /, without .."),
    ("image,caption\na.png,caf\xe9\n".encode("latin-1"), "line 2 is not UTF-8 (invalid continuation byte): save it as UTF-8"),
    ("image,caption\na.png,A dog\n".encode("utf-16"), "line 1 is not UTF-8"),
    (b"image,caption\n" + 9_999 * b"a.png,A dog\n" + b"a.png,caf\xe9\n", "line 10001 is not UTF-8")], ids=lambda _: "")
def test_tables_that_cannot_be_meant(tmp_path, text, words):
    path = tmp_path / "captions.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(UserError) as error:
        folder.read_table(path)
    assert words in str(error.value)
    assert str(path) in str(error.value)
    assert len(str(error.value)) < 1000


def test_fetching_copies_what_the_table_names_as_it_is(tmp_path):
    make(tmp_path / "given", {"a.png": some(1)["0/0.png"], "sub/b.webp": some(1)["0/0.png"], "c.png": some(1)["0/0.png"]},
         [("sub/b.webp", "A dog ."), ("a.png", "A cat ."), ("absent.png", "Nothing .")])
    (tmp_path / "given/notes.txt").write_text("nobody's")
    (tmp_path / "given/d.JPG").write_bytes(b"no matter")
    (tmp_path / "given/inner.png").symlink_to("a.png")
    (tmp_path / "out").mkdir()
    left = folder.copy(tmp_path / "given", tmp_path / "out")
    assert left == [Skipped("image", "absent.png", "it is not there"),
                    *(Skipped("image", name, "no caption names it") for name in ("c.png", "d.JPG", "inner.png"))]
    copied = {file.relative_to(tmp_path / "out").as_posix(): file for file in (tmp_path / "out").rglob("*") if file.is_file()}
    assert set(copied) == {"captions.csv", "images/a.png", "images/sub/b.webp"}
    for name, file in copied.items():
        assert file.read_bytes() == (tmp_path / "given" / name.removeprefix("images/")).read_bytes()


def test_an_image_may_be_a_link_within_the_folder_and_not_out_of_it(tmp_path):
    make(tmp_path / "given", {"a.png": some(1)["0/0.png"]}, [("link.png", "A dog .")])
    (tmp_path / "given/link.png").symlink_to("a.png")
    (tmp_path / "other").symlink_to("given")
    (tmp_path / "out").mkdir()
    folder.copy(tmp_path / "other", tmp_path / "out")
    assert not (tmp_path / "out/images/link.png").is_symlink()
    assert (tmp_path / "out/images/link.png").read_bytes() == (tmp_path / "given/a.png").read_bytes()
    (tmp_path / "secret").write_text("secret")
    (tmp_path / "given/link.png").unlink()
    (tmp_path / "given/link.png").symlink_to(tmp_path / "secret")
    with pytest.raises(UserError, match=rf"link\.png: a link that leads out of the folder, .*: `cp -rL {tmp_path}/given COPY` makes"):
        folder.copy(tmp_path / "given", tmp_path / "out")
    (tmp_path / "given/link.png").unlink()
    (tmp_path / "given/link.png").symlink_to("link.png")
    with pytest.raises(UserError, match=r"the first is 'link\.png': it is a link that leads back to itself"):
        folder.copy(tmp_path / "given", tmp_path / "out")


def test_a_listed_image_that_is_none_is_counted_once_with_the_true_reason(tmp_path):
    names = ("good.png", "gone.png", "dangling.png", "out.png", "folder.png", "to/nowhere.png", "good.png/a.png", "ring.png", "pipe.png", f"{'x' * 300}.png",
             "https://example.org//a.png?b=1", "S3://bucket/a.png")
    make(tmp_path / "given", {"good.png": some(1)["0/0.png"]}, [(name, text) for name in names for text in ("A dog .", "A cat .")])
    given = tmp_path / "given"
    for link, target in (("dangling.png", "away.png"), ("out.png", "../../blobs/1"), ("to", "the/void"), ("ring.png", "ring.png")):
        (given / link).symlink_to(target)
    (given / "folder.png").mkdir()
    os.mkfifo(given / "pipe.png")
    (tmp_path / "out").mkdir()
    folder.fetch(folder.FetchConfig(str(given)), tmp_path / "out", tmp_path, "here")
    listed = {item.name: item.reason for item in skipped.read(tmp_path / "out")}
    assert listed == {
        "gone.png": "it is not there", "dangling.png": "it is a link to away.png, which is not there",
        "out.png": "it is a link to ../../blobs/1, which is not there", "folder.png": "it is a folder",
        "to/nowhere.png": "to is a link to the/void, which is not there", "good.png/a.png": "it is not there",
        "ring.png": "it is a link that leads back to itself", "pipe.png": "it is no file", f"{'x' * 300}.png": "it cannot be read (File name too long)",
        "https://example.org//a.png?b=1": "it is a URL: download the image and write its path below the folder",
        "S3://bucket/a.png": "it is a URL: download the image and write its path below the folder"}
    assert len(skipped.read(tmp_path / "out")) == len(listed)
    assert folder.read_words(tmp_path / "out") == ([("good.png", ["a", "dog", "."]), ("good.png", ["a", "cat", "."])], [])


@pytest.mark.parametrize(("on_disk", "listed"), [("NFD", "NFC"), ("NFC", "NFD"), ("NFC", "NFC"), ("NFD", "NFD")])
def test_a_name_is_found_in_either_form_of_unicode(tmp_path, on_disk, listed):
    name = "été/niño.png"
    make(tmp_path / "given", {unicodedata.normalize(on_disk, name): some(1)["0/0.png"]},
         [(unicodedata.normalize(form, name), f"In {form} .") for form in (listed, "NFC", "NFD")])
    (tmp_path / "out").mkdir()
    assert folder.copy(tmp_path / "given", tmp_path / "out") == []
    assert [file.name for file in (tmp_path / "out/images/été").iterdir()] == ["niño.png"]
    captions, left = folder.read_words(tmp_path / "out")
    assert [image for image, _ in captions] == [name, name], "one image, in one split"
    assert len(left) == 1


def test_two_files_of_one_name_in_two_forms_are_refused(tmp_path):
    given = {unicodedata.normalize(form, "niño.png"): some(1)["0/0.png"] for form in ("NFC", "NFD")}
    make(tmp_path / "given", given)
    if len(list((tmp_path / "given").glob("*.png"))) == 1:
        pytest.skip("this file system takes both names for one")
    with pytest.raises(UserError, match=r"given: two files are named 'niño.png', in two forms of Unicode: rename one"):
        folder.copy(tmp_path / "given", tmp_path)


def test_spaces_around_names_on_disk_too(tmp_path):
    make(tmp_path / "given", {"a.png": some(1)["0/0.png"]}, [(" a.png", "A dog ."), ("b.png ", "A cat .")])
    (tmp_path / "given/a.png").rename(tmp_path / "given/b.png ")
    (tmp_path / "out").mkdir()
    assert folder.copy(tmp_path / "given", tmp_path / "out") == [Skipped("image", "a.png", "it is not there")]
    assert (tmp_path / "out/images/b.png").is_file()


def test_what_programs_hide_is_passed_over(tmp_path):
    hidden = [".ipynb_checkpoints/a-checkpoint.png", "sub/@eaDir/a.png/SYNO_THUMB.png", "__MACOSX/a.png", "._a.png", ".Trash/b/c.png"]
    images = dict.fromkeys(["a.png", ".kept/b.png", "stray.png", *hidden], some(1)["0/0.png"])
    make(tmp_path / "given", images, [("a.png", "A dog ."), (".kept/b.png", "A cat .")])
    (tmp_path / "given/folder.png").mkdir()
    (tmp_path / "out").mkdir()
    assert folder.copy(tmp_path / "given", tmp_path / "out") == [Skipped("image", "stray.png", "no caption names it")]
    assert (tmp_path / "out/images/.kept/b.png").is_file(), "the table names it"


@pytest.mark.parametrize("text", [
    "image,caption\na.png,\"A cat\nb.png,A dog\nc.png,A horse\"\n", "image,caption\na.png,\"A cat\n\"\"b.png\"\",A dog\"\nb.png,A cow\n",
    "caption;image\n\"A cat;a.png\nA dog;b.png\nA cow\";a.png\n"])
def test_rows_that_a_stray_quote_swallows_are_warned_of(tmp_path, text):
    make(tmp_path / "given", dict.fromkeys(("a.png", "b.png"), some(1)["0/0.png"]))
    (tmp_path / "given/captions.csv").write_text(text)
    (tmp_path / "out").mkdir()
    with pytest.warns(UserWarningLine, match=r"the caption of 'a.png' in line 2 goes on over \d lines and seems to hold the row of 'b.png'"):
        folder.copy(tmp_path / "given", tmp_path / "out")


def test_captions_of_several_lines_are_not_warned_of(tmp_path):
    make(tmp_path / "given", {"a.png": some(1)["0/0.png"]}, [("a.png", "A cat,\r\nand a dog,\nwith a.png in its name; or so."), ("a.png", "A dog\n")])
    (tmp_path / "out").mkdir()
    assert folder.copy(tmp_path / "given", tmp_path / "out") == []


def test_a_caption_longer_than_any_is_left_out(tmp_path):
    make(tmp_path, {}, [("a.png", "dog " * 500), ("a.png", "dog " * 501), ("a.png", "dog " * 40_000)])
    captions, left = folder.read_words(tmp_path)
    assert captions == [("a.png", ["dog"] * 500)]
    assert [item.reason for item in left] == ["line 3 has 501 words, more than 500", "line 4 has 40,000 words, more than 500"]


def test_a_name_of_a_million_marks_takes_no_time(tmp_path):
    make(tmp_path, {"a.png": some(1)["0/0.png"]}, [("a.png", "A dog"), ("\u0300\u0327" * 500_000, "A cat\nand " + "\u0300\u0327" * 10_000)])
    (tmp_path / "out").mkdir()
    left = folder.copy(tmp_path, tmp_path / "out")
    assert [item.reason for item in left] == ["it cannot be read (File name too long)"]


def test_what_is_no_table_is_not_read(tmp_path):
    (tmp_path / "captions.csv").mkdir()
    with pytest.raises(UserError, match=r"captions\.csv: not a file"):
        folder.read_table(tmp_path / "captions.csv")
    os.mkfifo(tmp_path / "pipe.csv")
    with pytest.raises(UserError, match=r"pipe\.csv: not a file"):
        folder.read_table(tmp_path / "pipe.csv")
    with (tmp_path / "large.csv").open("wb") as file:
        file.truncate(folder.LARGEST_TABLE + 1)
    with pytest.raises(UserError, match=r"large\.csv: 268,435,457 bytes, more than 268,435,456, are no table of captions"):
        folder.read_table(tmp_path / "large.csv")


def test_folders_that_hold_nothing(tmp_path):
    with pytest.raises(UserError, match="there is no such folder"):
        folder.copy(tmp_path / "absent", tmp_path)
    with pytest.raises(UserError, match=r"captions\.csv: not readable \(No such file"):
        folder.copy(tmp_path, tmp_path)
    make(tmp_path / "given", {}, [("a.png", "A dog ."), ("b.png", "A cat .")])
    with pytest.raises(UserError, match=r"holds none of the 2 images that captions\.csv names; the first is 'a\.png'"):
        folder.copy(tmp_path / "given", tmp_path)


def test_captions_twice_or_without_words_are_left_out(tmp_path):
    make(tmp_path, {}, [("a.png", "A big-eyed dog, asleep ."), ("a.png", "A dog ."), ("b.png", "A dog ."), ("a.png", "A dog ."),
                        ("b.png", ""), ("b.png", " # ")])
    captions, left = folder.read_words(tmp_path)
    assert captions == [("a.png", ["a", "big-eyed", "dog", ",", "asleep", "."]), ("a.png", ["a", "dog", "."]), ("b.png", ["a", "dog", "."])]
    assert left == [Skipped("caption", "a.png", "line 5 repeats line 3"), Skipped("caption", "b.png", "line 6 has no words"),
                    Skipped("caption", "b.png", "line 7 has no words")]


def test_splits_depend_on_names_and_seed_alone():
    names = [f"{n}.png" for n in range(2000)]
    splits = folder.divide(names, SHARES)
    assert sorted([*splits["train"], *splits["dev"], *splits["test"]]) == sorted(names)
    assert {split: len(part) for split, part in splits.items()} == pytest.approx({"train": 1600, "dev": 200, "test": 200}, abs=60)
    fewer = folder.divide(names[::-1][:700], SHARES)
    for split, part in fewer.items():
        assert part == [name for name in names[::-1][:700] if name in set(splits[split])], "more images move none"
    assert folder.divide(names, Shares(0.8, 0.1, 0.1, seed=2)) != splits
    with pytest.raises(UserError, match=r"sum to 0\.9; they must sum to 1"):
        folder.divide(names, Shares(0.7, 0.1, 0.1, seed=1))


def test_a_folder_through_the_pipeline(checkout, tmp_path):
    """From the folder to prepared data and counts of it; the folder is not needed after it has been fetched."""
    images = some(60)
    names = list(images)
    rows = [(name, f"A picture of {name[0]} and of {'zebras' if n == 0 else 'horses'} .") for n, name in enumerate(names)]
    rows += [("gone.png", "A picture ."), rows[-1], (names[0], "?!"), (names[0], " "), ("cut.png", "A picture .")]
    make(tmp_path / "given", images, rows)
    content = (tmp_path / "given" / names[0]).read_bytes()
    (tmp_path / "given/cut.png").write_bytes(content[:len(content) // 2])
    (tmp_path / "given/stray.webp").write_bytes(content)
    copy = checkout.copy(tmp_path / "text2image")
    copy.replace("params.yaml", "    # folder: {", "    folder: {")
    copy.set_parameters({"datasets.folder.fetch.folder": str(tmp_path / "given"),
                         "datasets.folder.preprocess.images.height": 8, "datasets.folder.preprocess.images.width": 8})
    said = copy.dvc("repro", "preprocess@folder")
    for line in ("image skipped: stray.webp: no caption names it", "image skipped: gone.png: it is not there",
                 "image skipped: cut.png: it cannot be decoded", f"caption skipped: {names[0]}: line 65 has no words",
                 f"caption skipped: {names[-1]}: line 63 repeats line 61"):
        assert f"warning: {line}" in said
    counts = json.loads(copy.read("results/datasets/folder.json"))
    splits = folder.divide(names, SHARES)
    vocabulary = Vocabulary.load(copy.path / "data/prepared/folder/vocabulary.json")
    assert counts["skipped"] == {"images": 3, "captions": 2}
    assert counts["vocabulary"] == len(vocabulary)
    for split, part in splits.items():
        data = datasets.load(copy.path / f"data/prepared/folder/{split}.h5")
        assert np.array_equal(data.images.numpy().transpose(0, 2, 3, 1), np.stack([images[name] for name in part]))
        said_of = [rows[names.index(part[image])][1] for image in data.image_of_caption[:len(part)]]
        words = [vocabulary.decode(ids) for ids in data.captions[:len(part)].tolist()]
        assert [" ".join(w).replace("zebras", UNKNOWN) for w in words] == [text.lower().replace("zebras", UNKNOWN) for text in said_of]
        assert counts[split]["images"] == len(part)
        assert counts[split]["captions"] == len(data.lengths) == len(part) + (names[0] in part)
        unknown = (data.captions == vocabulary.words.index(UNKNOWN)).sum().item()
        assert counts[split]["unknown_words"] == round(unknown / data.lengths.sum(), 6)
    assert UNKNOWN in vocabulary.words
    assert "zebras" not in vocabulary.words, "once in all"
    shutil.rmtree(tmp_path / "given")
    copy.set_parameters({"datasets.folder.preprocess.images.channels": 1, "datasets.folder.preprocess.images.width": 5})
    copy.stage("preprocess", "folder", "folder")
    assert datasets.load(copy.path / "data/prepared/folder/dev.h5").shape == (1, 8, 5)
    assert skipped.count(skipped.read(copy.path / "data/prepared/folder")) == {"images": 1, "captions": 2}
    before = copy.read("results/datasets/folder.json")
    copy.set_parameters({"datasets.folder.preprocess.splits": {"train": 0.999998, "dev": 0.000001, "test": 0.000001, "seed": 1}})
    said = copy.stage("preprocess", "folder", "folder", code=1)
    assert said.splitlines()[-1].startswith("error: data/fetched/folder: the split dev is empty, of 0 images that would be its own")
    assert "Traceback" not in said
    assert not list(copy.path.rglob("*.partial*")), "something is half-written"
    assert datasets.load(copy.path / "data/prepared/folder/dev.h5").shape == (1, 8, 5), "what was there is still there"
    assert copy.read("results/datasets/folder.json") == before


def test_real_photographs_in_files(mirror, tmp_path):
    """Photographs of the mirror as PNG and WebP files come back to the byte, as JPEG to a few shades."""
    source = mirror / toronto_arrays.FOLDER / "dev-images-32x32.npy"
    if not source.is_file():
        pytest.skip(f"TEXT2IMAGE_MIRROR has no {toronto_arrays.FOLDER}")
    photographs = np.rint(np.load(source, mmap_mode="r")[:90] * 255).astype(np.uint8).reshape(-1, 3, 32, 32)
    (tmp_path / "images").mkdir()
    names = [f"{n}.{('png', 'webp', 'jpg')[n % 3]}" for n in range(90)]
    for name, photograph in zip(names, photographs, strict=True):
        options = {"webp": {"lossless": True}, "jpg": {"quality": 95, "subsampling": 0}, "png": {}}[name.rpartition(".")[2]]
        Image.fromarray(photograph.transpose(1, 2, 0)).save(tmp_path / "images" / name, **options)
    (tmp_path / "captions.csv").write_text("image,caption\n" + "".join(f"{name},A photograph .\n" for name in names))
    images, captions, left = folder.decode_splits(tmp_path, tmp_path, ImageFormat(3, 32, 32, "centre", "lanczos"), SHARES)
    assert left == []
    for split, part in folder.divide(names, SHARES).items():
        assert [row for row, _ in captions[split]] == list(range(len(part)))
        for name, decoded in zip(part, np.concatenate(list(images[split])), strict=True):
            difference = np.abs(decoded.astype(int) - photographs[names.index(name)])
            assert difference.max() == 0 if not name.endswith("jpg") else difference.mean() < 4, name
