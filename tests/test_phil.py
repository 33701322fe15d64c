"""Every parameter has a type and a help, and a default of that type."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("dials")

import libtbx.phil

import dials_cnn_screen.phil
from dials_cnn_screen.phil import load_scope

FOLDER = Path(dials_cnn_screen.phil.__file__).parent
NAMES = sorted(path.stem for path in FOLDER.glob("*.phil"))
PROGRAMS = [name for name in NAMES if name.startswith("cnn_")]


def definitions(scope: libtbx.phil.scope) -> list[libtbx.phil.definition]:
    """Parameters of this package; those of spotfinder are DIALS's."""
    found = [location.object for location in scope.all_definitions()]
    return [d for d in found if not d.full_path().startswith("spotfinder.")]


def test_there_are_programs():
    assert {"cnn_screen", "cnn_simulate", "cnn_train"} <= set(PROGRAMS)


@pytest.mark.parametrize("name", NAMES)
def test_every_parameter_is_described(name):
    scope = load_scope(name)
    scope.extract()
    for definition in definitions(scope):
        assert definition.type is not None, definition.full_path()
        assert definition.help, definition.full_path()
        assert definition.help.endswith("."), definition.full_path()


@pytest.mark.parametrize("name", PROGRAMS)
def test_every_program_writes_a_log(name):
    assert load_scope(name).extract().output.log == f"dials.{name}.log"


@pytest.mark.parametrize("shared", ["mp", "device"])
def test_shared_parameters(shared):
    scope = load_scope("cnn_screen").get(shared)
    assert scope.as_str() == load_scope(shared).as_str()


def test_documented_defaults_of_cnn_screen():
    params = load_scope("cnn_screen").extract()
    assert params.model == "default"
    assert params.device == "auto"
    assert params.mp.method == "multiprocessing"
    assert params.decision.threshold == 0.5
    assert params.decision.max_hit_loss is None
    assert params.decision.keep_misses == 0.0
    assert params.calibration.annotation is params.calibration.scores is None
    assert params.output.experiments == "hits.expt"
    assert params.output.rejected is None
    assert params.output.scores == "cnn_screen.json"
    assert params.output.html == "cnn_screen.html"


def test_documented_parameters_of_cnn_evaluate():
    params = load_scope("cnn_evaluate").extract()
    assert params.annotation == [None]
    assert params.model == "default"
    assert params.decision.threshold == 0.5
    assert params.scores is params.spot_counts is params.reflections is None
    assert params.min_spots is params.training.fraction is None
    assert params.find_spots == "none"
    assert params.output.results == "cnn_evaluate.json"
    assert params.output.html == "cnn_evaluate.html"


def test_cnn_evaluate_has_all_that_dials_finds_spots_with():
    from dials.algorithms.spot_finding.factory import phil_scope

    ours = load_scope("cnn_evaluate").get("spotfinder")
    assert ours.as_str() == phil_scope.get("spotfinder").as_str()


def test_names_of_parameters_for_spot_finding():
    from dials_cnn_screen.evaluation.spotfinding import PRESETS

    (choice,) = (
        d for d in definitions(load_scope("cnn_evaluate")) if d.name == "find_spots"
    )
    names = [word.value.lstrip("*") for word in choice.words]
    assert names == ["none", *PRESETS]
