"""`python -m casare_apiserver`: serves plain HTTP and HTTPS from one process until it is told to stop."""

from __future__ import annotations

import asyncio
import functools
import signal
import socket
import ssl
import sys
from typing import Any

import psycopg
import uvicorn
from pydantic import ValidationError

from casare_apiserver import headers, tls
from casare_apiserver.addresses import Addresses
from casare_apiserver.app import serving
from casare_apiserver.connections import Connections, most_of
from casare_apiserver.protocol import Protocol
from casare_apiserver.settings import Settings
from casare_store import logs, loop
from casare_store.schema import WrongSchema


def main() -> int:
    """Exit code 0 after a clean stop, 1 with one line that says what is wrong."""
    logs.configure("apiserver")
    try:
        settings = Settings()
        loop.runner()(_serve(settings))
    except ValidationError as error:
        return _fail("; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors()))
    except (ValueError, OSError, WrongSchema) as error:
        return _fail(str(error))
    except psycopg.OperationalError as error:
        return _fail(f"the database can't be used: {str(error).strip().splitlines()[0]}")
    return 0


async def _serve(settings: Settings) -> None:
    places = {settings.port: "CASARE_PORT"}
    if settings.tls_port and settings.pki_dir is not None:
        places[settings.tls_port] = "CASARE_TLS_PORT"
    sockets = {port: _bind(settings.host, port, setting) for port, setting in places.items()}
    proxies = Addresses.parse(settings.trusted_proxies)
    held = Connections(most_of(settings.connections_per_address), proxies.trusts)
    async with serving(settings) as server:
        options: dict[str, Any] = {
            "lifespan": "off", "log_level": "warning", "access_log": False, "server_header": False,
            "proxy_headers": False, "timeout_keep_alive": 75, "timeout_graceful_shutdown": 5, "ws": "none",
            "http": functools.partial(
                Protocol, head_seconds=settings.head_seconds, stall_seconds=settings.stall_seconds,
                open_connections=held,
            ),
        }
        plain = uvicorn.Config(
            server.router, host=settings.host, port=settings.port, headers=headers.of_all(), **options
        )
        servers = [_Listener(plain)]
        if settings.tls_port and settings.pki_dir is not None:
            found = await asyncio.to_thread(tls.ensure, settings.pki_dir, settings.host)
            secure = uvicorn.Config(
                server.router, host=settings.host, port=settings.tls_port,
                headers=headers.of_all(settings.hsts_seconds), **options,
            )
            servers.append(_Listener(secure, tls.context(found), settings.head_seconds))
        await _run(servers, sockets, server.hub.stop)


def _bind(host: str, port: int, setting: str) -> socket.socket:
    """A socket that has the port, and does not listen before all is ready. Raises OSError with one line for people."""
    bound = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    if sys.platform != "win32":  # there it would let two servers have one port
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind((host, port))
    except OSError as error:
        bound.close()
        why = (error.strerror or str(error)).lower()
        raise OSError(f"can't serve on {host}:{port}: {why}; {setting} names another port") from None
    return bound


async def _run(servers: list[_Listener], sockets: dict[int, socket.socket], on_stop: Any) -> None:
    """All listeners until a signal comes; watches are ended first, so that no client holds the stop up."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    tasks = [
        asyncio.create_task(one.serve([sockets[one.config.port]]), name=f"listener-{one.config.port}")
        for one in servers
    ]
    waiting = asyncio.create_task(stop.wait())
    await asyncio.wait([waiting, *tasks], return_when=asyncio.FIRST_COMPLETED)
    await on_stop()
    for one in servers:
        one.should_exit = True
    done = await asyncio.gather(*tasks, return_exceptions=True)
    waiting.cancel()
    if not stop.is_set():
        raise OSError(next((str(one) for one in done if one), "a listener stopped: is its port taken?"))


class _Listener(uvicorn.Server):
    """A uvicorn server that leaves signals to us: there are two of them in this process.

    With TLS it takes `handshake_seconds` as the longest that a client may take for the handshake, before which there is
    no connection that could be cut; uvicorn would leave it a minute.
    """

    def __init__(self, config: uvicorn.Config, tls: ssl.SSLContext | None = None, handshake_seconds: float = 0) -> None:
        super().__init__(config)
        self._tls: dict[str, Any] = {}
        if tls is not None:
            self._tls = {
                "ssl": tls, "ssl_handshake_timeout": handshake_seconds, "ssl_shutdown_timeout": handshake_seconds,
            }  # fmt: skip

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        loop, config = asyncio.get_running_loop(), self.config

        def connected() -> asyncio.Protocol:
            made: asyncio.Protocol = config.http_protocol_class(  # type: ignore[call-arg]
                config=config, server_state=self.server_state, app_state={}
            )
            return made

        self.servers = [
            await loop.create_server(connected, sock=one, backlog=config.backlog, **self._tls) for one in sockets or ()
        ]
        self.started = True

    def capture_signals(self) -> Any:
        import contextlib

        return contextlib.nullcontext()


def _fail(message: str) -> int:
    print(f"error: {message}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
