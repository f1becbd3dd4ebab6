"""smtplib, curl and Twisted's client send mails to tcpapp."""

from __future__ import annotations

import email
import email.policy
import smtplib
import ssl
import subprocess
from collections.abc import Callable, Iterator
from email.message import EmailMessage
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
import trustme
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread
from twisted.mail.smtp import SMTPSenderFactory
from typing_extensions import Self

import tcpapp
from tcpapp.apps.smtp_sink import Mail, SmtpSink
from tcpapp.framing.smtp import SmtpCommand, SmtpMail, SmtpReply
from tcpapp.transport.tls.contexts import ServerContexts, ServerSpec
from tests.patience import PATIENCE

pytestmark = pytest.mark.filterwarnings("ignore:.* is deprecated:DeprecationWarning")  # Twisted's use of pyOpenSSL


class Server:
    """A server that keeps the mails it receives."""

    def __init__(self, reactor: Any, **options: Any) -> None:
        self.mails: list[Mail] = []
        app = type("Kept", (SmtpSink,), {"deliver": lambda sink, mail: self.mails.append(mail), **options})
        self._listening = tcpapp.listen("tcp:0:interface=127.0.0.1", app, framing="smtp", reactor=reactor)
        self.port = 0

    async def start(self) -> Self:
        """Wait until the server listens."""
        self.listening = await self._listening
        self.port = self.listening.port
        return self

    async def smtplib(self, talk: Callable[[smtplib.SMTP], Any]) -> Any:
        """Return the result of `talk`, which gets a client of smtplib and runs in a thread."""

        def run() -> Any:
            with smtplib.SMTP("127.0.0.1", self.port, "client.example", PATIENCE) as client:
                return talk(client)

        return await deferToThread(run)


@pytest.fixture
def server(global_reactor: Any) -> Iterator[Server]:
    """Give a server, and stop it after the test."""
    made = Server(global_reactor)
    pytest_twisted.blockon(Deferred.fromCoroutine(made.start()))
    yield made
    pytest_twisted.blockon(made.listening.close())


TEXT = ".\n..\n.dot\n" + "x" * 500 + "\nGrüße\n"


def letter() -> EmailMessage:
    """Return a mail with dots, long lines, other letters and an attachment."""
    message = EmailMessage()
    message["From"], message["To"], message["Cc"] = "ann@example.com", "ben@example.com", "eva@example.com"
    message["Subject"] = "Grüße"
    message.set_content(TEXT)
    message.add_attachment(bytes(range(256)) * 20, maintype="application", subtype="octet-stream", filename="all.bin")
    return message


@pytest_twisted.ensureDeferred
async def test_smtplib_sends_a_message_with_an_attachment(server: Server) -> None:
    """A message of smtplib comes to all recipients with its dots and its attachment as they were."""
    sent = letter()
    assert await server.smtplib(lambda client: client.send_message(sent)) == {}
    [mail] = server.mails
    assert (mail.sender, mail.recipients) == ("ann@example.com", ("ben@example.com", "eva@example.com"))
    came = email.message_from_bytes(mail.content, policy=email.policy.default)
    assert isinstance(came, EmailMessage)
    body, attachment = came.get_body(), next(came.iter_attachments())
    assert body is not None
    assert body.get_content().replace("\r\n", "\n") == TEXT
    assert attachment.get_content() == bytes(range(256)) * 20


@pytest.mark.parametrize("content", ["", ".", "..", ".\r\n.", "a\r\n.\r\nb", "\r\n\r\n", ".\n.\n", "x" * 100_000])
@pytest_twisted.ensureDeferred
async def test_smtplib_sends_dots_and_empty_lines(server: Server, content: str) -> None:
    """Lines of dots, empty lines and long mails come as they were sent, with CR LF at the end of each line."""
    await server.smtplib(lambda client: client.sendmail("a@b", ["c@d"], content))
    expected = content.replace("\r\n", "\n").replace("\n", "\r\n").encode()
    assert [each.content for each in server.mails] == [expected if expected.endswith(b"\r\n") else expected + b"\r\n"]


@pytest_twisted.ensureDeferred
async def test_smtplib_runs_its_commands(server: Server) -> None:
    """All commands that smtplib has get the replies that they are specified to have."""

    def talk(client: smtplib.SMTP) -> list[int]:
        codes = [client.noop()[0], client.ehlo()[0], client.verify("ann")[0], client.rset()[0], client.helo()[0]]
        codes += [client.mail("a@b")[0], client.rcpt("c@d")[0], client.data("hello")[0], client.docmd("EXPN", "x")[0]]
        return [*codes, client.quit()[0]]

    assert await server.smtplib(talk) == [250, 250, 252, 250, 250, 250, 250, 250, 500, 221]
    assert [each.content for each in server.mails] == [b"hello\r\n"]


