"""Agreement of two passes over the same images, by one expert or by two.

    python -m dials_cnn_screen.labels.agreement first.txt second.txt

Section 3.3.1 of the paper found the limits between Hit, Maybe and Miss uncertain when
images were labelled again. No network can be shown to agree with labels better than the
labels agree with themselves.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dials_cnn_screen.labels.annotation import read_annotations
from dials_cnn_screen.labels.confusion import (
    cohen_kappa,
    confusion_counts,
    hit_or_miss,
    success_rate,
)
from dials_cnn_screen.labels.label import Label
from dials_cnn_screen.labels.label_file import read_labels


def compare_labels(
    first: Mapping[int, Label], second: Mapping[int, Label]
) -> NDArray[np.int64]:
    """Counts of the images that both passes label.

    Args:
        first: Labels by the index of the image.
        second: The same of the other pass.

    Returns:
        int64 (3, 3), rows by first, columns by second.
    """
    common = [i for i in first if i in second]
    return confusion_counts([first[i] for i in common], [second[i] for i in common])


def compare_files(first: str | Path, second: str | Path) -> NDArray[np.int64]:
    """Counts of the images that both annotation files label, as compare_labels.

    Raises:
        ValueError: There are none, a file can't be read, or a name in the second could
            be of several images in the first.
    """
    names = [annotation.name for annotation in read_annotations(first)]
    counts = compare_labels(*(read_labels(path, names)[0] for path in (first, second)))
    if not counts.any():
        raise ValueError(f"no image is labelled in both '{first}' and '{second}'")
    return counts


def format_agreement(counts: NDArray[np.int64]) -> str:
    """The counts of compare_labels as a table, with agreement and Cohen's kappa."""
    width = max(len(label.title) for label in Label) + 2
    lines = [
        "First pass   Second pass: " + "".join(x.title.rjust(width) for x in Label)
    ]
    for label, row in zip(Label, counts, strict=True):
        numbers = "".join(str(n).rjust(width) for n in row)
        lines.append(label.title.ljust(26) + numbers)
    lines.append(f"Images labelled in both passes: {counts.sum()}")
    for classes, table in (
        ("Hit, Maybe, Miss", counts),
        ("Hit or Maybe vs. Miss", hit_or_miss(counts)),
    ):
        kappa = cohen_kappa(table)
        text = "undefined (one class only)" if math.isnan(kappa) else f"{kappa:.2f}"
        lines.append(
            f"{classes}: {success_rate(table):.1f}% agreement, Cohen's kappa {text}"
        )
    return "\n".join(lines)


def main(args: list[str] | None = None) -> None:
    """Print the agreement of two annotation files."""
    parser = argparse.ArgumentParser(
        prog="python -m dials_cnn_screen.labels.agreement",
        description="Agreement of two annotation files of the same images.",
    )
    parser.add_argument("first")
    parser.add_argument("second")
    files = parser.parse_args(args)
    try:
        print(format_agreement(compare_files(files.first, files.second)))
    except ValueError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
