"""Text from the bus or from a file's name, made safe for a terminal."""

from __future__ import annotations


def plain(text: str) -> str:
    """`text` with every character that isn't printable as U+FFFD: no escape sequence reaches the terminal."""
    return "".join(char if char.isprintable() else "�" for char in text)
