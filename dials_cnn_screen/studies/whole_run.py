"""A whole run, from images to indexed crystals: what screening saves, what it loses.

::

  python -m dials_cnn_screen.studies.whole_run FOLDER --shots 2000

simulates shots of LN83 in FOLDER, a tenth of them hits (15 MB a shot; files that are
there are used again), and processes them with the known cell in four ways:

- all: dials.import, dials.stills_process;
- screened: dials.cnn_screen, dials.import hits.h5, dials.stills_process;
- veto: dials.cnn_stills_process;
- screen's spots: dials.index with the hits.expt and strong.refl of the screened way,
  without spot finding.

Prints the seconds of each, and the images of each class that were indexed.
"""

from __future__ import annotations

import argparse
import itertools
import json
import resource
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from dxtbx.model import ExperimentList

from dials_cnn_screen.labels.annotation import read_annotations
from dials_cnn_screen.labels.label import Label
from dials_cnn_screen.simulation.experiments import EXPERIMENTS
from dials_cnn_screen.util.intervals import format_percent

_EXPERIMENT = "LN83"
# Hit, Maybe and Miss: of ten shots one is worth keeping, as at many experiments.
_FRACTIONS = "0.08,0.02,0.9"
_SHOTS_PER_FILE = 200
_CELL = ",".join(f"{value:g}" for value in EXPERIMENTS[_EXPERIMENT].crystal.cell)
# Debian's DIALS lacks a part of the indexer of stills (xfel_mono_sim_ext).
_INDEXING = (
    f"indexing.known_symmetry.unit_cell={_CELL}",
    "indexing.known_symmetry.space_group=P222",
    "indexing.stills.indexer=sequences",
    "indexing.method=real_space_grid_search",
)
_PROCESSING = (*_INDEXING, "dispatch.integrate=False", "mp.nproc=1")

# File and number, from 1, of an image.
Image = tuple[str, int]


@dataclass(frozen=True)
class Seconds:
    """Of the clock, and of the processor."""

    clock: float
    processor: float

    def __add__(self, other: Seconds) -> Seconds:
        return Seconds(self.clock + other.clock, self.processor + other.processor)


class Way(NamedTuple):
    """One way to process a run.

    Attributes:
        name: For the table.
        seconds: That it took.
        indexed: Images with a crystal.
    """

    name: str
    seconds: Seconds
    indexed: set[Image]


