"""What an exception says, in one line of bounded length."""

from __future__ import annotations

# Characters, by hand. Errors may quote a file's content, however long it is.
_LONGEST = 300
# Of what a program says in the end: more than one file may be named.
LONGEST_MESSAGE = 1000

# These say little without their names.
_NAMED = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    EOFError,
    LookupError,
    MemoryError,
    TypeError,
)


def one_line(error: BaseException) -> str:
    """What an exception says, in one line of bounded length."""
    text = shorten(plain_text(error))
    name = type(error).__name__
    if text and isinstance(error, _NAMED):
        return f"{name}: {text}"
    return text or name


def plain_text(error: BaseException) -> str:
    """What an exception says; of the system's errors without their number."""
    text = str(error)
    if isinstance(error, OSError) and error.strerror:
        return text.removeprefix(f"[Errno {error.errno}] ")
    return text


def shorten(text: str, longest: int = _LONGEST) -> str:
    """The text in one line of so many characters at most."""
    line = " ".join(text.split())
    return line if len(line) <= longest else f"{line[: longest - 4]} ..."
