"""The layout of the package: which folder may import which, and what starts quickly."""

from __future__ import annotations

import ast
import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parent.parent

# From the ground up: each may import itself and those before it. docs/structure.md
# tells why.
LAYERS = (
    ("phil", "util"),
    ("labels",),
    ("images", "simulation"),
    ("architecture",),
    ("single_frames",),
    ("spots", "ke2018"),
    ("models",),
    ("screening",),
    ("outputs",),
    ("evaluation", "explain", "live", "training"),
    ("viewer",),
    ("studies",),
    ("command_line", "format_classes"),
)
RANK = {folder: rank for rank, folders in enumerate(LAYERS) for folder in folders}
# simulation stands beside the way of a frame: it knows no more than labels.
LEAVES = {"simulation": {"labels", "util"}, "format_classes": set(), "phil": set()}
LONGEST = 400


def module_files() -> dict[str, Path]:
    """All modules by dotted name below the package, with their files."""
    files = {}
    for top in ("dials_cnn_screen", "command_line", "format_classes", "phil"):
        for file in sorted((CHECKOUT / top).rglob("*.py")):
            parts = file.relative_to(CHECKOUT).with_suffix("").parts
            parts = parts[1:] if top == "dials_cnn_screen" else parts
            files[".".join(parts).removesuffix(".__init__")] = file
    return files


FILES = module_files()


def imports(module: str) -> set[str]:
    """The modules of this package that a module imports, wherever in it."""
    found = set()
    for node in ast.walk(ast.parse(FILES[module].read_text(encoding="utf-8"))):
        if not isinstance(node, ast.ImportFrom) or node.module is None:
            continue
        name = node.module.removeprefix("dials_cnn_screen").removeprefix(".")
        if not node.module.startswith("dials_cnn_screen") or not name:
            continue
        for alias in node.names:
            inner = f"{name}.{alias.name}"
            found.add(inner if inner in FILES else name)
    return found - {module}


def folder(module: str) -> str:
    return module.split(".")[0]


def test_every_folder_has_its_layer():
    folders = {folder(module) for module in FILES} - {"__init__"}
    assert folders == set(RANK)


@pytest.mark.parametrize("module", sorted(set(FILES) - {"__init__"}))
def test_imports_point_one_way(module):
    own = folder(module)
    for imported in imports(module):
        other = folder(imported)
        if other == own:
            continue
        assert RANK[other] < RANK[own], f"{module} imports {imported}"
        if own in LEAVES:
            assert other in LEAVES[own], f"{module} imports {imported}"


def test_no_circles():
    left = {module: imports(module) & set(FILES) for module in FILES}
    while left:
        free = {module for module, needs in left.items() if not needs & set(left)}
        assert free, f"these import each other in a circle: {sorted(left)}"
        left = {module: needs for module, needs in left.items() if module not in free}


def test_no_file_is_long():
    lengths = {
        str(file.relative_to(CHECKOUT)): len(file.read_text().splitlines())
        for file in (*FILES.values(), *(CHECKOUT / "tests").rglob("*.py"))
    }
    assert {name: n for name, n in lengths.items() if n > LONGEST + 20} == {}
    programs = {
        file.name: len(file.read_text().splitlines())
        for file in (CHECKOUT / "command_line").glob("cnn_*.py")
    }
    assert {name: n for name, n in programs.items() if n > 150} == {}


def test_only_the_registry_tells_architectures_apart():
    """No isinstance on networks or preparations, in whatever knows several."""
    names = (
        "SpotNetwork",
        "Ke2018",
        "CandidateSearch",
        "Preprocessing",
        "CandidateSet",
    )
    for module, file in FILES.items():
        for line in file.read_text(encoding="utf-8").splitlines():
            if "isinstance(" in line:
                found = [name for name in names if name in line.split("isinstance(")[1]]
                assert not found, f"{module}: {line.strip()}"


def test_no_globals():
    for module, file in FILES.items():
        tree = ast.parse(file.read_text(encoding="utf-8"))
        assert not any(isinstance(n, ast.Global) for n in ast.walk(tree)), module


def test_the_page_on_the_structure_names_every_folder():
    page = (CHECKOUT / "docs" / "structure.md").read_text(encoding="utf-8")
    missing = [name for name in RANK if f"`{name}" not in page]
    assert missing == []


HEAVY = [
    "h5py",
    "jinja2",
    "matplotlib",
    "numba",
    "safetensors",
    "scipy.stats",
    "sklearn",
    "torch",
    "tqdm",
    "wx",
    "zmq",
]
HELP = """
import sys
{before}
from dials_cnn_screen.command_line.{program} import run
try:
    run(["-h"])
except SystemExit as end:
    assert not end.code, end.code
loaded = [name for name in {heavy} if name in sys.modules and name not in there]
print("LOADED", *loaded)
"""
# What DIALS itself loads for a program's help does not count.
PLAIN = """
import dials.util, dials.util.log
import dxtbx.model.experiment_list
from dials.util.options import ArgumentParser
there = set(sys.modules)
"""
STILLS_PROCESS = f"{PLAIN}\nimport dials.command_line.stills_process\n" + (
    "there = set(sys.modules)\n"
)


@pytest.mark.parametrize(
    "program",
    sorted(file.stem for file in (CHECKOUT / "command_line").glob("cnn_*.py")),
)
def test_help_loads_nothing_heavy(program, tmp_path):
    if importlib.util.find_spec("dials") is None:
        pytest.skip("no DIALS")
    if program == "cnn_xfel_process":
        pytest.skip("without cctbx.xfel it ends with a message")
    before = STILLS_PROCESS if "process" in program else PLAIN
    code = HELP.format(program=program, heavy=HEAVY, before=before)
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().splitlines()[-1] == "LOADED"
