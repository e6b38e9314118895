"""The console in a real browser: what a person sees, does, and cannot be made to run."""

import os
import re
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.lineages import TOKEN, Folder, _free_port, wait_for
from support.rollouts import FAST, TWO, flowing
from support.samples import numbers

sync_api = pytest.importorskip("playwright.sync_api", reason="the console's tests want playwright")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here: apt-get install chromium"),
    pytest.mark.timeout(240),
]
#: where screenshots are kept to be looked at
SHOTS = os.environ.get("HOLDFAST_TEST_SCREENSHOTS")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with sync_api.sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-dev-shm-usage"])
        yield found
        found.close()


class Page:
    """A tab with the console in it, and everything that went wrong in it."""

    def __init__(self, browser: Any, url: str, **settings: Any) -> None:
        self.tab = browser.new_page(**{"viewport": {"width": 1300, "height": 900}, **settings})
        self.wrong: list[str] = []
        self.tab.on("pageerror", lambda cause: self.wrong.append(str(cause)))
        self.tab.on("console", self._said)
        self.tab.on("dialog", lambda one: self.wrong.append(f"a dialog: {one.message}"))
        self.tab.goto(url)
        self.tab.wait_for_selector("body[data-ready]", timeout=30_000)

    def _said(self, said: Any) -> None:
        """Plotly brings styles for maps, which nobody asked for; that the policy refuses them is right."""
        if said.type == "error" and not re.search("inline style violates|status of (401|409)", said.text):
            self.wrong.append(said.text)

    def shot(self, name: str) -> None:
        if SHOTS:
            self.tab.screenshot(path=str(Path(SHOTS) / f"{name}.png"), full_page=True)

    def act(self, name: str, token: str | None = None, **given: str) -> str:
        """Do something as a person would, and return what the dialog says at its end."""
        self.tab.click("#more")
        self.tab.click(f"#dialog button:text-is('{name}')")
        for field, value in given.items():
            one = self.tab.locator(f"#dialog [name={field}]")
            one.select_option(value) if one.evaluate("one => one.tagName") == "SELECT" else one.fill(value)
        self.tab.click("text=What would it do?")
        if token is not None:
            self.tab.fill("#dialog input[type=password]", token)
            self.tab.click("text=Go on")
        self.tab.wait_for_selector(".says, [role=alert]:not(:empty)")
        if not self.tab.locator(".says").count():
            return str(self.tab.inner_text("#dialog [role=alert]"))
        self.tab.click("text=Do it")
        self.tab.wait_for_selector("#dialog-title:text-matches('Done|Refused')", timeout=30_000)
        said = str(self.tab.inner_text("#dialog"))
        self.tab.click("#dialog button:text-is('Close')")
        return said


def running(folder: Callable[..., Folder], **settings: Any) -> tuple[Folder, str]:
    """All of it runs, the console too; and the console's address."""
    port = _free_port()
    here = folder(**{"learners": TWO, "console__enabled": True, "console__port": port, "snapshots__every_seconds": 0.3,
                     **FAST, **settings})  # fmt: skip
    here.write(numbers(4000))
    here.start("up")
    here.wait_ready()
    wait_for(lambda: here.lineage.serving("quick") is not None)
    return here, f"http://127.0.0.1:{port}/"


