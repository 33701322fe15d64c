"""Screen serial-crystallography stills as Hit, Maybe or Miss with a neural network."""

from __future__ import annotations

from pathlib import Path

__version__ = "0.1.0"

# In a libtbx build the checkout itself is on PYTHONPATH and nothing is installed: the
# top-level folders command_line, phil and format_classes then stand beside this
# package, and are found through its path.
_checkout = Path(__file__).resolve().parent.parent
if (_checkout / "libtbx_refresh.py").is_file():
    __path__.append(str(_checkout))
