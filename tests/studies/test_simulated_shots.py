from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from dials_cnn_screen.ke2018 import preprocessing_cpu
from dials_cnn_screen.ke2018.preprocessing import Preprocessing, prepare
from dials_cnn_screen.ke2018.training_set import MAX_SHIFT
from dials_cnn_screen.labels.label import Label
from dials_cnn_screen.simulation.detector import usable_pixels
from dials_cnn_screen.simulation.experiments import VISIBLE_SIGMA
from dials_cnn_screen.simulation.run import plan_run, simulate_run
from dials_cnn_screen.simulation.shot import simulate_shot
from dials_cnn_screen.spots.candidates import CandidateSearch
from dials_cnn_screen.spots.candidates_cpu import find_candidates
from dials_cnn_screen.studies import simulated_shots as module
from dials_cnn_screen.studies.simulated_shots import (
    NetworkInput,
    candidate_truth,
    simulate_candidates,
    simulate_dataset,
    simulate_prepared,
)


@pytest.mark.parametrize(
    ("n_shots", "fractions", "counts"),
    [
        (2000, (148, 498, 1354), [148, 498, 1354]),
        (200, (148, 498, 1354), [15, 50, 135]),
        (10, (1, 1, 1), [3, 4, 3]),
        (5, (0, 0, 2.5), [0, 0, 5]),
        (0, (1, 1, 1), [0, 0, 0]),
    ],
)
def test_counts_of_a_plan(n_shots, fractions, counts):
    jobs = plan_run("LO19", n_shots, fractions, seed=0)
    found = Counter(aim for _, aim, _ in jobs)
    assert [found[label] for label in Label] == counts
    assert {name for name, _, _ in jobs} <= {"LO19"}


def test_a_plan_is_drawn_by_its_seed():
    first, again, other = (plan_run("LO19", 60, (1, 1, 1), s) for s in (1, 1, 2))
    assert first == again
    assert [aim for _, aim, _ in first] != [aim for _, aim, _ in other]
    assert [aim for _, aim, _ in first] != sorted(aim for _, aim, _ in first)
    seeds = {seed for _, _, seed in first + other}
    assert len(seeds) == 120
    assert all(type(seed) is int for seed in seeds)


@pytest.mark.parametrize(
    "fractions", [(1, 1), (0, 0, 0), (1, -1, 2), (1, 1, 1, 1), (1, float("nan"), 1)]
)
def test_fractions_that_are_no_shares(fractions):
    with pytest.raises(ValueError, match="are not three shares for Hit, Maybe and Mi"):
        plan_run("LO19", 10, fractions, 0)


def test_shots_are_those_of_the_jobs_in_order(small):
    jobs = plan_run("LO19", 3, (1, 1, 1), 5)
    for shot, (_, aim, seed) in zip(simulate_run(jobs, 1), jobs, strict=True):
        expected = simulate_shot(small, aim, seed)
        np.testing.assert_array_equal(shot.image, expected.image)
        np.testing.assert_array_equal(shot.visible, expected.visible)


def test_the_number_of_processes_does_not_matter():
    jobs = [("L498", Label.MISS, 11), ("L498", Label.MAYBE, 12)]
    one, two = (list(simulate_run(jobs, nproc)) for nproc in (1, 2))
    assert len(one) == len(two) == 2
    for a, b in zip(one, two, strict=True):
        np.testing.assert_array_equal(a.image, b.image)
        np.testing.assert_array_equal(a.visible, b.visible)
        assert (a.wavelength, a.label) == (b.wavelength, b.label)


