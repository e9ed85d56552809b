"""COCO's own archives become the dataset host's files, which are checked and prepared as those are."""

import io
import json
import pickle
import shutil
import zipfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from text2image.data import datasets, toronto_arrays
from text2image.data.writer import SPLITS
from text2image.errors import UserError, UserWarningLine
from text2image.files import image_files
from text2image.files.skipped import Skipped
from text2image.sources import coco
from text2image.sources.coco import ConvertConfig

SIDE = 8
CONFIG = ConvertConfig(side=SIDE, crop="none", filter="box", captions=3, min_count=4, dev=3, test=2)
COUNTS = {"train2014": 11, "val2014": 7}
PHOTOGRAPHS = {part: np.random.default_rng(n).integers(0, 256, (n, SIDE, SIDE, 3), np.uint8) for part, n in COUNTS.items()}
ANNOTATIONS = "annotations_trainval2014.zip"


def name_of(part: str, n: int) -> str:
    return f"COCO_{part}_{n:012d}.jpg"


def captions_of(part: str) -> dict:
    """As COCO writes them: images in no order of their ids, captions mixed, here one of them without words."""
    count = COUNTS[part]
    images = [{"license": 1, "file_name": name_of(part, n), "height": SIDE, "width": SIDE, "id": 900 - n} for n in range(count)]
    annotations = [{"image_id": 900 - n, "id": 10 * k + n, "caption": f"A Dog, number {n} ({k}) of {part} ."}
                   for k in range(4) for n in range(count)]
    annotations.insert(0, {"image_id": 900 - 2, "id": 77, "caption": " \n"})
    return {"info": {"year": 2014, "description": "COCO"}, "images": images, "licenses": [], "annotations": annotations}


def content(photograph: np.ndarray) -> bytes:
    """COCO's are JPEG; what the content is counts, and PNG comes back to the byte."""
    buffer = io.BytesIO()
    Image.fromarray(photograph).save(buffer, "PNG")
    return buffer.getvalue()


def make(folder: Path, packed: bool) -> Path:
    if packed:
        folder.mkdir(exist_ok=True)
        for part, photographs in PHOTOGRAPHS.items():
            with zipfile.ZipFile(folder / f"{part}.zip", "w") as archive:
                archive.writestr(f"{part}/", b"")
                for n, photograph in enumerate(photographs):
                    archive.writestr(f"{part}/{name_of(part, n)}", content(photograph))
        with zipfile.ZipFile(folder / ANNOTATIONS, "w", zipfile.ZIP_DEFLATED) as archive:
            for part in PHOTOGRAPHS:
                archive.writestr(f"annotations/captions_{part}.json", json.dumps(captions_of(part)))
                archive.writestr(f"annotations/instances_{part}.json", "{}")
        return folder
    (folder / "annotations").mkdir(parents=True, exist_ok=True)
    for part, photographs in PHOTOGRAPHS.items():
        (folder / part).mkdir()
        for n, photograph in enumerate(photographs):
            (folder / part / name_of(part, n)).write_bytes(content(photograph))
        (folder / "annotations" / f"captions_{part}.json").write_text(json.dumps(captions_of(part)))
    return folder


def convert(folder: Path, out: Path, config: ConvertConfig = CONFIG) -> list[Skipped]:
    out.mkdir(exist_ok=True)
    return coco.convert(folder, out, config)


