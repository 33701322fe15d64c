from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("numba")

from dials_cnn_screen.labels.label import Label, label_from_spots
from dials_cnn_screen.models.model_file import load_model
from dials_cnn_screen.simulation.experiments import VISIBLE_SIGMA
from dials_cnn_screen.simulation.random_experiments import plan_random_experiments
from dials_cnn_screen.simulation.run import plan_run, simulate_job
from dials_cnn_screen.spots.architecture import SPOTS
from dials_cnn_screen.spots.training_set import CandidateSet
from dials_cnn_screen.studies import eye as module
from dials_cnn_screen.studies import label_curve, make_default
from dials_cnn_screen.studies.simulated_shots import as_frame


@pytest.fixture
def few(monkeypatch):
    """Twelve shots to label, one epoch of training."""
    monkeypatch.setattr(module, "POOL", 12)
    monkeypatch.setattr(module, "HEAD", 9)
    monkeypatch.setattr(module, "LABELS", (10,))
    choose = label_curve.choose_schedule

    def choose_short(start, name, _changes):
        return choose(start, name, {"epochs": 1, "batches": 1})

    monkeypatch.setattr(label_curve, "choose_schedule", choose_short)


def test_the_default_model_was_trained_on_none_of_the_experiments():
    jobs = plan_random_experiments(make_default.SHOTS, make_default.SHOTS_SEED)
    assert not {name for name, _, _ in jobs} & set(module.EXPERIMENTS)


def test_shots_are_stored_with_what_is_visible(small, tmp_path):
    first = module.simulate_shots("LO19", tmp_path, 6, 1)
    again = module.simulate_shots("LO19", tmp_path, 6, 1)
    for name, values in vars(first.data).items():
        np.testing.assert_array_equal(values, getattr(again.data, name))
    np.testing.assert_array_equal(first.significance, again.significance)
    # An expert who sees more than that of the experiment, in all of the frame.
    assert (first.labels(VISIBLE_SIGMA) <= first.data.labels).all()
    assert (np.diff(first.significance, axis=1) <= 0).all()
    assert first.significance.max() > VISIBLE_SIGMA


def test_labels_of_experts():
    significance = np.zeros((4, 100), np.float32)
    significance[1:, :12] = np.linspace(30, 8, 12)
    significance[2, 3:] = 0
    shots = module.Shots(CandidateSet.empty(4, 1), significance)
    assert shots.labels(7.0).tolist() == [Label.MISS, Label.HIT, Label.MISS, Label.HIT]
    strong = int(np.count_nonzero(np.linspace(30, 8, 12) >= 20))
    assert shots.labels(20.0)[1] == label_from_spots(strong)
    many = module.Shots(shots.data, np.tile(significance[1], (4000, 1)))
    noisy = many.labels(7.0, np.random.default_rng(0))
    # Slips of a Hit are Maybes; drift leaves ten spots or more of these twelve.
    assert np.mean(noisy == Label.MAYBE) == pytest.approx(module.SLIPS, abs=0.01)
    drifting = many.labels(12.0, np.random.default_rng(0))
    assert np.mean(drifting == Label.HIT) == pytest.approx(0.5, abs=0.15)
    assert np.mean(noisy == Label.MISS) < 0.01


def test_predictions_are_those_of_the_program(small):
    model = load_model()
    jobs = plan_run("LO19", 2, (1, 0, 0), 5)
    data = CandidateSet.empty(2, model.preparation.most)
    predictor = model.predictor()
    expected = []
    for i, job in enumerate(jobs):
        frame = as_frame(simulate_job(job), job[0])
        data.put(i, SPOTS.prepare_for_training(frame, model.preparation), Label.HIT)
        expected.append(predictor.predict(frame))
    # Patches are stored in half precision.
    for one, other in zip(module.predict(model, data), expected, strict=True):
        np.testing.assert_allclose(one.probabilities, other.probabilities, atol=0.02)
        ours, theirs = one.candidates, other.candidates
        assert len(theirs.p_spot) > 3
        assert abs(len(ours.p_spot) - len(theirs.p_spot)) <= 2
        assert ours.p_spot.sum() == pytest.approx(theirs.p_spot.sum(), abs=0.2)
        assert ours.significance.max() == pytest.approx(
            theirs.significance.max(), abs=0.02
        )


def test_comparison(small, few, tmp_path, capsys):
    shots = module.simulate_shots("LO19", tmp_path, 18, 1)
    predictions = module.predict(load_model(), shots.data)
    outcomes = module.compare(shots, predictions, 12.0, 2, 1)
    assert {name: len(values) for name, values in outcomes.items()} == {
        "default model": 1,
        "eye, 10 labels": 2,
        "head, 9 + 3 labels": 1,
    }
    (own,) = outcomes["default model"]
    assert not own.is_under
    assert 0 <= own.three <= own.kept <= 1
    module.print_table({12.0: outcomes})
    lines = capsys.readouterr().out.splitlines()
    assert lines[1] == "| classes by | expert sees 12 sigma |"
    assert lines[3].startswith(
        f"| default model | {100 * own.three:.1f}, {100 * own.kept:.1f} "
    )
    assert len(lines) == 6