def test_a_person_sees_it_learn_and_puts_a_snapshot_back(folder: Callable[..., Folder], browser: Any) -> None:
    """Live figures; a wrong token; a revert and a roll-out with their plans and entries; the page after a restart."""
    here, url = running(folder)
    page = Page(browser, url)
    tab = page.tab
    learnt = "xpath=//dt[text()='learnt']/following-sibling::dd"
    before = int(tab.inner_text(learnt).replace(",", ""))
    with flowing(here, 4000):
        wait_for(lambda: int(tab.inner_text(learnt).replace(",", "")) > before)
        assert tab.locator("#quality .scatterlayer .trace").count() >= 2
        assert "= the sum of these" in tab.inner_text("#equation")
        assert page.act("revert", token="wrong", learner="slow") == "that is not the token (serve.token_file)"  # noqa: S106
        tab.click("#dialog button:text-is('Cancel')")
        said = page.act("revert", token=TOKEN, learner="slow", why="somebody tries it")
        assert "Done" in said
        wait_for(lambda: "somebody tries it" in tab.inner_text("#decisions"))
        entry = next(one for one in here.json("ledger") if one["action"] == "revert")
        assert (entry["why"], entry["by"].endswith("@console")) == ("somebody tries it", True)
        assert "Done" in page.act("rollout-start", candidate="quick")
        wait_for(lambda: "quick: " in tab.inner_text("#rollout"))
        tab.locator("#strip button.pass").last.click()
        tab.wait_for_selector("#dialog-title:text-matches('Snapshot')")
        assert "events consumed" in tab.inner_text("#dialog")
        page.shot("snapshot")
        tab.click("#dialog button:text-is('close')")
        tab.fill("#at", time.strftime("%Y-%m-%dT%H:%M:%S"))
        tab.click("#at-form button")
        wait_for(lambda: "snapshot" in tab.inner_text("#at-said"))
        tab.wait_for_function("document.getElementById('question').value.length > 10")
        tab.click("text=Ask every model")
        wait_for(lambda: "slow (champion)" in tab.inner_text("#answers"))
        assert "(intercept)" in tab.inner_text("#answers")
        page.shot("console-light")
        other = Page(browser, url, color_scheme="dark", viewport={"width": 390, "height": 800})
        assert other.tab.evaluate("document.documentElement.scrollWidth <= innerWidth")
        other.shot("console-dark-narrow")
        assert other.wrong == []
    here.end()
    wait_for(lambda: "asking again" in tab.inner_text("#state"))
    here.start("console")
    wait_for(lambda: "needs somebody" in tab.inner_text("#state"))
    page.wrong[:] = [one for one in page.wrong if "ERR_CONNECTION" not in one]  # nobody answered for a while
    assert "no process answers" in tab.inner_text("#findings")
    assert tab.locator("#quality .scatterlayer .trace").count() >= 2
    assert page.wrong == []


def test_names_of_others_stay_text_and_five_hundred_slices_are_shown(
    folder: Callable[..., Folder], browser: Any
) -> None:
    """Markup and odd characters in slices and reasons run nothing; the table has all of them, worst first."""
    mixed = {"linear": {"kind": "river", "factory": "model:mixed", "role": "champion"}}
    here = folder(
        learners=mixed, event__slices=["kind"], event__max_slices=600, console__enabled=True, console__port=_free_port()
    )
    events = numbers(6000)
    odd = ["<img src=x onerror=alert(1)>", "</script><script>alert(2)</script>", "Ünïcödé ☃ \u202e"]
    for number, event in enumerate(events):
        event["x"]["kind"] = odd[number % 3] if number % 50 == 0 else f"kind {number % 520}"
    here.write(events)
    here.trained()
    here.run("snapshots", "pin", "1", "--why", "<b onmouseover=alert(3)>why</b>")
    here.start("console")
    time.sleep(1)
    wait_for(lambda: _answers(here.config.console.port))
    page = Page(browser, f"http://127.0.0.1:{here.config.console.port}/")
    assert page.tab.locator("#slices tbody tr").count() >= 500
    assert "<img src=x onerror=alert(1)>" in page.tab.inner_text("#slices")
    assert "<b onmouseover=alert(3)>why</b>" in page.tab.inner_text("#decisions")
    page.tab.select_option("#slice", "kind=<img src=x onerror=alert(1)>")
    page.tab.wait_for_timeout(500)
    assert page.tab.locator("img, #decisions b").count() == 0
    assert page.wrong == []


