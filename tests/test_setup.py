"""The package as built and as installed: files, entry points, imports."""

from __future__ import annotations

import ast
import configparser
import importlib.util
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parent.parent
MAPPED_FOLDERS = ("command_line", "format_classes", "phil")

# The numerical core runs on a machine without DIALS: all folders but these modules.
NEEDS_DIALS = {
    "command_line",
    "evaluation.comparison",
    "evaluation.comparison_input",
    "evaluation.comparison_report",
    "evaluation.comparison_tables",
    "evaluation.input",
    "evaluation.report",
    "evaluation.results",
    "evaluation.run",
    "evaluation.spotfinding",
    "explain.reasons",
    "explain.report",
    "explain.results",
    "explain.run",
    "format_classes",
    "images.ahead",
    "images.conversion",
    "images.geometry",
    "images.hdf5",
    "images.masks",
    "images.opening",
    "images.panels",
    "images.read",
    "images.selection",
    "images.source",
    "images.stills",
    "live.account",
    "live.arrivals",
    "live.files",
    "live.geometry",
    "live.intake",
    "live.page",
    "live.parameters",
    "live.plain",
    "live.run",
    "live.send",
    "live.session",
    "live.simplon",
    "live.start",
    "live.stream",
    "live.stream2",
    "outputs.crystfel",
    "outputs.experiments",
    "outputs.gallery",
    "outputs.geometry",
    "outputs.hits_file",
    "outputs.kept",
    "outputs.log",
    "outputs.nxmx",
    "outputs.projection",
    "outputs.report",
    "outputs.resolution",
    "outputs.run",
    "outputs.second_reading",
    "outputs.strong",
    "phil",
    "screening.detectors",
    "screening.given_images",
    "screening.parameters",
    "screening.ranks",
    "screening.recorded",
    "screening.run",
    "screening.second_pass",
    "screening.stream",
    "screening.veto",
    "screening.veto_experiments",
    "screening.veto_images",
    "screening.veto_processor",
    "studies.compare_deposit",
    "studies.compare_find_spots",
    "studies.measure_live",
    "studies.whole_run",
    "training.log",
    "training.preparing",
    "training.run",
    "util.input_files",
    "util.program",
    "util.provenance",
    "viewer.cnn_annotate_frame_plugin",
    "viewer.contrast",
    "viewer.drawing",
    "viewer.keyboard",
    "viewer.overlay",
    "viewer.panel",
    "viewer.stock_viewer",
    "viewer.task",
    "viewer.tool",
    "viewer.train_button",
    "viewer.trainer",
    "viewer.window",
}