def main() -> None:
    """Run the study from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--shots", type=int, default=2000)
    options = parser.parse_args()
    folder = options.folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    labels = simulate(folder, options.shots)
    images = [f"../{path.name}" for path in sorted(folder.glob("run_??.h5"))]
    ways = [
        process_all(folder / "all", images),
        screen_first(folder / "screened", images),
        veto(folder / "veto", images),
        index_spots(folder / "screened"),
    ]
    print(write_table(ways, labels))
    print("\n".join(write_losses(folder, ways, labels)))


def simulate(folder: Path, n_shots: int) -> dict[Image, Label]:
    """Write the shots, in files of 200, and give the class of each."""
    labels: dict[Image, Label] = {}
    for i in range(-(-n_shots // _SHOTS_PER_FILE)):
        images, annotation = f"run_{i:02d}.h5", folder / f"run_{i:02d}.txt"
        if not annotation.exists():
            n = min(_SHOTS_PER_FILE, n_shots - i * _SHOTS_PER_FILE)
            what = [f"experiment={_EXPERIMENT}", f"random_seed={i}", f"n_images={n}"]
            what += [f"fractions={_FRACTIONS}", "mp.nproc=1"]
            outputs = [f"output.images={images}", f"output.annotation={annotation}"]
            _run(folder, "cnn_simulate", what, outputs)
        for labelled in read_annotations(annotation):
            assert labelled.label is not None
            labels[images, labelled.name.number] = labelled.label
    return labels


def process_all(folder: Path, images: list[str]) -> Way:
    """All images, by DIALS alone."""
    seconds = _run(folder, "dials.dials_import", images)
    seconds += _run(folder, "dials.stills_process", ["imported.expt"], _PROCESSING)
    return Way("all", seconds, _indexed(folder.glob("idx*_refined.expt")))


def screen_first(folder: Path, images: list[str]) -> Way:
    """The hits of dials.cnn_screen, from a new file of them."""
    outputs = ["output.hdf5=hits.h5", "output.strong=strong.refl", "mp.nproc=1"]
    seconds = _run(folder, "cnn_screen", images, outputs)
    seconds += _run(folder, "dials.dials_import", ["hits.h5"])
    seconds += _run(folder, "dials.stills_process", ["imported.expt"], _PROCESSING)
    kept = _kept(folder)
    indexed = _indexed(folder.glob("idx*_refined.expt"))
    return Way("screened", seconds, {kept[number - 1] for _, number in indexed})


def veto(folder: Path, images: list[str]) -> Way:
    """All images, of which the veto lets DIALS process some."""
    seconds = _run(folder, "cnn_stills_process", images, _PROCESSING)
    return Way("veto", seconds, _indexed(folder.glob("idx*_refined.expt")))


def index_spots(folder: Path) -> Way:
    """The spots that dials.cnn_screen found, indexed as they are."""
    given = ["hits.expt", "strong.refl", "joint_indexing=False", "indexing.nproc=1"]
    output = ["output.experiments=spots.expt"]
    seconds = _run(folder, "dials.index", given, _INDEXING, output)
    return Way("screen's spots", seconds, _indexed([folder / "spots.expt"]))


def write_table(ways: list[Way], labels: dict[Image, Label]) -> str:
    """A Markdown table: seconds of each way, and images indexed by class."""
    total = Counter(labels.values())
    names = ["Hit", "Maybe", "Miss"]
    lines = [
        f"| way | s | CPU s | {' | '.join(f'{n} indexed' for n in names)} |",
        "|---|---|---|---|---|---|",
    ]
    for way in ways:
        found = Counter(labels[image] for image in way.indexed)
        shares = [f"{found[label]} of {total[label]}" for label in Label]
        seconds = f"{way.seconds.clock:.0f} | {way.seconds.processor:.0f}"
        lines.append(f"| {way.name} | {seconds} | {' | '.join(shares)} |")
    return "\n".join(lines)


def write_losses(
    folder: Path, ways: list[Way], labels: dict[Image, Label]
) -> list[str]:
    """Lines on what screening lost."""
    kept = set(_kept(folder / "screened"))
    lines = []
    for label in Label:
        of_class = {image for image, its in labels.items() if its is label}
        share = format_percent(len(of_class & kept), len(of_class))
        lines.append(f"{label.name.capitalize()} kept: {share}")
    every, *others = ways
    for way in others:
        lost, won = every.indexed - way.indexed, way.indexed - every.indexed
        lines.append(
            f"Indexed by {every.name} and not by {way.name}: {len(lost)}; "
            f"by {way.name} only: {len(won)}"
        )
    return lines


def _run(folder: Path, program: str, *arguments: Iterable[str]) -> Seconds:
    """Run a program of DIALS or of this package; what it prints is left out."""
    name = program.removeprefix("dials.")
    package = "dials" if name != program else "dials_cnn_screen"
    command = f"from {package}.command_line.{name} import run; run()"
    folder.mkdir(exist_ok=True)
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    subprocess.run(
        [sys.executable, "-c", command, *itertools.chain(*arguments)],
        cwd=folder,
        stdout=subprocess.DEVNULL,
        check=True,
    )
    clock = time.monotonic() - start
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    processor = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    seconds = f"{clock:.0f} s, {processor:.0f} CPU s"
    print(f"{folder.name}: {program}: {seconds}", flush=True)
    return Seconds(clock, processor)


def _kept(folder: Path) -> list[Image]:
    """The images that dials.cnn_screen kept, in the order of its hits."""
    images = json.loads((folder / "cnn_screen.json").read_text())["images"]
    return [(image["file"], image["frame"]) for image in images if image["kept"]]


def _indexed(paths: Iterable[Path]) -> set[Image]:
    """The images of experiment lists that have a crystal."""
    return {
        (Path(e.imageset.get_path(0)).name, e.imageset.indices()[0] + 1)
        for path in paths
        for e in ExperimentList.from_file(path, check_format=False)
        if e.crystal
    }


if __name__ == "__main__":
    main()
