"""Tells twistd that there is a `tcpapp` command. twistd imports this file for every command, so it imports nothing."""

from twisted.application.service import ServiceMaker

tcpapp = ServiceMaker("tcpapp", "tcpapp.plugin", "Serve messages over TCP with an app of yours.", "tcpapp")
