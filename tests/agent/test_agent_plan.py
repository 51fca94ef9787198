"""The plan: from what is wanted and what is held to what is to be done."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from casare_agent.assignment import Assignment
from casare_agent.plan import LIVE, Begin, Cancel, Forget, Held, Intake, Return, Settle, Stage, Withdraw, plan

JOB = Assignment("default", "job-1", "u1", 1, spec={})
OTHER = replace(JOB, uid="u2", name="job-2")


def test_an_assigned_job_is_begun_once() -> None:
    assert plan({"u1": JOB}, {}) == [Begin(JOB)]
    for stage in Stage:
        assert plan({"u1": JOB}, {"u1": Held(1, stage)}) == []


def test_a_running_job_that_this_process_does_not_know_is_lost() -> None:
    (action,) = plan({"u1": replace(JOB, phase="Running")}, {})
    assert isinstance(action, Settle)
    assert (action.phase, action.reason) == ("Lost", "AgentRestarted")


def test_a_cancelled_job_is_stopped_once_and_never_begun() -> None:
    cancelled = replace(JOB, cancel=True)
    assert plan({"u1": cancelled}, {"u1": Held(1, Stage.RUNNING)}) == [Cancel("u1")]
    assert plan({"u1": cancelled}, {"u1": Held(1, Stage.RUNNING, stopping=True)}) == []
    (action,) = plan({"u1": cancelled}, {})
    assert isinstance(action, Settle) and action.phase == "Cancelled"


def test_an_attempt_that_is_not_wanted_any_more_is_withdrawn_or_forgotten() -> None:
    assert plan({}, {"u1": Held(1, Stage.RUNNING)}) == [Withdraw("u1")]
    assert plan({}, {"u1": Held(1, Stage.RUNNING, stopping=True)}) == []
    assert plan({}, {"u1": Held(1, Stage.ANNOUNCED)}) == [Forget("u1")]
    assert plan({}, {"u1": Held(1, Stage.DELIVERED)}) == [Forget("u1")]


def test_a_result_is_kept_until_it_is_delivered_even_when_the_job_is_gone() -> None:
    assert plan({}, {"u1": Held(1, Stage.ENDED)}) == []


def test_the_next_attempt_of_the_same_job_begins_when_the_last_is_over() -> None:
    second = replace(JOB, attempt=2)
    assert plan({"u1": second}, {"u1": Held(1, Stage.RUNNING)}) == [Withdraw("u1")]
    assert plan({"u1": second}, {"u1": Held(1, Stage.ENDED)}) == []
    assert plan({"u1": second}, {"u1": Held(1, Stage.DELIVERED)}) == [Forget("u1"), Begin(second)]


def test_while_a_withdrawn_process_is_on_its_way_out_one_job_less_begins() -> None:
    lingering = {"old": Held(1, Stage.RUNNING, stopping=True)}
    assert plan({"u1": JOB}, lingering) == []
    assert plan({"u1": JOB, "u2": OTHER}, lingering) == [Begin(JOB)]


def test_an_ending_agent_begins_nothing_and_gives_back_at_the_end() -> None:
    assert plan({"u1": JOB}, {}, Intake.CLOSED) == []
    (action,) = plan({"u1": JOB}, {}, Intake.RETURNED)
    assert isinstance(action, Settle) and action.phase == "Drained"


_UIDS = st.sampled_from(["a", "b", "c", "d"])
_WANTED = st.dictionaries(
    _UIDS, st.builds(lambda phase, attempt, cancel: (phase, attempt, cancel),
                     st.sampled_from(["Assigned", "Running"]), st.integers(1, 3), st.booleans())
)
_HELD = st.dictionaries(_UIDS, st.builds(Held, st.integers(1, 3), st.sampled_from(list(Stage)), st.booleans()))


@given(wanted=_WANTED, held=_HELD, intake=st.sampled_from(list(Intake)))
def test_whatever_the_situation_nothing_runs_twice_or_beyond_its_slots(
    wanted: dict[str, tuple[str, int, bool]], held: dict[str, Held], intake: Intake
) -> None:
    jobs = {uid: Assignment("ns", uid, uid, attempt, phase, cancel) for uid, (phase, attempt, cancel) in wanted.items()}
    actions = plan(jobs, held, intake)
    forgotten = {action.uid for action in actions if isinstance(action, Forget)}
    begun = [action.assignment for action in actions if isinstance(action, Begin)]
    assert all(one.uid not in held or one.uid in forgotten for one in begun)
    assert all(one.phase == "Assigned" and not one.cancel for one in begun)
    assert not begun or intake is Intake.OPEN
    slots = len([one for one in jobs.values() if one.phase in ("Assigned", "Running")])
    running = [uid for uid, one in held.items() if one.stage in LIVE and uid not in forgotten]
    assert len(begun) + len(running) <= max(slots, len(running))
    touched = [getattr(action, "uid", None) for action in actions if isinstance(action, Withdraw | Cancel)]
    assert all(not held[str(uid)].stopping for uid in touched)


def test_what_is_to_be_given_back_is_ended_once_and_cancelling_it_comes_first() -> None:
    held = {"u": Held(1, Stage.RUNNING)}
    drained = Assignment("default", "j", "u", 1, "Running", drain=True)
    assert plan({"u": drained}, held) == [Return("u")]
    assert plan({"u": drained}, {"u": Held(1, Stage.RUNNING, stopping=True)}) == []
    assert plan({"u": drained}, {"u": Held(1, Stage.ENDED)}) == []
    assert plan({"u": replace(drained, cancel=True)}, held) == [Cancel("u")]
