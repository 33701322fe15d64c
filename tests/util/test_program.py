"""What programs make of their arguments; the programs' own tests have the rest."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("dials")

import libtbx.phil
from dials.util import Sorry
from dxtbx.model import ExperimentList
from dxtbx.model.experiment_list import ExperimentListFactory

from dials_cnn_screen.phil import load_scope
from dials_cnn_screen.util.program import parse_images

pytestmark = pytest.mark.usefixtures("installed_formats", "in_tmp_path")

# As where the parameters of spot finding are among those of the program.
TWICE = """
mp { nproc = 1
       .type = int }
spotfinder { mp { nproc = 1
                    .type = int } }
output { log = None
           .type = path }
"""


def parse(*args: str, phil: libtbx.phil.scope | None = None):
    phil = phil or load_scope("cnn_explain")
    return parse_images("dials.test", None, phil, list(args))


@pytest.fixture
def files(in_tmp_path, write_levels):
    for i in (1, 2, 3):
        write_levels(f"run_{i}.h5", [50] * i)


@pytest.mark.usefixtures("files")
@pytest.mark.parametrize(
    ("pattern", "n_images"),
    [("run_?.h5", 6), ("run_[12].h5", 3), ("run_[!1].h5", 5), ("*_3.h5", 3)],
)
def test_quoted_patterns(pattern, n_images):
    assert len(parse(pattern).experiments) == n_images


@pytest.mark.usefixtures("files")
def test_a_name_that_could_be_a_pattern(write_levels):
    write_levels("run_[2].h5", [50] * 4)
    assert len(parse("run_[2].h5").experiments) == 4


@pytest.mark.usefixtures("files")
@pytest.mark.parametrize("pattern", ["run_?", "run_[45].h5", "*.cbf"])
def test_patterns_of_no_file(pattern):
    with pytest.raises(Sorry, match="there is no file '") as problem:
        parse("run_1.h5", pattern)
    assert pattern in str(problem.value)


@pytest.mark.usefixtures("files")
def test_lists_without_images_are_named(caplog):
    ExperimentList().as_file("none.expt")
    with caplog.at_level("WARNING"):
        assert len(parse("run_2.h5", "none.expt").experiments) == 2
    assert caplog.messages == ["none.expt has no images"]


@pytest.mark.usefixtures("files")
def test_nproc_is_that_of_the_program():
    parsed = parse("run_1.h5", "nproc=2", phil=libtbx.phil.parse(TWICE))
    assert parsed.params.mp.nproc == 2
    assert parsed.params.spotfinder.mp.nproc == 1
    parsed = parse("run_1.h5", "spotfinder.mp.nproc=3", phil=libtbx.phil.parse(TWICE))
    assert (parsed.params.mp.nproc, parsed.params.spotfinder.mp.nproc) == (1, 3)


@pytest.mark.usefixtures("files")
@pytest.mark.parametrize(
    ("output", "read"),
    [
        ("output.html", "run_1.h5"),
        ("output.json", "labels.txt"),
        ("output.json", "my.safetensors"),
        ("output.log", "run_2.h5"),
        ("output.log", "run_3.h5"),
        ("output.html", "of_3.expt"),
    ],
)
def test_no_output_takes_the_place_of_what_is_read(output, read):
    ExperimentListFactory.from_filenames(["run_3.h5"]).as_file("of_3.expt")
    for name in ("labels.txt", "my.safetensors"):
        Path(name).write_text(name)
    before = Path(read).read_bytes()
    given = ["run_1.h5", "run_[2].h5", "of_3.expt", "annotation=labels.txt"]
    with pytest.raises(ValueError, match=f"{read}' is both read and written"):
        parse(*given, "model=my.safetensors", f"{output}={read}")
    assert Path(read).read_bytes() == before


@pytest.mark.usefixtures("files")
def test_scores_of_the_run_before_are_replaced():
    Path("cnn_screen.json").write_text("{}")
    own = ["calibration.scores=cnn_screen.json", "output.scores=cnn_screen.json"]
    parsed = parse("run_1.h5", *own, phil=load_scope("cnn_screen"))
    assert parsed.params.output.scores == "cnn_screen.json"
