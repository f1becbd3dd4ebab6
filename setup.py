"""
What setup.cfg cannot say: which modules mypyc compiles, where ``TCPAPP_COMPILE=1`` asks for it.

They are the path of a message. The sources are the same, and stay beside what comes of them; a Python for which there
is nothing compiled takes the sources.
"""

import os
import sys
from typing import Any

from setuptools import setup

COMPILED = [
    "tcpapp/framing/loops.py",
    "tcpapp/framing/decoded.py",
    "tcpapp/framing/want_types.py",
    "tcpapp/framing/reader.py",
    "tcpapp/telemetry/counters.py",
    "tcpapp/connection/deadlines.py",
    "tcpapp/connection/inbox.py",
    "tcpapp/connection/waiting_bytes.py",
    "tcpapp/connection/shared_message.py",
    "tcpapp/connection/unsent_queue.py",
    "tcpapp/connection/outbox.py",
    "tcpapp/connection/replies.py",
    "tcpapp/connection/answers.py",
    "tcpapp/connection/matching.py",
    "tcpapp/connection/conversation.py",
    "tcpapp/connection/app_calls.py",
    "tcpapp/connection/streamed_replies.py",
    "tcpapp/connection/dispatcher.py",
    "tcpapp/connection/reply_slot.py",
    "tcpapp/connection/concurrent_dispatcher.py",
    "tcpapp/connection/throttle.py",
    "tcpapp/connection/buffered_bytes.py",
    "tcpapp/connection/receiver.py",
    "tcpapp/codecs/msgpack_keys.py",
]

COMPILER = ["mypy~=2.4.1", "mypy-zope~=1.0.17", "twisted>=26.4", "typing_extensions>=4.12"]
"""What it is compiled with, and what it is typed by."""


def extensions() -> list[Any]:
    """The extension modules, where a wheel is built; what setuptools asks before that takes no compiler."""
    if "bdist_wheel" not in sys.argv:
        return []
    from mypyc.build import mypycify

    # The types of all others were checked elsewhere, with more installed.
    options = ["--config-file=pyproject.toml", "--follow-imports=silent"]
    return mypycify([*options, *COMPILED], opt_level="3", group_name="tcpapp")


if os.environ.get("TCPAPP_COMPILE") == "1":
    setup(setup_requires=COMPILER, ext_modules=extensions())
else:
    setup()
