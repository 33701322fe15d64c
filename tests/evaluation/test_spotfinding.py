from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("dials")

from dials.algorithms.spot_finding import factory
from dials.array_family import flex
from dials.command_line.find_spots import phil_scope
from dxtbx import flumpy
from dxtbx.imageset import ImageSet, ImageSetData, MemReader
from dxtbx.model import BeamFactory, DetectorFactory, Experiment, ExperimentList
from libtbx.phil import parse

from dials_cnn_screen.evaluation.spotfinding import (
    PRESETS,
    SpotFinding,
    as_phil,
    count_in_table,
    count_spots,
    expert_scope,
    find_on_stills,
    format_changes,
    open_stills,
    preset,
    spot_areas,
)
from dials_cnn_screen.images.stills import Still, list_stills
from dials_cnn_screen.labels.image_name import ImageName
from dials_cnn_screen.simulation.experiments import EXPERIMENTS

PAPER = Path(__file__).resolve().parents[3] / "shared" / "paper" / "ke2018.txt"
SHAPE = (80, 100)
# Of 3 x 3, 2 x 2 pixels and one pixel.
CORNERS = ((20, 30), (50, 70), (60, 20))
AREAS = (9, 4, 1)
FINDING = SpotFinding(algorithm="dispersion", gain=1, min_spot_size=1)
EVERYWHERE = np.ones(SHAPE, bool)


class ImageInMemory:
    """What a MemReader reads: stands for a format class."""

    def __init__(self, image):
        self._image = flumpy.from_numpy(image)

    def get_raw_data(self):
        return (self._image,)


def still_of(*images, sensor="SENSOR_PAD"):
    """Experiments of one imageset with the images, on a flat panel."""
    readers = [ImageInMemory(image) for image in images]
    imageset = ImageSet(ImageSetData(MemReader(readers), None))
    detector = DetectorFactory.simple(
        sensor, 100, (5, 4), "+x", "-y", (0.1, 0.1), SHAPE[::-1], (-10, 65535)
    )
    beam = BeamFactory.simple(1.3)
    for i in range(len(images)):
        imageset.set_detector(detector, i)
        imageset.set_beam(beam, i)
    return ExperimentList([Experiment(beam, detector, imageset=imageset)])


@pytest.fixture
def blank():
    return np.random.default_rng(1).poisson(5, SHAPE).astype(np.int32)


@pytest.fixture
def spotted(blank):
    image = blank.copy()
    for (slow, fast), area in zip(CORNERS, AREAS, strict=True):
        side = round(area**0.5)
        image[slow : slow + side, fast : fast + side] += 200
    return image


@pytest.mark.parametrize("algorithm", ["dispersion", "dispersion_extended"])
def test_spots_are_counted(spotted, algorithm):
    finding = replace(FINDING, algorithm=algorithm)
    assert sorted(spot_areas(still_of(spotted), finding)) == sorted(AREAS)
    assert count_spots(still_of(spotted), finding) == 3


def test_blank_frame_has_no_spots(blank):
    assert count_spots(still_of(blank), FINDING) == 0
    assert count_spots(still_of(blank), preset("default")) == 0


@pytest.mark.parametrize("smallest", [1, 2, 4, 5, 9, 10])
def test_smallest_spots_that_count(spotted, smallest):
    """A higher min_spot_size takes away the smaller spots and changes no other."""
    finding = replace(FINDING, min_spot_size=smallest)
    assert count_spots(still_of(spotted), finding) == sum(a >= smallest for a in AREAS)


@pytest.mark.parametrize(("sensor", "n"), [("SENSOR_PAD", 2), ("SENSOR_CCD", 1)])
def test_smallest_spots_that_count_by_default(spotted, sensor, n):
    finding = replace(FINDING, min_spot_size=None)
    assert count_spots(still_of(spotted, sensor=sensor), finding) == n


@pytest.mark.parametrize(
    "change",
    [
        {"gain": 100.0},
        {"global_threshold": 250},
        {"sigma_strong": 1e3},
        {"sigma_background": 1e5},
    ],
)
def test_parameters_reach_dials(spotted, change):
    """Each, so high that nothing is strong."""
    assert count_spots(still_of(spotted), replace(FINDING, **change)) == 0


