"""How soon after a key is revoked has everything ended that was open under it, at every apiserver?

`./dev bench revocation [--keys 200]`: two apiserver processes on one database. Each key has a watch and a followed log
open, one at each of the two, and a client that goes on asking both. The keys are revoked one after the other at the
first apiserver; the time runs from the answer to that until each stream has ended, and until the first 401 at each
apiserver. One process drives it all, on the clock that it times by; a stream that ends before its key was revoked, or
not within 10 s, is a failure.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import hashlib
import secrets
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from time import monotonic_ns, perf_counter

import machine
import samples
from casare_store import loop
from measuring import percentile
from report import Target, at_most, finish, rounded, table, title
from report import machine as show_machine
from sockets import head
from system import Apiserver, BenchmarkError, apiserver, place

SPACE = "default"
ENDED_WITHIN = 10.0  # seconds after a revocation
GOAL = 1000.0  # milliseconds
BETWEEN_TRIES = 0.002  # seconds between requests that wait for their 401
_AT_ONCE = 25  # streams being opened
_END = b"0\r\n\r\n"  # of a chunked answer


@dataclass(slots=True)
class Key:
    """A key, what is open under it (by name: its server), and when that ended (clock in nanoseconds)."""

    name: str
    secret: str = field(repr=False)
    ended: dict[str, asyncio.Future[int]] = field(default_factory=dict)
    readers: list[asyncio.Task[None]] = field(default_factory=list)


async def opened(key: Key, what: str, server: Apiserver, path: str) -> None:
    """Opens a stream and begins to read it. Raises BenchmarkError where it is refused."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(head("GET", path, key.secret))
    answer = await reader.readuntil(b"\r\n\r\n")
    if not answer.startswith(b"HTTP/1.1 200"):
        raise BenchmarkError(f"{what}: {answer.splitlines()[0].decode(errors='replace')}")
    key.ended[what] = asyncio.get_running_loop().create_future()
    key.readers.append(asyncio.create_task(_until_end(reader, writer, key.ended[what])))


async def _until_end(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, ended: asyncio.Future[int]) -> None:
    """Reads to the end of the answer, or of the connection."""
    last = b""
    with contextlib.suppress(OSError):
        while data := await reader.read(65536):
            last = (last + data)[-len(_END) :]
            if last == _END:
                break
    ended.set_result(monotonic_ns())
    writer.close()


async def refused(key: Key, server: Apiserver) -> int:
    """Asks again and again, on one connection, until the answer is 401; when that came."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    request = head("GET", samples.path(SPACE, "robots", "nobody"), key.secret)
    async with asyncio.timeout(ENDED_WITHIN):
        while True:
            writer.write(request)
            answer = await reader.readuntil(b"\r\n\r\n")
            at = monotonic_ns()
            size = next(int(line[15:]) for line in answer.lower().split(b"\r\n") if line.startswith(b"content-length:"))
            await reader.readexactly(size)
            if answer.startswith(b"HTTP/1.1 401"):
                writer.close()
                return at
            await asyncio.sleep(BETWEEN_TRIES)


async def revoke(key: Key, servers: Sequence[Apiserver]) -> dict[str, float]:
    """Milliseconds from the answer to a revocation until each thing was over."""
    if early := [what for what, ended in key.ended.items() if ended.done()]:
        raise BenchmarkError(f"{key.name}: ended before it was revoked: {', '.join(early)}")
    tries = {f"401 at {name}": asyncio.create_task(refused(key, one)) for name, one in zip("AB", servers, strict=True)}
    await asyncio.sleep(0.01)  # they are asking by now
    at = await asyncio.to_thread(_patch, servers[0], key.name)
    async with asyncio.timeout(ENDED_WITHIN):
        moments = {what: await one for what, one in {**key.ended, **tries}.items()}
    return {what: max(0.0, (moment - at) / 1e6) for what, moment in moments.items()}


def _patch(server: Apiserver, name: str) -> int:
    """Revokes a key; when the answer was there."""
    with server.connect() as connection:
        path = samples.path(SPACE, "apikeys", name)
        seen = connection.expect(200, "GET", path).json()
        seen["spec"]["revoked"] = True
        return connection.expect(200, "PUT", path, seen).ended


def prepared(server: Apiserver, count: int) -> list[Key]:
    """That many keys, and a job whose log can be followed."""
    keys = [Key(f"k-{number:04d}", "crpa_" + secrets.token_urlsafe(32)) for number in range(count)]
    job = {"metadata": {"name": "j"}, "spec": {"workflow": {"runner": "command", "args": ["true"]}}}
    with server.connect() as connection:
        connection.expect(201, "POST", samples.path(SPACE, "jobs"), job)
        for key in keys:
            hashed = "sha256:" + hashlib.sha256(key.secret.encode()).hexdigest()
            spec = {"role": "viewer", "hash": hashed}
            connection.expect(201, "POST", samples.path(SPACE, "apikeys"), {"metadata": {"name": key.name}, "spec": spec})
    return keys


async def measure(servers: Sequence[Apiserver], count: int) -> dict[str, list[float]]:
    """Milliseconds of each key, by what was to end."""
    keys = await asyncio.to_thread(prepared, servers[0], count)
    watch, log = f"{samples.path(SPACE, 'robots')}?watch=true", f"{samples.path(SPACE, 'jobs', 'j', 'log')}?follow=true"
    for start in range(0, count, _AT_ONCE):
        openings = []
        for number, key in enumerate(keys[start : start + _AT_ONCE], start):
            first, second = (0, 1) if number % 2 else (1, 0)
            openings.append(opened(key, f"watch at {'AB'[first]}", servers[first], watch))
            openings.append(opened(key, f"log at {'AB'[second]}", servers[second], log))
        await asyncio.gather(*openings)
    found: dict[str, list[float]] = {}
    for key in keys:
        for what, taken in (await revoke(key, servers)).items():
            found.setdefault(what, []).append(taken)
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="./dev bench revocation", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--keys", type=int, default=200, help="keys, revoked one after the other (default 200)")
    count = parser.parse_args(arguments).keys
    try:
        with place() as where:
            url = where.database()
            facts = machine.facts(url)
            show_machine(facts)
            with apiserver(where, url) as one, apiserver(where, url) as two:
                begun = perf_counter()
                found = loop.runner()(measure((one, two), count))
                seconds = perf_counter() - begun
    except (BenchmarkError, OSError, TimeoutError) as error:
        print(f"error: {error or 'something did not end in time'}", file=sys.stderr)
        return 1
    return _tell(found, count, seconds, facts)


def _tell(found: dict[str, list[float]], count: int, seconds: float, facts: dict[str, str | int | float]) -> int:
    title(f"{count} keys, each with a watch and a followed log: ms from the answer to the revocation (at A) to the end")
    figures = {
        what: {"p50": percentile(taken, 0.5), "p99": percentile(taken, 0.99), "max": max(taken)}
        for what, taken in sorted(found.items())
    }
    table(("what", "n", "p50", "p99", "max"), [(what, len(found[what]), *all_.values()) for what, all_ in figures.items()])
    targets: list[Target] = [at_most(f"{what}, p99", one["p99"], GOAL, "ms") for what, one in figures.items()]
    return finish("revocation", targets, {**rounded(figures), "keys": count, "seconds": round(seconds, 1), "machine": facts})


if __name__ == "__main__":
    sys.exit(main())