def source_files(folder: str) -> list[Path]:
    """Files in a top-level folder of the checkout, relative to the checkout."""
    return [
        file.relative_to(CHECKOUT)
        for file in (CHECKOUT / folder).rglob("*")
        if file.is_file() and "__pycache__" not in file.parts
    ]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The package built from a copy of the checkout, as an open zip file."""
    pytest.importorskip("setuptools")
    pytest.importorskip("pip")
    source = tmp_path_factory.mktemp("source") / "dials_cnn_screen"
    ignore = shutil.ignore_patterns(".*", "build", "demo", "*.egg-info", "__pycache__")
    shutil.copytree(CHECKOUT, source, ignore=ignore)
    target = tmp_path_factory.mktemp("wheel")
    options = ("--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", target)
    subprocess.run([sys.executable, "-m", "pip", "wheel", *options, source], check=True)
    (file,) = target.glob("*.whl")
    with zipfile.ZipFile(file) as archive:
        yield archive


def read_metadata(wheel, name):
    (member,) = (n for n in wheel.namelist() if n.endswith(f".dist-info/{name}"))
    return wheel.read(member).decode()


@pytest.fixture
def entry_points(wheel):
    parser = configparser.ConfigParser(delimiters="=")
    parser.optionxform = str
    parser.read_string(read_metadata(wheel, "entry_points.txt"))
    return parser


def test_wheel_puts_one_package_into_site_packages(wheel):
    top = {name.split("/")[0] for name in wheel.namelist()}
    assert len(top) == 2
    assert "dials_cnn_screen" in top
    assert any(name.endswith(".dist-info") for name in top)


def test_wheel_holds_every_file_of_the_package(wheel):
    expected = {str(file) for file in source_files("dials_cnn_screen")}
    for folder in MAPPED_FOLDERS:
        expected |= {f"dials_cnn_screen/{file}" for file in source_files(folder)}
    built = {name for name in wheel.namelist() if ".dist-info/" not in name}
    assert built == expected


def test_wheel_requires_nothing_outside_extras(wheel):
    # dxtbx 3.11 refuses to load format classes from a package with a requirement that
    # pkg_resources can't find, and then reads no image of that kind; see setup.py.
    requirements = re.findall(
        r"^Requires-Dist: (.+)$", read_metadata(wheel, "METADATA"), re.MULTILINE
    )
    assert requirements
    assert all("extra ==" in requirement for requirement in requirements)


def test_programs_and_command_line_files_agree(entry_points):
    files = sorted((CHECKOUT / "command_line").glob("[!_]*.py"))
    targets = []
    for file in files:
        text = file.read_text(encoding="utf-8")
        # libtbx looks no further than this.
        assert "# LIBTBX_SET_DISPATCHER_NAME " in text[:1000], file.name
        functions = [n.name for n in ast.parse(text).body if hasattr(n, "name")]
        assert "run" in functions, file.name
        targets.append(f"dials_cnn_screen.command_line.{file.stem}:run")
    programs = entry_points["console_scripts"]
    assert set(programs.values()) == set(targets)
    assert "dials.cnn_screen" in programs


def test_formats_and_their_classes_agree(entry_points):
    from_files = {}
    for file in (CHECKOUT / "format_classes").glob("Format*.py"):
        for node in ast.parse(file.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef):
                bases = ",".join(base.id for base in node.bases)
                module = f"dials_cnn_screen.format_classes.{file.stem}"
                from_files[f"{node.name}:{bases}"] = f"{module}:{node.name}"
    assert dict(entry_points["dxtbx.format"]) == from_files


def test_dxtbx_loads_the_installed_formats(entry_points):
    registry = pytest.importorskip("dxtbx.format.Registry")
    for entry in entry_points["dxtbx.format"]:
        name, _, parents = entry.partition(":")
        format_class = registry.get_format_class_for(name)
        assert format_class.__name__ == name
        for parent in parents.split(","):
            assert name in registry.get_format_class_dag()[parent]
            assert parent in [base.__name__ for base in format_class.__mro__]


def core_modules() -> list[str]:
    """Modules that need no DIALS, below the package."""
    package = Path(importlib.util.find_spec("dials_cnn_screen").origin).parent
    names = [
        ".".join(file.relative_to(package).with_suffix("").parts)
        for file in sorted(package.rglob("*.py"))
    ]
    return [
        name.removesuffix(".__init__")
        for name in names
        if name != "__init__"
        and not name.endswith("_cuda")  # needs Triton, which not all have
        and not {name, name.partition(".")[0]} & NEEDS_DIALS
    ]


IMPORT_WITHOUT_DIALS = """
import importlib, sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"dials", "dxtbx", "libtbx", "scitbx", "wx"}:
            raise ModuleNotFoundError(f"{name} is absent here", name=name)

sys.meta_path.insert(0, Absent())
try:
    import dxtbx
except ModuleNotFoundError:
    pass
else:
    sys.exit("dxtbx can be imported: the test is wrong")
for module in sys.argv[1:]:
    importlib.import_module(f"dials_cnn_screen.{module}")
"""


def test_core_imports_without_dials(tmp_path):
    modules = core_modules()
    # The steps of a frame, and what trains, evaluates and simulates.
    assert {
        "images.frame",
        "labels.image_name",
        "spots.candidates_cpu",
        "ke2018.preprocessing_cpu",
        "models.model_file",
        "screening.results",
        "screening.calibration",
        "training.loop",
        "evaluation.figures",
        "simulation.shot",
        "studies.make_default",
    } <= set(modules)
    result = subprocess.run(
        [sys.executable, "-c", IMPORT_WITHOUT_DIALS, *modules],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