def test_mask_hides_spots(spotted):
    mask = EVERYWHERE.copy()
    slow, fast = CORNERS[0]
    mask[slow - 1 : slow + 4, fast - 1 : fast + 4] = False
    still = still_of(spotted)
    assert sorted(spot_areas(still, FINDING, [mask])) == [1, 4]
    assert count_spots(still, FINDING, [EVERYWHERE]) == 3
    # One call leaves nothing behind for the next.
    assert count_spots(still, FINDING) == 3


@pytest.mark.parametrize("mask", [[EVERYWHERE.T], [EVERYWHERE] * 2, []])
def test_mask_of_another_shape(spotted, mask):
    with pytest.raises(ValueError, match=r"panels of .*\(80, 100\).*one array"):
        count_spots(still_of(spotted), FINDING, mask)


def test_dials_gives_up_on_too_many_strong_pixels(blank):
    """As on a detector of many ADU a photon when no gain is given."""
    noisy = np.random.default_rng(1).normal(1000, 500, SHAPE).astype(np.int32)
    assert count_spots(still_of(noisy), SpotFinding(min_spot_size=1)) is None
    finding = replace(FINDING, gain=250)
    assert count_spots(still_of(noisy), finding) is not None


def test_other_errors_of_dials_are_not_hidden(spotted):
    with pytest.raises(RuntimeError, match="gain"):
        count_spots(still_of(spotted), replace(FINDING, gain=-1))


def test_only_one_image_at_once(spotted, blank):
    with pytest.raises(ValueError, match="not 2"):
        count_spots(still_of(spotted, blank), FINDING)


def test_unknown_preset():
    with pytest.raises(ValueError, match=r"'LO20'; choose one of default, L498,.*LO19"):
        preset("LO20")


def test_default_preset_is_what_dials_has():
    spotfinder = phil_scope.extract().spotfinder
    dispersion = spotfinder.threshold.dispersion
    default = preset("default")
    assert default.algorithm == spotfinder.threshold.algorithm
    assert default.min_spot_size is None
    assert spotfinder.filter.min_spot_size.__class__.__name__ == "AutoType"
    for name in ("gain", "global_threshold", "sigma_strong", "sigma_background"):
        assert getattr(default, name) == getattr(dispersion, name)


def test_presets_are_those_of_table_2():
    """Gain, global threshold, sigma strong, minimum spot area; and Fig. 7's cuts."""
    found = {
        name: (p.gain, p.global_threshold, p.sigma_strong, p.min_spot_size)
        for name, p in PRESETS.items()
        if name != "default"
    }
    assert found == {
        "L498": (4.55, 100, 6, 3),
        "LG36": (15.64, 100, 3, 2),
        "LN84": (0.31, 200, 3, 3),
        "LN83": (0.27, 200, 3, 3),
        "LO19": (0.19, 200, 3, 3),
    }
    assert found.keys() == EXPERIMENTS.keys()
    assert [preset(name).min_spots for name in found] == [30, 20, 30, 15, 50]
    assert {preset(name).algorithm for name in found} == {"dispersion"}
    if not PAPER.is_file():
        pytest.skip(f"no text of the paper in {PAPER}")
    table = PAPER.read_text().split("Automatic spotfinding parameters.")[1]
    for name, numbers in found.items():
        row = re.search(rf"^{name}\t(.*)$", table, re.MULTILINE)[1].split("\t")
        assert tuple(float(x) for x in row[:4]) == numbers


def test_stills_of_a_file(tmp_path, write_cxidb76, installed_formats, spotted, blank):
    path = write_cxidb76(tmp_path / "x.h5", [spotted, blank], kind="Rayonix")
    stills = open_stills(path)
    assert len(stills) == 2
    assert [count_spots(stills[i : i + 1], FINDING) for i in (0, 1)] == [3, 0]


def test_file_that_dxtbx_cannot_read(tmp_path):
    (tmp_path / "x.txt").write_text("no image")
    with pytest.raises(ValueError, match=r"can't read .*x\.txt"):
        open_stills(tmp_path / "x.txt")


@pytest.fixture
def stills_of_file(tmp_path, write_cxidb76, installed_formats, spotted, blank):
    """Experiments of three images, with 3, 0 and 3 spots; and their stills."""
    images = [spotted, blank, spotted]
    experiments = open_stills(write_cxidb76(tmp_path / "x.h5", images, kind="Rayonix"))
    return experiments, list_stills(experiments)


