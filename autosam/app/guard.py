"""What every request must pass before it is answered, and what every answer tells the browser.

A page of any site may send requests to this machine. Its own name in `Host` betrays one that has pointed
its name here (DNS rebinding); its own name in `Origin` betrays one that posts from afar.
"""

import asyncio
import ipaddress
import json
import socket
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

LOOPBACK = ("localhost", "127.0.0.1", "::1")
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
    "Cache-Control": "no-store",
}
_SAFE = ("GET", "HEAD")


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches an address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class Guard:
    """Refuses requests that come by a strange name or from a strange page.

    Args:
        app: What answers the others.
        host: To which the server is bound: beyond loopback, this machine's names and plain addresses are
            welcome too, for a page cannot make a browser call an address by another's name.
    """

    def __init__(self, app: ASGIApp, *, host: str) -> None:
        self._app = app
        self._is_open = not is_loopback(host)
        self._names = {*LOOPBACK, host.lower()}
        if self._is_open:
            self._names |= {socket.gethostname().lower(), socket.getfqdn().lower()}
        self._names.discard("")  # which a Host that is missing or malformed comes to

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """As ASGI has it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        begun = False

        async def send_guarded(message: Message) -> None:
            nonlocal begun
            if message["type"] == "http.response.start":
                begun = True
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers[name] = value
            await send(message)

        problem = self._problem(scope["method"], Headers(scope=scope))
        if problem is not None:
            await _refuse(problem, send_guarded, status=403)
            return
        try:
            await self._app(scope, receive, send_guarded)
        except asyncio.CancelledError:  # the server ends and waits no longer: no fault to print
            if not begun:
                text = "request must be answered before the app ends, got none. Start the app anew."
                await _refuse(text, send_guarded, status=503)

    def _problem(self, method: str, headers: Headers) -> str | None:
        given = headers.get("host", "")
        if not self._is_own(_host_of(given)):
            return f"host must be this machine's own name, got {given!r:.80}. Open the printed address."
        if method in _SAFE:
            return None
        origin = headers.get("origin")
        if origin is None or _place_of(origin) != given.lower():
            return (
                f"request must come from the app's own page, got origin {origin!r:.80}. "
                "Open the printed address."
            )
        return None

    def _is_own(self, name: str) -> bool:
        if name in self._names:
            return True
        if not self._is_open:
            return False
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return False
        return True


def _host_of(header: str) -> str:
    """Name or address without port; IPv6 without brackets; empty where it is neither."""
    try:
        return (urlsplit(f"//{header}").hostname or "").lower()
    except ValueError:
        return ""


def _place_of(origin: str) -> str:
    """Name and port; empty where it is no address."""
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:
        return ""


async def _refuse(problem: str, send: Send, *, status: int) -> None:
    body = json.dumps({"error": problem}).encode()
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
