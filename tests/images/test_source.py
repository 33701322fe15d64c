"""A Source gives what read_frame gives, for every kind of file."""

from __future__ import annotations

import bz2
import pickle

import numpy as np
import pytest

pytest.importorskip("dials")

from dxtbx import flumpy
from dxtbx.format.image import ImageBool
from dxtbx.imageset import ImageSequence, ImageSet, ImageSetData, MemReader
from dxtbx.model import BeamFactory, ExperimentList, GoniometerFactory, Scan
from dxtbx.model.experiment_list import Experiment, ExperimentListFactory

from dials_cnn_screen.images.frame import Frame
from dials_cnn_screen.images.frame_cpu import used_range
from dials_cnn_screen.images.read import read_frame
from dials_cnn_screen.images.source import Source
from dials_cnn_screen.images.stills import list_stills


def assert_same(frame: Frame, expected: Frame) -> None:
    assert frame.data.dtype == expected.data.dtype == np.float32
    assert frame.mask.dtype == expected.mask.dtype == bool
    np.testing.assert_array_equal(frame.data, expected.data)
    np.testing.assert_array_equal(frame.mask, expected.mask)
    assert frame.beam_centre == expected.beam_centre
    if frame.used_range is not None:
        assert frame.used_range == used_range(expected.data, expected.mask)


def as_stills(experiments: ExperimentList) -> ExperimentList:
    """The same images without their oscillation."""
    stills = ExperimentList()
    for experiment in experiments:
        data = experiment.imageset.data()
        imageset = ImageSet(data, experiment.imageset.indices())
        for i in range(len(imageset)):
            imageset.set_beam(experiment.beam, i)
            imageset.set_detector(experiment.detector, i)
        mask = experiment.imageset.external_lookup.mask.data
        imageset.external_lookup.mask.data = mask
        stills.append(
            Experiment(
                beam=experiment.beam, detector=experiment.detector, imageset=imageset
            )
        )
    return stills


def check_files(tmp_path, *files, change=lambda experiments: None) -> list[Frame]:
    """Read files through an imported.expt and by themselves; the frames.

    change: what is done to the experiments before they are written.
    """
    experiments = ExperimentListFactory.from_filenames([str(file) for file in files])
    if not all(experiment.is_still() for experiment in experiments):
        experiments = as_stills(experiments)
    change(experiments)
    experiments.as_file(tmp_path / "imported.expt")
    frames = []
    source = Source()
    with_formats, without = (
        list_stills(
            ExperimentList.from_file(tmp_path / "imported.expt", check_format=check)
        )
        for check in (True, False)
    )
    for given, expected, unopened in zip(
        list_stills(experiments), with_formats, without, strict=True
    ):
        frames.append(read_frame(expected.imageset, expected.position))
        for still in (expected, unopened):
            assert_same(source.read(still), frames[-1])
        assert_same(read_frame(unopened.imageset, unopened.position), frames[-1])
        lookups = given.imageset.external_lookup
        if not (lookups.mask.filename or lookups.gain.filename):
            assert_same(source.read(given), frames[-1])
    return frames


def pixels(n, shape=(60, 60), dtype=np.int32):
    """Images with values below, at and above both ends of the trusted ranges."""
    images = np.random.default_rng(3).poisson(30, (n, *shape)).astype(np.int64)
    kinds = [-40, -21, -20, -19, -1, 0, 1, 16382, 16383, 16384, 65534, 65535, 70000]
    images[:, 3, 3 : 3 + len(kinds)] = kinds
    images[:, 10:13, 10:13], images[:, 40:44, 5:12] = 70000, 65535  # strong spots
    images[1:, 36:54, 36:54] = 70000  # a saturated region
    limits = np.iinfo(dtype)
    return np.clip(images, limits.min, limits.max).astype(dtype)


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.int32, ">i4"])
@pytest.mark.parametrize("kind", ["CSPAD", "Rayonix"])
def test_cxidb76(kind, dtype, write_cxidb76, installed_formats, tmp_path):
    images = pixels(5, dtype=dtype)
    path = write_cxidb76(
        tmp_path / "a.h5",
        images,
        kind=kind,
        n_chunks=2,
        distance=100 + np.arange(5.0),
        wavelength=1.3 + 0.01 * np.arange(5),
    )
    frames = check_files(tmp_path, path)
    assert len(frames) == 5
    spots = np.zeros((60, 60), bool)
    spots[10:13, 10:13] = spots[40:44, 5:12] = True
    saturation = {"CSPAD": 16383, "Rayonix": 65535}[kind]
    overloaded = images[4] >= saturation
    as_read = ~(spots & overloaded)
    np.testing.assert_array_equal(frames[4].data[as_read], images[4][as_read])
    assert frames[4].mask[spots].all()
    assert (frames[4].data[spots & overloaded] >= saturation - 1).all()
    assert not frames[4].mask[overloaded & ~spots].any()


