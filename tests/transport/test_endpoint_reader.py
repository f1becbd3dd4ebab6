"""Which endpoint strings are refused with which error, and how a string is split into values."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet import endpoints
from twisted.internet.interfaces import IStreamClientEndpoint, IStreamServerEndpoint
from twisted.internet.protocol import Factory
from twisted.internet.testing import MemoryReactorClock

from tcpapp.errors import InvalidAddress
from tcpapp.transport import endpoint_reader
from tcpapp.transport.endpoint_strings import client_endpoint, server_endpoint

if TYPE_CHECKING:
    from collections.abc import Callable

LONG = "a" * 63
WIDE = "\uff18\uff10"
"""The number 80 in full-width digits, which `int` accepts."""
LONGEST = 107 if sys.platform == "linux" else 103
PORT = "it takes a number from 0 (any free port) to 65535, as in tcp:7007:interface=127.0.0.1"
IP = r"it takes an IP address (IPv6: \:\:1), or nothing for all, as in tcp:7007:interface=127.0.0.1"
KINDS = "is no kind of endpoint; there are haproxy, ssl, stdio, systemd, tcp, tcp6, tls, unix"
HOST = r"it takes an IP address (IPv6: \:\:1, no brackets) or a host name (RFC 1123; not ending in a number)"
CLIENT_PORT = "it takes a number from 1 to 65535, as in tcp:localhost:7007"
CLIENT_KINDS = "is no kind of endpoint; there are ssl, tcp, tls, unix"


def shown(value: object) -> str:
    """Return the text of a parameter for the name of its test."""
    text = ascii(value)
    return text if len(text) < 100 else f"{text[:20]} and {len(text)} in all"


def refusal(make: Callable[[Any, Any], object], endpoint: object) -> str:
    """Return the error for an invalid endpoint, and check that nothing was opened for it."""
    reactor = MemoryReactorClock()
    with pytest.raises(InvalidAddress) as caught:
        make(reactor, endpoint)
    assert (reactor.tcpServers, reactor.tcpClients, reactor.unixServers, reactor.unixClients) == ([], [], [], [])
    text = str(caught.value)
    assert text.startswith(f"{endpoint!r}: ")
    return text.removeprefix(f"{endpoint!r}: ")


@pytest.mark.parametrize(
    ("endpoint", "says"),
    [
        # a part is missing
        ("tcp", "has no port; write it as in tcp:7007:interface=127.0.0.1"),
        ("tcp:", "has no port; write it as in tcp:7007:interface=127.0.0.1"),
        ("tcp:interface=127.0.0.1", "has no port"),
        ("unix:", "has no address; write it as in unix:/run/app.sock:mode=660"),
        ("tls:", "has no port; write it as in tls:7007:certificate=cert.pem:privateKey=key.pem"),
        ("tls:7007", "it takes a certificate=, or a path= of a directory of them"),
        ("tls:7007:minimum=1.1", "minimum is '1.1'; it takes 1.2 or 1.3"),
        ("tls:7007:clients=must", "clients is 'must'; it takes required or wished"),
        ("tls:7007:alpn=h2 http", "alpn is 'h2 http'; it takes names of protocols, such as h2,http/1.1"),
        ("tls:7007:watch=often", "watch is 'often'; it takes a whole number of seconds (0: never)"),
        ("systemd:", "it takes the name= (FileDescriptorName=) of a socket or its index=, as systemd:name=app"),
        ("systemd:INET", "it takes the name= (FileDescriptorName=) of a socket or its index="),
        ("systemd:INET:index=0:name=app", "it takes the name= (FileDescriptorName=) of a socket or its index="),
        # ports
        ("tcp::", f"port is ''; {PORT}"),
        ("tcp: 80", f"port is ' 80'; {PORT}"),
        ("tcp:80 ", f"port is '80 '; {PORT}"),
        ("tcp:80\n", f"port is '80\\n'; {PORT}"),
        ("tcp:+80", f"port is '+80'; {PORT}"),
        ("tcp:-1", f"port is '-1'; {PORT}"),
        ("tcp:8_0", f"port is '8_0'; {PORT}"),
        (f"tcp:{WIDE}", f"port is '{WIDE}'; {PORT}"),
        ("tcp:65536", f"port is '65536'; {PORT}"),
        ("tcp:99999", f"port is '99999'; {PORT}"),
        ("tcp:" + "9" * 5000, PORT),
        ("tcp:localhost:7007", f"port is 'localhost'; {PORT}"),
        ("tcp6:http", "port is 'http'; it takes a number from 0"),
        ("ssl:http", "port is 'http'; it takes a number from 0"),
        ("tls:/:http", "port is 'http'; it takes a number from 0"),
        ("haproxy:tcp:99999", f"port is '99999'; {PORT}"),
        # interfaces
        ("tcp:80:interface=localhost", f"interface is 'localhost'; {IP}"),
        ("tcp:80:interface=999.1.1.1", f"interface is '999.1.1.1'; {IP}"),
        ("tcp:80:interface=1.2.3", f"interface is '1.2.3'; {IP}"),
        ("tcp:80:interface=*", f"interface is '*'; {IP}"),
        (r"tcp:80:interface=[\:\:1]", f"interface is '[::1]'; {IP}"),
        (
            r"tcp:80:interface=fe80\:\:1",
            r"interface is 'fe80::1', which every interface can have; write which one: fe80\:\:1%eth0",
        ),
        (r"tcp:80:interface=\:\:1%a b", f"interface is '::1%a b'; {IP}"),
        (
            "tcp:80:interface=::1",
            r"tcp has no place for '1'; a : inside a value is written \:, and all of it as in tcp:7007",
        ),
        # other values
        ("tcp:80:backlog=x", "backlog is 'x'; it takes a whole number"),
        (f"tcp:80:backlog={2**31}", "backlog is '2147483648'; it takes a whole number"),
        ("unix:/a:mode=rw", "mode is 'rw'; it takes permissions in octal, such as 660"),
        ("unix:/a:mode=888", "mode is '888'; it takes permissions in octal"),
        ("unix:/a:lockfile=yes", "lockfile is 'yes'; it takes 0 or 1"),
        ("unix::mode=660", f"address is ''; it takes a path of 1 to {LONGEST} bytes, no NUL among them"),
        ("unix:@", "address is '@'; it takes a path of 1 to"),
        ("unix:@app:mode=660", "an abstract socket has no mode: it is no file; a file of that name is ./@name"),
        ("unix:@app:lockfile=0", "an abstract socket has no lockfile"),
        ("unix:/a\0b", "address is '/a\\x00b'; it takes a path"),
        ("unix:\0", "address is '\\x00'; it takes a path"),
        ("unix:\ud800", "address is '\\ud800'; it takes a path"),
        ("unix:" + "a" * (LONGEST + 1), f"it takes a path of 1 to {LONGEST} bytes"),
        ("unix:" + "å" * 60, f"it takes a path of 1 to {LONGEST} bytes"),
        ("systemd:IPX:index=0", "domain is 'IPX'; it takes INET, INET6 or UNIX"),
        ("systemd:INET:index=first", "index is 'first'; it takes a whole number"),
        ("systemd:INET:name=", "name is ''; it takes a name"),
        # names
        (
            "tcp:80:interfce=127.0.0.1",
            "tcp has no 'interfce'; it takes port, interface, backlog; did you mean 'interface'?",
        ),
        ("tcp:80:colour=red", "tcp has no 'colour'; it takes port, interface, backlog"),
        ("stdio:a=b", "stdio has no 'a'; it takes nothing"),
        ("tcp:80:interface=:interface=", "interface= is given twice; give it once, as in tcp:7007"),
        ("tcp:80::50:more", "tcp has no place for 'more'"),
        ("stdio:x", "stdio has no place for 'x'"),
        # kinds
        ("", f"'' {KINDS}; write tcp:7007"),
        (":", f"'' {KINDS}; write tcp:7007"),
        ("=", f"'=' {KINDS}; write tcp:7007"),
        ("haproxy", f"'' {KINDS}; write tcp:7007"),
        ("tpc:7007", f"'tpc' {KINDS}; did you mean 'tcp'?"),
        ("tcp4:7007", f"'tcp4' {KINDS}; did you mean 'tcp'?"),
        ("unx:/run/app.sock", f"'unx' {KINDS}; did you mean 'unix'?"),
        ("7007", f"'7007' {KINDS}; write tcp:7007"),
        (":8000", f"'' {KINDS}; write tcp:8000"),
        ("*:8000", f"'*' {KINDS}; write tcp:8000"),
        ("localhost:8000", f"'localhost' {KINDS}; write tcp:8000:interface=127.0.0.1"),
        ("127.0.0.1:8000", f"'127.0.0.1' {KINDS}; write tcp:8000:interface=127.0.0.1"),
        ("[::1]:8000", rf"'[' {KINDS}; write tcp:8000:interface=\:\:1"),
        ("::1:8000", rf"'' {KINDS}; write tcp:8000:interface=\:\:1"),
        ("example.com", f"'example.com' {KINDS}; write tcp:7007"),
        # escapes
        ("tcp:80\\", r"ends in a lone \; a \ is written \\ and a : inside a value \:"),
        # no string
        (7007, "takes a string such as tcp:7007:interface=127.0.0.1, or an IStreamServerEndpoint"),
        (b"tcp:7007", "takes a string such as"),
        (None, "takes a string such as"),
        (("localhost", 7007), "takes a string such as"),
    ],
    ids=shown,
)
def test_an_invalid_endpoint_of_a_server_is_refused(endpoint: object, says: str) -> None:
    """An invalid endpoint of a server raises InvalidAddress, which quotes it whole, before anything is opened."""
    assert says in refusal(server_endpoint, endpoint)


@pytest.mark.usefixtures("in_certificates")
@pytest.mark.parametrize(
    ("endpoint", "says"),
    [
        ("ssl:7007", "(FileNotFoundError: "),
        (
            "ssl:7007:privateKey=junk.pem",
            "it takes a certificate and the private key to it, in PEM, as in ssl:7007:privateKey",
        ),
        ("ssl:7007:privateKey=cert.pem", "it takes a certificate and the private key to it, in PEM"),
        (
            "ssl:7007:privateKey=other.pem:certKey=cert.pem",
            "; it takes a certificate and the private key",
        ),
        ("ssl:7007:privateKey=both.pem:sslmethod=SSLv9", "(AttributeError: "),
        (
            "ssl:7007:privateKey=both.pem:extraCertChain=junk.pem",
            "; it takes a certificate and the private key to it, in PEM",
        ),
        ("ssl:7007:privateKey=gone.pem", "privateKey is 'gone.pem'; it takes a readable file"),
        ("ssl:7007:privateKey=", "privateKey is ''; it takes a readable file"),
        ("ssl:7007:privateKey=served", "privateKey is 'served'; it takes a readable file"),
        ("ssl:7007:privateKey=\0", "privateKey is '\\x00'; it takes a readable file"),
        ("ssl:7007:privateKey=both.pem:certKey=gone.pem", "certKey is 'gone.pem'; it takes a readable file"),
        ("ssl:7007:privateKey=both.pem:dhParameters=gone.pem", "dhParameters is 'gone.pem'; it takes a readable file"),
        ("tls:gone:7007", "path is 'gone'; it takes a readable directory, as in tls:7007:certificate=cert.pem"),
        ("tls::7007", "path is ''; it takes a readable directory"),
        ("tls:both.pem:7007", "path is 'both.pem'; it takes a readable directory"),
        ("tls:served/none:7007", "path is 'served/none'; it takes a readable directory"),
        ("tls:7007:certificate=cert.pem", "cert.pem: it holds no private key in PEM"),
        ("tls:7007:certificate=cert.pem:privateKey=other.pem", "other.pem: the private key does not belong to the"),
        ("tls:7007:certificate=both.pem:clients=required", "clients= and clientRoots= go together"),
        ("haproxy:ssl:7007:privateKey=junk.pem", "junk.pem: it holds no certificate in PEM"),
        ("haproxy:ssl:7007:privateKey=both.pem:sslmethod=SSLv23_METHOD", "behind a proxy there is no sslmethod"),
    ],
    ids=shown,
)
def test_an_error_in_the_files_of_a_server_is_an_invalid_address(endpoint: str, says: str) -> None:
    """A missing file, an invalid certificate or any other error of Twisted's is an InvalidAddress with one sentence."""
    assert says in refusal(server_endpoint, endpoint)


