"""How far two passes over the same images agree, of one expert or of two.

    python -m dials_cnn_screen.labels.agreement first.txt second.txt

Section 3.3.1 found the lines between Hit, Maybe and Miss uncertain when images were
labelled again; how uncertain is the limit of what a network can be measured by.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np

from dials_cnn_screen.labels.confusion import (
    cohen_kappa,
    confusion_counts,
    hit_or_miss,
    success_rate,
)
from dials_cnn_screen.labels.label import Label
from dials_cnn_screen.labels.annotation import read_annotations


def compare_labels(first: str | Path, second: str | Path) -> np.ndarray:
    """Counts of images labelled in both files, int64 (3, 3): rows by first.

    Raises ValueError where there are none, or a file can't be read.
    """
    labels = [
        {
            (a.file, a.frame): a.label
            for a in read_annotations(path)
            if a.label is not None
        }
        for path in (first, second)
    ]
    common = [name for name in labels[0] if name in labels[1]]
    if not common:
        raise ValueError(f"no image is labelled in both '{first}' and '{second}'")
    return confusion_counts(*([those[name] for name in common] for those in labels))


def tell_agreement(counts: np.ndarray) -> str:
    """The counts of compare_labels as a table, and Cohen's kappa, in a few lines."""
    width = max(len(label.title) for label in Label) + 2
    lines = [
        "First pass   Second pass: " + "".join(x.title.rjust(width) for x in Label)
    ]
    for label, row in zip(Label, counts, strict=True):
        numbers = "".join(str(n).rjust(width) for n in row)
        lines.append(label.title.ljust(26) + numbers)
    for what, part in (
        ("Hit, Maybe, Miss", counts),
        ("Hit or Maybe against Miss", hit_or_miss(counts)),
    ):
        lines.append(
            f"{what}: {success_rate(part):.1f}% of {counts.sum()} images alike, "
            f"Cohen's kappa {cohen_kappa(part):.2f}"
        )
    return "\n".join(lines)


def main(args: list[str] | None = None) -> None:
    """Print the agreement of two label files."""
    parser = argparse.ArgumentParser(
        prog="python -m dials_cnn_screen.labels.agreement",
        description="Agreement of two label files of the same images.",
    )
    parser.add_argument("first")
    parser.add_argument("second")
    files = parser.parse_args(args)
    try:
        print(tell_agreement(compare_labels(files.first, files.second)))
    except (ValueError, OSError) as problem:
        sys.exit(str(problem))


if __name__ == "__main__":
    main()
