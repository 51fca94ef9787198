"""What is the application? FastAPI for the documents and probes, the resource routes in front of it."""

from __future__ import annotations

import platform
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from importlib.metadata import PackageNotFoundError, version

import orjson
import structlog
from fastapi import FastAPI, Request, Response
from fastapi.responses import PlainTextResponse
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.exceptions import HTTPException

from casare_api.kinds.core import NAMESPACE
from casare_api.machinery.credentials import digest
from casare_api.machinery.errors import ApiError
from casare_apiserver import metrics
from casare_apiserver.addresses import Addresses
from casare_apiserver.agents import Agents
from casare_apiserver.artifacts import Artifacts
from casare_apiserver.auditing import AuditLog
from casare_apiserver.auth import Keys
from casare_apiserver.budget import Budget
from casare_apiserver.describing import Describing
from casare_apiserver.documents import describe
from casare_apiserver.enrolling import Enrolling
from casare_apiserver.files import Files
from casare_apiserver.fitting import Fitting
from casare_apiserver.gate import Gate
from casare_apiserver.handlers import Handlers
from casare_apiserver.issuing import Issuing
from casare_apiserver.limits import Limits
from casare_apiserver.policies import Policies
from casare_apiserver.reading import Reading
from casare_apiserver.refusals import Refusals
from casare_apiserver.resealing import Resealing
from casare_apiserver.retrying import Retrying
from casare_apiserver.routes import Router
from casare_apiserver.settings import Settings
from casare_apiserver.uses import Uses
from casare_apiserver.watch import Hub
from casare_apiserver.why import Why
from casare_apiserver.writing import Writing
from casare_store import admission, connection, memory, sealing
from casare_store.events import Recorder
from casare_store.heartbeats import Heartbeats
from casare_store.sealing import Sealer
from casare_store.store import Store

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class Server:
    """Everything that runs in one API server process."""

    store: Store
    hub: Hub
    heartbeats: Heartbeats
    events: Recorder
    router: Router


def release() -> str:
    try:
        return version("casare-fleet")
    except PackageNotFoundError:
        return "0.0.0"


@asynccontextmanager
async def serving(settings: Settings) -> AsyncIterator[Server]:
    """A server that is ready to answer; ends watches, writes and heartbeats in order when left.

    Raises psycopg.OperationalError when the database can't be reached, ValueError when there is no admin key or a
    secret key is too short.
    """
    admin_hash = digest(settings.admin())
    sign_ins = settings.sign_ins(lambda: keys.clock())
    sealer = _sealer(settings)
    store = await Store.open_when_ready(settings.database_url, sealer=sealer)
    hub = Hub(settings.database_url, settings.bookmark_seconds, store.writer.own)
    files = connection.pool_for_files(settings.database_url)
    parts = connection.pool_for_parts(settings.database_url)
    beats = connection.pool_for_heartbeats(settings.database_url)
    heartbeats = Heartbeats(beats, [store.pool])
    events = Recorder(store.writer, "apiserver")
    agents = Agents(store, hub, heartbeats, events)
    addresses, limits, refusals = Addresses.parse(settings.trusted_proxies), Limits.of(settings), Refusals(store)
    uses = Uses(store.pool, addresses.of)
    keys = Keys(
        store, hub, admin_hash, uses,
        lambda scope, is_bad: limits.check_stranger(addresses.of(scope), counts=is_bad), sign_ins=sign_ins,
    )
    agents.key_due = keys.due
    policies = Policies(store, hub)
    ready = False
    app = build(lambda: ready and heartbeats.is_fresh() and hub.is_fresh())
    fitting = Fitting(store, hub)
    opened = partial(sealing.opened, sealer)
    budget = Budget()
    reading, writing = Reading(store, hub, opened, budget), Writing(store, fitting, opened, budget, agents.robots.known)
    handlers = Handlers(
        describing=Describing(release()), reading=reading, writing=writing, retrying=Retrying(store, fitting, opened),
        agents=agents, files=Files(store, files), artifacts=Artifacts(store, agents, parts),
        issuing=Issuing(store, agents.robots.known), enrolling=Enrolling(store, events), why=Why(store, writing),
        audit=AuditLog(store), resealing=Resealing(store),
    )
    gate = Gate(keys, policies, addresses, limits, refusals)
    router = Router(app, handlers, gate, lambda: ready, settings.stall_seconds)
    try:
        await _ensure_default_namespace(store)
        await _warn_of_other_keys(store, sealer)
        await hub.start()
        await agents.start()
        fitting.start()
        await keys.start()
        await policies.start()
        await files.open()
        await parts.open()
        await beats.open()
        heartbeats.start()
        uses.start()
        events.start()
        refusals.start()
        ready = True
        memory.settle()
        yield Server(store, hub, heartbeats, events, router)
    finally:
        ready = False
        await hub.stop()
        await uses.stop()
        await heartbeats.stop()
        await beats.close(timeout=2)
        await files.close(timeout=2)
        await parts.close(timeout=2)
        await events.stop()
        await refusals.stop()
        await store.close()


