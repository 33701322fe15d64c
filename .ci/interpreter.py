"""What .ci/setup wants to know of the interpreter that runs DIALS; run by that one."""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import re
import runpy
import sys
import sysconfig
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parent.parent

# Modules that are not named as their distributions are.
MODULES = {
    "scikit-learn": "sklearn",
    "pyzmq": "zmq",
    "dectris-compression": "dectris",
}

# Distributions on which DIALS's compiled modules, or DIALS's start, depend.
KEEP_AS_IS = ("numpy", "scipy", "h5py", "matplotlib", "setuptools")


def is_importable(module: str) -> bool:
    return importlib.util.find_spec(module) is not None


def installed_version(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def major_version(distribution: str) -> int | None:
    version = installed_version(distribution)
    return int(version.partition(".")[0]) if version else None


def module_of(requirement: str) -> str:
    name = re.match(r"[\w-]+", requirement)[0]
    return MODULES.get(name, name)


def missing(*extras: str) -> list[str]:
    """Return what pip has to install: what can't be imported, and coverage if old."""
    setup = runpy.run_path(str(CHECKOUT / "setup.py"), run_name="requirements")
    requirements = [*setup["RUN_REQUIRES"], *extras]
    needed = [
        requirement
        for requirement in requirements
        if not is_importable(module_of(requirement))
    ]
    # numba imports coverage where it finds it, and fails with Debian's 6.5.
    if (major_version("coverage") or 7) < 7:
        needed.append("coverage>=7")
    return needed


def constraints() -> list[str]:
    """Return pip constraints that keep what DIALS stands on at its version."""
    versions = {name: installed_version(name) for name in KEEP_AS_IS}
    return [f"{name}=={version}" for name, version in versions.items() if version]


def torch_is_at_odds() -> bool:
    """Tell whether torch's wish for setuptools>=77 would change DIALS's setuptools.

    torch needs setuptools only to compile; DIALS 3.12 needs an old one to run.
    """
    return (major_version("setuptools") or 77) < 77


def torch_needs() -> list[str]:
    """Return what the installed torch requires, without setuptools."""
    import pkg_resources  # there whenever setuptools is that old

    torch = pkg_resources.get_distribution("torch")
    return [str(need) for need in torch.requires() if need.key != "setuptools"]


def state() -> str:
    """Return a fingerprint of the checkout's sources and of what is installed."""
    digest = hashlib.sha256(sys.executable.encode())
    sources = [CHECKOUT / "setup.py", CHECKOUT / "pyproject.toml"]
    for folder in ("dials_cnn_screen", "command_line", "format_classes", "phil"):
        sources += (CHECKOUT / folder).rglob("*")
    for file in sorted(sources):
        if file.is_file() and "__pycache__" not in file.parts:
            digest.update(f"{file.relative_to(CHECKOUT)}\n".encode())
            digest.update(file.read_bytes())
    # RECORD has a checksum of every installed file, so an installation from another
    # checkout is noticed too.
    try:
        package = importlib.metadata.distribution("dials_cnn_screen")
        digest.update((package.read_text("RECORD") or "").encode())
    except importlib.metadata.PackageNotFoundError:
        pass
    return digest.hexdigest()


def is_externally_managed() -> bool:
    """Tell whether pip refuses to install here unless told twice (PEP 668)."""
    marker = Path(sysconfig.get_path("stdlib")) / "EXTERNALLY-MANAGED"
    return sys.prefix == sys.base_prefix and marker.exists()


QUESTIONS = {
    "missing": missing,
    "constraints": constraints,
    "torch_is_at_odds": torch_is_at_odds,
    "torch_needs": torch_needs,
    "state": state,
    "is_externally_managed": is_externally_managed,
    "can_build": lambda: is_importable("setuptools") and is_importable("wheel"),
}

if __name__ == "__main__":
    answer = QUESTIONS[sys.argv[1]](*sys.argv[2:])
    if isinstance(answer, bool):
        sys.exit(0 if answer else 1)
    for line in [answer] if isinstance(answer, str) else answer:
        print(line)