@pytest.mark.usefixtures("in_certificates")
def test_the_error_of_twisted_is_the_cause(reactor: MemoryReactorClock) -> None:
    """The `__cause__` of the InvalidAddress is the error that Twisted raised."""
    with pytest.raises(InvalidAddress) as caught:
        server_endpoint(reactor, "ssl:7007")
    assert isinstance(caught.value.__cause__, FileNotFoundError)


@pytest.mark.usefixtures("in_certificates")
def test_a_file_without_read_permission_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A certificate that this user is not permitted to read is named in the error."""
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    says = "privateKey is 'both.pem'; it takes a readable file"
    assert says in refusal(server_endpoint, "ssl:7007:privateKey=both.pem")


@pytest.mark.parametrize(
    ("endpoint", "says"),
    [
        # a part is missing
        ("tcp", "has no host; write it as in tcp:localhost:7007"),
        ("tcp:", "has no host"),
        ("tcp:localhost", "has no port; write it as in tcp:localhost:7007"),
        ("tcp:7007", "has no port; write it as in tcp:localhost:7007"),
        ("tcp:port=7007", "has no host"),
        ("tls:localhost", "has no port; write it as in tls:localhost:7007"),
        ("unix", "has no path; write it as in unix:/run/app.sock"),
        # hosts
        ("tcp::7007", f"host is ''; {HOST}, as in tcp:localhost:7007"),
        ("tcp: :7007", f"host is ' '; {HOST}"),
        ("tcp:a b:7007", f"host is 'a b'; {HOST}"),
        ("tcp:localhost\n:7007", f"host is 'localhost\\n'; {HOST}"),
        ("tcp:local\0host:7007", f"host is 'local\\x00host'; {HOST}"),
        (r"tcp:[\:\:1]:7007", f"host is '[::1]'; {HOST}"),
        (r"tcp:\:\:\:1:7007", f"host is ':::1'; {HOST}"),
        ("tcp:999.1.1.1:7007", f"host is '999.1.1.1'; {HOST}"),
        ("tcp:1.2.3:7007", f"host is '1.2.3'; {HOST}"),
        ("tcp:127.1:7007", f"host is '127.1'; {HOST}"),
        ("tcp:1.2.3.4.5:7007", f"host is '1.2.3.4.5'; {HOST}"),
        ("tcp:1.2.3.:7007", f"host is '1.2.3.'; {HOST}"),
        ("tcp:0x7f.1:7007", f"host is '0x7f.1'; {HOST}"),
        ("tcp:a.0x1:7007", f"host is 'a.0x1'; {HOST}"),
        (f"tcp:{WIDE}.2.3:7007", f"host is '{WIDE}.2.3'; {HOST}"),
        ("tcp:a..b:7007", f"host is 'a..b'; {HOST}"),
        ("tcp:.a:7007", f"host is '.a'; {HOST}"),
        ("tcp:.:7007", f"host is '.'; {HOST}"),
        ("tcp:a@b:7007", f"host is 'a@b'; {HOST}"),
        ("tcp:a/b:7007", f"host is 'a/b'; {HOST}"),
        ("tcp:\ud800:7007", f"host is '\\ud800'; {HOST}"),
        (f"tcp:{LONG}a:7007", HOST),
        (f"tcp:{LONG}.{LONG}.{LONG}.{LONG[:62]}:7007", HOST),
        (f"tcp:{LONG}.{LONG}.{LONG}.{LONG}:7007", HOST),
        ("tcp:" + "å" * 60 + ":7007", HOST),
        ("tls:a b:7007", f"host is 'a b'; {HOST}"),
        ("ssl:a b:7007", f"host is 'a b'; {HOST}"),
        ("ssl:a:7007:hostname=a b", f"hostname is 'a b'; {HOST}"),
        (
            "tcp:::1:7007",
            r"tcp has no place for '1'; a : inside a value is written \:, and all of it as in tcp:localhost:7007",
        ),
        # ports
        ("tcp:localhost:", f"port is ''; {CLIENT_PORT}"),
        ("tcp:localhost:0", f"port is '0'; {CLIENT_PORT}"),
        ("tcp:localhost: 80", f"port is ' 80'; {CLIENT_PORT}"),
        ("tcp:localhost:+80", f"port is '+80'; {CLIENT_PORT}"),
        (f"tcp:localhost:{WIDE}", f"port is '{WIDE}'; {CLIENT_PORT}"),
        ("tcp:localhost:65536", f"port is '65536'; {CLIENT_PORT}"),
        ("tcp:localhost:http", f"port is 'http'; {CLIENT_PORT}"),
        ("tls:localhost:0", "port is '0'; it takes a number from 1 to 65535, as in tls:localhost:7007"),
        ("ssl:localhost:0", "port is '0'; it takes a number from 1 to 65535, as in ssl:localhost:7007"),
        (r"tls:localhost:7007:endpoint=tcp\:localhost\:0", f"port is '0'; {CLIENT_PORT}"),
        # other values
        ("tcp:localhost:7007:timeout=0", "timeout is '0'; it takes a whole number of seconds, 1 or more"),
        ("tcp:localhost:7007:timeout=1.5", "timeout is '1.5'; it takes a whole number of seconds"),
        ("tcp:localhost:7007:bindAddress=", r"bindAddress is ''; it takes an IP address (IPv6: \:\:1), as in"),
        (r"tcp:fe80\:\:1:7007", r"host is 'fe80::1', which every interface can have; write which one: fe80\:\:1%eth0"),
        (r"tls:localhost:7007:bindAddress=fe80\:\:1", "bindAddress is 'fe80::1', which every interface can have"),
        ("unix:@app:lockfile=1", "an abstract socket has no lockfile"),
        ("unix::timeout=1", "path is ''; it takes a path of 1 to"),
        (
            "tls:localhost:7007:trustRoots=/nowhere",
            "trustRoots is '/nowhere'; it takes a readable file, or a directory of them",
        ),
        ("tls:localhost:7007:endpoint=", "endpoint is ''; it takes a name"),
        # names
        (
            "tcp:localhost:7007:timeot=5",
            "tcp has no 'timeot'; it takes host, port, timeout, bindAddress; did you mean 'timeout'?",
        ),
        ("tcp:localhost:7007:interface=", "tcp has no 'interface'; it takes host, port, timeout, bindAddress"),
        ("tcp:localhost:7007:5", "tcp has no place for '5'"),
        ("unix:/a:/b", "unix has no place for '/b'"),
        # kinds
        ("tcp6:localhost:7007", f"'tcp6' {CLIENT_KINDS}; did you mean 'tcp'?"),
        ("haproxy:tcp:localhost:7007", f"'haproxy' {CLIENT_KINDS}; write tcp:host:port, as in tcp:localhost:7007"),
        ("localhost:8000", f"'localhost' {CLIENT_KINDS}; write tcp:host:port, as in tcp:localhost:8000"),
        ("example.com:8000", f"'example.com' {CLIENT_KINDS}; write tcp:host:port, as in tcp:example.com:8000"),
        ("127.0.0.1:8000", f"'127.0.0.1' {CLIENT_KINDS}; write tcp:host:port, as in tcp:127.0.0.1:8000"),
        ("[::1]:8000", rf"'[' {CLIENT_KINDS}; write tcp:host:port, as in tcp:\:\:1:8000"),
        (":8000", f"'' {CLIENT_KINDS}; write tcp:host:port, as in tcp:localhost:8000"),
        ("8000", f"'8000' {CLIENT_KINDS}; write tcp:host:port, as in tcp:localhost:8000"),
        ("a b:8000", f"'a b' {CLIENT_KINDS}; write tcp:host:port, as in tcp:localhost:8000"),
        ("localhost", f"'localhost' {CLIENT_KINDS}; write tcp:host:port, as in tcp:localhost:7007"),
        # no string
        (("localhost", 7007), "takes a string such as tcp:localhost:7007, or an IStreamClientEndpoint"),
        (None, "takes a string such as tcp:localhost:7007"),
    ],
    ids=shown,
)
def test_an_invalid_endpoint_of_a_client_is_refused(endpoint: object, says: str) -> None:
    """An invalid endpoint of a client raises InvalidAddress, which quotes it whole, before anything is opened."""
    assert says in refusal(client_endpoint, endpoint)


@pytest.mark.usefixtures("in_certificates")
@pytest.mark.parametrize(
    ("endpoint", "says"),
    [
        ("ssl:localhost:7007:certKey=junk.pem", "it takes a certificate and the private key to it, in PEM"),
        (
            "tls:localhost:7007:certificate=cert.pem:privateKey=other.pem",
            "other.pem: the private key does not belong to the certificate in ",
        ),
        ("tls:localhost:7007:privateKey=other.pem", "a privateKey= goes with a certificate="),
        ("tls:localhost:7007:trustRoots=junk.pem", "junk.pem: it holds no certificate in PEM"),
    ],
)
def test_an_error_in_the_files_of_a_client_is_an_invalid_address(endpoint: str, says: str) -> None:
    """Certificates and keys of a client that do not fit raise InvalidAddress with one sentence."""
    assert says in refusal(client_endpoint, endpoint)


def test_an_endpoint_of_the_other_side_is_refused(reactor: MemoryReactorClock) -> None:
    """A server's endpoint is refused as a client's, and the other way round."""
    server = endpoints.TCP4ServerEndpoint(reactor, 0)
    client = endpoints.TCP4ClientEndpoint(reactor, "localhost", 7007)
    assert "IStreamClientEndpoint" in refusal(client_endpoint, server)
    assert "IStreamServerEndpoint" in refusal(server_endpoint, client)


class Onion:
    """A parser of endpoint strings that another package would plug into Twisted."""

    prefix = "Onion"

    def parseStreamServer(self, reactor: Any, *args: str, **named: str) -> object:
        return endpoints.TCP4ServerEndpoint(reactor, int(named.get("port", "7")))

    def parseStreamClient(self, reactor: Any, *args: str, **named: str) -> object:
        raise LookupError("no such onion")


@pytest.fixture
def onions(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let Twisted find the plugin `Onion`, and no other."""
    for module in (endpoint_reader, endpoints):
        monkeypatch.setattr(module, "getPlugins", lambda interface: [Onion()])