async def _ensure_default_namespace(store: Store) -> None:
    """There is always a namespace to begin in."""
    try:
        await store.writer.write(admission.create(NAMESPACE, {"metadata": {"name": "default"}}))
    except ApiError as error:
        if error.reason != "AlreadyExists":
            raise


def _sealer(settings: Settings) -> Sealer | None:
    """What seals and opens Secrets; None where there is no key. Raises ValueError, OSError."""
    text, fallbacks = settings.sealing_key(), settings.fallback_keys()
    if text is not None:
        return Sealer.from_text(text, fallbacks)
    if fallbacks:
        raise ValueError("CASARE_SECRET_KEY_FALLBACKS needs CASARE_SECRET_KEY: fallbacks open Secrets and seal none")
    return None


async def _warn_of_other_keys(store: Store, sealer: Sealer | None) -> None:
    """A key that was lost or mixed up shows now, and not when somebody needs a password at night."""
    here = sealer.key_ids if sealer is not None else ()
    for key, count in (await sealing.sealed_with(store.pool)).items():
        if key not in here:
            log.error("Secrets are sealed with another key and can't be read: set CASARE_SECRET_KEY to that one, or "
                      "name it in CASARE_SECRET_KEY_FALLBACKS", secrets=count, sealed_with=key,
                      key_here=", ".join(here) or "none")
        elif key != here[0]:
            log.warning("Secrets are sealed with a fallback key: 'casare secrets reseal' seals them anew once all "
                        "apiservers know the key of this one", secrets=count, sealed_with=key, key_here=here[0])


def _refusal(error: HTTPException) -> Response:
    """FastAPI's own refusals (a path that there is not, a method) as a Status like all others."""
    said = ApiError.from_body(error.status_code, {"detail": str(error.detail)})
    if error.status_code == 404:
        said = ApiError(404, "NotFound", "the server could not find the requested resource")
    return Response(orjson.dumps(said.body()) + b"\n", error.status_code, error.headers, "application/json")


def _version() -> dict[str, str]:
    """As clients of Kubernetes expect it: they compare major and minor with what they were made for."""
    here = f"{platform.system().lower()}/{platform.machine()}"
    found = {"major": "1", "minor": "35", "gitVersion": f"v1.35.0+casare-{release()}", "release": release()}
    unknown = dict.fromkeys(("gitCommit", "goVersion", "buildDate"), "")
    return found | unknown | {"gitTreeState": "clean", "compiler": "cpython", "platform": here}


def build(is_ready: Callable[[], bool]) -> FastAPI:
    """The FastAPI part: probes, metrics, version and the documents of both doors."""
    app = FastAPI(
        title="Casare Fleet", version=release(), description="A control plane for fleets of automation robots.",
    )

    @app.exception_handler(HTTPException)
    async def refuse(request: Request, error: HTTPException) -> Response:
        return _refusal(error)

    @app.get("/healthz", response_class=PlainTextResponse, tags=["probes"], summary="Is the process alive?")
    @app.get("/livez", response_class=PlainTextResponse, include_in_schema=False)
    async def healthz() -> str:
        return "ok"

    @app.get("/readyz", response_class=PlainTextResponse, tags=["probes"], summary="Can it serve?")
    async def readyz(response: Response) -> str:
        response.status_code = 200 if is_ready() else 503
        return "ok" if is_ready() else "starting"

    @app.get("/metrics", response_class=PlainTextResponse, tags=["probes"], summary="Prometheus metrics")
    async def prometheus() -> Response:
        return Response(generate_latest(metrics.REGISTRY), media_type=CONTENT_TYPE_LATEST)

    @app.get("/version", tags=["probes"], summary="Which release is this?")
    @app.get("/version/", include_in_schema=False)
    async def show_version() -> dict[str, str]:
        return _version()

    describe(app)
    return app
