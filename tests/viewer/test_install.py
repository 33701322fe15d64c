from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from dials_cnn_screen.viewer import install

NAME = "cnn_annotate_frame_plugin.py"


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """The folder of tools in a DIALS that is made up."""
    folder = tmp_path / "dials" / "util" / "image_viewer" / "slip_viewer"
    folder.mkdir(parents=True)
    (folder / "ring_frame.py").write_text("# DIALS's own\n")
    spec = importlib.util.spec_from_loader("dials", loader=None, is_package=True)
    spec.submodule_search_locations = [str(tmp_path / "dials")]
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: spec)
    return folder


def test_install_twice_and_remove_twice(folder, capsys):
    for _ in range(2):
        install.main([])
        assert (folder / NAME).read_bytes() == install.PLUGIN.read_bytes()
    assert capsys.readouterr().out.count(f"Installed {folder / NAME}") == 2
    for _ in range(2):
        install.main(["--remove"])
        assert [p.name for p in folder.iterdir()] == ["ring_frame.py"]
    assert capsys.readouterr().out.count(f"Removed {folder / NAME}") == 2


def test_older_one_is_replaced(folder):
    (folder / NAME).write_text("# of an earlier version\n")
    install.main([])
    assert (folder / NAME).read_bytes() == install.PLUGIN.read_bytes()


def test_folder_that_cannot_be_written(folder, monkeypatch):
    def refuse(*args, **kwargs):
        raise PermissionError(13, "Permission denied", str(folder))

    monkeypatch.setattr("tempfile.mkstemp", refuse)
    with pytest.raises(SystemExit, match=r"Permission denied.*dials\.cnn_annotate wo"):
        install.main([])


def test_without_dials(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(SystemExit, match="has no DIALS"):
        install.main([])


def test_plugin_is_what_the_viewer_asks_for():
    pytest.importorskip("wx")
    # As the viewer loads it, by its file.
    spec = importlib.util.spec_from_file_location(NAME[:-3], install.PLUGIN)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    helper = module.PluginHelper
    assert callable(helper._plugin_settings_frame)
    assert helper._plugin_show_text == "Show Hit / Maybe / Miss tool"
    assert helper._plugin_hide_text == "Hide Hit / Maybe / Miss tool"
    assert helper._plugin_title
