"""What do the special routes take and give? Reports, keys, revisions, files, and the explanation of a job that waits.

They are described here and read elsewhere (`casare_apiserver.agents`, `.files`, `.why`, `.artifacts`); tests compare
their fields. The paths are in `openapi_special`.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from casare_api.kinds.kind import Duration, Model, Timestamp, Word
from casare_api.kinds.robot import Drain
from casare_api.kinds.workflow import WorkflowSpec


class Transition(Model):
    """What became of one attempt."""

    namespace: str = Field(description="The job's namespace.")
    name: str = Field(description="The job's name.")
    uid: str = Field(description="The job's uid.")
    attempt: int = Field(description="The attempt's number: what is said of another than the current one is refused.")
    phase: str = Field(description="Running, Succeeded, Failed, Cancelled, Lost or Drained.")
    reason: str | None = Field(None, max_length=100, description="Why, in one word for programs.")
    started_time: Timestamp | None = Field(None, description="When the attempt began to run.")
    finished_time: Timestamp | None = Field(None, description="When it ended.")
    exit_code: int | None = Field(None, description="The exit code of its process.")
    message: str | None = Field(None, max_length=8192, description="Why, in a sentence for people.")
    outputs: dict[str, Any] | None = Field(None, description="What it gave out, at most 256 KiB as JSON.")
    progress: dict[str, Any] | None = Field(None, description="How far it is: percent and message, at most 16 KiB.")


class Report(Model):
    """What a robot says of itself: that it lives, and what became of its attempts since the last report."""

    agent: dict[str, Any] | None = Field(None, description="What its agent says of itself, at most 16 KiB as JSON.")
    telemetry: dict[str, Any] | None = Field(None, description="Measurements of its computer, at most 4 KiB as JSON.")
    leaving: bool = Field(False, description="Whether this is its last report for now.")
    jobs: list[Transition] | None = Field(None, max_length=10_000, description="What became of attempts, in order.")


class Outcome(Model):
    """What the server made of one transition."""

    uid: Any = Field(None, description="The job's uid, as it was said.")
    attempt: Any = Field(None, description="The attempt's number, as it was said.")
    code: int = Field(description="200, or the HTTP status of the refusal.")
    message: str = Field(description="Why it was refused; empty where it was not.")


class Protocols(Model):
    """Agents of which protocols the server takes; the others get 426."""

    min: int = Field(description="The oldest.")
    max: int = Field(description="The newest.")


class Answer(Model):
    """What the robot needs to know."""

    interval_seconds: float = Field(description="After how many seconds the next report should come.")
    desired_state: Literal["Active", "Paused", "Drained"] = Field(description="What people want of the robot.")
    robot_uid: str = Field(alias="robotUID", description="The robot's uid, by which it finds its jobs.")
    jobs: list[Outcome] = Field(description="What the server made of each transition, in their order.")
    drain: Drain | None = Field(None, description="What becomes of running jobs when it is to be Drained.")
    restart_requested_at: Timestamp | None = Field(None, description="When people last asked the agent to restart.")
    protocol: Protocols = Field(description="Which protocols of agents the server takes.")
    approved: bool | None = Field(None, description="False while it waits until somebody lets it take work.")
    rotate_key: str | None = Field(None, description="The robot's own ApiKey, where the agent should rotate it now.")


class Enrolment(Model):
    """What an agent says of its computer when it joins the fleet by a join token."""

    robot_id: str = Field(min_length=1, max_length=253, description="What the agent calls itself.")
    display_name: str | None = Field(None, min_length=1, max_length=253, description="What people call the robot.")
    environment: str | None = Field(None, max_length=63, description="Its environment, unless the token names one.")
    capabilities: list[Word] | None = Field(None, max_length=100, description="What it can do.")
    tags: list[Word] | None = Field(None, max_length=100, description="Words that jobs may ask for.")
    slots: int = Field(1, ge=1, le=100, description="How many jobs it runs at the same time.")
    agent: dict[str, Any] | None = Field(None, description="What its agent says of itself, as in reports.")
    key_hash: str | None = Field(
        None,
        pattern="^sha256:[0-9a-f]{64}$",
        description="SHA-256 of a key that the agent has made for itself: whoever asks again with it gets the same "
        "answer, and no use is spent. Without it the server makes the key and shows it once.",
    )


class EnrolmentAnswer(Model):
    """The robot that came of it."""

    kind: str = Field(description="EnrolmentAnswer.")
    api_version: str = Field(description="The version of this answer.")
    robot_name: str = Field(description="The Robot's name.")
    namespace: str = Field(description="The namespace that it is in: the token's.")
    robot_uid: str = Field(alias="robotUID", description="The Robot's uid.")
    approved: bool = Field(description="Whether it takes work; otherwise it waits until somebody approves it.")
    key: str | None = Field(None, description="The robot's key, where the server made it; it is shown this once.")


class KeyToken(Model):
    """A key, shown this once."""

    kind: str = Field(description="KeyToken.")
    api_version: str = Field(description="The version of this answer.")
    key: str = Field(description="The key itself: the server keeps only its hash.")
    previous_until: Timestamp | None = Field(None, description="Until when the key before is good beside it.")


class KeyRotation(Model):
    """How a key is to be replaced."""

    overlap: Duration | None = Field(
        None,
        description="How long the old key is good beside the new one; 0 makes it bad at once. Where not set, as the "
        "ApiKey says, else 24h.",
    )


class RevisionMeta(Model):
    """The names of a revision."""

    name: str = Field(description="The revision's hash.")
    namespace: str = Field(description="The namespace of its workflow.")


class WorkflowRevision(Model):
    """The content that a workflow had when it had this hash; it never changes."""

    api_version: str = Field(description="The version of this answer.")
    kind: str = Field(description="WorkflowRevision.")
    metadata: RevisionMeta
    spec: WorkflowSpec


class Artifact(Model):
    """A file that a job left behind."""

    name: str = Field(description="Its name.")
    size: int = Field(description="Its length in bytes.")
    sha256: str = Field(description="Its SHA-256 in hex.")
    attempt: int = Field(description="The attempt that left it behind; 0 where somebody added it before the first.")
    created_time: Timestamp = Field(description="When it had come whole.")


class ArtifactList(Model):
    """The files that a job left behind, by name."""

    kind: str = Field(description="ArtifactList.")
    api_version: str = Field(description="The version of this answer.")
    items: list[Artifact] = Field(description="Of each name the newest attempt's file.")


class StoredFile(Model):
    """A file that is kept."""

    sha256: Word = Field(description="Its SHA-256 in hex: its name.")
    size: int = Field(description="Its length in bytes.")


class ExplainedMeta(Model):
    """The names of a job."""

    namespace: str = Field(description="Its namespace.")
    name: str = Field(description="Its name.")
    uid: str | None = Field(None, description="Its uid, where it is there already.")


class ExplainedPlace(Model):
    """Where it stands among the jobs that want the same robots."""

    position: int = Field(description="Its place by rank; 1 is the next.")
    ahead: int = Field(description="How many jobs come before it.")
    is_exact: bool = Field(description="Whether that is all of them; otherwise there are more.")
    queued: int = Field(description="How many jobs of its namespace wait.")
    queued_is_exact: bool = Field(description="Whether that is all of them; otherwise there are more.")


class ExplainedReason(Model):
    """One thing that holds it up."""

    rule: str = Field(description="The rule, in one word for programs.")
    message: str = Field(description="What the rule says, in a sentence for people.")
    robots: int = Field(description="How many robots it keeps away: those that no rule before it does.")


class ExplainedRobots(Model):
    """How many robots there are; each number counts some of those before it, online and free those that match."""

    total: int = Field(description="All of the fleet.")
    serving: int = Field(description="Those that serve its namespace.")
    matching: int = Field(description="Those of them that have all that it asks for.")
    online: int = Field(description="Those of them that are online.")
    free: int = Field(description="Those of them that may take work and have a slot free.")


class NearRobot(Model):
    """A robot that can't take it, with all that is in the way."""

    name: str = Field(description="Its name.")
    namespace: str | None = Field(None, description="Its namespace, where that is not the job's.")
    lacks: list[str] = Field(description="What it lacks.")
    changes: list[str] = Field(description="What would have to be done, in the same order.")


