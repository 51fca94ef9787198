"""In which order does the system come up, and when is it ready?

The dashboard takes longest to load and needs nobody: it is started first. Then the database; apiserver and controller
load while the migrations run and wait for them; then the robots' keys, the robots, the manifests. Ready means that a
job can be submitted and will run.
"""

from __future__ import annotations

import contextlib
import io
import os
from collections import Counter
from typing import TYPE_CHECKING

from casare_cli.failures import Failure
from casare_cli.up import credentials, logs, probes, record
from casare_cli.up.child import Child, Process
from casare_cli.up.data_dir import DataDir
from casare_cli.up.narrator import Narrator
from casare_cli.up.parts import Parts
from casare_cli.up.settings import Settings
from casare_cli.up.signals import Signals
from casare_cli.up.supervisor import Supervisor

if TYPE_CHECKING:
    from casare_client import Client

SERVER_TIMEOUT = 60.0  # seconds; a first start on a slow disk
MIGRATIONS_TIMEOUT = 600.0  # they may have to rewrite a large table
ROBOTS_TIMEOUT = 20.0
DASHBOARD_TIMEOUT = 40.0


class System:
    """The children of one `casare up`, from nothing to ready."""

    def __init__(self, settings: Settings, data: DataDir, signals: Signals, narrator: Narrator) -> None:
        self._settings, self._data, self._narrator = settings, data, narrator
        self._supervisor = Supervisor(signals, narrator.say, self._changed)
        self._parts = Parts(settings, data)
        self._children: list[Child] = []
        self._ready = False

    def start(self) -> bool:
        """Starts everything; False where something that is not vital did not come up. Raises Failure or Ending."""
        key = credentials.admin_key(self._data)
        if self._settings.new_secret_key:
            credentials.new_secret_key(self._data)
        dashboard = self._launch(self._parts.dashboard()) if self._settings.dashboard else None
        url = self._database()
        servers = [self._launch(self._parts.apiserver(url)), self._launch(self._parts.controller(url))]
        self._migrate(url)
        self._servers_ready(servers)
        with self._client(key) as client:
            agents = self._robots(client)
            applied = self._apply(client)
            idle = self._robots_ready(client, agents)
        shown = dashboard is None or self._dashboard_ready(dashboard)
        self._ready = True
        self._changed()
        return applied and idle and shown

    def look_after(self) -> None:
        """Until somebody wishes it to end."""
        while self._supervisor.run(60.0):
            for child in self._children:
                logs.trim(self._data.log(child.name))

    def stop(self) -> None:
        """Ends everything; up.json goes with it, so that no client looks for what is not there."""
        self._ready = False
        self._supervisor.stop()
        with contextlib.suppress(OSError):
            self._data.record.unlink(missing_ok=True)

    def _changed(self) -> None:
        """Brings up.json up to date, once there is one."""
        if self._ready:
            try:
                record.write(self._data, self._settings, self._children)
            except OSError as error:  # a full disk, say: what runs goes on
                self._narrator.say(f"{self._data.record} can't be written: {error.strerror}")

    def _launch(self, child: Process) -> Process:
        self._supervisor.add(child)
        self._children.append(child)
        return child

    def _database(self) -> str:
        given = os.environ.get("DATABASE_URL")
        if given:
            return given
        from casare_cli.up.database import Postgres

        with self._narrator.step("postgres"):
            postgres = Postgres(self._data.path)
            self._supervisor.add(postgres)
            self._children.append(postgres)
            return postgres.url

    def _migrate(self, url: str) -> None:
        with self._narrator.step("migrations") as ended:
            migrations = self._parts.migrations(url)
            if not self._supervisor.once(migrations, MIGRATIONS_TIMEOUT):
                raise Failure(f"the migrations are not done after {MIGRATIONS_TIMEOUT:.0f} s; see {migrations.log}")
            if migrations.code:
                raise Failure(_without_prefix(migrations.last_words()) or f"migrations failed; see {migrations.log}")
            ended("done")

    def _servers_ready(self, servers: list[Process]) -> None:
        with self._narrator.step("apiserver"):
            import casare_cli.up.fleet  # noqa: F401  while the servers load their own

            ready = f"{self._settings.api}/readyz"
            if not self._supervisor.until(lambda: probes.answers(ready), SERVER_TIMEOUT, servers):
                raise Failure(f"the apiserver is not ready after {SERVER_TIMEOUT:.0f} s; see {servers[0].log}")
        if self._settings.tls:
            self._data.ca.write_bytes((self._data.pki / "ca.crt").read_bytes())

    def _client(self, key: str) -> Client:
        from casare_client import Client, Config

        credentials.write_kubeconfig(self._data, self._settings, key)
        return Client(Config(self._settings.api, key), "casare-up")

    def _robots(self, client: Client) -> list[Process]:
        from casare_cli.up import fleet

        names = self._settings.robot_names
        keys = {name: credentials.robot_key(self._data, name, self._settings.api) for name in names}
        used = {name: credentials.used_key(self._data, name, key) for name, key in keys.items()}
        self._supervisor.during(lambda: fleet.declare_robot_keys(client, used))
        return [self._launch(self._parts.agent(name)) for name in names]

    def _apply(self, client: Client) -> bool:
        if not self._settings.apply:
            return True
        from casare_cli.apply import apply_paths

        done, problems = io.StringIO(), io.StringIO()
        with self._narrator.step("manifests") as ended:
            paths = list(self._settings.apply)
            code = self._supervisor.during(lambda: apply_paths(client, paths, None, done, problems))
            ended(_counts(done.getvalue()) + (", not all" if code else ""))
        for line in problems.getvalue().splitlines():
            self._narrator.say(f"  {line}")
        return code == 0

    def _robots_ready(self, client: Client, agents: list[Process]) -> bool:
        from casare_cli.up import fleet

        if not agents:
            return True

        def look() -> dict[str, str]:
            return fleet.phases(client, {agent.name: agent.pid for agent in agents})

        with self._narrator.step("robots") as ended:
            come = self._supervisor.until(lambda: _all_online(look()), ROBOTS_TIMEOUT)
            found = look()
            ended(_summary(found))
        for agent in agents:
            if not come and found[agent.name] not in fleet.ONLINE:
                self._narrator.say(f"  warning: robot {agent.name} is not there: {agent.last_words() or agent.log}")
        return come

    def _dashboard_ready(self, dashboard: Process) -> bool:
        health = f"{self._settings.dashboard_url}/_stcore/health"
        with self._narrator.step("dashboard") as ended:
            come = self._supervisor.until(lambda: probes.answers(health), DASHBOARD_TIMEOUT)
            ended("ready" if come else "does not answer")
        if not come:
            self._narrator.say(f"  warning: {dashboard.last_words() or dashboard.log}")
        return come


def _all_online(phases: dict[str, str]) -> bool:
    from casare_cli.up import fleet

    return all(phase in fleet.ONLINE for phase in phases.values())


def _counts(lines: str) -> str:
    """`12 created, 3 unchanged`, of apply's lines such as `job/x created`."""
    words = Counter(line.split()[1] for line in lines.splitlines() if " " in line)
    return ", ".join(f"{count} {word}" for word, count in words.items()) or "nothing applied"


def _summary(phases: dict[str, str]) -> str:
    """`2 Idle, 1 Busy`."""
    found = [phase or "missing" for phase in phases.values()]
    return ", ".join(f"{found.count(phase)} {phase}" for phase in dict.fromkeys(found))


def _without_prefix(line: str) -> str:
    return line.removeprefix("error: ")