@pytest.mark.usefixtures("onions")
@pytest.mark.parametrize("endpoint", ["onion:port=8", "ONION:x:port=8", "haproxy:onion:port=8"])
def test_a_string_of_a_plugin_goes_to_the_plugin(
    reactor: MemoryReactorClock, monkeypatch: pytest.MonkeyPatch, endpoint: str
) -> None:
    """An endpoint string of a kind that a plugin of Twisted's adds is passed to this plugin unchanged."""
    if endpoint.startswith("haproxy"):
        from twisted.plugins.twisted_core import _haProxyServerEndpointParser as wrapper

        monkeypatch.setattr(endpoints, "getPlugins", lambda interface: [wrapper, Onion()])
    server_endpoint(reactor, endpoint).listen(Factory())
    assert [listening[0] for listening in reactor.tcpServers] == [8]


@pytest.mark.usefixtures("onions")
@pytest.mark.parametrize(
    ("make", "endpoint", "says"),
    [
        (server_endpoint, "onion:port=x", "no endpoint can be made of this (ValueError: invalid literal"),
        (client_endpoint, "onion:x", "no endpoint can be made of this (LookupError: no such onion)"),
        (client_endpoint, "onoin:x", "there are onion, ssl, tcp, tls, unix; did you mean 'onion'?"),
    ],
)
def test_an_error_of_a_plugin_is_an_invalid_address(
    make: Callable[[Any, Any], object], endpoint: str, says: str
) -> None:
    """An error of a plugin raises `InvalidAddress`, and the kinds of plugins are among the listed kinds."""
    assert says in refusal(make, endpoint)


