"""Simulated serial-crystallography shots with known spots, by numpy and torch."""
