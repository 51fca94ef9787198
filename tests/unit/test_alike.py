"""Objects that are alike are admitted as if each came alone."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from casare_api.kinds.job import JOB
from casare_api.machinery.admission import admit
from casare_api.machinery.alike import Alike
from casare_api.machinery.errors import ApiError

Object = dict[str, Any]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.text(max_size=5) | st.just("\x00"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)
OWN = st.fixed_dictionaries(
    {},
    optional={
        "parameters": JSON,
        "idempotencyKey": st.sampled_from(["a", "b", "", "\x00", 7, None]),
        "priority": st.sampled_from([0, 3, 99, None]),
        "requirements": st.sampled_from([{"tags": ["sap"]}, {"tags": []}, {"tag": []}]),
    },
)
NAMES = st.fixed_dictionaries(
    {}, optional={"name": st.sampled_from(["a", "b", "A b", "", "\x00", 5, None]), "generateName": st.just("g-")}
)


def outcome(admitted: Any) -> Any:
    try:
        return admitted()
    except ApiError as error:
        return error.status, error.reason, error.message


def job(meta: Object, spec: Object) -> Object:
    return {"metadata": meta, "spec": {"workflowRef": {"name": "w"}, **spec}}


@given(st.lists(st.tuples(NAMES, OWN), min_size=1, max_size=6))
def test_each_of_a_list_is_admitted_as_if_it_came_alone(wanted: list[tuple[Object, Object]]) -> None:
    alike = Alike(JOB, "Strict")
    for meta, spec in wanted:
        alone = outcome(lambda meta=meta, spec=spec: admit(JOB, job(dict(meta), dict(spec))))
        assert outcome(lambda meta=meta, spec=spec: alike.admit(job(dict(meta), dict(spec)))) == alone


@pytest.mark.parametrize("body", [None, [], "job", {}, {"metadata": 1}, {"metadata": {}, "spec": []}])
def test_what_is_no_job_is_refused_as_ever(body: Any) -> None:
    with pytest.raises(ApiError):
        Alike(JOB, "Strict").admit(body)


def test_what_one_job_says_never_shows_in_another() -> None:
    alike = Alike(JOB, "Strict")
    first, _ = alike.admit(job({"name": "a"}, {"parameters": {"n": 1}}))
    second, _ = alike.admit(job({"name": "b"}, {"parameters": {"n": 2}}))
    assert (first["metadata"]["name"], first["spec"]["parameters"]) == ("a", {"n": 1})
    assert (second["metadata"]["name"], second["spec"]["parameters"]) == ("b", {"n": 2})
