"""The arithmetic of preprocessing made fast, one module for each device."""
