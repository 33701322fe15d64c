from __future__ import annotations

import h5py
import numpy as np
import pytest

pytest.importorskip("dials")

from dxtbx import flumpy
from dxtbx.imageset import ImageSet, ImageSetData
from dxtbx.model import Beam, BeamFactory, Detector
from dxtbx.model.experiment_list import ExperimentListFactory
from memory_images import Image, Reader

from dials_cnn_screen.images.stills import Still
from dials_cnn_screen.labels.image_name import ImageName
from dials_cnn_screen.outputs import hits_file
from dials_cnn_screen.outputs.crystfel import write_geometry
from dials_cnn_screen.outputs.geometry import find_distance, frame_panels
from dials_cnn_screen.outputs.hits_file import HitImage, pack_image, write_hits
from dials_cnn_screen.outputs.strong import extract_spots

BEAM = BeamFactory.simple(1.2)


def two_panels(distance: float = 100.0) -> Detector:
    """Panels of 50 x 40 and 50 x 30 pixels (fast, slow), one turned and tilted."""
    detector = Detector()
    for size, fast, slow, origin in (
        ((50, 40), (1, 0, 0), (0, -1, 0), (-5, 2, -distance)),
        ((50, 30), (0, 0.8, 0.6), (1, 0, 0), (1, -2, -distance - 1)),
    ):
        panel = detector.add_panel()
        panel.set_image_size(size)
        panel.set_pixel_size((0.1, 0.2))
        panel.set_trusted_range((-0.5, 5000.5))
        panel.set_frame(fast, slow, origin)
    return detector


def still_of(
    image: Image, detector: Detector, number: int = 1, beam: Beam = BEAM
) -> Still:
    imageset = ImageSet(ImageSetData(Reader([image]), None))
    imageset.set_beam(beam, 0)
    imageset.set_detector(detector, 0)
    return Still(imageset, 0, ImageName("/data/run7.h5", number), [0])


def panels_of(seed: int, dtype: type = np.int32) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [
        rng.integers(0, 4000, shape).astype(dtype) for shape in ((40, 50), (30, 50))
    ]


def hit(still: Still, spots=None) -> HitImage:
    return HitImage(still, pack_image(still.imageset, 0), spots)


@pytest.fixture
def write(tmp_path):
    """The function write(*hits) -> path and what write_hits returns."""

    def write(*hits: HitImage):
        path = tmp_path / "hits.h5"
        return path, write_hits(path, tmp_path / "hits.geom", iter(hits))

    return write


def read_geometry(path) -> dict[str, str]:
    lines = path.read_text().splitlines()
    return dict(line.split(" = ") for line in lines if " = " in line)


def vector(text: str) -> np.ndarray:
    """A vector of a geometry file."""
    parts = {part[-1]: float(part[:-1]) for part in text.split()}
    return np.array([parts[axis] for axis in "xyz"])


@pytest.mark.parametrize("dtype", [np.int32, np.float64])
def test_dxtbx_reads_the_same_pixels_and_panels(write, dtype):
    images = [panels_of(seed, dtype) for seed in range(3)]
    stills = [still_of(Image(*im), two_panels(), 5 + i) for i, im in enumerate(images)]
    path, written = write(*map(hit, stills))
    assert written == (3, 0)
    with h5py.File(path) as handle:
        assert handle["entry/data/data"].dtype == dtype
    read = ExperimentListFactory.from_filenames([str(path)])
    assert len(read) == 3
    for experiment, panels in zip(read, images, strict=True):
        assert experiment.is_still()
        raw = experiment.imageset.get_raw_data(0)
        for found, panel in zip(raw, panels, strict=True):
            np.testing.assert_array_equal(flumpy.to_numpy(found), panel)
        for found, panel in zip(experiment.detector, two_panels(), strict=True):
            for corner in ((0, 0), (50, 30)):
                np.testing.assert_allclose(
                    found.get_pixel_lab_coord(corner),
                    panel.get_pixel_lab_coord(corner),
                    atol=1e-9,
                )
            assert found.get_image_size() == panel.get_image_size()
        assert experiment.beam.get_wavelength() == pytest.approx(1.2)


def test_one_panel_and_its_mask(write, write_nxmx, tmp_path):
    images = np.random.default_rng(0).integers(0, 4000, (2, 20, 30), np.int32)
    mask = np.zeros((20, 30), np.int32)
    mask[3:5] = 1
    original = write_nxmx(tmp_path / "run.h5", images, pixel_mask=mask)
    experiments = ExperimentListFactory.from_filenames([str(original)])
    stills = [
        Still(e.imageset, 0, ImageName(str(original), i + 1), [i])
        for i, e in enumerate(experiments)
    ]
    path, _ = write(*map(hit, stills))
    for old, new in zip(
        experiments, ExperimentListFactory.from_filenames([str(path)]), strict=True
    ):
        assert list(new.imageset.get_raw_data(0)[0]) == list(
            old.imageset.get_raw_data(0)[0]
        )
        assert list(new.imageset.get_mask(0)[0]) == list(old.imageset.get_mask(0)[0])


def test_names_numbers_and_peaks_are_inside(write):
    image = panels_of(0)
    image[0][:] = image[1][:] = 10
    image[0][10:12, 20:22] = image[1][20, 7] = 3000
    still = still_of(Image(*image), two_panels(), 12)
    spots = extract_spots(still.imageset, 0, 0, np.array([[10, 20]]))
    path, _ = write(
        hit(still_of(Image(*panels_of(1)), two_panels(), 3)), hit(still, spots)
    )
    with h5py.File(path) as handle:
        assert list(handle["entry/original/file"].asstr()) == ["/data/run7.h5"] * 2
        assert list(handle["entry/original/number"]) == [3, 12]
        result = handle["entry_1/result_1"]
        assert list(result["nPeaks"]) == [0, 1]
        # In pixel indices: the middle of columns 20 and 21.
        assert result["peakXPosRaw"][1].tolist() == [20.5]
        assert result["peakYPosRaw"][1].tolist() == [10.5]
        assert result["peakTotalIntensity"][1].tolist() == [12000]
        assert handle["entry/data/data"].chunks == (1, 70, 50)


