from __future__ import annotations

import numpy as np

from dials_cnn_screen.spots.configuration import SpotNetworkConfig
from dials_cnn_screen.spots.training_set import CandidateSet, SpotSchedule
from dials_cnn_screen.studies import ablation as module

N = 120


def candidates() -> CandidateSet:
    """Made-up candidates of which the noise of the background tells the class."""
    rng = np.random.default_rng(0)
    data = CandidateSet.empty(N, 4)
    data.present[:] = True
    data.labels[:] = rng.integers(3, size=N)
    data.scalars[module.NOISE] = (data.labels == 2)[:, None, None]
    return data


def test_what_tells_the_class_is_missed(monkeypatch, capsys, tmp_path):
    names = np.array([f"eiger-{i // 4}" for i in range(N)])
    small = SpotNetworkConfig(patch=4, candidate=4, context=4, head=4)
    ablations = {
        name: (small, change) for name, (_, change) in module.ABLATIONS.items()
    }
    monkeypatch.setattr(module, "simulated_candidates", lambda _: (candidates(), names))
    monkeypatch.setattr(module, "ABLATIONS", ablations)
    monkeypatch.setattr(
        module, "SCHEDULE", SpotSchedule(epochs=40, batch_size=16, learning_rate=0.02)
    )
    module.main(tmp_path)
    rows = [row.split("|") for row in capsys.readouterr().out.splitlines()[2:]]
    areas = {row[1].strip(): float(row[2]) for row in rows}
    # All maxima counts are 0, as those of no candidates.
    assert areas["number of maxima over 4"] == 0.5
    assert areas["full network"] == 1
    assert areas["without noise of the background"] < 0.8


def test_inputs_are_left_out():
    data = candidates()
    data.scalars[:] = 1
    changed = module.without("scalars", module.NEIGHBOURHOOD)(data)
    assert changed.scalars[..., :6].min() == 1
    assert changed.scalars[..., 6:10].max() == 0
    assert changed.scalars[..., 10].min() == 1
    assert data.scalars.min() == 1


def test_the_strongest_candidates_are_left():
    data = candidates()
    data.scalars[:, :, 0] = [9, 8, 7, 6]
    left = module.strongest(2)(data)
    assert left.present.shape == (N, 2)
    np.testing.assert_array_equal(left.scalars[:, :, 0], [[9, 8]] * N)
    np.testing.assert_array_equal(left.frame, data.frame)
