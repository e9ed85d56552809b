"""A record of runs in a folder, in the form in which stages write it: for tests of what is read from it."""

import json
from pathlib import Path

import numpy as np
from PIL import Image

HOSTILE = '<script>document.title = "taken"</script><img src="http://example.org/x.png">'
BOUNDS = {
    "headline": {"elbo_test": -35.6037, "iwae_test": -35.1545},
    "dev": {"captions": 40, "images": 20, "elbo": {"mean": -36.9936, "se": 0.4495}, "kl": {"mean": 2.8498, "se": 0.0456},
            "iwae": {"bound": {"mean": -36.5, "se": 0.44}, "samples": 10}},
    "test": {"captions": 40, "images": 20, "elbo": {"mean": -35.6037, "se": 0.421}, "kl": {"mean": 2.7471, "se": 0.0436},
             "iwae": {"bound": {"mean": -35.1545, "se": 0.4084}, "samples": 10}, "kl_of_glimpses": [1.0, 0.5, 0.25],
             "never_seen": {"captions": 4, "images": 2, "elbo": {"mean": -40.0, "se": 2.0}, "kl": {"mean": 3.0, "se": 0.1}}}}
RETRIEVAL = {"headline": {"R@1": 3.4}, "split": "test", "shortlist": 100, "chance": {"R@1": 1.0, "median_rank": 50.5},
             "nearest": {"corrected": {"R@1": {"mean": 3.4, "se": 0.5}, "R@5": 15.1, "median_rank": {"median": 29.0, "se": 1.5}},
                         "uncorrected": {"R@1": {"mean": 1.1, "se": 0.3}}}, "random": {"corrected": {"R@1": 40.0}}}
SIMILARITY = {"headline": {}, "split": "test", "ssi": {"mean": 0.1563, "se": 0.0021, "std": 0.1104}}
NOVEL = {"headline": {"novelty_test": 0.8475}, "test": {"novelty": {"mean": 0.8475, "low": 0.8312, "high": 0.8621},
                                                       "by_digit": {"3": {"5": 10, "8": 2}, "7": {"1": 4}}, "said": HOSTILE},
         "held_out_digits": [{"place": "top left", "digit": 3, "drawn": {"8": 0.75, "3": 0.25}}, {"place": "left", "digit": 7, "drawn": {}}]}
TRAIN = {"headline": {"steps": 6000}, "steps": 6000, "parameters": 389230, "best_dev": {"elbo": -37.8, "kl": 2.9}}


def write(path: Path, content: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")


def make(root: Path) -> Path:
    """Two runs: `one` with everything, `two` with little."""
    for run, results in (("one", {"train": TRAIN, "bounds": BOUNDS, "retrieval": RETRIEVAL, "similarity": SIMILARITY, "novelty": NOVEL}),
                         ("two", {"train": TRAIN})):
        for metric, result in results.items():
            write(root / f"results/{run}/{metric}.json", result)
        write(root / f"metrics/{run}.json", {"steps": 6000})
    write(root / "results/datasets/small.json", {"train": {"images": 80}, "test": {"images": 20}, "vocabulary": 23})
    write(root / "results/seeds/one.json", {"1": {"elbo_test": -35.0}, "2": {"elbo_test": -37.0}, "3": {"elbo_test": -36.0}})
    write(root / "plots/train/one.tsv", "epoch\tstep\ttrain_elbo\tdev_elbo\n1\t10\t-60\t-59\n2\t20\t-50\t-51\n3\t30\t-40.5\t\n")
    write(root / "results/made/train-one.json", {
        "stage": "train@one", "command": "python -m pipeline.train one small align_draw", "revision": "0123456789+",
        "seconds": 321.4, "machine": {"processor": "a processor", "cores": 2, "torch": "2.13.0"}, "results": {}})
    rng = np.random.default_rng(0)
    frames = [Image.fromarray(rng.integers(0, 255, (30, 40, 3), np.uint8)) for _ in range(3)]
    (root / "samples/one").mkdir(parents=True)
    frames[0].save(root / "samples/one/grid.png")
    frames[0].save(root / "samples/one/animation.gif", save_all=True, append_images=frames[1:], duration=[120, 120, 1500])
    (root / "docs/figures/two").mkdir(parents=True)
    frames[1].save(root / "docs/figures/two/grid.webp", lossless=True)
    return root
