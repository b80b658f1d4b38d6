"""The streaming page in a real browser: a stream by server-sent events, a chat by WebSocket."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import dspy
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect

from course_lib import desk, lm
from course_lib.concurrency.streaming import Service, serve, streaming_app
from tests.browser import chromium
from tests.caching.conftest import until
from tests.concurrency.test_streaming import model
from tests.concurrency.test_streaming_service import Says

pytestmark = pytest.mark.browser
QUESTION = "How do I wash a down sleeping bag?"


@pytest.fixture
def service(request: pytest.FixtureRequest) -> Iterator[Service]:
    with dspy.context(lm=model(speed_p50_tokens_per_s=getattr(request, "param", 100))):
        app = streaming_app(desk.Answer(), citations="citations", grace_s=0.2)
        with serve(app) as running:
            yield running


@pytest.fixture
def page(service: Service, browser: Browser) -> Iterator[Page]:
    with chromium.page(browser, service.url) as (opened, watch):
        opened.goto(service.url)
        yield opened
        assert watch.problems() == []


def ask(page: Page, part: str, question: str = QUESTION) -> None:
    page.fill(f"#{part} input", question)
    page.press(f"#{part} input", "Enter")


@pytest.mark.parametrize("part", ["events", "chat"])
def test_an_answer_grows_in_the_page_and_names_its_sources(page: Page, part: str) -> None:
    ask(page, part)
    shown = page.locator(f"#{part} .answer")
    expect(shown).not_to_be_empty()
    expect(page.locator(f"#{part}[data-state=done]")).to_have_count(1, timeout=30_000)

    whole = lm.ledger().calls[-1].reply
    assert len(shown.inner_text()) > 100
    assert shown.inner_text() in str(whole)
    expect(page.locator(f"#{part} .sources")).to_contain_text("[1] ")
    expect(page.locator(f"#{part} [role=status]")).to_contain_text("First token after")


class Cut:
    """Breaks the connection of the first stream after its fifth message, as a bad network does."""

    def __init__(self, app: Any) -> None:
        self.app, self.left = app, 5

    async def __call__(self, asked: Any, receive: Any, send: Any) -> None:
        async def cut(message: Any) -> None:
            if asked["path"] == "/stream":
                self.left -= 1
                if self.left == 0:
                    raise ConnectionResetError
            await send(message)

        await self.app(asked, receive, cut)


def test_the_browser_takes_a_broken_stream_up_again_by_itself(browser: Browser) -> None:
    with dspy.context(lm=model(speed_p50_tokens_per_s=60)):
        app = streaming_app(desk.Answer())
        app.add_middleware(Cut)
        with serve(app) as service, chromium.page(browser, service.url) as (page, _):
            page.goto(service.url)
            ask(page, "events")
            expect(page.locator("#events[data-state=done]")).to_have_count(1, timeout=30_000)
            shown = page.locator("#events .answer").inner_text()

    (call,) = lm.ledger().calls
    assert call.status == 200
    assert shown in str(call.reply)


@pytest.mark.parametrize("service", [10], indirect=True, ids=["slowly"])
@pytest.mark.parametrize("part", ["events", "chat"])
def test_stop_ends_the_request_to_the_model(page: Page, part: str) -> None:
    ask(page, part)
    expect(page.locator(f"#{part} .answer")).not_to_be_empty()
    page.click(f"#{part} button[name=stop]")

    until(lambda: lm.ledger().statuses == {499: 1}, "the request ends")


FOREIGN = """async (url) => {
    const stream = url + "/stream?question=", image = new Image();
    await new Promise((end) => { image.onerror = end; image.src = stream + "image"; });
    await fetch(stream + "fetch", { mode: "no-cors" });
    await new Promise((end) => { new EventSource(stream + "events").onerror = end; });
    await new Promise((end) => { new WebSocket(url.replace("http", "ws") + "/chat").onerror = end; });
}"""


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_a_page_of_another_site_does_not_reach_the_model(
    service: Service, browser: Browser, host: str
) -> None:
    with serve(streaming_app(desk.Answer())) as other, chromium.page(browser, other.url) as (page, _):
        page.goto(other.url.replace("127.0.0.1", host) + "/elsewhere")  # an error's page can ask, too
        page.evaluate(FOREIGN, service.url)
        page.set_content(f"<iframe src={service.url}></iframe>")
        expect(page.frame_locator("iframe").locator("#chat")).to_be_visible()  # as a notebook shows it

    assert not service._app.state.streams._streams


def test_what_a_model_writes_is_shown_as_text(browser: Browser) -> None:
    program = Says(lambda question: f"<img src=x onerror=alert(1)>{question}")
    with serve(streaming_app(program)) as service, chromium.page(browser, service.url) as (page, watch):
        page.goto(service.url)
        ask(page, "events", "<b>bold</b>")
        expect(page.locator("#events .answer")).to_have_text("<img src=x onerror=alert(1)><b>bold</b>")

        assert page.locator("img, b").count() == 0
        assert watch.problems() == []


def test_axe_finds_nothing_in_either_theme(page: Page) -> None:
    ask(page, "chat")
    expect(page.locator("#chat[data-state=done]")).to_have_count(1, timeout=30_000)

    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        if shots := os.environ.get("COURSE_SHOTS"):
            page.screenshot(path=f"{shots}/streaming-{scheme}.png")
        assert [found["help"] for found in Axe().run(page).response["violations"]] == []
