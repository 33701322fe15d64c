from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("dials")

from dials.array_family import flex
from dxtbx import flumpy
from dxtbx.imageset import ImageSet, ImageSetData
from dxtbx.model import (
    BeamFactory,
    Detector,
    DetectorFactory,
    Experiment,
    ExperimentList,
)
from memory_images import Image, Reader

from dials_cnn_screen.images.stills import list_stills
from dials_cnn_screen.outputs.strong import (
    estimate_d_min,
    extract_spots,
    find_spot_pixels,
    frame_number,
    write_strong,
)

BEAM = BeamFactory.simple(1.0)


def simple(shape=(80, 96), distance=50.0) -> Detector:
    slow, fast = shape
    centre = fast * 0.05, slow * 0.05
    return DetectorFactory.simple(
        "SENSOR_PAD", distance, centre, "+x", "-y", (0.1, 0.1), (fast, slow), (-1, 9e3)
    )


def imageset_of(*images: Image, detector: Detector | None = None) -> ImageSet:
    imageset = ImageSet(ImageSetData(Reader(list(images)), None))
    for i in range(len(images)):
        imageset.set_beam(BEAM, i)
        imageset.set_detector(detector or simple(), i)
    return imageset


def places(table: flex.reflection_table) -> np.ndarray:
    """(n, 2), (slow, fast) of the centroids, in pixel indices."""
    x, y, _ = (flumpy.to_numpy(p) for p in table["xyzobs.px.value"].parts())
    return np.stack([y, x], axis=1) - 0.5


def test_spots_are_extracted_as_dials_does(draw_spots, spots):
    imageset = imageset_of(Image(draw_spots()))
    table = extract_spots(imageset, 0, 4, spots)
    np.testing.assert_allclose(places(table), spots, atol=0.1)
    assert set(table["xyzobs.px.value"].parts()[2]) == {4.5}
    assert table["n_signal"].count(9) == 3
    image = draw_spots()
    for row, (slow, fast) in zip(table.rows(), spots, strict=True):
        window = image[slow - 1 : slow + 2, fast - 1 : fast + 2]
        assert row["intensity.sum.value"] == window.sum()
        box = fast - 1, fast + 2, slow - 1, slow + 2, 4, 5
        assert row["bbox"] == box
        np.testing.assert_array_equal(flumpy.to_numpy(row["shoebox"].data)[0], window)
    assert table.get_flags(table.flags.strong).count(True) == 3


def test_columns_are_those_of_find_spots(draw_spots, spots, tmp_path):
    from dials.command_line.find_spots import phil_scope
    from dials.util.phil import parse

    imageset = imageset_of(Image(draw_spots()))
    hits = ExperimentList([Experiment(beam=BEAM, detector=simple(), imageset=imageset)])
    params = phil_scope.fetch(parse("spotfinder.mp.nproc=1")).extract()
    expected = flex.reflection_table.from_observations(hits, params)
    (still,) = list_stills(hits)
    table = extract_spots(imageset, 0, frame_number(still), spots)
    assert write_strong(tmp_path / "strong.refl", {still.name: table}, hits) == 3
    strong = flex.reflection_table.from_file(str(tmp_path / "strong.refl"))
    # dials.find_spots adds n_signal after from_observations.
    assert set(strong.keys()) == set(expected.keys()) | {"n_signal"}
    np.testing.assert_allclose(places(strong), places(expected), atol=0.05)
    z = "xyzobs.px.value"
    assert list(strong[z].parts()[2]) == list(expected[z].parts()[2])
    assert list(strong["flags"]) == list(expected["flags"])


def test_gain_does_not_have_to_be_known(draw_spots, spots):
    image = draw_spots()
    one = extract_spots(imageset_of(Image(image)), 0, 0, spots)
    thirty = extract_spots(imageset_of(Image(30 * image)), 0, 0, spots)
    assert list(one["bbox"]) == list(thirty["bbox"])


def test_masked_pixels_are_no_spot(draw_spots, spots):
    image = draw_spots()
    mask = np.ones(image.shape, bool)
    mask[tuple(spots[0])] = False
    strong = find_spot_pixels(image, mask, spots)
    assert not strong[tuple(spots[0])]
    assert strong[tuple(spots[1])]
    assert strong.sum() == 8 + 9 + 9


