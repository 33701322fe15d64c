from __future__ import annotations

import gc
import multiprocessing
import pickle
import subprocess

import h5py
import numpy as np
import pytest

pytest.importorskip("dials")

from dials.array_family import flex
from dxtbx import flumpy
from dxtbx.format.Registry import get_format_class_for_file
from dxtbx.model.experiment_list import ExperimentListFactory

from dials_cnn_screen.format_classes.FormatHDF5CXIDB76 import FormatHDF5CXIDB76
from dials_cnn_screen.format_classes.FormatHDF5CXIDB76CSPAD import (
    FormatHDF5CXIDB76CSPAD,
)
from dials_cnn_screen.format_classes.FormatHDF5CXIDB76Rayonix import (
    FormatHDF5CXIDB76Rayonix,
)

CLASSES = {"CSPAD": FormatHDF5CXIDB76CSPAD, "Rayonix": FormatHDF5CXIDB76Rayonix}


@pytest.fixture
def images():
    """Five images of 60 x 60, image i filled with 10 i + 5."""
    return (
        np.full((5, 60, 60), 5, np.int32)
        + 10 * np.arange(5, dtype=np.int32)[:, None, None]
    )


@pytest.fixture
def cspad(tmp_path, write_cxidb76, images):
    return write_cxidb76(
        tmp_path / "cspad.h5",
        images,
        n_chunks=2,
        distance=[100, 100, 101, 102, 103],
        wavelength=[1.30, 1.31, 1.32, 1.33, 1.34],
    )


@pytest.fixture
def rayonix(tmp_path, write_cxidb76, images):
    images[:, 25:35, 25:35] = 0
    return write_cxidb76(tmp_path / "rayonix.h5", images, kind="Rayonix")


def as_numpy(panels):
    (panel,) = panels
    return flumpy.to_numpy(panel)


def test_models_of_each_image(cspad):
    imageset = FormatHDF5CXIDB76CSPAD.get_imageset([str(cspad)])
    assert len(imageset) == 5
    for i, distance, wavelength in [(0, 100, 1.30), (1, 100, 1.31), (4, 103, 1.34)]:
        (panel,) = imageset.get_detector(i)
        beam = imageset.get_beam(i)
        assert beam.get_wavelength() == pytest.approx(wavelength)
        assert panel.get_directed_distance() == pytest.approx(distance)
        assert panel.get_beam_centre(beam.get_s0()) == pytest.approx((3.3, 2.2))
        assert panel.get_beam_centre_px(beam.get_s0()) == pytest.approx((30, 20))
        assert panel.get_fast_axis() == (1, 0, 0)
        assert panel.get_slow_axis() == (0, -1, 0)
        assert panel.get_pixel_size() == (0.11, 0.11)
        assert panel.get_image_size() == (60, 60)
        assert panel.get_trusted_range() == (-20.5, 16382.5)
        assert panel.get_gain() == 1
        assert imageset.get_goniometer(i) is None
        assert imageset.get_scan(i) is None


def test_an_image_that_is_not_square(tmp_path, write_cxidb76):
    images = np.arange(2 * 30 * 40, dtype=np.int32).reshape(2, 30, 40)
    path = write_cxidb76(tmp_path / "r.h5", images, kind="Rayonix")
    imageset = FormatHDF5CXIDB76Rayonix.get_imageset([str(path)])
    assert imageset.get_detector(0)[0].get_image_size() == (40, 30)
    np.testing.assert_array_equal(as_numpy(imageset.get_raw_data(1)), images[1])


def test_chunks_follow_one_another_by_name(cspad, images):
    imageset = FormatHDF5CXIDB76CSPAD.get_imageset([str(cspad)])
    for i, image in enumerate(images):
        np.testing.assert_array_equal(as_numpy(imageset.get_raw_data(i)), image)


def test_a_chosen_part_of_the_images(cspad, images):
    imageset = FormatHDF5CXIDB76CSPAD.get_imageset(
        [str(cspad)], single_file_indices=[1, 4]
    )
    np.testing.assert_array_equal(as_numpy(imageset.get_raw_data(1)), images[4])
    assert imageset.get_beam(1).get_wavelength() == pytest.approx(1.34)


