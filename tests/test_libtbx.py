"""The package as a libtbx module: configured for real, in a build folder of its own."""

from __future__ import annotations

import importlib.util
import json
import os
import runpy
import shutil
import site
import subprocess
import sys
from pathlib import Path

import pytest

from dials_cnn_screen.viewer import install

CHECKOUT = Path(__file__).resolve().parent.parent


def run(*command, cwd):
    # LIBTBX_BUILD would name another build; PYTHONPATH is the dispatchers' to set.
    env = {
        name: value
        for name, value in os.environ.items()
        if name not in ("LIBTBX_BUILD", "PYTHONPATH")
    }
    return subprocess.run(
        [str(word) for word in command],
        cwd=cwd,
        env=env,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def plugin():
    """Where the viewer looks for the annotation tool; as before when all is done."""
    pytest.importorskip("dials")
    file = install.plugin_folder() / install.PLUGIN.name
    before = file.read_bytes() if file.exists() else None
    if before is not None and os.access(file.parent, os.W_OK):
        file.unlink()
    yield file
    if before is not None and os.access(file.parent, os.W_OK):
        file.write_bytes(before)
    elif before is None:
        file.unlink(missing_ok=True)


@pytest.fixture(scope="module")
def build_and_output(tmp_path_factory, plugin):
    """A build folder in which libtbx.configure has been run, and what that printed."""
    libtbx = pytest.importorskip("libtbx")
    configure = Path(libtbx.__file__).with_name("configure.py")
    if not configure.is_file():
        pytest.skip(f"libtbx without {configure.name}")
    for needed in ("six", "future"):
        if importlib.util.find_spec(needed) is None:
            pytest.skip(f"libtbx.configure needs the Python package {needed}")

    # libtbx knows a module by the name of its folder.
    repository = tmp_path_factory.mktemp("repository")
    ignore = shutil.ignore_patterns(".*", "build", "demo", "*.egg-info", "__pycache__")
    shutil.copytree(CHECKOUT, repository / "dials_cnn_screen", ignore=ignore)
    # libtbx wants these folders, which a Debian installation has not.
    for name in ("boost", "boost_adaptbx"):
        (repository / name).mkdir()
    build = tmp_path_factory.mktemp("build")
    # Dispatchers put all site-packages folders on PYTHONPATH, and where there are
    # several, as on Debian, in reverse: old packages would hide the newer that torch
    # needs. The build's own text in a dispatcher puts that right.
    path = [repository / "dials_cnn_screen", *site.getsitepackages(), "$PYTHONPATH"]
    (build / "dispatcher_include_site.sh").write_text(
        f'# include before command\nexport PYTHONPATH="{":".join(map(str, path))}"\n'
    )
    result = run(
        sys.executable,
        configure,
        f"--repository={repository}",
        f"--repository={configure.parent.parent}",
        "--build=release",
        "--no_bin_python",
        "dials_cnn_screen",
        cwd=build,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return build, result.stdout


@pytest.fixture(scope="module")
def build(build_and_output):
    return build_and_output[0]


@pytest.fixture(scope="module")
def configured(build_and_output):
    return build_and_output[1]


def test_annotation_tool_is_in_the_viewer(configured, plugin):
    ours = CHECKOUT / "dials_cnn_screen" / "viewer" / plugin.name
    if os.access(plugin.parent, os.W_OK):
        assert f"Annotation tool of dials.image_viewer: {plugin}" in configured
        assert plugin.read_bytes() == ours.read_bytes()
    else:
        assert "No annotation tool in dials.image_viewer: " in configured


def test_dispatchers_run(build):
    setup = runpy.run_path(str(CHECKOUT / "setup.py"), run_name="test")
    assert {"dials.cnn_screen", "cctbx.xfel.cnn_process"} <= set(
        setup["list_programs"]()
    )
    for program in setup["list_programs"]():
        assert (build / "bin" / program).is_file()
    result = run(build / "bin" / "dials.cnn_screen", "-h", cwd=build)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "dials.cnn_screen" in result.stdout


def test_dxtbx_sees_the_formats(build):
    report = """
import importlib.metadata, inspect, json
from dxtbx.format.Registry import get_format_class_for
names = [
    entry.name.partition(":")[0]
    for entry in importlib.metadata.entry_points(group="dxtbx.format")
    # Not those of an installation by pip, which may be there as well.
    if entry.dist.metadata["Name"].replace("-", "_") == "libtbx.dials_cnn_screen"
]
print(json.dumps({n: inspect.getfile(get_format_class_for(n)) for n in names}))
"""
    result = run(build / "bin" / "libtbx.python", "-c", report, cwd=build)
    assert result.returncode == 0, result.stderr
    files = json.loads(result.stdout)
    assert sorted(files) == [
        "FormatHDF5CXIDB76",
        "FormatHDF5CXIDB76CSPAD",
        "FormatHDF5CXIDB76Rayonix",
    ]
    for file in files.values():
        # From the module that was configured, not from site-packages.
        assert "repository" in file
