from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("dials")

from dxtbx.model import BeamFactory

from dials_cnn_screen.images import panels
from dials_cnn_screen.images.panels import assemble, find_beam_centre

PIXEL = 0.1  # mm
BEAM = BeamFactory.make_beam(unit_s0=(0, 0, -1), wavelength=1)


def flat(x=-1.0, y=1.5, z=-100.0):
    """Frame of a panel that stands normal to the beam, fast +x and slow -y."""
    return (1, 0, 0), (0, -1, 0), (x, y, z)


def rotated(angle, x, y, z=-100.0):
    """Frame of a panel turned about the beam by an angle in degrees."""
    c, s = np.cos(np.radians(angle)), np.sin(np.radians(angle))
    return (c, s, 0), (s, -c, 0), (x, y, z)


def numbered(n_panels, size=(20, 30)):
    """Panels whose pixels are numbered from 1 on, through all panels; all are used."""
    shape = (n_panels, size[1], size[0])
    data = np.arange(1, np.prod(shape) + 1, dtype=np.float32).reshape(shape)
    return [(panel, np.ones(panel.shape, bool)) for panel in data]


def check_positions(detector, beam, within):
    """Each pixel of the frame shows a panel pixel that is, by dxtbx, less than so many
    pixels away across the beam. Returns the frame and the pixels seen, by number."""
    frame = assemble(numbered(len(detector)), detector, beam)
    s0 = np.array(beam.get_unit_s0())
    fast_axis, slow_axis = panels._canvas_axes(s0)
    width, height = detector[0].get_image_size()
    seen = np.unique(frame.data[frame.mask]).astype(int)
    for slow, fast in np.argwhere(frame.mask)[::7]:
        number = int(frame.data[slow, fast]) - 1
        panel, pixel = divmod(number, width * height)
        y, x = divmod(pixel, width)
        lab = np.array(detector[panel].get_pixel_lab_coord((x + 0.5, y + 0.5)))
        position = np.array([lab @ slow_axis, lab @ fast_axis]) / PIXEL
        away = np.abs(position + frame.beam_centre - (slow + 0.5, fast + 0.5))
        assert away.max() < within
    assert (frame.data[~frame.mask] == 0).all()
    return frame, seen


def test_panels_on_one_grid_are_put_together_exactly(make_detector):
    detector = make_detector(flat(-2.5, 1.5), flat(0.5, 1.5))  # 10 pixels between them
    left, right = numbered(2)
    frame = assemble([left, right], detector, BEAM)
    assert frame.data.shape == frame.mask.shape == (30, 50)
    assert frame.data.dtype == np.float32
    np.testing.assert_array_equal(frame.data[:, :20], left[0])
    np.testing.assert_array_equal(frame.data[:, 30:], right[0])
    assert not frame.data[:, 20:30].any()
    np.testing.assert_array_equal(frame.mask.all(axis=0), frame.mask.any(axis=0))
    assert frame.mask.sum() == 2 * 600
    assert frame.beam_centre == pytest.approx((15, 25), abs=1e-3)


def test_beam_centre_without_an_image(make_detector):
    for detector in (make_detector(flat()), make_detector(flat(-2.5), flat(0.5))):
        expected = assemble(numbered(len(detector)), detector, BEAM).beam_centre
        assert find_beam_centre(detector, BEAM) == pytest.approx(expected, abs=1e-3)


def test_panels_turned_by_right_angles_lose_no_pixel(make_detector):
    detector = make_detector(
        rotated(90, 1, 1), rotated(180, -1, -1), rotated(-90, -5, 5)
    )
    frame, seen = check_positions(detector, BEAM, within=1e-3)
    assert len(seen) == frame.mask.sum() == 3 * 600