def test_several_files_by_turns(write_cxidb76, installed_formats, tmp_path):
    for name, kind in (("a.h5", "CSPAD"), ("b.h5", "Rayonix"), ("c.h5", "CSPAD")):
        write_cxidb76(tmp_path / name, pixels(2), kind=kind)
    stills = [
        list_stills(ExperimentListFactory.from_filenames([str(tmp_path / name)]))
        for name in ("a.h5", "b.h5", "c.h5")
    ]
    source = Source()
    for still in (each[i] for i in (0, 1) for each in stills):
        assert_same(source.read(still), read_frame(still.imageset, still.position))


@pytest.mark.parametrize("bit_depth", [None, 8, 16, 32])
@pytest.mark.parametrize("masked", [True, False])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.uint32, np.int32])
def test_nxmx(dtype, masked, bit_depth, write_nxmx, tmp_path):
    images = np.random.default_rng(0).poisson(9, (3, 40, 50)).astype(dtype)
    top = np.iinfo(dtype).max
    images[:, 2, 2:5] = top, top - 1, top - 2
    images[1, 3, 3:6] = [255, 254, 253]
    if dtype == np.uint32:
        images[:, 4, 2:5] = 2**31 - 1, 2**31 - 2, 2**31
    mask = np.zeros((40, 50), np.uint32)
    mask[10:12] = 1
    path = write_nxmx(
        tmp_path / "a.h5",
        images,
        bit_depth=bit_depth,
        pixel_mask=mask if masked else None,
        chunks=(1, 40, 50),
        compression="gzip",
    )
    frames = check_files(tmp_path, path)
    assert len(frames) == 3
    assert frames[0].mask[10:12].any() != masked


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_nxmx_of_floating_point_numbers(dtype, write_nxmx, tmp_path):
    images = np.random.default_rng(0).normal(9, 20, (2, 40, 50)).astype(dtype)
    images[:, 2, :5] = np.nan, np.inf, -np.inf, -1, 5000
    images[:, 3, 0] = np.finfo(dtype).max
    check_files(tmp_path, write_nxmx(tmp_path / "a.h5", images))


@pytest.mark.parametrize(
    "name",
    [
        "rayonix_mx340_lcls_hit.cbf",
        "cspad_lcls_thermolysin_hit.cbf",
        "thau_3_2_0014.cbf.bz2",
        "more/CeO2_Pilatus1M.h5",
        "more/Fe3O4C_M1_map_1_P1_E1_001.h5",
        "more/jungfrau_module.h5",
        "more/l-cyst_01_00001.cbf",
    ],
)
def test_real_images(name, real_images, tmp_path):
    assert check_files(tmp_path, real_images / name)


def test_two_files_of_one_image(real_images, tmp_path):
    for number in (14, 17):
        packed = (real_images / f"thau_3_2_00{number}.cbf.bz2").read_bytes()
        (tmp_path / f"thau_00{number}.cbf").write_bytes(bz2.decompress(packed))
    assert len(check_files(tmp_path, *sorted(tmp_path.glob("*.cbf")))) == 2