@pytest.mark.parametrize("contrast", ["lcn", "none"])
def test_dataset_of_prepared_shots(small, tmp_path, contrast):
    jobs = plan_run("LO19", 4, (1, 1, 1), 6)
    preprocessing = Preprocessing(binning=2, size=24, contrast=contrast)
    path = tmp_path / "images.npy"
    dataset = simulate_dataset(jobs, preprocessing, path, 1, "Shots")
    edge = 24 + 2 * MAX_SHIFT
    assert dataset.images.shape == (4, edge, edge)
    for i, (_, aim, seed) in enumerate(jobs):
        shot = simulate_shot(small, aim, seed)
        mask = usable_pixels(small.detector, shot.image)
        expected = prepare(
            shot.image,
            mask,
            small.detector.beam_centre,
            Preprocessing(binning=2, size=edge, contrast=contrast),
        )
        assert dataset.labels[i] == shot.label
        np.testing.assert_allclose(dataset.images[i], expected, rtol=1e-3, atol=1e-3)
    stored = np.load(path, mmap_mode="r")
    np.testing.assert_array_equal(stored, dataset.images)


def test_candidates_know_which_are_spots(small):
    jobs = plan_run("LO19", 4, (1, 1, 0), 7)
    search = CandidateSearch()
    data = simulate_candidates(jobs, search, 1, "Shots")
    for i, (_, aim, seed) in enumerate(jobs):
        shot = simulate_shot(small, aim, seed)
        frame = shot.image.astype(np.float32)
        found = find_candidates(frame, shot.mask, small.detector.beam_centre, search)
        assert data.labels[i] == shot.label
        assert np.count_nonzero(data.present[i]) == len(found.z)
        places = np.stack([found.slow, found.fast], axis=1) + 0.5
        # Whatever the expert sees of them.
        spots = shot.spots[shot.significance >= VISIBLE_SIGMA]
        away = np.abs(places[:, None] - spots[None]).max(axis=2).min(axis=1)
        truth = data.truth[i, : len(found.z)]
        assert (truth[away < 0.5] == 1).all()
        assert (truth[away > 5] != 1).all()
    assert np.count_nonzero(data.truth == 1) > 10


def test_images_are_those_of_the_reference(small):
    """What the kernel makes of a shot is what the equations of the paper give."""
    (job,) = plan_run("LO19", 1, (1, 0, 0), 9)
    shot = simulate_shot(small, *job[1:])
    expected = prepare(
        shot.image, shot.mask, small.detector.beam_centre, Preprocessing(size=24)
    )
    frame = module.as_frame(shot, "LO19")
    image = preprocessing_cpu.prepare(
        frame.data, frame.mask, frame.beam_centre, Preprocessing(size=24)
    )
    np.testing.assert_allclose(image, expected, rtol=1e-4, atol=1e-4)


def test_users_beam_centres_are_wrong(monkeypatch, small):
    wrong = replace(small, centre_error=(2.5, -1.0))
    monkeypatch.setattr(module, "find_experiment", lambda name: wrong)
    frame = module.as_frame(simulate_shot(small, Label.MISS, 1), "x")
    slow, fast = small.detector.beam_centre
    assert frame.beam_centre == (slow + 2.5, fast - 1.0)


def test_one_simulation_for_several_networks(small, tmp_path):
    jobs = plan_run("LO19", 2, (1, 1, 1), 8)
    preprocessing, search = Preprocessing(binning=2, size=24), CandidateSearch()
    path = tmp_path / "images.npy"
    alone = simulate_dataset(jobs, preprocessing, path, 1, "Shots")
    searched = simulate_candidates(jobs, search, 1, "Shots")
    inputs = [NetworkInput("ke2018", preprocessing), NetworkInput("spots", search)]
    for i, shot in enumerate(simulate_prepared(jobs, inputs, 1)):
        image, found = shot.inputs
        assert shot.label == alone.labels[i] == searched.labels[i]
        np.testing.assert_array_equal(image, alone.images[i])
        truth = candidate_truth(found, shot)
        np.testing.assert_array_equal(truth, searched.truth[i, : len(found.z)])


def test_bright_shots_stay_finite_in_a_dataset(small, monkeypatch, tmp_path):
    prepared = np.full((246, 246), 90_000, np.float32)
    monkeypatch.setattr(preprocessing_cpu, "prepare", lambda *_: prepared)
    dataset = simulate_dataset(
        [("LO19", Label.HIT, 0)],
        Preprocessing(size=6, contrast="none"),
        tmp_path / "images.npy",
        1,
        "Shots",
    )
    assert dataset.images.max() == 65504
