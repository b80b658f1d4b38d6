from __future__ import annotations

import pytest

from tests.browser import chromium

pytestmark = pytest.mark.browser
BAD_PAGE = (
    '<img src="http://127.0.0.1:9/x.png"><script>console.error("told"); throw new Error("boom")</script>'
)


def test_a_watched_page_tells_of_errors_and_of_requests_to_others():
    with chromium.page("http://127.0.0.1:8888") as (page, watch):
        page.set_content(BAD_PAGE)
        page.wait_for_timeout(200)

        problems = "\n".join(watch.problems())

    for expected in ("request to http://127.0.0.1:9/x.png", "page error: boom", "console: told"):
        assert expected in problems


def test_a_page_of_ours_is_let_through():
    with chromium.page("http://127.0.0.1:8888") as (page, watch):
        page.set_content('<img src="data:image/gif;base64,R0lGODlhAQABAAAAACw="><p>ours</p>')
        page.wait_for_timeout(200)

        assert watch.problems() == []
