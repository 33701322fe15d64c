"""Run by libtbx.configure and libtbx.refresh: tells a cctbx build of this package.

libtbx itself makes a dispatcher for every program in command_line. The annotation tool
goes into the viewer of the build's own DIALS.
"""

from __future__ import annotations

import os
import runpy
import sys
from pathlib import Path

import libtbx.load_env
import libtbx.pkg_utils

# This text is exec'ed by libtbx, which sets no __file__.
_checkout = libtbx.env.dist_path("dials_cnn_screen")
_setup = runpy.run_path(os.path.join(_checkout, "setup.py"), run_name="libtbx_refresh")

libtbx.pkg_utils.define_entry_points(
    {"dxtbx.format": _setup["ENTRY_POINTS"]["dxtbx.format"]},
    # Or setuptools would look for packages in the build's lib folder.
    packages=[],
)

sys.path.insert(0, _checkout)
from dials_cnn_screen.viewer.install import install  # noqa: E402

_dials = libtbx.env.dist_path("dials", default=None)
# The package is in src since DIALS 3.17; before, and where it is installed, it is this.
for _package in ("src/dials", ".") if _dials else ():
    _folder = Path(_dials, _package, "util/image_viewer/slip_viewer")
    if _folder.is_dir():
        try:
            print("Annotation tool of dials.image_viewer:", install(_folder))
        except OSError as _problem:
            print("No annotation tool in dials.image_viewer:", _problem)