@pytest.mark.parametrize("packed", [True, False])
def test_the_hosts_files_come_of_it(tmp_path, packed):
    left = convert(make(tmp_path / "coco", packed), tmp_path / "out")
    assert left == [Skipped("caption", name_of(part, 2), "it has no words") for part in COUNTS]
    checks = toronto_arrays.checks(SIDE)
    assert {file.name for file in (tmp_path / "out").iterdir()} == {Path(name).name for name in checks}
    for name, check in checks.items():
        check(tmp_path / "out" / Path(name).name)
    vocabulary = toronto_arrays.read_dictionary(tmp_path / "out/dictionary.pkl")
    # UNK, then what training has most often, equals in the order of the alphabet; 3 to 10 are there three times, and unknown
    assert vocabulary.words == ("<pad>", "UNK", ",", ".", "a", "dog", "number", "of", "train2014", "0", "1", "2")
    assert (tmp_path / "out/dictionary.pkl").read_bytes()[:2] == b"\x80\x02", "a protocol that Python 2 reads"
    for split, (part, rows) in {"train": ("train2014", range(11)), "dev": ("val2014", range(3)), "test": ("val2014", range(3, 5))}.items():
        found = toronto_arrays.read_split(tmp_path / "out", split, SIDE, vocabulary)
        datasets.write_images(tmp_path / f"{split}.h5", *found)
        prepared = datasets.load(tmp_path / f"{split}.h5")
        assert np.array_equal(prepared.images.numpy().transpose(0, 2, 3, 1), PHOTOGRAPHS[part][rows])
        assert prepared.image_of_caption.tolist() == [n for n in range(len(rows)) for _ in range(3)]
        words = [" ".join(vocabulary.decode(ids)) for ids in prepared.captions.tolist()]
        known = set(vocabulary.words)
        assert words == [" ".join(w if w in known else "UNK" for w in f"a dog , number {n} {k} of {part} .".split())
                         for n in rows for k in range(3)], "the first three, in their order"


def test_one_part_packed_and_captions_beside_it(tmp_path):
    folder, other = make(tmp_path / "coco", True), make(tmp_path / "other", False)
    (folder / "val2014.zip").unlink()
    (other / "val2014").rename(folder / "val2014")
    (folder / ANNOTATIONS).unlink()
    for file in (other / "annotations").iterdir():
        file.rename(folder / file.name)
    convert(folder, tmp_path / "out")
    convert(make(tmp_path / "whole", True), tmp_path / "expected")
    for file in (tmp_path / "expected").iterdir():
        assert file.read_bytes() == (tmp_path / "out" / file.name).read_bytes(), file.name


def same(one: Path, other: Path) -> None:
    for file in one.iterdir():
        assert file.read_bytes() == (other / file.name).read_bytes(), file.name


@pytest.fixture
def expected(tmp_path) -> Path:
    convert(make(tmp_path / "whole", True), tmp_path / "expected")
    return tmp_path / "expected"


