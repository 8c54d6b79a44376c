"""The documents keep up with the command line."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from pneumod import RESEARCH_ONLY
from pneumod.cli import build_parser

ROOT = Path(__file__).parents[1]


def commands() -> dict[str, argparse.ArgumentParser]:
    (choices,) = [a.choices for a in build_parser()._actions if isinstance(a, argparse._SubParsersAction)]
    return dict(choices)


@pytest.mark.parametrize("name", commands())
def test_a_command_is_in_the_readme(name: str) -> None:
    assert f"pneumod {name}" in (ROOT / "README.md").read_text()


@pytest.mark.parametrize("name", commands())
def test_a_command_and_its_options_are_described(name: str) -> None:
    parser = commands()[name]
    assert parser.description
    assert parser.epilog == RESEARCH_ONLY
    assert [a.dest for a in parser._actions if not a.help] == []


@pytest.mark.parametrize("target", ["demo", "test"])
def test_the_readme_names_the_two_ways_in(target: str) -> None:
    assert f"make {target}" in (ROOT / "README.md").read_text()
    assert f"\n{target}:" in (ROOT / "Makefile").read_text()
