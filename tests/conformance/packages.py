"""The packages on Twisted whose own tests ``make conformance-more`` runs, at which versions, and with what."""

from __future__ import annotations

from dataclasses import dataclass, field

__all__ = ["PACKAGES", "Package"]


@dataclass(frozen=True)
class Package:
    """
    A package, and how its tests are run.

    - `requirement`: the package and its version. `needs`: what its tests import, at exact versions; what all of them
      import, they take the versions of ``requirements/conformance.txt`` of.
    - `loose`: what the package needs in other versions than those.
    - `modules`: what holds its tests.
    - `from_source`: its tests are in its source distribution, and not in its wheel.
    - `program`: what has to be installed on this machine; it serves on a port of its own while the tests run.
    - `environment`: variables its tests look at.
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
        """Its name, without its version."""
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
