"""The console in a real Chromium: axe-core, a phone, live rows, filters, keyboard, its policy."""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass

import pytest

from agent.fleet.console.accounts import Accounts, Role
from agent.fleet.console.commands import Commands
from agent.fleet.console.routing import Console
from agent.fleet.storage.sqlite import SqliteFleetStore
from tests.fleet.console.conftest import PASSWORD
from tests.support.browser import chromium, hidden_px, split_words, violations
from tests.support.fleet_messages import received, report, state, telemetry
from tests.support.simulated_fleet import NOW_MS, NOW_S, add_history, fill, report_json
from tests.support.web import served

pytestmark = pytest.mark.slow  # a browser

WIDTHS_PX = (390, 1400)
PATHS = (
    "/", "/?attention=any&board=orin-nano", "/devices/cam-0001", "/models", "/models/faces",
    "/compare?a=cam-0001&b=cam-0002", "/send?device=cam-0001", "/commands", "/quarantine", "/people",
    "/audit", "/nowhere",
)  # fmt: skip


@dataclass
class Site:
    """A served console over 120 simulated devices."""

    url: str
    store: SqliteFleetStore
    accounts: Accounts
    session: str


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("console")
    store = SqliteFleetStore(str(folder / "fleet.db"))
    fill(store, 120)
    add_history(store)
    slow = report(body=report_json("cam-0007"), precision="int8-mixed", latency_p50_ms=44.1)
    store.write([received(slow, "cam-0007", seq=9, at_ms=NOW_MS)], [])  # stands out
    begun_s = time.monotonic()
    accounts = Accounts(folder / "console.db")
    _, session = accounts.use_link(accounts.link("kim", Role.OPERATOR), PASSWORD)
    console = Console(
        accounts=accounts,
        commands=Commands(folder / "console.db"),
        store=store,
        clock=lambda: NOW_S + time.monotonic() - begun_s,
    )
    with served(console) as url:
        yield Site(url, store, accounts, session)
    store.close()
    accounts.close()


@pytest.fixture(scope="module")
def browser():
    with chromium() as found:
        yield found


@pytest.fixture
def opened(browser, site):
    """Return a page of the signed-in operator; what it logs or fails to load is an error."""
    with contextlib.ExitStack() as stack:

        def open_page(path, width_px=1400, *, signed_in=True, **options):
            context = stack.enter_context(
                contextlib.closing(
                    browser.new_context(viewport={"width": width_px, "height": 900}, **options)
                )
            )
            if signed_in:
                cookie = {"name": "quantd", "value": site.session, "url": site.url}
                context.add_cookies([cookie])
            page = context.new_page()
            seen: list[str] = []
            page.on("console", lambda message: seen.append(message.text))
            page.on("pageerror", lambda error: seen.append(str(error)))
            page.on(
                "request",
                lambda request: request.url.startswith(site.url) or seen.append(request.url),
            )
            page.goto(site.url + path)
            page.seen = seen
            return page

        yield open_page


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width_px", WIDTHS_PX)
def test_axe_finds_nothing_on_any_page_and_nothing_is_beside_the_window(opened, width_px, scheme):
    page = opened(PATHS[0], width_px, color_scheme=scheme, bypass_csp=True)
    for path in PATHS:
        page.goto(page.url.split("/", 3)[0] + "//" + page.url.split("/")[2] + path)
        assert violations(page) == "", path
        assert hidden_px(page) <= 0, path
        assert split_words(page) == [], path
    assert [one for one in page.seen if "404" not in one] == []


@pytest.mark.parametrize("width_px", WIDTHS_PX)
def test_axe_finds_nothing_where_one_signs_in(opened, width_px):
    page = opened("/devices/cam-0001", width_px, signed_in=False, bypass_csp=True)
    assert "/sign-in" in page.url
    assert violations(page) == ""
    page.fill("#name", "kim")
    page.fill("#password", PASSWORD)
    page.press("#password", "Enter")
    page.wait_for_url("**/devices/cam-0001")


def test_the_device_that_needs_attention_is_in_the_first_window_of_a_phone(opened):
    page = opened("/", 390)
    assert "need attention" in page.locator("h1").inner_text()
    first = page.locator("#results tbody tr").first
    assert "needs" in first.get_attribute("class")
    assert first.bounding_box()["y"] < 900


def test_a_row_changes_by_itself_and_keeps_the_focus(opened, site):
    page = opened("/?q=cam-0002")
    page.get_by_text("Live.").wait_for()
    page.locator("#d-cam-0002 a").focus()
    at_ms = NOW_MS + 3_000
    site.store.write(
        [received(telemetry('{"a": 1}', latency_p50_ms=77.25), "cam-0002", at_ms=at_ms)], []
    )
    page.locator("#d-cam-0002", has_text="77.2").wait_for(timeout=20_000)
    assert page.evaluate("document.activeElement.textContent") == "cam-0002"
    assert page.seen == []


def test_a_device_page_follows_a_run(opened, site):
    page = opened("/devices/cam-0010")
    page.get_by_text("Live.").wait_for()
    job = '{"run_id":"r-1","kind":"optimize","stage":"quantize","pct":55.0}'
    site.store.write([received(state(job=job), "cam-0010", sess=9, at_ms=NOW_MS + 5_000)], [])
    page.get_by_text("stage quantize, 55 %").wait_for(timeout=20_000)


def test_filters_act_while_one_types_and_the_address_follows(opened):
    page = opened("/")
    page.fill("[name=q]", "0042")
    page.locator("#results tbody tr").nth(1).wait_for(state="detached", timeout=20_000)
    assert page.locator("#results tbody tr").count() == 1
    assert page.url.endswith("?q=0042")
    assert page.evaluate("document.activeElement.name") == "q"


def test_without_scripts_pages_filters_and_orders_work(opened):
    page = opened("/", java_script_enabled=False)
    page.get_by_role("link", name="Next").click()
    assert page.locator("#results tbody tr").count() == 50
    page.fill("[name=q]", "0042")
    page.get_by_role("button", name="Filter").click()
    assert page.locator("#results tbody tr").count() == 1


def test_the_telemetry_is_drawn_under_the_policy(opened):
    page = opened("/devices/cam-0001")
    page.locator("#plot canvas").wait_for(timeout=20_000)
    assert page.locator("#plot").get_attribute("aria-label").startswith("temp_c over time")
    page.select_option("[name=figure]", "memory_free_mb")
    page.get_by_role("img", name="memory_free_mb over time").wait_for(timeout=20_000)
    assert page.seen == []


def test_the_keyboard_reaches_content_and_devices(opened):
    page = opened("/")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.keyboard.press("Enter")
    for _ in range(30):
        page.keyboard.press("Tab")
        if page.evaluate("!!document.activeElement.closest('tbody')"):
            break
    assert page.evaluate("document.activeElement.getAttribute('href')").startswith("/devices/")


def test_a_report_opens_and_loads_nothing(opened, site):
    found = site.store.reports("cam-0001")[0].id
    page = opened(f"/devices/cam-0001/reports/{found}")
    assert page.locator("tbody.candidate").count() > 2
    assert page.locator("script").count() == 0
    assert page.seen == []