strings = st.text(st.sampled_from("tcpunixslha:=\\0189. ")) | st.builds(
    "{}:{}".format,
    st.sampled_from(["tcp", "tcp6", "unix", "ssl", "tls", "systemd", "stdio", "haproxy:tcp"]),
    st.text(st.sampled_from("\\:=017a.%\0\ud800å ")) | st.text(),
)


@given(make=st.sampled_from([server_endpoint, client_endpoint]), endpoint=strings)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_any_string_is_an_endpoint_or_refused(make: Callable[[Any, Any], object], endpoint: str) -> None:
    """A random string is an endpoint or raises `InvalidAddress`, and never another error."""
    with suppress(InvalidAddress):
        made = make(MemoryReactorClock(), endpoint)
        assert IStreamServerEndpoint.providedBy(made) or IStreamClientEndpoint.providedBy(made)


@given(st.text(st.sampled_from("ab:=\\ ")))
def test_strings_are_split_as_twisted_splits_them(rest: str) -> None:
    """`cut` finds the same values, names and escapes in a string as Twisted's own parser."""
    with suppress(InvalidAddress):
        fields = endpoint_reader.cut("", rest)
        args, named = endpoints._parse(rest) if rest else ([], {})
        assert args == [field[0] for field in fields if len(field) == 1]
        assert named == dict(field for field in fields if len(field) == 2)