def test_peaks_of_the_second_panel_are_below_the_first(write):
    image = [np.full((40, 50), 10, np.int32), np.full((30, 50), 10, np.int32)]
    image[1][20, 7] = 3000
    detector = two_panels()
    # Side by side and flat, so that the place on the canvas is plain.
    detector[1].set_frame((1, 0, 0), (0, -1, 0), (0, 2, -100))
    still = still_of(Image(*image), detector)
    spots = extract_spots(still.imageset, 0, 0, np.array([[20, 57]]))
    path, _ = write(hit(still, spots))
    with h5py.File(path) as handle:
        result = handle["entry_1/result_1"]
        assert result["peakYPosRaw"][0].tolist() == [40 + 20]
        assert result["peakXPosRaw"][0].tolist() == [7]


def test_geometry_of_crystfel_is_that_of_dxtbx(tmp_path):
    beam = BeamFactory.make_beam(unit_s0=(0.01, 0.02, -1), wavelength=1.2)
    detector = two_panels()
    distance = find_distance(detector, beam)
    write_geometry(tmp_path / "hits.geom", detector, beam, (0, 5000), distance)
    geometry = read_geometry(tmp_path / "hits.geom")
    along = np.array(beam.get_unit_s0())
    metres = {}
    for number, panel in enumerate(detector):

        def of(name: str, number: int = number) -> str:
            return geometry[f"p{number}/{name}"]

        assert int(of("min_ss")) == 40 * number
        assert int(of("max_fs")) == panel.get_image_size()[0] - 1
        corner = float(of("corner_x")), float(of("corner_y"))
        origin = np.array([*corner, 0]) / float(of("res"))
        origin[2] = distance / 1e3 + float(of("coffset"))
        for fast, slow in ((0, 0), (30, 0), (0, 40)):
            way = fast * vector(of("fs")) + slow * vector(of("ss"))
            metres[number, fast, slow] = origin + way / float(of("res"))
            lab = np.array(panel.get_pixel_lab_coord((fast, slow))) / 1e3
            found = metres[number, fast, slow]
            # The same distance from the crystal, and along and across the beam.
            assert np.linalg.norm(found) == pytest.approx(np.linalg.norm(lab), abs=1e-8)
            assert found[2] == pytest.approx(lab @ along, abs=1e-8)
    # All distances between points are kept, and y stays up.
    points = list(metres)
    lab = [
        np.array(detector[n].get_pixel_lab_coord((f, s))) / 1e3 for n, f, s in points
    ]
    found = [metres[point] for point in points]
    for i in range(len(points)):
        for j in range(i):
            assert np.linalg.norm(found[i] - found[j]) == pytest.approx(
                np.linalg.norm(lab[i] - lab[j]), abs=1e-8
            )
    assert found[0][0] == pytest.approx(-lab[0][0], abs=3e-3)
    assert found[0][1] == pytest.approx(lab[0][1], abs=3e-3)


def test_panels_are_turned_so_that_the_beam_is_along_z():
    beam = BeamFactory.make_beam(unit_s0=(0, 0, 1), wavelength=1.2)
    (frame, _) = frame_panels(two_panels(-100), beam)
    assert frame.origin[2] == pytest.approx(100)
    assert find_distance(two_panels(-100), beam) == pytest.approx(100)


def test_images_at_other_distances(write, tmp_path):
    distances = 100.0, 101.0, 100.0
    path, written = write(
        *(hit(still_of(Image(*panels_of(0)), two_panels(d))) for d in distances)
    )
    assert written == (3, 1)
    with h5py.File(path) as handle:
        assert handle["entry/instrument/detector/distance"][:].tolist() == [*distances]
    geometry = read_geometry(tmp_path / "hits.geom")
    assert geometry["clen"] == "/entry/instrument/detector/distance mm"


def test_one_distance_is_a_number(write, tmp_path):
    write(hit(still_of(Image(*panels_of(0)), two_panels())))
    geometry = read_geometry(tmp_path / "hits.geom")
    assert geometry["clen"] == "0.1 m"
    assert float(geometry["p1/coffset"]) == pytest.approx(1e-3)
    assert (geometry["flag_lessthan"], geometry["flag_morethan"]) == ("0", "5000")


def test_images_of_another_type_are_refused(write, tmp_path):
    first = hit(still_of(Image(*panels_of(0)), two_panels(), 1))
    second = hit(still_of(Image(*panels_of(0, np.float64)), two_panels(), 2))
    with pytest.raises(
        ValueError, match=r"run7.h5 \[2\] has 70 x 50 pixels of float64"
    ):
        write(first, second)
    assert list(tmp_path.iterdir()) == []


def test_nothing_to_write(write):
    with pytest.raises(ValueError, match="no image that is kept can be read"):
        write()


def test_what_reads_back_differently_is_not_kept(write, tmp_path):
    image = hit(still_of(Image(*panels_of(0)), two_panels()))
    spoilt = image._replace(
        packed=hits_file.PackedImage(
            image.packed.shape, image.packed.dtype, image.packed.chunk, 1
        )
    )
    with pytest.raises(OSError, match=r"image 1, /data/run7.h5 \[1\], reads back"):
        write(spoilt)
    assert list(tmp_path.iterdir()) == []