def repack(path: Path, change) -> None:
    """Give the members of an archive other names."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in members.items():
            archive.writestr(change(name), data)


@pytest.mark.parametrize("change", [lambda name: f"coco/{name}", lambda name: f"a/b/{name}", lambda name: name.rpartition("/")[2] or "x/"])
def test_archives_with_a_folder_at_the_top_or_with_none(tmp_path, expected, change):
    folder = make(tmp_path / "coco", True)
    for path in folder.iterdir():
        repack(path, change)
        with zipfile.ZipFile(path, "a") as archive:
            archive.writestr(f"__MACOSX/{name_of('train2014', 0)}", b"no picture")
    convert(folder, tmp_path / "out")
    same(expected, tmp_path / "out")


@pytest.mark.parametrize("layout", [("images/train2014", "images/val2014", "annotations"),
                                    ("train2014/train2014", "val2014", "annotations_trainval2014/annotations"), ("train2014", "val2014/val2014", ".")])
def test_unpacked_as_programs_unpack_them(tmp_path, expected, layout):
    given, folder = make(tmp_path / "given", False), tmp_path / "coco"
    for name, place in zip(("train2014", "val2014", "annotations"), layout, strict=True):
        shutil.copytree(given / name, folder / place, dirs_exist_ok=True)
    convert(folder, tmp_path / "out")
    same(expected, tmp_path / "out")


@pytest.mark.parametrize("packed", [True, False])
def test_the_release_of_2017(tmp_path, packed, monkeypatch):
    """Of both years 2014 is taken where it is whole; a part of 2014 alone is passed over."""
    names = {f"{part}{year}": n for year in (2014, 2017) for part, n in (("train", 11), ("val", 7))}
    monkeypatch.setitem(globals(), "COUNTS", {part: names[part] for part in ("train2017", "val2017")})
    monkeypatch.setitem(globals(), "PHOTOGRAPHS", {f"{part[:-4]}2017": 255 - images for part, images in PHOTOGRAPHS.items()})
    monkeypatch.setitem(globals(), "ANNOTATIONS", "annotations_trainval2017.zip")
    folder = make(tmp_path / "coco", packed)
    (folder / "train2014").mkdir()
    left = convert(folder, tmp_path / "out")
    assert left == [Skipped("caption", name_of(part, 2), "it has no words") for part in ("train2017", "val2017")]
    assert np.array_equal(next(iter(toronto_arrays.Images(tmp_path / f"out/test-images-{SIDE}x{SIDE}.npy"))).transpose(0, 2, 3, 1),
                          PHOTOGRAPHS["val2017"][3:5])
    assert "train2017" in toronto_arrays.read_dictionary(tmp_path / "out/dictionary.pkl").words
    monkeypatch.undo()
    shutil.rmtree(folder / "train2014")
    make(folder, packed)
    convert(folder, tmp_path / "both")
    assert "train2014" in toronto_arrays.read_dictionary(tmp_path / "both/dictionary.pkl").words


def test_a_folder_half_unpacked_beside_its_archive(tmp_path, expected):
    """What is not there or cut short comes from the archive; what was changed counts as it is."""
    folder = make(make(tmp_path / "coco", True), False)
    convert(folder, tmp_path / "both")
    same(expected, tmp_path / "both")
    for n in (0, 3, 7):
        (folder / "train2014" / name_of("train2014", n)).unlink()
    for path in (folder / "train2014" / name_of("train2014", 5), folder / "val2014" / name_of("val2014", 1), folder / "annotations/captions_val2014.json"):
        path.write_bytes(path.read_bytes()[:100])
    (folder / "annotations/captions_train2014.json").unlink()
    (folder / "annotations/instances_train2014.json").write_text("{")
    with pytest.warns(UserWarningLine) as shown:
        convert(folder, tmp_path / "out")
    assert [str(line.message).removeprefix(f"{folder}/") for line in shown] == [
        f"annotations/captions_val2014.json: not whole; it is read from {folder}/{ANNOTATIONS}",
        f"train2014: 4 of 11 images are not there or not whole; these are read from {folder}/train2014.zip",
        f"val2014: 1 of 5 images are not there or not whole; these are read from {folder}/val2014.zip"]
    same(expected, tmp_path / "out")
    (folder / "val2014" / name_of("val2014", 4)).write_bytes(content(PHOTOGRAPHS["val2014"][6]))
    shutil.copytree(make(tmp_path / "again", False), folder, dirs_exist_ok=True, ignore=lambda _, names: [name_of("val2014", 4)])
    convert(folder, tmp_path / "changed")
    images = np.concatenate(list(toronto_arrays.Images(tmp_path / f"changed/test-images-{SIDE}x{SIDE}.npy")))
    assert np.array_equal(images.transpose(0, 2, 3, 1), PHOTOGRAPHS["val2014"][[3, 6]])


def test_a_damaged_archive_beside_its_unpacked_folder(tmp_path, expected):
    folder = make(make(tmp_path / "coco", True), False)
    for name in ("train2014.zip", ANNOTATIONS):
        (folder / name).write_bytes(b"")
    with pytest.warns(UserWarningLine) as shown:
        convert(folder, tmp_path / "out")
    lines = {str(line.message) for line in shown}
    assert {line.partition(":")[0] for line in lines} == {f"{folder}/train2014.zip", f"{folder}/{ANNOTATIONS}"}
    assert any(line.endswith(f"; {folder}/train2014 is read alone") for line in lines)
    same(expected, tmp_path / "out")


def test_captions_that_occur_twice_or_are_longer_than_any(tmp_path):
    folder = make(tmp_path / "coco", False)
    captions = captions_of("train2014")
    captions["annotations"] = [item for item in captions["annotations"] for _ in range(2)]
    captions["annotations"] += [{"image_id": 900, "id": n, "caption": "dog " * count} for n, count in enumerate((501, 25_000))]
    (folder / "annotations/captions_train2014.json").write_text(json.dumps(captions))
    left = convert(folder, tmp_path / "out")
    reasons = Counter(item.reason for item in left if "train2014" in item.name)
    assert reasons == {"it repeats another of the image": 45, "it has no words": 1, "it has 501 words, more than 500": 1,
                       "it has 25,000 words, more than 500": 1}
    assert {item.kind for item in left} == {"caption"}
    split = toronto_arrays.read_split(tmp_path / "out", "train", SIDE, toronto_arrays.read_dictionary(tmp_path / "out/dictionary.pkl"))
    assert split.captions.shape[0] == 33, "three different ones of each image"
    assert len(np.unique(np.column_stack([split.captions, split.image_of_caption]), axis=0)) > 11


def test_names_with_a_line_end_are_shown_on_one_line(tmp_path):
    folder = make(tmp_path / "coco", False)
    rewrite(folder, lambda c: c["images"][3].update(file_name="a\nb.jpg"))
    with pytest.raises(UserError, match=r"'a\\nb\.jpg' is not the plain name of a file") as error:
        convert(folder, tmp_path / "out")
    assert "\n" not in str(error.value)


def test_images_that_cannot_be_used_are_skipped_with_their_captions(tmp_path):
    folder = make(tmp_path / "coco", False)
    (folder / "train2014" / name_of("train2014", 0)).unlink()
    (folder / "val2014" / name_of("val2014", 1)).write_bytes(b"no picture")
    (folder / "val2014" / name_of("val2014", 6)).write_bytes(b"of no split")
    captions = captions_of("train2014")
    captions["annotations"] = [item for item in captions["annotations"] if item["image_id"] != 900 - 4]
    (folder / "annotations/captions_train2014.json").write_text(json.dumps(captions))
    left = convert(folder, tmp_path / "out")
    assert [(item.name, item.reason) for item in left if item.kind == "image"] == [
        (name_of("train2014", 4), "it has no caption"), (name_of("train2014", 0), "it is not there"),
        (name_of("val2014", 1), "it is no JPEG, PNG or WebP image")]
    vocabulary = toronto_arrays.read_dictionary(tmp_path / "out/dictionary.pkl")
    assert vocabulary.words[-3:] == ("1", "2", "0"), "words of captions that are used: 0 is rarer now"
    sizes = {split: toronto_arrays.read_split(tmp_path / "out", split, SIDE, vocabulary) for split in SPLITS}
    assert {split: (part.images.count, len(part.captions)) for split, part in sizes.items()} == {
        "train": (9, 27), "dev": (2, 6), "test": (2, 6)}
    assert np.array_equal(next(iter(sizes["dev"].images)).transpose(0, 2, 3, 1), PHOTOGRAPHS["val2014"][[0, 2]])


def rewrite(folder: Path, change) -> None:
    captions = captions_of("val2014")
    changed = change(captions)
    (folder / "annotations/captions_val2014.json").write_text(changed if isinstance(changed, str) else json.dumps(captions if changed is None else changed))


@pytest.mark.parametrize(("change", "words"), [
    (lambda c: "{", "not a file of COCO's captions (Expecting"),
    (lambda c: "[" * 100_000, "not a file of COCO's captions"),
    (lambda c: [c], "it has no list of images"),
    (lambda c: {"images": c["images"]}, "it has no list of annotations"),
    (lambda c: c | {"annotations": [1]}, "its annotations are not numbered texts"),
    (lambda c: c | {"images": [{"id": 1, "name": "a.jpg"}]}, "its images are not numbered texts"),
    (lambda c: c["annotations"][3].update(caption=5), "image_id 898 and caption 5 are not a number and a text"),
    (lambda c: c["annotations"][3].update(image_id="x" * 10**6, caption="y" * 10**6), "x... and caption 'yy"),
    (lambda c: c["annotations"][3].update(image_id=10**4000), "000..., and no such image"),
    (lambda c: json.dumps(c).replace("900", "9" * 5000), "not a file of COCO's captions (Exceeds the limit"),
    (lambda c: c["images"][3].update(file_name="x/" * 10**6), "x... is not the plain name of a file"),
    (lambda c: c["annotations"][3].update(image_id=4), "has a caption of image 4, and no such image"),
    (lambda c: c["images"][3].update(id=900), "names an image twice, or two by one id"),
    (lambda c: c["images"][3].update(file_name=name_of("val2014", 0)), "names an image twice, or two by one id"),
    (lambda c: c["images"][3].update(file_name="../secret.jpg"), "'../secret.jpg' is not the plain name of a file"),
    (lambda c: c["images"][3].update(file_name="/etc/passwd"), "is not the plain name of a file"),
    (lambda c: c["images"][3].update(file_name=".."), "is not the plain name of a file"),
    (lambda c: c | {"images": c["images"][:4], "annotations": [a for a in c["annotations"] if a["image_id"] > 896]},
     "val2014 has 4 images with captions, dev and test ask for 5: lower dev or test")])
def test_captions_that_cannot_be(tmp_path, change, words):
    folder = make(tmp_path / "coco", False)
    rewrite(folder, change)
    with pytest.raises(UserError) as error:
        convert(folder, tmp_path / "out")
    assert words in str(error.value)
    assert len(str(error.value)) < 1000
    assert "captions_val2014.json" in str(error.value) or str(folder) in str(error.value)


def test_what_is_missing_is_named(tmp_path):
    with pytest.raises(UserError, match="there is no such folder"):
        convert(tmp_path / "absent", tmp_path / "out")
    for name, words in (("val2014.zip", r"holds neither val2014/ nor val2014\.zip"),
                        (ANNOTATIONS, rf"holds neither captions_train2014\.json, there or in annotations/, nor {ANNOTATIONS}")):
        folder = make(tmp_path / name.partition(".")[0], True)
        (folder / name).unlink()
        with pytest.raises(UserError, match=words):
            convert(folder, tmp_path / "out")


def test_archives_cut_short(tmp_path):
    for name in ("train2014.zip", ANNOTATIONS):
        folder = make(tmp_path / name.partition(".")[0], True)
        whole = (folder / name).read_bytes()
        for size in (0, 100, len(whole) // 2, len(whole) - 1):
            (folder / name).write_bytes(whole[:size])
            with pytest.raises(UserError, match=rf"{name}: not a whole zip archive \(.*\); fetch it again"):
                convert(folder, tmp_path / "out")


def patched(path: Path, member: str, offset: int, value: bytes) -> None:
    """Overwrite a field of a member's entry in the archive's directory, which is what readers go by."""
    whole = bytearray(path.read_bytes())
    entry = whole.rindex(member.encode()) - 46
    assert whole[entry:entry + 4] == b"PK\x01\x02"
    whole[entry + offset:entry + offset + len(value)] = value
    path.write_bytes(whole)


def test_members_that_are_traps(tmp_path):
    """Encrypted, damaged, said to be huge, packing more than they say: skipped. Names that lead out are never looked at."""
    folder = make(tmp_path / "coco", True)
    path = folder / "train2014.zip"
    with zipfile.ZipFile(path) as archive:
        start = archive.getinfo(f"train2014/{name_of('train2014', 1)}").header_offset
    whole = bytearray(path.read_bytes())
    whole[start + 150] ^= 255
    path.write_bytes(whole)
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("../outside.jpg", b"outside")
        archive.writestr("/tmp/outside.jpg", b"outside")
        archive.writestr("train2014/bomb.jpg", bytes(image_files.LARGEST_FILE + 1))
        archive.writestr("train2014/liar.jpg", bytes(1 << 20))
    patched(path, f"train2014/{name_of('train2014', 0)}", 8, b"\x01\x00")           # flags: encrypted
    patched(path, "train2014/liar.jpg", 24, (1000).to_bytes(4, "little"))  # size unpacked
    captions = captions_of("train2014")
    for number, name in ((1, "bomb.jpg"), (2, "liar.jpg")):
        captions["images"].append({"id": number, "file_name": name})
        captions["annotations"].append({"image_id": number, "id": number, "caption": "A trap ."})
    (folder / "captions_train2014.json").write_text(json.dumps(captions))
    (folder / "captions_val2014.json").write_text(json.dumps(captions_of("val2014")))
    reasons = {item.name: item.reason for item in convert(folder, tmp_path / "out") if item.kind == "image"}
    assert list(reasons) == [name_of("train2014", 0), name_of("train2014", 1), "bomb.jpg", "liar.jpg"]
    assert reasons[name_of("train2014", 0)] == "it is encrypted"
    assert reasons[name_of("train2014", 1)].startswith("its part of the archive is damaged (Bad CRC-32")
    assert reasons["bomb.jpg"] == f"it says that it holds {image_files.LARGEST_FILE + 1:,} bytes, more than {image_files.LARGEST_FILE:,}"
    assert reasons["liar.jpg"].startswith("its part of the archive is damaged (")
    assert not (tmp_path / "outside.jpg").exists()
    assert toronto_arrays.read_split(tmp_path / "out", "train", SIDE, toronto_arrays.read_dictionary(tmp_path / "out/dictionary.pkl")).images.count == 9


def test_captions_in_an_archive_that_are_encrypted_or_too_large(tmp_path):
    for n, (offset, value, words) in enumerate(((8, b"\x01\x00", "it is encrypted"), (24, b"\xff\xff\xff\x7f", "it says that it holds 2,147,483,647"))):
        folder = make(tmp_path / str(n), True)
        patched(folder / ANNOTATIONS, "annotations/captions_train2014.json", offset, value)
        with pytest.raises(UserError, match=rf"{ANNOTATIONS}: annotations/captions_train2014\.json: {words}"):
            convert(folder, tmp_path / "out")


def test_no_image_of_a_split_can_be_used(tmp_path):
    folder = make(tmp_path / "coco", False)
    for n in range(3, 5):
        (folder / "val2014" / name_of("val2014", n)).unlink()
    with pytest.raises(UserError, match=rf"none of the 2 images of val2014 for test can be used; {name_of('val2014', 3)}: it is not there"):
        convert(folder, tmp_path / "out")


def test_coco_images_through_the_pipeline(checkout, tmp_path):
    make(tmp_path / "coco", True)
    copy = checkout.copy(tmp_path / "text2image")
    copy.replace("params.yaml", "    # coco_images: {", "    coco_images: {")
    copy.set_parameters({"datasets.coco_images.fetch.folder": str(tmp_path / "coco")}
                        | {f"datasets.coco_images.fetch.files.{k}": v for k, v in vars(CONFIG).items()})
    said = copy.stage("fetch", "coco_images", "coco")
    copy.stage("preprocess", "coco_images", "coco")
    assert f"warning: caption skipped: {name_of('train2014', 2)}: it has no words" in said
    counts = json.loads(copy.read("results/datasets/coco_images.json"))
    assert counts["skipped"] == {"images": 0, "captions": 2}
    assert {split: (counts[split]["images"], counts[split]["captions"]) for split in SPLITS} == {
        "train": (11, 33), "dev": (3, 9), "test": (2, 6)}
    assert counts["vocabulary"] == len(pickle.loads((copy.path / "data/fetched/coco_images/dictionary.pkl").read_bytes())) + 1
    assert np.array_equal(datasets.load(copy.path / "data/prepared/coco_images/test.h5").images.numpy().transpose(0, 2, 3, 1),
                          PHOTOGRAPHS["val2014"][3:5])