@pytest.mark.parametrize("s0", [(0, 0, -1), (0.1, -0.2, -1), (0, 0, 1), (0.3, 1, 0.2)])
def test_rotated_and_tilted_panels_are_within_a_pixel(s0, make_detector):
    s0 = np.array(s0) / np.linalg.norm(s0)
    # panels normal to the beam, then turned about it or tilted a little
    fast, slow = panels._canvas_axes(s0)
    tilted = []
    for i, angle in enumerate([3, 91, -33]):
        c, s = np.cos(np.radians(angle)), np.sin(np.radians(angle))
        origin = 100 * s0 + 6 * (i - 1) * fast + slow
        tilt = 0.99 * fast + (1 - 0.99**2) ** 0.5 * s0
        tilted.append((c * tilt + s * slow, -s * tilt + c * slow, origin))
    beam = BeamFactory.make_beam(unit_s0=tuple(s0), wavelength=1)
    frame, seen = check_positions(make_detector(*tilted), beam, within=0.51 * 2**0.5)
    assert 0.8 * 1800 < len(seen) <= 1800
    assert 0.95 * 1800 < frame.mask.sum() < 1.05 * 1800


def test_no_holes_in_a_rotated_panel(make_detector):
    detector = make_detector(rotated(30, 0, 1), flat(20, 1))
    mask = assemble(numbered(2), detector, BEAM).mask[:, :60]
    for row in mask[mask.any(axis=1)]:
        first, last = np.flatnonzero(row)[[0, -1]]
        assert row[first:last].all()


def test_canvas_axes_are_those_of_the_laboratory():
    for s0 in [(0, 0, -1), (0, 0, 1)]:
        fast, slow = panels._canvas_axes(np.array(s0, float))
        assert fast.tolist() == [1, 0, 0]
        assert slow.tolist() == [0, -1, 0]
    for s0 in [(1, 0, 0), *np.random.default_rng(0).normal(size=(20, 3))]:
        s0 = np.array(s0) / np.linalg.norm(s0)
        fast, slow = panels._canvas_axes(s0)
        axes = np.array([s0, fast, slow])
        np.testing.assert_allclose(axes @ axes.T, np.eye(3), atol=1e-12)


def test_index_map_is_made_once_for_all_distances(make_detector):
    panels._map_canvas.cache_clear()
    for z in (-100, -90.3, -100):
        assemble(numbered(2), make_detector(flat(-2.5, z=z), flat(0.5, z=z)), BEAM)
    assert panels._map_canvas.cache_info().misses == 1
    moved = make_detector(flat(-2.5), flat(0.6))
    assert assemble(numbered(2), moved, BEAM).data.shape == (30, 51)
    assert panels._map_canvas.cache_info().misses == 2


def test_panels_not_seen_along_the_beam_are_left_out(make_detector):
    edge_on = ((0, 0, -1), (0, -1, 0), (80, 1, -100))
    detector = make_detector(flat(-2.5), flat(0.5), flat(-60, z=100), edge_on)
    frame = assemble(numbered(4), detector, BEAM)
    assert frame.data.shape == (30, 50)
    assert frame.mask.sum() == 2 * 600
    made = panels._map_canvas.cache_info().misses
    assemble(numbered(4), detector, BEAM)
    assert panels._map_canvas.cache_info().misses == made


def test_first_of_two_panels_that_overlap_is_shown(make_detector):
    detector = make_detector(flat(-1.0), flat(0.0, z=-50))
    left, right = numbered(2)
    frame = assemble([left, right], detector, BEAM)
    expected = np.hstack([left[0], right[0][:, 10:]])
    np.testing.assert_array_equal(frame.data, expected)


def test_no_panel_is_seen(make_detector):
    detector = make_detector(flat(z=100), flat(5, z=100))
    with pytest.raises(ValueError, match="None of the 2 detector panels"):
        assemble(numbered(2), detector, BEAM)


def test_canvas_that_would_be_too_large(make_detector):
    detector = make_detector(flat(), flat(5000, 5000))
    with pytest.raises(ValueError, match="would take 50015 x 50030 pixels"):
        assemble(numbered(2), detector, BEAM)
