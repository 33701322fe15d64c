"""Simulated serial-crystallography stills whose Bragg spots are known."""
