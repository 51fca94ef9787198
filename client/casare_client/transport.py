"""How does a request get to the server, and what comes of it when it does not?

Every failure is an ApiError (the server said no) or an Unreachable (nobody answered). Connections are reused, any
thread may send, and `close()` ends every stream that another thread is still reading.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
import time
from collections.abc import Iterable, Iterator
from typing import Any

import httpx2
import orjson

from casare_api.machinery.errors import ApiError
from casare_client.config import Config
from casare_client.errors import NoServer, Unreachable
from casare_client.requests import Artifact, Request

_SAFE = frozenset({"GET", "HEAD"})
UPLOADED = 20.0  # seconds until the answer to a file that was sent: the server makes it safe first
_KEPT = 20  # idle connections; more only helps programs with more threads than that


class Transport:
    """Sends requests to one server."""

    def __init__(self, config: Config, user_agent: str) -> None:
        self.config = config
        self.closed = threading.Event()
        self._streams: dict[httpx2.Response, float] = {}  # being read, and when each was asked for
        self._lock = threading.Lock()
        headers = {"User-Agent": user_agent, "Accept": "application/json"}
        if config.key:
            headers["Authorization"] = f"Bearer {config.key}"
        self._http = httpx2.Client(
            base_url=config.server,
            headers=headers,
            verify=_ssl_context(config),
            timeout=config.timeout,
            limits=httpx2.Limits(max_connections=None, max_keepalive_connections=_KEPT),
            trust_env=not config.local,
        )

    def use_key(self, key: str) -> None:
        """Sends another key with what is sent from now on."""
        self._http.headers["Authorization"] = f"Bearer {key}"

    def close(self) -> None:
        """Closes all connections; streams read elsewhere end at once, with Unreachable."""
        self.closed.set()
        with self._lock:
            for response in self._streams:
                _shut(response)
        self._http.close()

    def cut(self, before: float) -> None:
        """Ends the streams that were asked for before a moment of `time.monotonic`; their readers get Unreachable."""
        with self._lock:
            for response, asked in self._streams.items():
                if asked < before:
                    _shut(response)

    def send(self, request: Request) -> httpx2.Response:
        """The whole answer. Raises ApiError for a status of 400 and more, Unreachable without one."""
        try:
            response = self._once(request)
        except (httpx2.RemoteProtocolError, httpx2.ReadError, httpx2.WriteError) as error:
            # A kept connection that the server had closed meanwhile: for a read, once more is harmless.
            if request.method not in _SAFE or self.closed.is_set():
                raise self._unreachable(error) from None
            response = self._again(request)
        except (httpx2.HTTPError, httpx2.InvalidURL) as error:
            raise self._unreachable(error) from None
        self._raise_for_status(response)
        return response

    def send_json(self, request: Request) -> Any:
        """The parsed answer. Raises as `send`, and Unreachable where something else than JSON answers."""
        return self._parsed(self.send(request))

    def upload(self, request: Request, file: Artifact, pieces: Iterable[bytes]) -> Any:
        """The parsed answer to a body that is never whole in memory. Raises as `send`, and what `pieces` raise."""
        headers = {"Content-Length": str(file.size), "X-SHA256": file.sha256}
        timeout = httpx2.Timeout(self.config.timeout, read=UPLOADED)
        try:
            response = self._http.send(self._build(request, timeout, headers, pieces))
        except (httpx2.HTTPError, httpx2.InvalidURL) as error:
            raise self._unreachable(error) from None
        self._raise_for_status(response)
        return self._parsed(response)

    @contextlib.contextmanager
    def stream(self, request: Request, read_timeout: float) -> Iterator[httpx2.Response]:
        """An answer to be read as it comes; silence longer than `read_timeout` seconds is Unreachable.

        Its head must be there as soon as any other answer: it is what comes after that is waited for.
        """
        built = self._build(request, httpx2.Timeout(self.config.timeout), {"Accept-Encoding": "identity"})
        asked = time.monotonic()
        try:
            response = self._http.send(built, stream=True)
            built.extensions["timeout"]["read"] = read_timeout
            with self._held(response, asked):
                if response.status_code >= 300:
                    response.read()
                self._raise_for_status(response)
                yield response
        except (httpx2.HTTPError, httpx2.StreamError, httpx2.InvalidURL, OSError) as error:
            raise self._unreachable(error) from None

    # -- steps ---------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _held(self, response: httpx2.Response, asked: float) -> Iterator[None]:
        with self._lock:
            self._streams[response] = asked
        try:
            if self.closed.is_set():
                raise httpx2.ReadError("the client was closed")
            yield
        finally:
            with self._lock:
                self._streams.pop(response, None)
            response.close()

    def _once(self, request: Request) -> httpx2.Response:
        timeout = self.config.timeout
        most = timeout if request.timeout is None else min(request.timeout, timeout)
        return self._http.send(self._build(request, httpx2.Timeout(most), {}))

    def _again(self, request: Request) -> httpx2.Response:
        try:
            return self._once(request)
        except httpx2.HTTPError as error:
            raise self._unreachable(error) from None

    def _build(
        self, request: Request, timeout: httpx2.Timeout, extra: dict[str, str], pieces: Iterable[bytes] | None = None
    ) -> httpx2.Request:
        headers, content = dict(extra), request.content if pieces is None else pieces
        if content is not None:
            headers["Content-Type"] = request.content_type
        return self._http.build_request(
            request.method,
            request.path,
            params=request.params or None,
            content=content,
            headers=headers,
            timeout=timeout,
        )

    def _parsed(self, response: httpx2.Response) -> Any:
        try:
            return orjson.loads(response.content)
        except orjson.JSONDecodeError:
            raise Unreachable(f"{self.config.server} answers, but not as a Casare server does") from None

    def _raise_for_status(self, response: httpx2.Response) -> None:
        if response.status_code < 300:
            return
        error = ApiError.from_body(response.status_code, response.content)
        if response.status_code < 400 or not _is_status(response):
            # Not our server's words: a proxy's page, a redirect. Say who said it.
            said = f"{response.status_code} {response.reason_phrase}".strip()
            error = ApiError(error.status, error.reason, f"{self.config.server} answered {said}: {error.message}")
        raise error

    def _unreachable(self, error: Exception) -> Unreachable:
        refused = isinstance(_root(error), ConnectionRefusedError)
        return Unreachable(f"cannot reach {self.config.server}: {_why(error, self.config)}", refused)


def _is_status(response: httpx2.Response) -> bool:
    try:
        body = orjson.loads(response.content)
    except orjson.JSONDecodeError:
        return False
    return isinstance(body, dict) and body.get("kind") == "Status"


def _ssl_context(config: Config) -> ssl.SSLContext | bool:
    if not config.secure:
        # Loading the system's certificates takes 20 ms that plain HTTP has no use for; this one trusts nobody.
        return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if config.ca_file is None and config.ca_data is None:
        return True
    try:
        return ssl.create_default_context(cafile=config.ca_file, cadata=config.ca_data)
    except (OSError, ssl.SSLError, ValueError) as error:
        raise NoServer(f"cannot read the certificates in {config.ca_file or 'the kubeconfig'}: {error}") from None


def _why(error: Exception, config: Config) -> str:
    """The cause in words; nothing of the request, which holds the key, gets into it."""
    cause = _root(error)
    if isinstance(error, httpx2.TimeoutException):
        return f"no answer within {_patience(error, config):g} s"
    if isinstance(cause, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted ({cause.verify_message}); name its authority with --ca-file"
    if isinstance(cause, ssl.SSLError):
        return f"no TLS connection ({cause.reason or 'handshake failed'}); is it https that it speaks?"
    if isinstance(cause, OSError) and cause.strerror:
        return cause.strerror[0].lower() + cause.strerror[1:]
    if isinstance(error, httpx2.RemoteProtocolError | httpx2.ReadError | httpx2.WriteError):
        return "the connection was cut"
    return type(error).__name__


def _patience(error: httpx2.TimeoutException, config: Config) -> float:
    """The seconds that were waited for an answer."""
    with contextlib.suppress(RuntimeError):  # what httpx2 says where it knows of no request
        return float((error.request.extensions.get("timeout") or {}).get("read") or config.timeout)
    return config.timeout


def _root(error: BaseException) -> BaseException:
    """The first cause: httpx2 wraps what the system said, twice."""
    while (inner := error.__cause__ or error.__context__) is not None:
        error = inner
    return error


def _shut(response: httpx2.Response) -> None:
    """Wakes the thread that reads this stream: only shutting its socket does."""
    stream = response.extensions.get("network_stream")
    found = stream.get_extra_info("socket") if stream is not None else None
    if isinstance(found, socket.socket):
        with contextlib.suppress(OSError):
            socket.socket.shutdown(found, socket.SHUT_RDWR)
