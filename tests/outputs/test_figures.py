from __future__ import annotations

import numpy as np
import pytest
from matplotlib.figure import Figure

from dials_cnn_screen.outputs.figures import (
    draw_rates,
    draw_resolution,
    draw_spots,
    split_run,
)


@pytest.fixture
def axes():
    return Figure().add_subplot()


def heights(axes) -> np.ndarray:
    return np.array([bar.get_height() for bar in axes.patches])


@pytest.mark.parametrize(
    ("sizes", "edges", "borders"),
    [
        ([5], [0, 5], []),
        ([100], [0, 20, 40, 60, 80, 100], []),
        # No block is of two files, however small.
        ([60, 1, 39], [0, 20, 40, 60, 61, 80, 100], [60, 61]),
        ([3, 3], [0, 3, 6], [3]),
    ],
)
def test_blocks_are_of_one_file(sizes, edges, borders):
    found, between = split_run(sizes)
    np.testing.assert_allclose(found, edges, atol=1)
    assert set(borders) <= set(found.tolist())
    assert between == borders


def test_very_many_files_are_not_told_apart():
    edges, borders = split_run([100] * 1000)
    assert len(edges) == 51
    assert borders == []


def test_long_runs_have_few_blocks():
    edges, _ = split_run([30_000, 70_000])
    assert len(edges) == 51


@pytest.mark.parametrize(("hits", "top"), [(1, 10), (30, 40), (100, 100)])
def test_low_rates_are_legible(axes, hits, top):
    edges, sizes = np.array([0, 100, 200]), np.array([100, 100])
    draw_rates(axes, edges, np.array([hits, 0]), np.array([hits, 0]), sizes)
    assert axes.get_ylim() == (0, top)


@pytest.mark.parametrize("n_spots", [[0], [10, 10, 12], [5, 1000], [192] * 9])
def test_each_hit_is_in_a_bar_of_spots(axes, n_spots):
    draw_spots(axes, n_spots)
    assert heights(axes).sum() == len(n_spots)
    assert len(axes.patches) <= 41


@pytest.mark.parametrize("d_min", [[2.0], [1.5, 40.0], [2.0] * 1000])
def test_each_hit_is_in_a_bar_of_resolution(axes, d_min):
    draw_resolution(axes, d_min)
    assert heights(axes).sum() == len(d_min)
    worst, best = axes.get_xlim()
    assert worst > max(d_min) >= min(d_min) > best
    assert len([d for d in axes.get_xticks() if best <= d <= worst]) >= 2