def test_user_mask(real_images, tmp_path):
    def add_mask(experiments):
        lookup = experiments[0].imageset.external_lookup.mask
        lookup.filename = str(real_images / "rayonix_mx340_mask.pickle")

    (frame,) = check_files(
        tmp_path, real_images / "rayonix_mx340_lcls_hit.cbf", change=add_mask
    )
    assert not frame.mask.all()


def test_lookup_files_beside_the_static_mask(
    write_cxidb76, installed_formats, tmp_path
):
    mask = np.ones((60, 60), bool)
    mask[40] = False
    maps = {
        "mask": (flumpy.from_numpy(mask),),
        "gain": (flumpy.from_numpy(np.full((60, 60), 2.0)),),
        "pedestal": (flumpy.from_numpy(np.full((60, 60), 5.0)),),
    }
    for name, map_ in maps.items():
        (tmp_path / f"{name}.pickle").write_bytes(pickle.dumps(map_))
    path = write_cxidb76(tmp_path / "a.h5", pixels(2))
    for names in (["mask"], ["gain"], ["mask", "gain", "pedestal"]):

        def look_up(experiments, names=names):
            for experiment in experiments:
                for name in names:
                    lookup = getattr(experiment.imageset.external_lookup, name)
                    lookup.filename = str(tmp_path / f"{name}.pickle")

        frame = check_files(tmp_path, path, change=look_up)[0]
        assert frame.mask[40].any() != ("mask" in names)
        value = pixels(1)[0, 20, 20] - 5.0 * ("pedestal" in names)
        assert frame.data[20, 20] == value / (2 if "gain" in names else 1)


def test_untrusted_rectangles_and_gain_of_a_panel(
    write_cxidb76, installed_formats, tmp_path
):
    def change(experiments):
        experiments[0].detector[0].add_mask(5, 6, 9, 8)
        experiments[1].detector[0].set_gain(2)

    path = write_cxidb76(tmp_path / "a.h5", pixels(3), distance=[100.0, 101.0, 102.0])
    frames = check_files(tmp_path, path, change=change)
    assert not frames[0].mask[6:8, 5:9].any()
    assert frames[2].mask[6:8, 5:9].all()
    trusted = pixels(3)[1] < 16383
    np.testing.assert_array_equal(frames[1].data[trusted] * 2, pixels(3)[1][trusted])
    assert frames[1].data[11, 11] * 2 > 16382  # overloaded


def test_sequence_of_stills(real_images, tmp_path, grid_scan):
    with_formats, without = (
        list_stills(ExperimentList.from_file("imported.expt", check_format=check))
        for check in (True, False)
    )
    source = Source()
    for expected, still in zip(with_formats, without, strict=True):
        assert isinstance(still.imageset, ImageSequence)
        frame = read_frame(expected.imageset, expected.position)
        assert_same(source.read(still), frame)
        assert_same(source.read(expected), frame)


class InMemory:
    """Stands for a format class that a MemReader reads."""

    def __init__(self, *panels):
        self._panels = tuple(flumpy.from_numpy(panel) for panel in panels)

    def get_raw_data(self):
        return self._panels


def still_of(detector, *panels, make=ImageSet):
    imageset = make(ImageSetData(MemReader([InMemory(*panels)]), None))
    beam = BeamFactory.make_beam(unit_s0=(0, 0, -1), wavelength=1)
    imageset.set_detector(detector, 0)
    imageset.set_beam(beam, 0)
    experiment = Experiment(beam=beam, detector=detector, imageset=imageset)
    (still,) = list_stills(ExperimentList([experiment]))
    return still


LEFT = (1, 0, 0), (0, -1, 0), (-2.5, 1.5, -100)
RIGHT = (1, 0, 0), (0, -1, 0), (0.5, 1.5, -100)


