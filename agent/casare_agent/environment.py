"""Which variables does a job see? Those of the computer that programs need, the workflow's own, and those that name it.

Never the agent's key or any other setting of the agent: only what is listed here is inherited.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from casare_agent.assignment import Assignment
from casare_agent.leftovers import Mark

INHERITED = frozenset(
    """
    PATH HOME USER LOGNAME SHELL LANG LANGUAGE TZ TMPDIR TEMP TMP
    DISPLAY WAYLAND_DISPLAY XAUTHORITY XDG_RUNTIME_DIR XDG_SESSION_TYPE DBUS_SESSION_BUS_ADDRESS LD_LIBRARY_PATH
    HTTP_PROXY HTTPS_PROXY NO_PROXY ALL_PROXY SSL_CERT_FILE SSL_CERT_DIR REQUESTS_CA_BUNDLE PLAYWRIGHT_BROWSERS_PATH
    SYSTEMROOT SYSTEMDRIVE WINDIR COMSPEC PATHEXT USERPROFILE USERNAME USERDOMAIN COMPUTERNAME HOMEDRIVE HOMEPATH
    APPDATA LOCALAPPDATA PROGRAMDATA PROGRAMFILES PROGRAMFILES(X86) PROGRAMW6432 COMMONPROGRAMFILES PUBLIC
    NUMBER_OF_PROCESSORS PROCESSOR_ARCHITECTURE SESSIONNAME
    """.split()  # noqa: SIM905 - a hundred quotation marks less to read past
)
# One variable may hold 128 KiB on Linux and 32,767 characters on Windows; longer parameters are in the file alone.
LONGEST_PARAMETERS = 32_000

OUTPUTS, PROGRESS, PARAMETERS = "outputs.json", "progress.json", "parameters.json"
ARTIFACTS = "artifacts"  # a directory: the files in it are kept


def inherited(environ: Mapping[str, str]) -> dict[str, str]:
    """What a job inherits of this process's environment."""
    return {name: value for name, value in environ.items() if name.upper() in INHERITED or name.startswith("LC_")}


def for_pip(environ: Mapping[str, str]) -> dict[str, str]:
    """What building a virtual environment sees: pip's own settings too."""
    return inherited(environ) | {name: value for name, value in environ.items() if name.startswith("PIP_")}


def for_job(
    assignment: Assignment, directory: Path, environ: Mapping[str, str], own: Mapping[str, str]
) -> dict[str, str]:
    """What a job sees. `directory` is the attempt's, `own` are the workflow's variables; they can't unname the job."""
    parameters = json.dumps((assignment.spec or {}).get("parameters") or {})
    (directory / PARAMETERS).write_text(parameters, encoding="utf-8")
    (directory / ARTIFACTS).mkdir(exist_ok=True)
    named = {
        "CASARE_JOB_NAME": assignment.name,
        "CASARE_JOB_NAMESPACE": assignment.namespace,
        "CASARE_PARAMETERS_FILE": str(directory / PARAMETERS),
        "CASARE_OUTPUTS_FILE": str(directory / OUTPUTS),
        "CASARE_PROGRESS_FILE": str(directory / PROGRESS),
        "CASARE_ARTIFACTS": str(directory / ARTIFACTS),
    }
    if len(parameters) <= LONGEST_PARAMETERS:
        named["CASARE_PARAMETERS"] = parameters
    return {**inherited(environ), **own, **named, **Mark(assignment.uid, assignment.attempt).variables()}