@pytest.mark.parametrize("nproc", [1, 2])
def test_spots_of_many_stills(stills_of_file, nproc):
    experiments, stills = stills_of_file
    found = list(find_on_stills(experiments, stills[::-1], FINDING, nproc))
    assert [f.n_spots for f in found] == [3, 0, 3]
    assert [f.error for f in found] == [None] * 3
    assert all(0 < second < 60 for f in found for second in f.seconds)


def test_spot_finding_is_silent(stills_of_file, caplog):
    caplog.set_level("INFO", logger="dials")
    list(find_on_stills(*stills_of_file, FINDING, 1))
    assert caplog.records == []


def test_stills_that_fail(stills_of_file):
    experiments, stills = stills_of_file
    (found,) = find_on_stills(experiments, stills[:1], replace(FINDING, gain=-1), 1)
    assert found.n_spots is None
    assert "gain" in found.error


def test_any_parameter_of_dials_can_be_changed(spotted):
    changes = "spotfinder.filter.max_spot_size=4"
    finding = replace(FINDING, min_spot_size=2, changes=changes)
    assert list(spot_areas(still_of(spotted), finding)) == [4]
    # What is changed goes before the others.
    finding = replace(FINDING, changes="spotfinder.filter.min_spot_size=5")
    assert list(spot_areas(still_of(spotted), finding)) == [9]
    assert "min_spot_size = 5" in format_changes(finding)
    assert format_changes(preset("default")) == ""


def test_expert_scope_leaves_that_of_dials_alone():
    assert [part.expert_level for part in expert_scope().objects] == [1]
    assert [part.expert_level for part in factory.phil_scope.objects] == [None]
    assert expert_scope().as_str() == factory.phil_scope.as_str()


def test_spots_of_a_reflection_table(stills_of_file, tmp_path):
    """dials.find_spots and what is found here agree, image by image."""
    experiments, stills = stills_of_file
    params = phil_scope.fetch(source=parse(as_phil(FINDING))).extract()
    table = flex.reflection_table.from_observations(experiments, params)
    table.as_file(str(tmp_path / "strong.refl"))
    counts = count_in_table(tmp_path / "strong.refl", experiments, stills)
    assert counts.tolist() == [3, 0, 3]


def table_with(path, numbers, z=None, identifiers=None):
    """Write a reflection table with spots of these experiments."""
    table = flex.reflection_table()
    table["id"] = flex.int(numbers)
    z = [0.5] * len(numbers) if z is None else z
    table["xyzobs.px.value"] = flex.vec3_double([(1, 1, height) for height in z])
    for number, identifier in (identifiers or {}).items():
        table.experiment_identifiers()[number] = identifier
    table.as_file(str(path))
    return path


def test_several_images_in_one_experiment(tmp_path):
    """They are told apart by the index of the image."""
    imageset = SimpleNamespace(indices=lambda: [4, 5, 6])
    stills = [Still(imageset, i, ImageName("x.h5", i + 5), [0]) for i in range(3)]
    path = table_with(tmp_path / "x.refl", [0, 0, 0], z=[4.5, 6.5, 6.5])
    still = still_of(np.zeros(SHAPE, np.int32))
    assert count_in_table(path, still, stills).tolist() == [1, 0, 2]


@pytest.mark.parametrize(
    ("numbers", "identifiers"), [([0, 3], {}), ([0], {0: "another", 7: "and one"})]
)
def test_reflections_of_other_images(stills_of_file, tmp_path, numbers, identifiers):
    path = table_with(tmp_path / "x.refl", numbers, identifiers=identifiers)
    with pytest.raises(ValueError, match="has spots of other images"):
        count_in_table(path, *stills_of_file)


@pytest.mark.parametrize("content", [b"no table", b"\x80\x04N."])
def test_no_reflections(stills_of_file, tmp_path, content):
    """Nor a pickle, which is not opened."""
    (tmp_path / "x.refl").write_bytes(content)
    with pytest.raises(ValueError, match=r"x\.refl' is not a strong\.refl"):
        count_in_table(tmp_path / "x.refl", *stills_of_file)
