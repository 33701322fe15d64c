"""Names inside DIALS and dxtbx that docs/dials.md lists, for an upgrade of DIALS."""

from __future__ import annotations

import importlib
import inspect
import re
from pathlib import Path

import pytest

pytest.importorskip("dials")

PAGE = Path(__file__).resolve().parents[1] / "docs" / "dials.md"
ROWS = re.findall(r"^\| `([\w/]+\.py)` \| (.+) \|$", PAGE.read_text(), re.MULTILINE)
NAMES = [name for _, names in ROWS for name in re.findall(r"`([\w.]+:[\w.]+)`", names)]


@pytest.mark.parametrize("name", NAMES)
def test_name_is_there(name):
    module, _, path = name.partition(":")
    if "image_viewer" in module:
        pytest.importorskip("wx")
    found = importlib.import_module(module)
    *scopes, last = path.split(".")
    for scope in scopes:
        found = getattr(found, scope)
    if not hasattr(found, last):  # set by the methods
        sources = [inspect.getsource(c) for c in found.__mro__[:-1] if is_python(c)]
        is_set = re.compile(rf"\b(self|cls|Class)\.{last} =")
        assert any(map(is_set.search, sources))


def is_python(of: type) -> bool:
    try:
        inspect.getsource(of)
    except (TypeError, OSError):
        return False
    return True


@pytest.mark.parametrize(("user", "names"), ROWS)
def test_name_is_used_where_the_page_says(user, names):
    source = (PAGE.parents[1] / "dials_cnn_screen" / user).read_text()
    for name in re.findall(r"`[\w.]+:([\w.]+)`", names):
        assert re.search(rf"\b{name.split('.')[-1]}\b", source), name