def test_spot_without_background_about_it_is_one_pixel(draw_spots, spots):
    image = draw_spots()
    mask = np.zeros(image.shape, bool)
    mask[tuple(spots.T)] = True
    np.testing.assert_array_equal(find_spot_pixels(image, mask, spots), mask)


def test_spots_that_touch_are_one(draw_spots):
    spots = np.array([[20, 30], [20, 32]])
    table = extract_spots(imageset_of(Image(draw_spots(spots))), 0, 0, spots)
    assert len(table) == 1


def test_no_spots(draw_spots):
    empty = np.empty((0, 2), np.int64)
    imageset = imageset_of(Image(draw_spots()))
    table = extract_spots(imageset, 0, 0, empty)
    assert len(table) == 0
    assert estimate_d_min(table, imageset, 0) is None


def test_spots_of_several_panels(draw_spots):
    # Two panels side by side, the second to the right and turned by half a turn.
    detector = Detector()
    for fast, slow, origin in (
        ((1, 0, 0), (0, -1, 0), (-5, 2, -100)),
        ((-1, 0, 0), (0, 1, 0), (5, -2, -100)),
    ):
        panel = detector.add_panel()
        panel.set_image_size((50, 40))
        panel.set_pixel_size((0.1, 0.1))
        panel.set_trusted_range((-1, 9000))
        panel.set_frame(fast, slow, origin)
    on_panels = [np.array([[10, 12]]), np.array([[30, 8]])]
    images = [draw_spots(at, (40, 50), seed) for seed, at in enumerate(on_panels)]
    # On the canvas the second panel begins at column 50, upside down.
    on_canvas = np.array([[10, 12], [39 - 30, 50 + 49 - 8]])
    imageset = imageset_of(Image(*images), detector=detector)
    table = extract_spots(imageset, 0, 0, on_canvas)
    assert list(table["panel"]) == [0, 1]
    np.testing.assert_allclose(places(table), np.concatenate(on_panels), atol=0.1)


def test_resolution_is_that_of_the_spots(draw_spots):
    # Spots along a row from the beam, and as many columns up and down, the far ones
    # weaker.
    rng = np.random.default_rng(1)
    spots = rng.permutation(
        [(s, f) for s in range(20, 300, 20) for f in range(20, 300, 20)]
    )[:60]
    image = draw_spots(spots, (320, 320))
    imageset = imageset_of(Image(image), detector=simple((320, 320)))
    table = extract_spots(imageset, 0, 0, spots)
    d_min = estimate_d_min(table, imageset, 0)
    detector = imageset.get_detector(0)
    d = [
        detector[0].get_resolution_at_pixel(BEAM.get_s0(), (x, y))
        for x, y, _ in table["xyzobs.px.value"]
    ]
    assert min(d) * 0.99 <= d_min <= max(d)
    few = table.select(flex.size_t(range(8)))
    assert estimate_d_min(few, imageset, 0) is None


def test_ids_and_identifiers_are_those_of_the_hits(draw_spots, spots, tmp_path):
    imageset = imageset_of(*(Image(draw_spots(seed=i)) for i in range(3)))
    sets = [imageset[i : i + 1] for i in range(3)]
    hits = ExperimentList(
        [
            Experiment(
                beam=BEAM, detector=simple(), imageset=each, identifier=f"hit-{i}"
            )
            for i, each in enumerate([sets[0], sets[0], sets[1], sets[2]])
        ]
    )
    stills = list_stills(hits)
    assert [still.experiments for still in stills] == [[0, 1], [2], [3]]
    tables = {
        still.name: extract_spots(still.imageset, still.position, 0, spots[: 3 - i])
        for i, still in enumerate(stills)
        if i != 1
    }
    path = tmp_path / "strong.refl"
    assert write_strong(path, tables, hits) == 3 + 1
    strong = flex.reflection_table.from_file(str(path))
    assert list(strong["id"]) == [0, 0, 0, 3]
    strong.assert_experiment_identifiers_are_consistent(hits)
    assert dict(strong.experiment_identifiers())[3] == "hit-3"
