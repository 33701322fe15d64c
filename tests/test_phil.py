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
    return [location.object for location in scope.all_definitions()]


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