class ServingRobot(Model):
    """A robot that has all that it asks for."""

    name: str = Field(description="Its name.")
    namespace: str | None = Field(None, description="Its namespace, where that is not the job's.")
    state: str = Field(
        description="Idle, Busy, Paused, Draining, Drained, Maintenance, Restarting, Refused or Offline."
    )
    free_slots: int = Field(description="For how many jobs it has room.")
    message: str = Field(description="How it fares, in words for people.")


class ExplainedKey(Model):
    """Its concurrency key."""

    key: str = Field(description="The key.")
    limit: int = Field(description="How many jobs of it may run at a time.")
    live: int = Field(description="How many do.")
    holders: list[str] = Field(description="Some of those that do.")


class ExplainedQuota(Model):
    """What its namespace's Quota lets run."""

    max_running: int = Field(description="How many jobs of the namespace may run at a time.")
    running: int = Field(description="How many do.")
    weight: int = Field(description="The namespace's share while others wait, too.")


class JobExplanation(Model):
    """Why a job waits; of one that does not, only its phase and a message."""

    api_version: str = Field(description="The version of this answer.")
    kind: str = Field(description="JobExplanation.")
    metadata: ExplainedMeta
    phase: str = Field(description="The job's phase.")
    message: str = Field(description="What matters most, in a sentence for people.")
    place: ExplainedPlace | None = None
    reasons: list[ExplainedReason] | None = Field(None, description="All that holds it up.")
    robots: ExplainedRobots | None = None
    nearest: list[NearRobot] | None = Field(None, description="Where no robot is free, those that lack the least.")
    would_serve: list[ServingRobot] | None = Field(
        None, description="Robots that have all that it asks for, first those that have room soonest."
    )
    concurrency: ExplainedKey | None = None
    quota: ExplainedQuota | None = None
    rank: Timestamp | None = Field(None, description="By this it stands in the queue: the earliest is next.")
    bounded_by: str | None = Field(None, description="What can come before it and what can not, in words for people.")


MODELS: dict[str, type[Model]] = {
    "RobotReport": Report,
    "RobotReportAnswer": Answer,
    "Enrolment": Enrolment,
    "EnrolmentAnswer": EnrolmentAnswer,
    "KeyToken": KeyToken,
    "KeyRotation": KeyRotation,
    "WorkflowRevision": WorkflowRevision,
    "StoredFile": StoredFile,
    "JobExplanation": JobExplanation,
    "Artifact": Artifact,
    "ArtifactList": ArtifactList,
}
