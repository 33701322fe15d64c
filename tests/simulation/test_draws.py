from __future__ import annotations

import numpy as np
import pytest

from dials_cnn_screen.simulation.draws import log_uniform


def test_log_uniform():
    rng = np.random.default_rng(0)
    drawn = np.array([log_uniform(2.0, 800.0, rng) for _ in range(4000)])
    assert 2 <= drawn.min() < 2.1
    assert 790 < drawn.max() <= 800
    # As many below the geometric mean as above, and in each decade.
    assert np.mean(drawn < 40) == pytest.approx(0.5, abs=0.03)
    decades = np.mean(drawn < 20), np.mean((drawn >= 20) & (drawn < 200))
    assert decades == pytest.approx([1 / np.log10(400)] * 2, abs=0.03)
