"""The packages on Twisted whose own tests ``make conformance-more`` runs, their versions, and what their tests need."""

from __future__ import annotations

from dataclasses import dataclass, field

__all__ = ["PACKAGES", "Package"]


@dataclass(frozen=True)
class Package:
    """
    A package, and how its tests are run.

    - `requirement`: the package and its version. `needs`: the imports of its tests, at exact versions; the versions of
      common imports are in ``requirements/conformance.txt``.
    - `loose`: packages that it needs in other versions than those.
    - `modules`: the modules of its tests.
    - `from_source`: its tests are in its source distribution, and not in its wheel.
    - `program`: a program that must be installed on this machine; it serves on a port of its own while the tests run.
    - `environment`: variables for its tests.
    """

    requirement: str
    modules: tuple[str, ...]
    needs: tuple[str, ...] = ()
    loose: tuple[str, ...] = ()
    from_source: bool = False
    program: str = ""
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Return the name of the package, without its version."""
        return self.requirement.partition("==")[0]


PACKAGES = (
    Package("treq==26.7.0", ("treq.test",), needs=("httpbin==0.10.2", "greenlet==2.0.2"), loose=("greenlet",)),
    Package("klein==24.8.0", ("klein.test",), needs=("treq==26.7.0",)),
    Package("foolscap==24.9.0", ("foolscap.test",), needs=("txtorcon==26.6.0", "txi2p-tahoe==0.3.7", "parsley==1.3")),
    Package(
        "autobahn==26.10.2",
        ("autobahn.twisted.test", "autobahn.websocket.test"),
        needs=("base58==2.1.1", "ecdsa==0.19.2"),
        environment={"USE_TWISTED": "1"},
    ),
    Package("txredisapi==1.6.0", ("tests",), from_source=True, program="redis-server"),
    Package("magic-wormhole-transit-relay==0.5.0", ("wormhole_transit_relay.test",)),
)
