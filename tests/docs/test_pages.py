"""
Every page of the documentation is followed to its end: files are written, commands run, and their output is compared.
"""

from __future__ import annotations

import inspect
import json
import re
import shlex
import socket
from pathlib import Path

import pytest

import tcpapp
from tcpapp import framing, testing
from tcpapp.framing import Framing
from tcpapp.testing import simulation
from tcpapp.testing.contract import CHECKS, name_of
from tests.documents import Reader, Served, blocks_of, programs_of
from tests.environments import ROOT
from tests.patience import PATIENCE

pytestmark = pytest.mark.once

DOCS = ROOT / "docs"
PAGES = sorted(path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md") if "_build" not in path.parts)
TUTORIAL = "tutorial/test-first.md"
"""The tutorial has a test of its own, since it needs an environment to install into."""


@pytest.mark.parametrize("page", [page for page in PAGES if page != TUTORIAL])
def test_every_page_can_be_followed(page: str, tmp_path: Path) -> None:
    """
    Each page can be followed from top to end: its files are written, its commands run, and their output is as shown.
    """
    Reader(tmp_path).follow((DOCS / page).read_text(encoding="utf-8"))


def test_the_command_of_the_dockerfile_serves_and_drains_on_sigterm(tmp_path: Path) -> None:
    """
    The command in the Dockerfile serves the README's app, ends on SIGTERM with exit code 0, and leaves no pid file.
    """
    (dockerfile,) = [
        block.code
        for block in blocks_of((DOCS / "how-to" / "run-in-a-container.md").read_text(encoding="utf-8"))
        if block.language == "dockerfile"
    ]
    (form,) = re.findall(r"^CMD (.*)$", dockerfile, re.MULTILINE)
    command = json.loads(form)
    assert command[-2:] == ["--listen", "tcp:7007"]
    command[-1] = "tcp:0:interface=127.0.0.1"
    (tmp_path / "mine.py").write_text(programs_of((ROOT / "README.md").read_text(encoding="utf-8"))["mine.py"])
    served = Served(shlex.join(command), tmp_path, Reader(tmp_path).environ)
    try:
        with socket.create_connection(("127.0.0.1", int(served.port)), PATIENCE) as peer:
            peer.sendall(b"hello\n")
            with peer.makefile("rb") as came:
                assert came.readline() == b"HELLO\n"
    finally:
        code = served.stop()
    assert code == 0
    assert sorted(each.name for each in tmp_path.iterdir() if each.name != "__pycache__") == ["mine.py"]


@pytest.mark.parametrize("page", PAGES)
def test_the_reader_knows_every_block_of_a_page(page: str) -> None:
    """Every fence on a page is a block that the reader of the tests knows, or a Sphinx directive in braces."""
    text = (DOCS / page).read_text(encoding="utf-8")
    fences = re.findall(r"^ *```+(?!\s*$)(.*)$", text, re.MULTILINE)
    assert [each for each in fences if not each.startswith("{")] == [each.language for each in blocks_of(text)]


@pytest.mark.parametrize("page", PAGES)
def test_a_page_has_a_place_in_the_tree(page: str) -> None:
    """Every page is listed in a `toctree`, since Sphinx warns about a page that no other page leads to."""
    trees = [DOCS / "index.md", DOCS / "reference" / "index.md"]
    listed = {
        (tree.parent / line).relative_to(DOCS).as_posix() + ".md"
        for tree in trees
        for block in re.findall(r"```\{toctree\}\n(.*?)```", tree.read_text(encoding="utf-8"), re.DOTALL)
        for line in block.splitlines()
        if line and not line.startswith(":")
    }
    assert page in listed | {"index.md"}


def test_the_modules_on_the_page_of_the_connection_exist() -> None:
    """Each module that the page about the inside of a connection names exists in `tcpapp/connection`."""
    page = (DOCS / "explanation" / "inside-a-connection.md").read_text(encoding="utf-8")
    named = re.findall(r"`(\w+\.py)`", page)
    assert [name for name in named if not (ROOT / "tcpapp" / "connection" / name).exists()] == []
    assert len(set(named)) > 10


def test_every_check_of_the_contract_is_on_its_page() -> None:
    """The page of the contract lists all its checks in their order."""
    page = (DOCS / "reference" / "testing" / "contract.md").read_text(encoding="utf-8")
    assert re.findall(r"\.(\w+)\(carrier\)$", page, re.MULTILINE) == [name_of(check) for check in CHECKS]


def test_every_framing_is_on_its_page() -> None:
    """The page of the framings documents each public name of `tcpapp.framing` but `SPECS`."""
    page = (DOCS / "reference" / "framing.md").read_text(encoding="utf-8")
    named = set(re.findall(r"^\.\. auto(?!method)\w+:: (?:[\w.]+\.)?(\w+)$", page, re.MULTILINE))
    helpers = {"whole", "marker", "quoted", "refuse_type"}
    assert named - {"framing", "state"} - helpers == set(framing.__all__) - {"SPECS"}


def test_the_methods_for_a_framing_of_the_user_are_on_its_page() -> None:
    """The page lists every method of `Framing` that a user's framing calls, and each method has a docstring."""
    page = (DOCS / "reference" / "framing.md").read_text(encoding="utf-8")
    methods = re.findall(r"^\.\. automethod:: Framing\.(\w+)$", page, re.MULTILINE)
    private = {name for name, each in vars(Framing).items() if re.match("_[a-z]", name) and inspect.isfunction(each)}
    assert set(methods) == private - {"_options", "_spec"}
    assert [name for name in methods if not getattr(Framing, name).__doc__] == []


def test_every_public_name_of_the_toolkit_and_of_the_simulation_is_on_a_page() -> None:
    """Each public name of `tcpapp` and of the simulation is documented on a page, by itself or with its module."""
    pages = "\n".join((DOCS / page).read_text(encoding="utf-8") for page in PAGES)
    named = set(re.findall(r"^\.\. auto\w+:: (?:[\w.]+\.)?(\w+)$", pages, re.MULTILINE))
    indirectly = {"CloseReason", "EndedBy", "Reply", "Telemetry", "batch", "conversation"}  # by their modules
    assert set(tcpapp.__all__) | set(simulation.__all__) <= named | indirectly


def test_servers_have_the_methods_in_the_table_of_their_page() -> None:
    """
    `Listening`, the service and the factory have the methods that the table says, with the same arguments.

    A dash in the table stands where a class has no such method.
    """
    page = (DOCS / "how-to" / "operate.md").read_text(encoding="utf-8")
    table = page.partition("| method |")[2].partition("\n\n")[0].splitlines()
    kinds = [getattr(tcpapp, name) for name in re.findall(r"`(\w+)`", table[0])]
    assert kinds == [tcpapp.Listening, tcpapp.MessageService, tcpapp.MessageServerFactory]
    seen = []
    for row in table[2:]:
        verbs, *cells = (each.strip() for each in row.strip("|").split("|"))
        for verb, told in re.findall(r"`(\w+)\(([^)]*)\)`", verbs):
            seen.append(verb)
            having = [kind for kind, cell in zip(kinds, cells, strict=True) if cell != "–"]
            assert having == [kind for kind in kinds if hasattr(kind, verb)]
            for kind in having if "=" not in told else ():
                takes = [name for name in inspect.signature(getattr(kind, verb)).parameters if name != "self"]
                assert [each for each in told.split(", ") if each] == takes[: len(told.split(", ")) if told else 0]
    assert seen == ["info", "change", "suspend", "resume", "drain", "wait_for"]


def test_every_module_of_the_kit_has_a_page() -> None:
    """Each module in the list of `tcpapp.testing` is documented on a page."""
    pages = "\n".join((DOCS / page).read_text(encoding="utf-8") for page in PAGES)
    listed = re.findall(r"^`(\w+)`  +", str(testing.__doc__), re.MULTILINE)
    assert [name for name in listed if f".. automodule:: tcpapp.testing.{name}\n" not in pages] == []
