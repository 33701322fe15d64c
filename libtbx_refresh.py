"""Run by libtbx.configure and libtbx.refresh: tells a cctbx build of this package.

libtbx itself makes a dispatcher for every program in command_line.
"""

from __future__ import annotations

import os
import runpy

import libtbx.load_env
import libtbx.pkg_utils

# This text is exec'ed by libtbx, which sets no __file__.
_setup = runpy.run_path(
    os.path.join(libtbx.env.dist_path("dials_cnn_screen"), "setup.py"),
    run_name="libtbx_refresh",
)

libtbx.pkg_utils.define_entry_points(
    {"dxtbx.format": _setup["ENTRY_POINTS"]["dxtbx.format"]},
    # Or setuptools would look for packages in the build's lib folder.
    packages=[],
)
