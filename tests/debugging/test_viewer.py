"""The spans of a run stand in a real viewer, with their parents, tokens and content."""

from __future__ import annotations

import httpx

from course_lib import desk
from course_lib.debugging import DistributedTracer
from course_lib.services import running_traces


def test_a_run_stands_in_the_viewer_that_the_notebook_starts() -> None:
    viewer = running_traces()
    tracer = DistributedTracer(viewer.url, service="viewed", headers=viewer.headers, content=True)
    with tracer:
        pred = desk.Answer()(question="How long is the warranty? I am ann.roe@example.org")
    assert tracer.flush(30), tracer.last_error
    tracer.close()

    with httpx.Client(base_url=viewer.url) as http:
        http.post("/api/login", json={"password": viewer.password}).raise_for_status()
        (run,) = http.get("/api/projects/viewed/runs").json()["items"]
        spans = http.get(f"/api/traces/{run['trace_id']}").json()["runs"]
    names = {span["id"]: span["name"] for span in spans}
    (chat,) = [span for span in spans if span["model"]]
    assert run["name"] == "Answer"
    assert names[chat["parent_run_id"]] == "Predict(AnswerFromArticles)"
    assert chat["input_tokens"] > 500
    assert pred.answer[:40] in str(chat["outputs"])
    (module,) = [span for span in spans if span["name"] == "Answer"]
    assert "How long is the warranty? I am [email]" in str(module["inputs"])
    assert pred.answer[:40] in str(module["outputs"])
