from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from dials_cnn_screen.labels.label import Label
from dials_cnn_screen.models.model_file import load_model
from dials_cnn_screen.spots.eye import MODEL_SIGMA
from dials_cnn_screen.studies import (
    make_default,
    make_ke2018,
    recalibrate,
    simulate_hits,
)


@pytest.fixture
def jobs():
    """Four small shots that are Hit, Maybe and Miss."""
    wanted = [Label.HIT, Label.MAYBE, Label.MISS, Label.HIT]
    jobs = []
    for label in wanted:
        known = {name for name, _, _ in jobs}
        jobs.append(
            next(
                job
                for job in make_default.calibration_jobs(["rayonix", "flatpanel"])
                if job[1] is label and job[0] not in known
            )
        )
    return jobs


def test_hits_of_shots(jobs, monkeypatch):
    monkeypatch.setattr("os.cpu_count", lambda: 1)
    model = load_model("default")
    bare = replace(model, calibration=replace(model.calibration, simulated=None))
    calibration = simulate_hits.with_simulated_hits(bare, jobs)
    assert len(calibration.hit_scores) == 3
    assert len(calibration.sure_scores) == 2
    assert calibration.source == model.calibration.source
    simulated = calibration.simulated
    own = np.sort(simulated.own[:, :2].sum(axis=1))
    np.testing.assert_allclose(own, calibration.hit_scores)
    assert (simulated.best[:, 0] >= MODEL_SIGMA).all()
    assert (simulated.best[:, 1] >= MODEL_SIGMA).tolist() == [True, False, True]
    # They are among those that the model has.
    for score in calibration.hit_scores:
        assert np.abs(model.calibration.hit_scores - score).min() < 1e-4


def test_a_model_that_looks_for_no_spots_has_scores_alone(jobs, monkeypatch):
    monkeypatch.setattr("os.cpu_count", lambda: 1)
    calibration = simulate_hits.with_simulated_hits(load_model("ke2018"), jobs)
    assert calibration.simulated is None
    assert len(calibration.hit_scores) == 3
    assert len(calibration.sure_scores) == 2


def test_calibration_jobs_are_those_that_calibrated_the_models():
    default = make_default.calibration_jobs()
    assert f"{len(default)} simulated shots" == load_model("default").calibration.source
    assert len(make_default.calibration_jobs(["cspad"])) < len(default)
    ke2018 = make_ke2018.validation_jobs()
    assert load_model("ke2018").calibration.source.startswith(f"{len(ke2018)} simul")


def test_a_packaged_model_is_calibrated_again(jobs, tmp_path, monkeypatch):
    monkeypatch.setattr("os.cpu_count", lambda: 1)
    monkeypatch.setitem(recalibrate._JOBS, "default", lambda: jobs)
    recalibrate.main("default", str(tmp_path / "again.safetensors"))
    again = load_model(tmp_path / "again.safetensors")
    assert again.name == "default"
    assert len(again.calibration.simulated.candidates) == 3
    assert again.trained_on == load_model("default").trained_on


def test_other_models_have_no_jobs(tmp_path):
    with pytest.raises(ValueError, match="'mine': not default or ke2018"):
        recalibrate.main("mine", str(tmp_path / "out.safetensors"))
