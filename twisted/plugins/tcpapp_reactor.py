"""Tells twistd and twist that there is a reactor named `uvloop`. It is imported when it is asked for, not here."""

from twisted.application.reactors import Reactor

uvloop = Reactor("uvloop", "tcpapp.reactor", "TCP and UNIX connections on uvloop's own transports.")