@pytest_twisted.ensureDeferred
async def test_smtplib_sends_several_mails_on_one_connection(server: Server) -> None:
    """Mail after mail comes on the same connection, and the framing changes back and forth."""
    await server.smtplib(lambda client: [client.sendmail("a@b", ["c@d"], f"{n}\r\n") for n in range(50)])
    assert [each.content for each in server.mails] == [b"%d\r\n" % n for n in range(50)]


@pytest_twisted.ensureDeferred
async def test_smtplib_is_told_of_a_mail_that_is_too_long(global_reactor: Any) -> None:
    """smtplib announces the size of its mail, and is refused before it sends the mail."""
    server = await Server(global_reactor, size=1000).start()
    with pytest.raises(smtplib.SMTPSenderRefused) as raised:
        await server.smtplib(lambda client: client.sendmail("a@b", ["c@d"], "x" * 2000))
    assert raised.value.smtp_code == 552
    await server.listening.close()


@pytest_twisted.ensureDeferred
async def test_smtplib_sends_to_addresses_in_other_letters(server: Server) -> None:
    """Addresses in UTF-8 come as they are (SMTPUTF8)."""
    options = ["SMTPUTF8", "BODY=8BITMIME"]
    await server.smtplib(lambda client: client.sendmail("grüße@b", ["c@d"], "Grüße\r\n".encode(), options))
    assert [(each.sender, each.content) for each in server.mails] == [("grüße@b", "Grüße\r\n".encode())]


@pytest_twisted.ensureDeferred
async def test_smtplib_starts_tls(global_reactor: Any, tmp_path: Path) -> None:
    """STARTTLS is listed once, the mail goes over TLS, and the client greets anew."""
    authority = trustme.CA()
    certificate = authority.issue_cert("127.0.0.1")
    certificate.private_key_and_cert_chain_pem.write_to_path(str(tmp_path / "server.pem"))
    trusted = ssl.create_default_context()
    authority.configure_trust(trusted)
    server = await Server(global_reactor, tls=ServerContexts(ServerSpec(tmp_path / "server.pem"))).start()

    def talk(client: smtplib.SMTP) -> list[bool]:
        client.ehlo()
        listed = [client.has_extn("starttls")]
        client.starttls(context=trusted)
        client.ehlo()
        client.sendmail("a@b", ["c@d"], "secret\r\n")
        return [*listed, client.has_extn("starttls")]

    assert await server.smtplib(talk) == [True, False]
    assert [each.content for each in server.mails] == [b"secret\r\n"]
    await server.listening.close()


@pytest_twisted.ensureDeferred
async def test_curl_sends_a_mail(server: Server, requires_program: Callable[[str], str]) -> None:
    """curl sends a mail to several recipients, and asks the server to verify an address."""
    curl = [requires_program("curl"), "-q", "-sS", "--noproxy", "*", "--max-time", f"{PATIENCE:.0f}"]
    url = f"smtp://127.0.0.1:{server.port}/client.example"
    send = [*curl, url, "--mail-from", "a@b", "--mail-rcpt", "c@d", "--mail-rcpt", "e@f", "--crlf", "-T", "-"]
    done = await deferToThread(subprocess.run, send, input=b".\n..\nhello\n", capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
    assert server.mails == [Mail("a@b", ("c@d", "e@f"), b".\r\n..\r\nhello\r\n")]
    done = await deferToThread(
        subprocess.run, [*curl, url, "--mail-rcpt", "ann"], capture_output=True, check=False, input=b""
    )
    assert (done.returncode, done.stdout[:3]) == (0, b"252")


@pytest_twisted.ensureDeferred
async def test_twisteds_client_sends_a_mail(server: Server, global_reactor: Any) -> None:
    """Twisted's own client sends a mail."""
    sent: Deferred[Any] = Deferred()
    factory = SMTPSenderFactory("a@b", "c@d", BytesIO(b"Subject: x\n\n.hello\n"), sent, retries=0)
    global_reactor.connectTCP("127.0.0.1", server.port, factory)
    assert (await sent)[0] == 1
    assert server.mails == [Mail("a@b", ("c@d",), b"Subject: x\r\n\r\n.hello\r\n")]


@pytest_twisted.ensureDeferred
async def test_a_client_of_tcpapp_sends_a_mail(server: Server, global_reactor: Any) -> None:
    """A client of tcpapp gets the reply to each command, and to its mail."""
    client = await tcpapp.connect(f"tcp:127.0.0.1:{server.port}", framing="smtp:side=client", reactor=global_reactor)
    assert (await client.receive()).code == 220
    commands = [("EHLO", "me"), ("MAIL", "FROM:<a@b>"), ("RCPT", "TO:<c@d>"), ("DATA", "")]
    codes = [(await client.request(SmtpCommand(*each))).code for each in commands]
    codes.append((await client.request(SmtpMail(b".\r\nhello\r\n"))).code)
    assert codes == [250, 250, 250, 354, 250]
    assert await client.request(SmtpCommand("QUIT")) == SmtpReply(221, "localhost closes")
    assert (await client.when_closed()).clean
    assert server.mails == [Mail("a@b", ("c@d",), b".\r\nhello\r\n")]