def test_what_moved_in_the_data_and_all_lineages_on_one_page(
    folder: Callable[..., Folder], browser: Any, tmp_path: Path
) -> None:
    """What moved stands first, with new values; weights beside the reference's; an overview, and the way to each."""
    mixed = {"linear": {"kind": "river", "factory": "model:mixed", "role": "champion"}}
    port = _free_port()
    moving = folder(
        learners=mixed, console__enabled=True, console__port=port, holdout__rate=0.2, holdout__rows=300,
        snapshots__every_events=500,
    )  # fmt: skip
    events = numbers(6000)
    for number, event in enumerate(events):
        event["x"]["kind"] = "new <b>kind</b>" if number > 4000 and number % 3 == 0 else f"kind {number % 4}"
        if number > 4000:
            event["x"]["f3"] += 4
            if number % 2:
                del event["x"]["f5"]
    moving.write(events)
    moving.trained()
    quiet = Folder(tmp_path / "quiet", TWO, console__enabled=False, name="quiet")
    quiet.write(numbers(1000))
    quiet.trained()
    moving.start("console", "--config", str(moving.config_path), "--config", str(quiet.config_path))
    wait_for(lambda: _answers(port))
    page = Page(browser, f"http://127.0.0.1:{port}/")
    tab = page.tab
    tab.wait_for_selector("#overview table")
    assert {"test", "quiet"} <= set(tab.inner_text("#overview").split())
    tab.locator("#data").scroll_into_view_if_needed()
    tab.wait_for_selector("#data tbody tr")
    said = tab.inner_text("#data")
    assert "holdout version" in tab.inner_text("#data-said")
    first = [tab.locator("#data tbody tr").nth(at).locator("td").first.inner_text() for at in range(3)]
    assert set(first) == {"f3", "kind", "f5"}
    assert "new <b>kind</b>" in said
    tab.wait_for_selector("#weights summary")
    tab.click("#weights summary")
    assert "f0" in tab.inner_text("#weights table")
    page.shot("data")
    tab.click("#overview a:text-is('quiet')")
    wait_for(lambda: tab.title().startswith("quiet"))
    wait_for(lambda: "other" in tab.inner_text("#learners") or "quick" in tab.inner_text("#learners"))
    assert page.wrong == []


def test_keyboard_and_screen_reader(folder: Callable[..., Folder], browser: Any) -> None:
    """Axe finds nothing serious, light and dark, with a dialog open too; a dialog opens and closes by keys."""
    from axe_playwright_python.sync_playwright import Axe

    here = folder(learners=TWO, console__enabled=True, console__port=_free_port(), holdout__rate=0.1)
    here.write(numbers(2000))
    here.trained()
    here.start("console")
    wait_for(lambda: _answers(here.config.console.port))
    for scheme in ("light", "dark"):
        page = Page(browser, f"http://127.0.0.1:{here.config.console.port}/", color_scheme=scheme)
        for opened in (False, True):
            if opened:
                page.tab.focus("[data-action=revert]")
                page.tab.keyboard.press("Enter")
                page.tab.wait_for_selector("dialog[open]")
            found = Axe().run(page.tab).response["violations"]
            serious = [
                (one["id"], one["nodes"][0]["html"][:200]) for one in found if one["impact"] in ("serious", "critical")
            ]
            assert serious == []
        page.tab.keyboard.press("Escape")
        assert page.tab.locator("dialog[open]").count() == 0


def test_a_report_opens_without_a_network(folder: Callable[..., Folder], browser: Any, tmp_path: Path) -> None:
    here = folder(learners=TWO, holdout__rate=0.1)
    here.write(numbers(3000))
    here.trained()
    out = tmp_path / "report.html"
    here.run("report", "--out", str(out))
    context = browser.new_context(offline=True)
    tab, wrong = context.new_page(), list[str]()
    tab.on("pageerror", lambda cause: wrong.append(str(cause)))
    tab.on("request", lambda one: None if one.url.startswith(("file:", "data:", "blob:")) else wrong.append(one.url))
    tab.goto(out.as_uri())
    tab.wait_for_selector("#quality .scatterlayer .trace")
    tab.select_option("#figure", "log_loss")
    if SHOTS:
        tab.screenshot(path=str(Path(SHOTS) / "report.png"), full_page=True)
    assert wrong == []


def _answers(port: int) -> bool:
    import httpx

    try:
        return httpx.get(f"http://127.0.0.1:{port}/api").status_code == 200
    except httpx.TransportError:
        return False
