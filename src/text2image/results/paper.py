"""The paper's figures, and where a run of ours has the like.

Mansimov, Parisotto, Ba, Salakhutdinov: Generating Images from Captions with Attention, ICLR 2016 (arXiv:1511.02793): table 1
and the table of bounds of its appendix, both of Microsoft COCO. They are as recalled: no copy of the tables was at hand when
they were written down, so wherever they are shown, `STATUS` stands beside them. DRAW's figures on binarised MNIST are those of
Gregor et al. 2015 (arXiv:1502.04623); later papers' tables have the first one, too.
"""

from typing import NamedTuple

STATUS = "as recalled, unverified"


class Published(NamedTuple):
    """One table: of each model a figure a column, as it is printed; '' where the paper has none."""

    title: str
    source: str
    dataset: str                     # that the figures are of
    columns: dict[str, str]          # a column's name, and a pattern of the path of our number: metric, split, ..., number
    rows: dict[str, tuple[str, ...]]  # by the paper's name of the model


MODELS = {"lapgan": "LAPGAN", "fc_vae": "Fully-Conn VAE", "conv_vae": "Conv-Deconv VAE", "sentence": "skipthoughtDRAW",
          "noalign": "noAlignDRAW", "align_draw": "alignDRAW", "draw": "DRAW"}  # our kinds, and the papers' names

RETRIEVAL = Published(
    "Retrieval and structural similarity", "table 1", "Microsoft COCO",
    {**{f"R@{k}": rf"^retrieval nearest corrected R@{k}$" for k in (1, 5, 10, 50)},
     "median rank": r"^retrieval nearest corrected median rank$", "SSI": r"^similarity ssi$"},
    {"LAPGAN": ("", "", "", "", "", "0.08 ± 0.07"),
     "Fully-Conn VAE": ("1.0", "6.6", "12.0", "53.4", "47", "0.156 ± 0.10"),
     "Conv-Deconv VAE": ("1.0", "6.5", "12.0", "52.9", "48", "0.164 ± 0.10"),
     "skipthoughtDRAW": ("2.0", "11.2", "18.9", "63.3", "36", "0.157 ± 0.11"),
     "noAlignDRAW": ("2.8", "14.1", "23.1", "68.0", "31", "0.155 ± 0.11"),
     "alignDRAW": ("3.0", "14.0", "22.9", "68.5", "31", "0.156 ± 0.11")})
BOUNDS = Published(
    "Lower bound on log p(image | caption), nats per image", "table of the appendix", "Microsoft COCO",
    {"train": r"^bounds train elbo$", "test": r"^bounds test elbo$",
     "test after sharpening": r"^(?=.*\bsharpened\b)(?!.*\b(train|dev)\b).*\b(elbo|bound)$",
     "change on the same images": r"^sharpen bounds test difference$"},  # of the paper: the difference of its two figures
    {"skipthoughtDRAW": ("-1794.29", "-1791.37", "-2045.84", "-254.47"),
     "noAlignDRAW": ("-1792.14", "-1791.15", "-2051.07", "-259.92"),
     "alignDRAW": ("-1792.15", "-1791.53", "-2042.31", "-250.78")})
BINARIZED = Published(
    "DRAW on binarised MNIST: lower bound on log p(image), nats per image",
    "Gregor et al. 2015, table 2 (later papers' tables have -80.97, too)", "binarised MNIST",
    {"test": r"^bounds test elbo$"},
    {"DRAW": ("≥ -80.97",), "DRAW without attention": ("≥ -87.40",)})
TABLES = (RETRIEVAL, BOUNDS, BINARIZED)
