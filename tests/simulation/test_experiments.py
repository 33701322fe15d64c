from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from dials_cnn_screen.labels.annotation import read_annotations
from dials_cnn_screen.labels.label import Label
from dials_cnn_screen.simulation.crystal import orthogonalisation_matrix
from dials_cnn_screen.simulation.experiments import EXPERIMENTS

CXIDB76 = Path(__file__).resolve().parents[3] / "shared" / "cxidb76"

# Table 1: run, photon energy (eV), cell edges (A), detector; Fig. 7: Hit, Maybe, Miss.
TABLE_1 = {
    "L498": (27, 9773, (93, 93, 130), "CSPAD", (148, 498, 1354)),
    "LG36": (87, 7088, (118, 224, 331), "CSPAD", (235, 57, 1708)),
    "LN84": (95, 9516, (118, 223, 311), "Rayonix", (806, 132, 1062)),
    "LN83": (18, 9498, (73, 96, 119), "Rayonix", (346, 63, 1591)),
    "LO19": (20, 9442, (42, 52, 88), "Rayonix", (730, 151, 1119)),
}


def test_experiments_are_those_of_table_1():
    assert list(EXPERIMENTS) == list(TABLE_1)


@pytest.mark.parametrize("name", TABLE_1)
def test_an_experiment(name):
    run, energy, edges, kind, images = TABLE_1[name]
    experiment = EXPERIMENTS[name]
    assert experiment.name == name
    assert experiment.run == f"r{run:04d}"
    # E = h c / wavelength, with h, c and e exact in SI units.
    hc = 6.62607015e-34 * 299_792_458 / 1.602176634e-19 * 1e10
    assert experiment.wavelength == pytest.approx(hc / energy, rel=1e-9)
    assert experiment.crystal.cell[:3] == edges
    assert experiment.crystal.cell[3:] == (90, 90, 120 if name == "L498" else 90)
    assert experiment.detector.family == kind.lower()
    assert experiment.images == images
    assert sum(images) == 2000


@pytest.mark.parametrize("name", TABLE_1)
def test_class_totals_are_those_deposited(name):
    folder = CXIDB76 / "annotation" / name
    if not folder.is_dir():
        pytest.skip(f"no deposited annotation in {folder}")
    annotations = read_annotations(folder / "expert_annotation.txt")
    counts = Counter(a.label for a in annotations)
    assert tuple(counts[label] for label in Label) == EXPERIMENTS[name].images
    assert {a.name.path for a in annotations} == {f"{EXPERIMENTS[name].run}_2000.h5"}
    assert [a.name.number for a in annotations] == list(range(1, 2001))


def test_detectors_are_those_of_section_3_2():
    cspad, rayonix = (EXPERIMENTS[name].detector for name in ("L498", "LO19"))
    assert (cspad.shape, cspad.pixel_size, cspad.psf) == ((1765, 1765), 0.11, 0)
    assert (rayonix.shape, rayonix.pixel_size) == ((1920, 1920), 0.0886)
    assert rayonix.psf > 0
    assert rayonix.hole_radius > 0
    # ADU a photon, as the photons of real frames are apart; LG36's cone and shadow.
    assert cspad.gain == pytest.approx(9.5, rel=0.01)
    assert EXPERIMENTS["LG36"].detector.gain == pytest.approx(9.5 * 7.088 / 9.76)
    assert EXPERIMENTS["LG36"].detector.low_gain_d_min == 3.2
    assert EXPERIMENTS["LG36"].detector.shadowed_rows > 0


@pytest.mark.parametrize("name", TABLE_1)
def test_ranges_run_upwards(name):
    experiment = EXPERIMENTS[name]
    for field in ("ring", "air", "b_factor", "mosaicity", "domain_size", "bandwidth"):
        low, high = getattr(experiment, field)
        assert 0 < low < high
    assert np.linalg.det(orthogonalisation_matrix(experiment.crystal.cell)) > 0
