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
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from dxtbx.model import ExperimentList

from dials_cnn_screen.labels.annotation import read_annotations
from dials_cnn_screen.labels.label import Label
from dials_cnn_screen.simulation.experiments import EXPERIMENTS
from dials_cnn_screen.studies.commands import Cost, run_command
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


class Way(NamedTuple):
    """One way to process a run.

    Attributes:
        name: For the table.
        cost: Of its commands.
        indexed: Images with a crystal.
    """

    name: str
    cost: Cost
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
    print("\n".join(write_losses(set(_kept(folder / "screened")), ways, labels)))


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
            _run(folder, ["dials.cnn_simulate", *what, *outputs])
        for labelled in read_annotations(annotation):
            assert labelled.label is not None
            labels[images, labelled.name.number] = labelled.label
    return labels


def process_all(folder: Path, images: list[str]) -> Way:
    """All images, by DIALS alone."""
    cost = _run(folder, ["dials.import", *images])
    cost += _run(folder, ["dials.stills_process", "imported.expt", *_PROCESSING])
    return Way("all", cost, _indexed(folder.glob("idx*_refined.expt")))


def screen_first(folder: Path, images: list[str]) -> Way:
    """The hits of dials.cnn_screen, from a new file of them."""
    outputs = ["output.hdf5=hits.h5", "output.strong=strong.refl", "mp.nproc=1"]
    cost = _run(folder, ["dials.cnn_screen", *images, *outputs])
    cost += _run(folder, ["dials.import", "hits.h5"])
    cost += _run(folder, ["dials.stills_process", "imported.expt", *_PROCESSING])
    kept = _kept(folder)
    indexed = _indexed(folder.glob("idx*_refined.expt"))
    return Way("screened", cost, {kept[number - 1] for _, number in indexed})


def veto(folder: Path, images: list[str]) -> Way:
    """All images, of which the veto lets DIALS process some."""
    cost = _run(folder, ["dials.cnn_stills_process", *images, *_PROCESSING])
    return Way("veto", cost, _indexed(folder.glob("idx*_refined.expt")))


def index_spots(folder: Path) -> Way:
    """The spots that dials.cnn_screen found, indexed as they are."""
    options = ["joint_indexing=False", "nproc=1", "output.experiments=spots.expt"]
    given = ["hits.expt", "strong.refl", *_INDEXING, *options]
    cost = _run(folder, ["dials.index", *given])
    return Way("screen's spots", cost, _indexed([folder / "spots.expt"]))


def write_table(ways: list[Way], labels: dict[Image, Label]) -> str:
    """A Markdown table: seconds of each way, and images indexed by class."""
    total = Counter(labels.values())
    lines = [
        f"| way | s | CPU s | {' | '.join(f'{its.title} indexed' for its in Label)} |",
        "|---|---|---|---|---|---|",
    ]
    for way in ways:
        found = Counter(labels[image] for image in way.indexed)
        shares = [f"{found[label]} of {total[label]}" for label in Label]
        seconds = f"{way.cost.clock:.0f} | {way.cost.processor:.0f}"
        lines.append(f"| {way.name} | {seconds} | {' | '.join(shares)} |")
    return "\n".join(lines)


def write_losses(
    kept: set[Image], ways: list[Way], labels: dict[Image, Label]
) -> list[str]:
    """Lines on what screening lost; kept: the images that it kept."""
    lines = []
    for label in Label:
        of_class = {image for image, its in labels.items() if its is label}
        share = format_percent(len(of_class & kept), len(of_class))
        lines.append(f"{label.title} kept: {share}%")
    every, *others = ways
    for way in others:
        lost, won = every.indexed - way.indexed, way.indexed - every.indexed
        lines.append(
            f"Indexed by {every.name} and not by {way.name}: {len(lost)}; "
            f"by {way.name} only: {len(won)}"
        )
    return lines


def _run(folder: Path, command: Sequence[str]) -> Cost:
    """Run a command in a folder, and say what it took."""
    folder.mkdir(exist_ok=True)
    cost = run_command(command, folder)
    seconds = f"{cost.clock:.0f} s, {cost.processor:.0f} CPU s"
    print(f"{folder.name}: {command[0]}: {seconds}", flush=True)
    return cost


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
