"""
Middleware: functions from app to app. Each takes an app of any form, and returns an app of the same form.

=============== ====================================================================================
name            what its app does
=============== ====================================================================================
`timing`        measures how long the app takes for each message
`authenticated` lets a peer reach the app only after its first messages were valid credentials
`rate_limited`  lets each connection have a number of messages a second
=============== ====================================================================================

::

    from tcpapp.apps.middleware import authenticated, rate_limited, timing

    app = timing(authenticated(rate_limited(Chat, 10), check))

`wrap` makes middleware of your own.
"""

from tcpapp.apps.middleware.authenticating import authenticated
from tcpapp.apps.middleware.limiting import rate_limited
from tcpapp.apps.middleware.timing import Timings, timing
from tcpapp.apps.middleware.wrapping import wrap

__all__ = ["Timings", "authenticated", "rate_limited", "timing", "wrap"]