@pytest.mark.parametrize("dtype", ["<i4", ">i4", "i2", "u2"])
def test_integers_of_other_kinds(tmp_path, write_cxidb76, dtype):
    images = np.arange(3600).reshape(1, 60, 60).astype(dtype)
    path = write_cxidb76(tmp_path / "i.h5", images)
    data = FormatHDF5CXIDB76CSPAD(str(path)).get_raw_data(0)
    assert type(data).__name__ == "int"
    np.testing.assert_array_equal(flumpy.to_numpy(data), images[0])


def test_raw_data_outlives_the_format(cspad, images):
    data = FormatHDF5CXIDB76CSPAD(str(cspad)).get_raw_data(3)
    gc.collect()
    np.testing.assert_array_equal(flumpy.to_numpy(data), images[3])


def test_mask_leaves_out_gaps_and_asic_borders(cspad):
    mask = as_numpy(FormatHDF5CXIDB76CSPAD(str(cspad)).get_static_mask())
    assert mask.sum() == 4 * 26 * 26
    assert mask[2, 2]
    assert mask[27, 27]
    assert not mask[1, 10]  # border
    assert not mask[28, 10]
    assert not mask[29, 10]  # gap


def test_mask_of_a_user_stays_the_users(cspad):
    still = FormatHDF5CXIDB76CSPAD(str(cspad))
    as_numpy(still.get_static_mask())[:] = False
    assert as_numpy(still.get_static_mask()).any()


def test_pixels_out_of_range_are_masked(tmp_path, write_cxidb76):
    image = np.zeros((1, 60, 60), np.int32)
    image[0, 5, 5:9] = -21, -20, 16382, 16383
    path = write_cxidb76(tmp_path / "c.h5", image)
    mask = as_numpy(FormatHDF5CXIDB76CSPAD.get_imageset([str(path)]).get_mask(0))
    assert mask[5, 5:10].tolist() == [False, True, True, False, True]
    assert mask.sum() == 4 * 26 * 26 - 2


def test_zeros_of_a_rayonix_are_its_hole(rayonix):
    imageset = FormatHDF5CXIDB76Rayonix.get_imageset([str(rayonix)])
    mask = as_numpy(imageset.get_mask(0))
    assert imageset.get_detector(0)[0].get_trusted_range() == (0.5, 65534.5)
    assert not mask[25:35, 25:35].any()
    assert mask.sum() == 60 * 60 - 100


def test_rayonix_without_active_areas(tmp_path, write_cxidb76, images):
    path = write_cxidb76(
        tmp_path / "r.h5",
        images,
        kind="Rayonix",
        ACTIVE_AREAS=None,
        MIN_TRUSTED_VALUE=7,
    )
    still = FormatHDF5CXIDB76Rayonix(str(path))
    assert still.get_static_mask() is None
    assert still.get_detector(0)[0].get_trusted_range() == (6.5, 65534.5)


@pytest.mark.parametrize("kind", CLASSES)
def test_each_kind_is_understood_by_its_own_class(kind, cspad, rayonix):
    path = str({"CSPAD": cspad, "Rayonix": rayonix}[kind])
    assert FormatHDF5CXIDB76.understand(path)
    assert [name for name, c in CLASSES.items() if c.understand(path)] == [kind]


def test_version_may_be_text_or_in_an_array(tmp_path, write_cxidb76, images):
    for i, version in enumerate(["idh5_v1.0", [b"idh5_v1.0"]]):
        path = write_cxidb76(tmp_path / f"{i}.h5", images, idh5_version=version)
        assert FormatHDF5CXIDB76CSPAD.understand(str(path))


def break_text(path):
    path.write_text("not HDF5")


def break_empty(path):
    path.write_bytes(b"")


def break_truncated(path):
    path.write_bytes(path.read_bytes()[:3000])


def break_folder(path):
    path.unlink()
    path.mkdir()


def break_missing(path):
    path.unlink()


def break_other_layout(path):
    with h5py.File(path, "w") as handle:
        handle["entry/data/data"] = np.zeros((1, 2, 2))


def break_other_version(path):
    with h5py.File(path, "r+") as handle:
        del handle["metadata/idh5_version"]
        handle["metadata/idh5_version"] = np.bytes_(b"idh5_v2.0")


def break_version_that_is_a_group(path):
    with h5py.File(path, "r+") as handle:
        del handle["metadata/idh5_version"]
        handle.create_group("metadata/idh5_version")


