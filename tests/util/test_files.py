from __future__ import annotations

import os
import resource
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from dials_cnn_screen.util.files import (
    check_file_room,
    check_outputs,
    check_writable,
    replacing,
    replacing_together,
)


def write_text(path, text):
    with replacing(path) as unfinished:
        Path(unfinished).write_text(text)


def test_file_is_written(tmp_path):
    write_text(tmp_path / "a.txt", "new")
    assert (tmp_path / "a.txt").read_text() == "new"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_nothing_is_seen_before_the_end(tmp_path):
    path = tmp_path / "a.json"
    path.write_text("old")
    with replacing(path) as unfinished:
        Path(unfinished).write_text("half")
        assert Path(unfinished).parent == tmp_path
        assert Path(unfinished).suffix == ".json"
        assert path.read_text() == "old"
    assert path.read_text() == "half"


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_error_leaves_all_as_it_was(tmp_path, error):
    path = tmp_path / "a.txt"
    path.write_text("old")

    def fail():
        with replacing(path) as unfinished:
            Path(unfinished).write_text("half")
            raise error

    with pytest.raises(error):
        fail()
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_the_writer_may_take_its_file_away(tmp_path):
    def fail():
        with replacing(tmp_path / "a.txt") as unfinished:
            os.unlink(unfinished)

    with pytest.raises(FileNotFoundError):
        fail()
    assert not os.listdir(tmp_path)


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o077, 0o600)])
def test_mode_follows_the_umask(tmp_path, umask, mode):
    before = os.umask(umask)
    try:
        write_text(tmp_path / "a.txt", "")
        assert os.umask(umask) == umask
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a.txt").stat().st_mode) == mode


def test_check_writable_leaves_nothing(tmp_path):
    (tmp_path / "old.txt").write_text("old")
    check_writable(tmp_path / "old.txt")
    check_writable(tmp_path / "new.txt")
    assert os.listdir(tmp_path) == ["old.txt"]
    assert (tmp_path / "old.txt").read_text() == "old"


def test_check_writable_of_a_folder(tmp_path):
    with pytest.raises(ValueError, match="can't be written: it is a folder"):
        check_writable(tmp_path)


def test_check_writable_where_there_is_no_folder(tmp_path):
    with pytest.raises(ValueError, match=r"nowhere/a.txt' .*no folder '.*nowhere'"):
        check_writable(tmp_path / "nowhere" / "a.txt")


def test_check_writable_where_the_system_refuses():
    # Nobody, root neither, makes a file there.
    with pytest.raises(ValueError, match=r"'/proc/a\.txt' can't be written: "):
        check_writable("/proc/a.txt")


def test_a_device_is_written_to_and_stays():
    check_outputs("/dev/null", "/dev/null")
    with replacing("/dev/null") as unfinished:
        Path(unfinished).write_text("gone")
    assert Path("/dev/null").is_char_device()


def test_inputs_are_not_overwritten(tmp_path):
    image = tmp_path / "image.h5"
    image.write_text("image")
    link = tmp_path / "link.h5"
    link.symlink_to(image)
    with pytest.raises(ValueError, match=r"image\.h5. is both read and written"):
        check_outputs(tmp_path / "a.json", link, inputs=[image])
    check_outputs(tmp_path / "a.json", inputs=[image])


def test_files_are_put_in_place_together(tmp_path):
    first, second = tmp_path / "a.txt", tmp_path / "b.txt"
    first.write_text("old")
    with replacing_together():
        write_text(first, "new")
        write_text(second, "new")
        assert first.read_text() == "old"
        assert not second.exists()
    assert first.read_text() == second.read_text() == "new"
    assert sorted(os.listdir(tmp_path)) == ["a.txt", "b.txt"]
    # Afterwards each goes to its place by itself again.
    write_text(first, "newer")
    assert first.read_text() == "newer"


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_error_among_files_leaves_all_as_they_were(tmp_path, error):
    path = tmp_path / "a.txt"
    path.write_text("old")

    def fail():
        with replacing_together():
            write_text(path, "new")
            raise error

    with pytest.raises(error):
        fail()
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_what_a_killed_process_left_is_removed(tmp_path):
    code = (
        "import os, sys\n"
        "from dials_cnn_screen.util.files import replacing\n"
        "with replacing(sys.argv[1]):\n"
        "    os._exit(1)"
    )
    path = tmp_path / "a.txt"
    subprocess.run([sys.executable, "-c", code, path], check=False)
    others = {".a.txt", ".a.notes.txt", "a.notes.txt"}
    for name in others:
        (tmp_path / name).write_text("another's")
    assert len(os.listdir(tmp_path)) == 4
    with replacing(path) as unfinished:
        # That of a process that still writes is left.
        write_text(path, "new")
        assert Path(unfinished).exists()
    assert set(os.listdir(tmp_path)) == {"a.txt", *others}


def test_room_for_a_file(tmp_path):
    check_file_room(tmp_path / "a", 1000)
    path, limit = tmp_path / "b", resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limit[1]))
    try:
        with pytest.raises(ValueError, match=r"no room for a file .* too large"):
            check_file_room(path, 1001)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
