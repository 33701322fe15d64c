from __future__ import annotations

import pytest

from dials_cnn_screen.labels.orders import diverse_order, random_order, uncertain_order

NAMES = [("a.h5", n) for n in range(1, 7)]


def entry(p_hit, p_maybe=0.0, spots=()):
    """An entry of cnn_screen.json; None for an image that could not be judged."""
    judged = p_hit is not None
    return {
        "p_hit": p_hit,
        "p_maybe": p_maybe if judged else None,
        "p_miss": 1 - p_hit - p_maybe if judged else None,
        "n_spots": len(spots) if judged else None,
        "spots": list(spots) if judged else None,
        "strangeness": 0.5 if judged else None,
    }


def scores_of(*entries):
    return dict(zip(NAMES, entries, strict=False))


def test_random_order():
    assert sorted(random_order(50, seed=1)) == list(range(50))
    assert random_order(50, seed=1) == random_order(50, seed=1)
    assert random_order(50, seed=1) != random_order(50, seed=2)


def test_nearest_to_the_decision_first():
    scores = scores_of(
        entry(0.9), entry(None), entry(0.1, 0.35), entry(0.0), entry(0.2, 0.4)
    )
    assert uncertain_order(NAMES[:5], scores) == [2, 4, 0, 3, 1]


def test_diverse_order_takes_one_of_each_kind_first():
    hit = entry(0.98, 0.01, [[100, 100], [900, 800], [200, 700]] * 20)
    miss = entry(0.01, 0.02)
    strange = entry(0.5, 0.2, [[5, 5]] * 190)
    scores = scores_of(miss, miss, miss, hit, strange, miss)
    order = diverse_order(NAMES, scores)
    assert sorted(order) == list(range(6))
    assert {3, 4} <= set(order[:3])


def test_diverse_order_of_equal_images_is_still_an_order():
    scores = scores_of(*[entry(0.5)] * 5, entry(None))
    order = diverse_order(NAMES, scores)
    assert sorted(order) == list(range(6))
    assert order[-1] == 5
    assert diverse_order(NAMES[5:], scores) == [0]


def test_scores_of_a_network_that_sees_no_spots():
    scores = scores_of(
        *({**entry(p), "spots": None, "n_spots": None} for p in (0.1, 1))
    )
    assert sorted(diverse_order(NAMES[:2], scores)) == [0, 1]


@pytest.mark.parametrize("order", [uncertain_order, diverse_order])
def test_image_without_scores(order):
    with pytest.raises(ValueError, match=r"a\.h5 \[2\] has no scores"):
        order(NAMES, scores_of(entry(0.5)))