def break_metadata_that_is_an_array(path):
    with h5py.File(path, "w") as handle:
        handle["metadata"] = np.zeros(3)


BREAKS = [f for name, f in list(globals().items()) if name.startswith("break_")]


@pytest.mark.parametrize("break_it", BREAKS)
def test_what_is_of_no_such_layout_is_not_understood(cspad, break_it):
    break_it(cspad)
    for understanding in (FormatHDF5CXIDB76, *CLASSES.values()):
        assert understanding.understand(str(cspad)) is False


def test_understand_leaves_the_file_closed(cspad):
    assert FormatHDF5CXIDB76CSPAD.understand(str(cspad))
    with h5py.File(cspad, "r+"):  # HDF5 refuses this while the file is open to read
        pass


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ({"SIZE1": None}, "cspad.h5: /metadata/SIZE1 is missing.*write it again"),
        ({"PIXEL_SIZE": "wide"}, "PIXEL_SIZE is not a number"),
        ({"BEAM_CENTER_X": np.nan}, "BEAM_CENTER_X is nan"),
        ({"SIZE1": 61}, r"shape \(5, 60, 60\), not \(n, 60, 61\)"),
        ({"ACTIVE_AREAS": [1] * 9}, "ACTIVE_AREAS has 9 numbers"),
        ({"ACTIVE_AREAS": [0, 0, 9, 9, 50, 0, 70, 9]}, r"\[50, 0, 70, 9\].*60 x 60"),
    ],
)
def test_damaged_metadata(tmp_path, write_cxidb76, images, metadata, message):
    path = write_cxidb76(tmp_path / "cspad.h5", images, **metadata)
    with pytest.raises(ValueError, match=message):
        FormatHDF5CXIDB76CSPAD(str(path))


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("images", None, "/data/chunk1/images is missing"),
        ("images", np.zeros((60, 60), "i4"), r"images has the shape \(60, 60\)"),
        ("images", np.zeros((2, 60, 60)), "images holds float64, not int32"),
        ("distance", None, "/data/chunk1/distance is missing"),
        ("distance", np.ones(3), r"distance has the shape \(3,\) for 2 images"),
        ("wavelength", np.ones(3), r"wavelength has the shape \(3,\) for 2 images"),
    ],
)
def test_damaged_chunk(cspad, name, value, message):
    with h5py.File(cspad, "r+") as handle:
        del handle[f"data/chunk1/{name}"]
        if value is not None:
            handle[f"data/chunk1/{name}"] = value
    with pytest.raises(ValueError, match=message):
        FormatHDF5CXIDB76CSPAD(str(cspad))


def test_a_file_without_images(cspad):
    with h5py.File(cspad, "r+") as handle:
        del handle["data"]
    with pytest.raises(ValueError, match="/data holds no images"):
        FormatHDF5CXIDB76CSPAD(str(cspad))


@pytest.mark.parametrize("bad", [0, -1, np.nan, np.inf])
def test_bad_distance_or_wavelength(tmp_path, write_cxidb76, images, bad):
    path = write_cxidb76(
        tmp_path / "c.h5",
        images,
        distance=[1, 1, bad, 1, 1],
        wavelength=[1, bad, 1, 1, 1],
    )
    still = FormatHDF5CXIDB76CSPAD(str(path))
    with pytest.raises(ValueError, match="the distance of image 2 is"):
        still.get_detector(2)
    with pytest.raises(ValueError, match="the wavelength of image 1 is"):
        still.get_beam(1)


def test_an_image_that_cannot_be_read_is_named(cspad):
    with h5py.File(cspad, "r+") as handle:
        images = handle["data/chunk1/images"][()]
        del handle["data/chunk1/images"]
        packed = handle.create_dataset(
            "data/chunk1/images", data=images, chunks=(1, 60, 60), compression="gzip"
        )
        offset = packed.id.get_chunk_info(1).byte_offset
    with open(cspad, "r+b") as file:
        file.seek(offset)
        file.write(b"\xff" * 16)
    still = FormatHDF5CXIDB76CSPAD(str(cspad))
    assert flumpy.to_numpy(still.get_raw_data(3)).max() == 35
    with pytest.raises(OSError, match=r"cspad\.h5: cannot read image 4"):
        still.get_raw_data(4)


