"""The programs: each parses its parameters, calls the package, writes files."""
