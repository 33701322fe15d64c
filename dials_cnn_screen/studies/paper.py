"""The tables and figures of Ke et al. (2018), each beside what was printed.

Run as ``make paper-tables``, or ``python -m dials_cnn_screen.studies.paper`` with the
Python that runs DIALS: Tables 3 to 8 and Figs. 8, 9 and 11, on simulated shots, or on
the deposited ones with --cxidb76. docs/paper.md tells what each of them is. Finished
steps are found in the folder, so that an interrupted run goes on.

By default it is a tenth of the paper's shots and an eighth of its training, hours on
two cores: the paper has 2000 shots of each experiment, and 120 epochs of 100 batches.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from functools import partial
from pathlib import Path

import torch

from dials_cnn_screen import __version__
from dials_cnn_screen.explain.embedding import check_scikit_learn
from dials_cnn_screen.models.registry import find_architecture
from dials_cnn_screen.studies.figures import FIGURES
from dials_cnn_screen.studies.networks import ARCHITECTURE, Study, train_networks
from dials_cnn_screen.studies.shots import load_shots
from dials_cnn_screen.studies.sources import Deposited, Simulated, Source
from dials_cnn_screen.studies.tables import TABLES, all_networks
from dials_cnn_screen.util.files import replacing
from dials_cnn_screen.util.threads import keep_freed_memory, use_threads

SHOTS = 200  # by hand: two hours on two cores
# As dials.cnn_train has it. In fewer than a hundred batches nothing is learned, nor do
# the running means of batch normalisation settle.
SCHEDULE = find_architecture(ARCHITECTURE).schedule("short", from_model=False)


def make_paper(
    source: Source, folder: Path, epochs: int, batches: int, nproc: int
) -> None:
    """Make all tables and figures, and paper.md with all of them.

    Args:
        source: Of the shots.
        folder: Takes all files.
        epochs: Of each training.
        batches: In an epoch.
        nproc: Number of processes.

    Raises:
        ValueError: The folder has other shots.
    """
    check_scikit_learn()
    prepared, networks = folder / "shots", folder / f"networks-{epochs}x{batches}"
    for subfolder in (prepared, networks):
        subfolder.mkdir(parents=True, exist_ok=True)
    run: dict[str, object] = {"shots": str(source), "version": __version__}
    _check_shots(prepared / "shots.json", run)
    made_of = (
        f"Of {source}; half of them for training, 20% for validation, 30% for test; "
        f"{epochs} epochs of {batches} batches of 64. In round brackets the 95% "
        "interval, in square brackets the figure of Ke et al. (2018): 2000 real shots "
        "of each experiment, 120 epochs of 100 batches."
    )
    print(f"{made_of}\n", flush=True)
    use_threads(nproc)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cpu":
        keep_freed_memory()
    changes = {"epochs": epochs, "batches": batches}
    load = partial(load_shots, source, prepared, nproc)
    study = Study(load, networks, changes, {**run, **changes}, device)
    train_networks(study, all_networks(study.shots), nproc)
    page = ["# The tables and figures of Ke et al. (2018)", made_of]
    for make_table in TABLES:
        table = make_table(study)
        table.write(folder, made_of)
        page.append(table.as_markdown())
        print(f"{page[-1]}\n", flush=True)
    for make_figure in FIGURES:
        picture = make_figure(study, folder)
        title = picture.stem.replace("_", " ").capitalize()
        page.append(f"## {title}\n\n![{title}]({picture.name})")
    with replacing(folder / "paper.md") as unfinished:
        Path(unfinished).write_text("\n\n".join(page) + "\n", "utf-8")
    print(f"All of it is in {folder / 'paper.md'}", flush=True)


def _check_shots(path: Path, run: dict[str, object]) -> None:
    """Note what shots a folder has; ValueError where it has others."""
    if path.is_file():
        earlier = json.loads(path.read_text("utf-8"))
        if changed := [x for x in run if earlier.get(x) != run[x]]:
            raise ValueError(
                f"'{path.parent.parent}' has other shots: "
                + ", ".join(f"{x}: {earlier.get(x)}, now {run[x]}" for x in changed)
                + "; choose another --folder, or remove that one"
            )
    with replacing(path) as unfinished:
        Path(unfinished).write_text(json.dumps(run, indent=1) + "\n", "utf-8")


def main(args: list[str] | None = None) -> None:
    """Make what the command line asks for."""
    parser = argparse.ArgumentParser(
        prog="python -m dials_cnn_screen.studies.paper",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--cxidb76",
        type=Path,
        metavar="FOLDER",
        help="the deposited data: in FOLDER/L498 r0027_2000.h5, expert_annotation.txt "
        "and dials_annotation.txt, and so on; without, shots are simulated",
    )
    parser.add_argument(
        "--shots",
        type=_positive,
        default=SHOTS,
        help="simulated, of each experiment (default: %(default)s)",
    )
    parser.add_argument(
        "--epochs",
        type=_positive,
        default=SCHEDULE.epochs,
        help="of training (default: %(default)s)",
    )
    parser.add_argument(
        "--batches",
        type=_positive,
        default=SCHEDULE.batches,
        help="in an epoch (default: %(default)s)",
    )
    parser.add_argument(
        "--folder",
        type=Path,
        default=Path("paper_tables"),
        help="for all files (default: %(default)s)",
    )
    parser.add_argument("--nproc", type=_positive, default=os.cpu_count())
    options = parser.parse_args(args)
    source = Deposited(options.cxidb76) if options.cxidb76 else Simulated(options.shots)
    try:
        make_paper(
            source, options.folder, options.epochs, options.batches, options.nproc
        )
    except (ValueError, OSError) as error:
        sys.exit(f"{parser.prog}: {error}")


def _positive(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"'{text}' is not 1 or more")
    return int(text)


if __name__ == "__main__":
    main()