@pytest.mark.parametrize("dtype", [np.int32, np.float32, np.float64])
@pytest.mark.parametrize(
    "trusted_range", [(5, 600), (5.5, 600.5), (-1e300, 1e300), (700, 5), (1e9, 1e10)]
)
def test_trusted_range(trusted_range, dtype, make_detector):
    images = np.arange(1200, dtype=dtype).reshape(2, 30, 20)
    if dtype != np.int32:
        images[0, 1, :4] = np.nan, np.inf, -np.inf, np.finfo(dtype).max
    detector = make_detector(LEFT, RIGHT, trusted_range=trusted_range)
    detector[0].add_mask(1, 2, 3, 4)
    for still in (
        still_of(detector, *images),
        still_of(make_detector(LEFT, trusted_range=trusted_range), images[1]),
    ):
        expected = read_frame(still.imageset, 0)
        assert_same(Source().read(still), expected)


def test_shadow_of_the_goniometer(make_detector):
    class Shadowed(ImageSequence):
        """Stands for a sequence with a mask of its own for each image."""

        def has_dynamic_mask(self):
            return True

        def get_mask(self, index):
            mask = np.ones((30, 20), bool)
            mask[:5] = False
            return (flumpy.from_numpy(mask),)

    detector = make_detector(LEFT)
    sequence = Shadowed(
        ImageSetData(MemReader([InMemory(np.ones((30, 20), np.int32))]), None),
        beam=BeamFactory.make_beam(unit_s0=(0, 0, -1), wavelength=1),
        detector=detector,
        goniometer=GoniometerFactory.single_axis(),
        scan=Scan((1, 1), (0.0, 0.0)),
    )
    experiment = Experiment(
        beam=sequence.get_beam(), detector=detector, scan=Scan((1, 1), (0.0, 0.0)),
        goniometer=sequence.get_goniometer(), imageset=sequence,
    )  # fmt: skip
    (still,) = list_stills(ExperimentList([experiment]))
    assert not Source().read(still).mask[:5].any()


def test_mask_that_is_put_in_place_of_another(make_detector):
    still = still_of(make_detector(LEFT), np.ones((30, 20), np.int32))
    source = Source()
    for row in (None, 3, 4):
        mask = np.ones((30, 20), bool)
        if row is not None:
            mask[row] = False
        lookup = still.imageset.external_lookup.mask
        lookup.data = ImageBool(flumpy.from_numpy(mask))
        np.testing.assert_array_equal(source.read(still).mask, mask)


def test_frames_are_not_written_over(make_detector):
    stills = [
        still_of(make_detector(LEFT), np.full((30, 20), i, np.int32)) for i in (1, 2)
    ]
    source = Source()
    first, second = map(source.read, stills)
    assert (first.data == 1).all()
    assert (second.data == 2).all()


def test_what_dxtbx_refuses(make_detector):
    still = still_of(make_detector(LEFT), np.ones((29, 20), np.int32))
    for read in (lambda: read_frame(still.imageset, 0), lambda: Source().read(still)):
        with pytest.raises(RuntimeError, match="dxtbx Internal Error"):
            read()


def test_file_that_is_gone(write_cxidb76, installed_formats, tmp_path):
    path = write_cxidb76(tmp_path / "a.h5", pixels(1))
    experiments = ExperimentListFactory.from_filenames([str(path)])
    experiments.as_file(tmp_path / "imported.expt")
    path.unlink()
    (still,) = list_stills(
        ExperimentList.from_file(tmp_path / "imported.expt", check_format=False)
    )
    with pytest.raises(OSError, match=r"a\.h5"):
        Source().read(still)


def test_file_of_no_format(write_cxidb76, installed_formats, tmp_path):
    path = write_cxidb76(tmp_path / "a.h5", pixels(1))
    experiments = ExperimentListFactory.from_filenames([str(path)])
    experiments.as_file(tmp_path / "imported.expt")
    (tmp_path / "a.txt").write_text("no image")
    text = (tmp_path / "imported.expt").read_text().replace("a.h5", "a.txt")
    (tmp_path / "imported.expt").write_text(text)
    (still,) = list_stills(
        ExperimentList.from_file(tmp_path / "imported.expt", check_format=False)
    )
    with pytest.raises(OSError, match=r"a\.txt: dxtbx has no format for this file"):
        Source().read(still)
