"""How fast screening is on this machine, beside dials.find_spots on the same files.

Run as ``python -m dials_cnn_screen.studies.benchmark`` while nothing else runs (``make
benchmark`` does). Two kinds of figures come out, as tables and as JSON:

- Stages: frames of 1920 x 1920 pixels in memory through each step, in CPU time, beside
  the time that the machine takes to copy as many bytes.
- Programs: CPU seconds of whole processes on runs of two lengths. The slope is the cost
  of an image, what is left the cost of the start. dials.find_spots has the parameters
  of Table 2 of Ke et al. (2018).
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dials_cnn_screen import __version__
from dials_cnn_screen.images.compression import compress, decompress
from dials_cnn_screen.images.frame import Frame, check_frame
from dials_cnn_screen.models.model_file import load_model
from dials_cnn_screen.studies.commands import run_command
from dials_cnn_screen.util.threads import keep_freed_memory

EDGE = 1920  # of the Rayonix of LO19, pixels
MODELS = ("default", "ke2018")
# Of Table 2; the dispersion algorithm was DIALS's default then.
FIND_SPOTS = {
    "LO19": ["gain=0.19", "global_threshold=200"],
    "L498": ["gain=4.55", "global_threshold=100", "sigma_strong=6"],
}


@dataclass(frozen=True)
class Stage:
    """A step of a frame: its CPU time in ms, and that of copying as many bytes.

    Attributes:
        name: What is done.
        least, median, most: Of the rounds, ms.
        copying: ms; None where the step does not go through the frame.
    """

    name: str
    least: float
    median: float
    most: float
    copying: float | None


@dataclass(frozen=True)
class Program:
    """A program on runs of two lengths.

    Attributes:
        name: The program and what it was run on.
        start: CPU seconds without images.
        per_image: CPU milliseconds that each image adds.
        memory: Of the longer run, MB.
    """

    name: str
    start: float
    per_image: float
    memory: float


def measure(work: Callable[[], object], rounds: int) -> list[float]:
    """CPU times of this thread, ms, after a first round that is not counted."""
    work()
    times = []
    for _ in range(rounds):
        begin = time.thread_time()
        work()
        times.append(1e3 * (time.thread_time() - begin))
    return times


def measure_stages(rounds: int, edge: int = EDGE) -> list[Stage]:
    """Each step of a frame of edge x edge pixels, for both models."""
    keep_freed_memory()  # as screening does
    rng = np.random.default_rng(0)
    data = rng.poisson(60, (edge, edge)).astype(np.float32)
    mask = np.ones(data.shape, dtype=bool)
    hole = np.s_[edge // 2 - 55 : edge // 2 + 55]  # as in the middle of the Rayonix
    mask[hole, hole] = False
    frame = Frame(data, mask, (edge / 2, edge / 2))
    target = np.empty_like(data)

    def copy() -> None:
        target[:] = data

    # A copy reads and writes what a step only reads, together with the mask.
    copying = statistics.median(measure(copy, rounds)) * 5 / 8
    chunk = compress(data.astype(np.uint16), "bslz4", 8192)
    what = chunk, "bslz4", data.shape, "uint16"
    stages = [
        _stage(
            "bitshuffle, LZ4: decompress", lambda: decompress(*what), rounds, copying
        ),
        _stage("check the frame", lambda: check_frame(frame), rounds, copying),
    ]
    for name in MODELS:
        model = load_model(name)
        pipeline = model.entry.pipeline(model.network, model.preparation, "cpu")
        prepared = pipeline.prepare(frame)
        stages += [
            _stage(f"{name}: prepare", _call(pipeline.prepare, frame), rounds, copying),
            _stage(f"{name}: classify", _call(pipeline.run, prepared), rounds, None),
        ]
    return stages


def _call(function: Callable[[Any], object], value: object) -> Callable[[], object]:
    return lambda: function(value)


def _stage(
    name: str, work: Callable[[], object], rounds: int, copying: float | None
) -> Stage:
    times = measure(work, rounds)
    return Stage(name, min(times), statistics.median(times), max(times), copying)


def measure_program(
    name: str, command: Sequence[str], files: dict[int, str], rounds: int
) -> Program:
    """A program on files of two numbers of images; the command gets the file's name.

    Raises:
        ValueError: The program failed.
    """
    costs = {}
    memory = 0.0
    for n_images, file in files.items():
        runs = [run_command([*command, file]) for _ in range(rounds)]
        costs[n_images] = statistics.median(run.processor for run in runs)
        memory = max(run.memory for run in runs)
    (few, cost_of_few), (many, cost_of_many) = sorted(costs.items())
    per_image = (cost_of_many - cost_of_few) / (many - few)
    return Program(name, cost_of_few - few * per_image, 1e3 * per_image, memory)


def measure_programs(
    experiment: str, lengths: Sequence[int], rounds: int
) -> list[Program]:
    """dials.cnn_screen and dials.find_spots on simulated shots, in a new folder."""
    with tempfile.TemporaryDirectory() as folder:
        files = {}
        for n in lengths:
            file = Path(folder, f"{experiment}_{n}.h5")
            shots = [f"experiment={experiment}", f"n_images={n}"]
            outputs = [f"output.images={file}", "output.annotation=None"]
            run_command(["dials.cnn_simulate", *shots, *outputs, "output.log=None"])
            files[n] = f"{folder}/{experiment}_{n}.expt"
            log = f"output.log={folder}/import.log"
            imported = f"output.experiments={files[n]}"
            run_command(["dials.import", str(file), imported, log])
        names = ("experiments", "scores", "html", "log", "record", "recurring_mask")
        nothing = [f"output.{name}=None" for name in names]
        programs = [
            measure_program(
                f"{experiment}: dials.cnn_screen model={model}",
                ["dials.cnn_screen", f"model={model}", "mp.nproc=1", *nothing],
                files,
                rounds,
            )
            for model in MODELS
        ]
        outputs = [f"output.reflections={folder}/strong.refl"]
        outputs += [f"output.log={folder}/find.log", "nproc=1"]
        spots = ["threshold.algorithm=dispersion", *FIND_SPOTS[experiment]]
        find_spots = measure_program(
            f"{experiment}: dials.find_spots",
            ["dials.find_spots", *spots, *outputs],
            files,
            rounds,
        )
        return [*programs, find_spots]


def describe_machine() -> dict[str, Any]:
    """Processor, cores and versions."""
    import numba
    import torch

    names = [
        line.partition(":")[2].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if line.startswith("model name")
    ]
    return {
        "processor": names[0] if names else platform.processor(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "numba": numba.__version__,
        "torch": torch.__version__,
        "dials_cnn_screen": __version__,
    }


def print_tables(stages: Sequence[Stage], programs: Sequence[Program]) -> None:
    """The figures as Markdown tables."""
    print(
        "\n| stage | CPU, ms | least-most | copying the frame, ms |\n|---|---|---|---|"
    )
    for s in stages:
        copying = "" if s.copying is None else f"{s.copying:.2f}"
        print(f"| {s.name} | {s.median:.2f} | {s.least:.2f}-{s.most:.2f} | {copying} |")
    print("\n| program | start, CPU s | per image, CPU ms | images/s | memory, MB |")
    print("|---|---|---|---|---|")
    for p in programs:
        rate = 1e3 / p.per_image
        print(
            f"| {p.name} | {p.start:.2f} | {p.per_image:.1f} | {rate:.1f} "
            f"| {p.memory:.0f} |"
        )


def main(args: Sequence[str] | None = None) -> None:
    """Measure, print the tables and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--experiments", nargs="*", choices=FIND_SPOTS, default=list(FIND_SPOTS)
    )
    parser.add_argument("--images", nargs=2, type=int, default=[10, 60])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--output", default="benchmark.json")
    options = parser.parse_args(args)
    machine = describe_machine()
    print(", ".join(f"{name} {value}" for name, value in machine.items()))
    stages = measure_stages(10 * options.rounds)
    programs = [
        program
        for experiment in options.experiments
        for program in measure_programs(experiment, options.images, options.rounds)
    ]
    print_tables(stages, programs)
    Path(options.output).write_text(
        json.dumps(
            {
                "machine": machine,
                "stages": [asdict(stage) for stage in stages],
                "programs": [asdict(program) for program in programs],
            },
            indent=1,
        )
        + "\n",
        encoding="utf-8",
    )


if __name__ == "__main__":
    main(sys.argv[1:])
