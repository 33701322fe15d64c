"""Programs with one of their inputs damaged, drawn at random."""

from __future__ import annotations

import importlib
import json
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import fuzz_inputs as inputs
from numpy.random import Generator

GOOD = "good.h5"
N_GOOD = 3  # images in it
# The report takes most of a case's time: it is switched off in three cases of four.
NO_REPORT = "output.html=None"

PROGRAMS = {
    name: importlib.import_module(f"dials_cnn_screen.command_line.{name}")
    for name in (
        "cnn_screen",
        "cnn_evaluate",
        "cnn_explain",
        "cnn_train",
        "cnn_stills_process",
    )
}
PREPARED = Path(tempfile.mkdtemp(prefix="fuzz_"))
SCORES, MODEL = PREPARED / "cnn_screen.json", PREPARED / "default.safetensors"


@dataclass
class Case:
    """A program with its arguments, and what is damaged.

    Attributes:
        program: Name of its file.
        args: Of its run.
        what: The kind of input that is damaged, and how.
        bad: The damaged image file; None where something else is damaged.
        with_good: Whether intact images are given too.
    """

    program: str
    args: list[str]
    what: str
    bad: str | None = None
    with_good: bool = False


def draw_case(rng: Generator) -> Case:
    """Write the inputs of a case into the current folder."""
    inputs.write_cxidb76(Path(GOOD))
    return CASES[int(rng.integers(len(CASES)))](rng)


def _damage_images(rng: Generator) -> tuple[str, str]:
    """Write an image file or experiment list, damaged; its name, and what was done."""
    name = str(rng.choice(list(inputs.IMAGES)))
    write, damages = inputs.IMAGES[name]
    write(Path(name))
    damage = damages[int(rng.integers(len(damages)))]
    damage(Path(name), rng)
    return name, f"{name} {damage.__name__}"


def damaged_images(rng: Generator) -> Case:
    """An image file or experiment list, damaged; often among intact ones."""
    name, what = _damage_images(rng)
    draw = rng.random()
    if draw < 0.7:
        with_good = rng.random() < 0.7
        files = [GOOD, name] if with_good else [name]
        args = files + [NO_REPORT] * bool(rng.random() < 0.75)
        return Case("cnn_screen", args, what, name, with_good)
    if draw < 0.8:
        return Case("cnn_explain", [name, "max_images=2"], what)
    inputs.write_annotation(Path("labels.txt"))
    args = [GOOD, name, "annotation=labels.txt"]
    return Case("cnn_evaluate", args, what)


def damaged_images_for_dials(rng: Generator) -> Case:
    """An image file or experiment list, damaged, among intact ones, for the veto."""
    name, what = _damage_images(rng)
    args = [GOOD, name, "dispatch.index=False"]
    return Case("cnn_stills_process", args, f"{what}, veto", name, True)


def damaged_mask(rng: Generator) -> Case:
    """A mask that an experiment list names."""
    inputs.write_expt(Path("list.expt"))
    inputs.write_mask(Path("mask.pickle"))
    inputs.damage_bytes(Path("mask.pickle"), rng)
    content = json.loads(Path("list.expt").read_text())
    content["imageset"][0]["mask"] = "mask.pickle"
    Path("list.expt").write_text(json.dumps(content))
    args = [GOOD, "list.expt", NO_REPORT]
    return Case("cnn_screen", args, "mask", "list.expt", True)


def damaged_scores(rng: Generator) -> Case:
    """Scores of an earlier run, for an evaluation or a calibration."""
    inputs.write_annotation(Path("labels.txt"))
    shutil.copy(SCORES, "scores.json")
    damage = (inputs.damage_bytes, inputs.damage_json)[int(rng.integers(2))]
    damage(Path("scores.json"), rng)
    what = f"scores {damage.__name__}"
    if rng.random() < 0.6:
        args = ["annotation=labels.txt", "scores=scores.json"]
        return Case("cnn_evaluate", args, what)
    args = [GOOD, NO_REPORT, "decision.max_hit_loss=0.4"]
    args += ["calibration.annotation=labels.txt", "calibration.scores=scores.json"]
    return Case("cnn_screen", args, what)


def damaged_annotation(rng: Generator) -> Case:
    """An annotation file."""
    inputs.write_annotation(Path("labels.txt"))
    inputs.damage_bytes(Path("labels.txt"), rng)
    shutil.copy(SCORES, "scores.json")
    annotation = "annotation=labels.txt"
    program, args = (
        ("cnn_evaluate", [annotation, "scores=scores.json"]),
        ("cnn_evaluate", ["annotation=good.txt", "spot_counts=labels.txt"]),
        ("cnn_explain", [GOOD, annotation, "max_images=2"]),
        ("cnn_train", [GOOD, annotation, "training.epochs=1"]),
    )[int(rng.integers(4))]
    inputs.write_annotation(Path("good.txt"))
    return Case(program, args, "annotation")


def damaged_model(rng: Generator) -> Case:
    """A model file."""
    shutil.copy(MODEL, "model.safetensors")
    inputs.damage_bytes(Path("model.safetensors"), rng)
    return Case("cnn_screen", [GOOD, "model=model.safetensors", NO_REPORT], "model")


def odd_parameters(rng: Generator) -> Case:
    """A parameter of a program with a value that it can't have, or a PHIL file."""
    program = str(rng.choice(["cnn_screen", "cnn_evaluate", "cnn_explain"]))
    inputs.write_annotation(Path("labels.txt"))
    args = [GOOD] + ["annotation=labels.txt"] * (program == "cnn_evaluate")
    names = [
        place.path
        for place in PROGRAMS[program].phil_scope.all_definitions()
        if not place.path.startswith(("mp.", "input.", "device"))
    ]
    name = names[int(rng.integers(len(names)))]
    odd = ("nan", "inf", "-1", "0", "1e308", "None", "Auto", "x" * 3000, "'", "{", ".")
    odd += ("[" * 2000, "1,2,3", "/", GOOD, "\u00e9", "9" * 400)
    value = odd[int(rng.integers(len(odd)))]
    if rng.random() < 0.7:
        return Case(program, [*args, f"{name}={value}"], "parameter")
    Path("params.phil").write_text(f"{name} = {value}\n")
    inputs.damage_bytes(Path("params.phil"), rng)
    return Case(program, [*args, "params.phil"], "PHIL file")


# Drawn from evenly: images are more than half of all cases.
CASES: tuple[Callable[[Generator], Case], ...] = (
    *[damaged_images] * 6,
    *[damaged_images_for_dials] * 2,
    damaged_mask,
    damaged_scores,
    damaged_annotation,
    damaged_model,
    odd_parameters,
    odd_parameters,
)
