"""The locked packages of `.venv`: requirements/ has a version and hashes of each package that setup.cfg asks for."""

from __future__ import annotations

import re
from collections.abc import Iterator
from configparser import ConfigParser
from functools import cache
from itertools import product
from pathlib import Path
from typing import NamedTuple

import pytest
from packaging.markers import Marker
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

pytestmark = pytest.mark.once

ROOT = Path(__file__).resolve().parent.parent
SETS = sorted(path.stem for path in (ROOT / "requirements").glob("*.txt"))
RENEW = "run `make lock`"

PLATFORMS = (("linux", "Linux", "posix"), ("darwin", "Darwin", "posix"))
ENVIRONMENTS = [
    {
        "python_version": f"3.{minor}",
        "python_full_version": f"3.{minor}.1",
        "implementation_name": "cpython",
        "platform_python_implementation": "CPython",
        "sys_platform": sys_platform,
        "platform_system": system,
        "os_name": os_name,
        "extra": "",
    }
    for minor, (sys_platform, system, os_name) in product(range(10, 15), PLATFORMS)
]
"""Each Python from 3.10 to 3.14, on each system that tcpapp supports."""


class Locked(NamedTuple):
    """An entry of a lock file."""

    name: str
    version: str
    marker: Marker | None
    hashes: tuple[str, ...]


def entries(text: str) -> Iterator[Locked]:
    """Give the entries of a lock file, and check that it has no other lines but comments."""
    for entry in re.sub(r"^ *#.*\n", "", text, flags=re.MULTILINE).replace(" \\\n", " ").splitlines():
        found = re.fullmatch(r"([a-z0-9-]+)==([^ ;]+)(?: ; (.+?))?((?: +--hash=sha256:[0-9a-f]{64})+)", entry)
        assert found, f"{entry!r} is not a name, a version and hashes; {RENEW}"
        yield Locked(found[1], found[2], Marker(found[3]) if found[3] else None, tuple(found[4].split()))


@cache
def locked(name: str) -> list[Locked]:
    """Return the entries of this lock file."""
    return list(entries((ROOT / "requirements" / f"{name}.txt").read_text(encoding="utf-8")))


def asked(config: ConfigParser, extra: str) -> set[str]:
    """Return the requirements of setup.cfg with this extra, and with the extras that this extra includes."""
    lines = f"{config['options']['install_requires']}\n{config['options.extras_require'][extra]}".splitlines()
    found = {line for line in lines if line and not line.startswith("#")}
    own = [line for line in found if Requirement(line).name == "tcpapp"]
    more = [asked(config, each) for line in own for each in Requirement(line).extras]
    return (found - {*own}).union(*more)


def missing(wanted: set[str], entries: list[Locked], name: str) -> list[str]:
    """Return a line for each requirement that the entries do not satisfy, on any Python and system."""
    faults = set()
    for text, environment in product(sorted(wanted), ENVIRONMENTS):
        requirement = Requirement(text)
        if requirement.marker and not requirement.marker.evaluate(environment):
            continue
        found = [
            each.version
            for each in entries
            if each.name == canonicalize_name(requirement.name)
            and (each.marker is None or each.marker.evaluate(environment))
        ]
        if len(found) != 1 or not requirement.specifier.contains(found[0]):
            faults.add(f"setup.cfg asks for {text}, and requirements/{name}.txt has {found[0] if found else 'none'}")
    return [f"{fault}; {RENEW}" for fault in sorted(faults)]


@pytest.fixture
def config() -> ConfigParser:
    """Give setup.cfg."""
    parser = ConfigParser()
    parser.read(ROOT / "setup.cfg", encoding="utf-8")
    return parser


@pytest.mark.parametrize("name", SETS)
def test_each_requirement_of_setup_cfg_is_locked(name: str, config: ConfigParser) -> None:
    """Each requirement has one entry in its range for each Python and system, also the build backend."""
    wanted = asked(config, name)
    assert {Requirement(each).name for each in wanted} >= {"setuptools", "twisted"}
    assert missing(wanted, locked(name), name) == []


def test_the_build_backend_is_in_range() -> None:
    """What builds the package is locked in the range of pyproject.toml, so an installation fetches no more for that."""
    [texts] = re.findall(r"^requires = \[(.*)\]$", (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    wanted = set(re.findall(r'"(.+?)"', texts))
    assert {text.partition(">")[0] for text in wanted} == {"setuptools", "cython"}
    assert [missing(wanted, locked(name), name) for name in SETS] == [[]] * len(SETS)


def test_every_set_that_make_installs_is_locked() -> None:
    """Each set of packages in the Makefile has its lock file, and there is no other lock file."""
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    [sets] = re.findall(r"^SETS := (.*)$", makefile, re.MULTILINE)
    assert sorted(sets.split()) == SETS


def test_all_sets_have_one_version_of_a_package() -> None:
    """A package has the same version in all lock files, which are installed into one environment."""
    versions: dict[tuple[str, int], set[str]] = {}
    for name, (number, environment) in product(SETS, enumerate(ENVIRONMENTS)):
        for each in locked(name):
            if each.marker is None or each.marker.evaluate(environment):
                versions.setdefault((each.name, number), set()).add(each.version)
    assert [where for where, found in versions.items() if len(found) > 1] == []


@pytest.mark.parametrize("name", SETS)
def test_a_lock_file_holds_for_every_machine(name: str) -> None:
    """A lock file has no index, no path of a machine, and no option of pip but hashes."""
    text = (ROOT / "requirements" / f"{name}.txt").read_text(encoding="utf-8")
    assert [line for line in text.splitlines() if re.search(r"://|(^|[\s='])[./~]+/|^ *-(?!-hash=)", line)] == []


CONFIG = """
[options]
install_requires =
    twisted>=26.4
[options.extras_require]
small =
    attrs; python_version < "3.12"
all =
    tcpapp[small]
    uvloop>=0.21,<1
"""


@pytest.mark.parametrize(
    ("lock", "says"),
    [
        ("twisted==26.10.0 {0}\nattrs==21.1 ; python_full_version < '3.12' {0}\nuvloop==0.22 {0}\n", []),
        (
            "twisted==26.3.0 {0}\nattrs==21.1 {0}\nuvloop==0.22 {0}\n",
            ["setup.cfg asks for twisted>=26.4, and requirements/all.txt has 26.3.0; run `make lock`"],
        ),
        (
            "twisted==26.4 {0}\nattrs==21.1 ; python_full_version < '3.11' {0}\nuvloop==0.22 {0}\n",
            ['setup.cfg asks for attrs; python_version < "3.12", and requirements/all.txt has none; run `make lock`'],
        ),
    ],
    ids=["all is there", "out of range", "not on each Python"],
)
def test_a_changed_range_is_reported(lock: str, says: list[str]) -> None:
    """A requirement that the lock file does not satisfy is reported in one line, with the command that fixes it."""
    config = ConfigParser()
    config.read_string(CONFIG)
    found = list(entries(lock.format(f"\\\n    --hash=sha256:{'0' * 64}\n    # via tcpapp (setup.cfg)")))
    assert missing(asked(config, "all"), found, "all") == says


@pytest.mark.parametrize("line", ["twisted==26.4", "twisted>=26.4 --hash=sha256:0", "--index-url x", "-e ."])
def test_a_line_without_version_or_hash_is_reported(line: str) -> None:
    """A line of a lock file without an exact version or a hash is reported."""
    with pytest.raises(AssertionError, match="is not a name, a version and hashes; run `make lock`"):
        list(entries(line))
