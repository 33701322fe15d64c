"""Images classified as they come: from a folder, a file that grows, a stream."""

from __future__ import annotations