@pytest.mark.parametrize("index", [-1, 5])
def test_an_image_that_is_not_there(cspad, index):
    with pytest.raises(IndexError, match=f"images 0 to 4, image {index} was requested"):
        FormatHDF5CXIDB76CSPAD(str(cspad)).get_raw_data(index)


def test_opening_reads_no_image(cspad, monkeypatch):
    read = []
    original = h5py.Dataset.__getitem__

    def record(dataset, key, **kwargs):
        read.append((dataset.name, key))
        return original(dataset, key, **kwargs)

    monkeypatch.setattr(h5py.Dataset, "__getitem__", record)
    imageset = FormatHDF5CXIDB76CSPAD.get_imageset([str(cspad)])
    assert read
    assert not [name for name, _ in read if name.endswith("images")]
    imageset.get_raw_data(4)
    assert [r for r in read if r[0].endswith("images")] == [("/data/chunk1/images", 1)]


def test_a_large_file_opens_at_once(tmp_path, write_cxidb76):
    path = write_cxidb76(tmp_path / "large.h5", np.zeros((1, 60, 60), "i4"), SIZE1=1765)
    with h5py.File(path, "r+") as handle:  # 25 GB if it were written
        del handle["data"], handle["metadata/SIZE2"]
        handle["metadata/SIZE2"] = 1765
        handle.create_dataset("data/0/images", (2000, 1765, 1765), "i4")
        handle["data/0/distance"] = np.linspace(100, 101, 2000)
        handle["data/0/wavelength"] = np.full(2000, 1.3)
    imageset = FormatHDF5CXIDB76CSPAD.get_imageset([str(path)])
    assert len(imageset) == 2000
    assert as_numpy(imageset.get_raw_data(1999)).shape == (1765, 1765)


def read_sum(imageset, index):
    return int(as_numpy(imageset.get_raw_data(index)).sum())


def test_forked_processes_read_what_the_parent_opened(cspad, images):
    imageset = FormatHDF5CXIDB76CSPAD.get_imageset([str(cspad)])
    read_sum(imageset, 0)
    with multiprocessing.get_context("fork").Pool(2) as pool:
        sums = pool.starmap(read_sum, [(imageset, i % 5) for i in range(40)])
    assert sums == [images[i % 5].sum() for i in range(40)]


def test_pickled_imageset_reads_on(cspad, images):
    imageset = FormatHDF5CXIDB76CSPAD.get_imageset([str(cspad)])
    read_sum(imageset, 0)
    again = pickle.loads(pickle.dumps(imageset))
    np.testing.assert_array_equal(as_numpy(again.get_raw_data(2)), images[2])
    assert as_numpy(again.get_mask(2)).sum() == 4 * 26 * 26


@pytest.mark.usefixtures("installed_formats")
@pytest.mark.parametrize("kind", CLASSES)
def test_dxtbx_chooses_the_class(kind, cspad, rayonix):
    path = str({"CSPAD": cspad, "Rayonix": rayonix}[kind])
    assert get_format_class_for_file(path) is CLASSES[kind]


@pytest.mark.usefixtures("installed_formats")
def test_stock_programs_read_the_files(tmp_path, write_cxidb76):
    rng = np.random.default_rng(76)
    images = rng.poisson(10, (2, 60, 60)).astype(np.int32)
    for slow, fast in [(10, 10), (15, 45), (45, 20)]:
        images[1, slow : slow + 2, fast : fast + 2] = 500
    write_cxidb76(tmp_path / "c.h5", images, n_chunks=2, distance=[100, 101])

    def dials(program, *args):
        return subprocess.run(
            [f"dials.{program}", *args],
            cwd=tmp_path,
            check=True,
            capture_output=True,
            text=True,
        ).stdout

    assert "num stills: 2" in dials("import", "c.h5").replace("  ", " ")
    assert "{-20.5,16382.5}" in dials("show", "imported.expt")
    dials("find_spots", "imported.expt")
    spots = flex.reflection_table.from_file(str(tmp_path / "strong.refl"))
    assert list(spots["id"]) == [1, 1, 1]
    places = sorted((x, y) for x, y, _ in spots["xyzobs.px.value"])
    np.testing.assert_allclose(places, [(11, 11), (21, 46), (46, 16)], atol=0.1)
    experiments = ExperimentListFactory.from_json_file(str(tmp_path / "imported.expt"))
    assert [e.detector[0].get_directed_distance() for e in experiments] == [100, 101]
