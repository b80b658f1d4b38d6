from __future__ import annotations

import pytest

from tests.browser import chromium

pytestmark = pytest.mark.browser
HOME = "http://127.0.0.1:8888"
BAD = '<img src="http://127.0.0.1:9/x.png"><script>console.error("told"); throw new Error("boom")</script>'
OURS = '<img src="data:image/gif;base64,R0lGODlhAQABAAAAACw="><p>ours</p>'


def test_a_watched_page_tells_of_errors_and_of_requests_to_others_and_lets_ours_through(browser):
    with chromium.page(browser, HOME) as (page, watch):
        page.set_content(OURS)
        page.wait_for_timeout(200)
        assert watch.problems() == []

        page.set_content(BAD)
        page.wait_for_timeout(200)
        problems = "\n".join(watch.problems())

    for expected in ("request to http://127.0.0.1:9/x.png", "page error: boom", "console: told"):
        assert expected in problems
