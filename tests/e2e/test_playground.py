"""The playground in a real Chromium, served by a real server with the demo checkpoint."""

from __future__ import annotations

import json
import re
import struct
import time
from base64 import b64encode, urlsafe_b64decode
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi.testclient import TestClient
from playwright.sync_api import Browser, ConsoleMessage, Locator, Page, Response, Route, expect

from metaalign import DIMENSIONS
from metaalign_server.serving.app import create_app
from metaalign_server.settings import Settings
from tests.browsers import running_browser
from tests.pictures import PICTURE, RECORD, record
from tests.processes import Server, free_port, running

pytestmark = pytest.mark.slow

KEY = "playground-key"
READER_KEY = "playground-reader-key"
OTTER = "Tell me three things about the otter."
PATIENCE = 45_000  # milliseconds; the machine may be busy

expect.set_options(timeout=PATIENCE)


@contextmanager
def serving(folder: Path, **settings: str) -> Iterator[Server]:
    port = free_port()
    command = ["-m", "metaalign_server.cli", "serve", "--port", str(port)]
    env = {"OMP_NUM_THREADS": "1"} | {f"METAALIGN_{name.upper()}": value for name, value in settings.items()}
    with running(command, f"http://127.0.0.1:{port}", folder / "server.log", env=env) as server:
        yield server


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with keys, which keeps exchanges."""
    keys = f"{KEY},{READER_KEY}:inference"
    with serving(tmp_path_factory.mktemp("keyed"), api_keys=keys, feedback="true") as server:
        yield server


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with running_browser() as browser:
        yield browser


@contextmanager
def opened(browser: Browser, url: str, *, refusals: bool = True, **options: Any) -> Iterator[Page]:
    """The page in a browser window of its own, which must have nothing to complain of and ask nobody else.

    `refusals` says whether requests that have a key may be answered with an error.
    """
    context = browser.new_context(**({"viewport": {"width": 1440, "height": 1000}} | options))
    context.set_default_timeout(PATIENCE)
    page = context.new_page()
    complaints: list[str] = []
    refused: list[str] = []
    asked: list[str] = []
    page.on("pageerror", lambda error: complaints.append(str(error)))

    def hear(said: ConsoleMessage) -> None:
        # Chromium writes a line for each answer of 400 and more; what the page makes of them is looked at by tests.
        if said.type in ("error", "warning") and not said.text.startswith("Failed to load resource"):
            complaints.append(said.text)

    def see(response: Response) -> None:
        if response.status >= 400 and "authorization" in response.request.headers:
            refused.append(f"{response.status} {response.url}")

    page.on("console", hear)
    page.on("response", see)
    page.on("request", lambda request: asked.append(request.url))
    page.goto(f"{url}/playground")
    yield page
    assert complaints == []
    assert refusals or refused == []
    assert [address for address in asked if not address.startswith((f"{url}/", "data:"))] == []
    context.close()


@pytest.fixture
def page(browser: Browser, server: Server) -> Iterator[Page]:
    """The page with the key that may do everything; no answer may be an error."""
    with opened(browser, server.url, refusals=False) as page:
        expect(page.locator("#server")).to_have_text("asks for a key")
        page.get_by_label("Key", exact=True).fill(KEY)
        expect(page.locator("#server")).to_have_text("metaalign-demo")
        expect(column(page, "B").get_by_text("tokens in all")).to_be_visible()
        yield page


def column(page: Page, letter: str) -> Locator:
    return page.get_by_role("article", name=f"Column {letter}")


def answer(page: Page, letter: str) -> Locator:
    return page.get_by_role("region", name=f"Answer {letter}")


def tier(page: Page, letter: str, name: str) -> Locator:
    return column(page, letter).get_by_role("group", name=name)


def receipt(page: Page, letter: str) -> Locator:
    return column(page, letter).locator(".receipt")


def ask(page: Page, *letters: str) -> None:
    """Ask, and wait until these columns have their whole answers."""
    page.get_by_role("button", name="Ask", exact=True).first.click()
    settle(page, *letters)


def settle(page: Page, *letters: str) -> None:
    for letter in letters:
        expect(answer(page, letter)).to_have_attribute("aria-busy", "false")
        expect(receipt(page, letter).get_by_text("template")).to_be_visible()
        expect(column(page, letter).get_by_role("button", name="Influence")).to_be_visible()


def preset(page: Page, name: str, *letters: str) -> None:
    page.get_by_role("button", name=name).click()
    settle(page, *letters)


def state_of(page: Page) -> Any:
    """What the link holds."""
    page.wait_for_function("location.hash.startsWith('#p=')")
    text = page.evaluate("location.hash").removeprefix("#p=")
    return json.loads(urlsafe_b64decode(text + "=" * (-len(text) % 4)))


def test_the_page_takes_no_key_and_says_what_it_may_load(server: Server) -> None:
    with httpx.Client(base_url=server.url, timeout=60) as client:
        page = client.get("/playground")
        assert page.status_code == 200
        assert page.headers["content-type"] == "text/html; charset=utf-8"
        policy = dict(
            part.strip().split(" ", 1) for part in page.headers["content-security-policy"].split(";")
        )
        assert policy == {
            "default-src": "'none'",
            "script-src": "'self'",
            "style-src": "'self'",
            "connect-src": "'self'",
            "img-src": "'self' data:",
            "base-uri": "'none'",
            "form-action": "'none'",
            "frame-ancestors": "'none'",
            "require-trusted-types-for": "'script'",
        }
        assert page.headers["x-content-type-options"] == "nosniff"
        loaded = re.findall(r'(?:src|href)="(playground/[^"]+)"', page.text)
        assert len(loaded) >= 3
        for name in loaded:
            file = client.get(f"/{name}")
            assert file.status_code == 200, name
            assert file.headers["content-security-policy"] == page.headers["content-security-policy"]
            again = client.get(f"/{name}", headers={"if-none-match": file.headers["etag"]})
            assert (again.status_code, again.content) == (304, b"")
        assert client.get("/playground/", follow_redirects=True).content == page.content
        known = client.get("/playground/known.json").json()
        assert [each["name"] for each in known["dimensions"]] == list(DIMENSIONS)
        for path in (
            "/playground/nothing.js",
            "/playground/../settings.py",
            "/playground/%2e%2e/settings.py",
        ):
            assert client.get(path).status_code in (401, 404), path
        assert client.get("/v1/models").status_code == 401


def test_an_operator_can_switch_it_off() -> None:
    # Not in a server of its own, which takes long to start.
    client = TestClient(create_app(Settings(_env_file=None, playground=False)))
    for path in ("/playground", "/playground/app.js", "/playground/known.json"):
        assert client.get(path).status_code == 404


def test_code_only_ever_sets_text() -> None:
    """The browser refuses markup from text too, by the policy; this says it before a browser is at hand."""
    folder = files("metaalign_server") / "playground"
    for file in folder.iterdir():
        if file.name.endswith(".js"):
            code = file.read_text(encoding="utf-8")
            assert not re.search(
                r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|DOMParser|eval\(|localStorage|sessionStorage|cookie",
                code,
            ), file.name


def test_columns_stream_side_by_side(page: Page) -> None:
    """Answers grow as they come, under the preferences of their columns."""
    page.evaluate(
        """() => {
            window.seen = [];
            for (const text of document.querySelectorAll('.column .text'))
                new MutationObserver(() => window.seen.push(text.textContent.length)).observe(text, {childList: true});
        }"""
    )
    ask(page, "A", "B", "C", "D")
    expect(answer(page, "A")).to_contain_text("matey")
    expect(answer(page, "B")).to_contain_text("- The otter")
    expect(answer(page, "C")).to_contain_text("In simple words")
    facts = json.loads(answer(page, "D").text_content() or "")["facts"]
    assert any("nutria" in fact for fact in facts)
    lengths = page.evaluate("window.seen")
    assert len({length for length in lengths if length}) > 8, "the answers came in one piece"
    expect(receipt(page, "B")).to_contain_text("User Info (6 tokens) was applied.")
    expect(receipt(page, "B")).to_contain_text("Passed: format")


def test_a_preference_is_changed_and_loses(page: Page) -> None:
    """The override is shown while it is typed, and told in words by the receipt."""
    preset(page, "Who wins?", "A", "B")
    expect(answer(page, "B")).to_contain_text("Ahoy, Ada!")
    expect(receipt(page, "B")).to_contain_text(
        "Tone: “formal” of the user lost to “pirate”, set by the provider in this request."
    )
    expect(receipt(page, "A")).to_contain_text("Nothing was overridden.")

    system, user = tier(page, "A", "System Info"), tier(page, "A", "User Info")
    expect(system).to_contain_text("0 tokens")
    system.get_by_label("Add a dimension to System Info").select_option("format")
    system.get_by_label("format", exact=True).select_option("numbered")
    expect(user).to_contain_text("Loses to “numbered” of System Info")
    expect(system).not_to_contain_text(re.compile(r"\b0 tokens"))
    told = column(page, "A").locator(".told")
    expect(told).to_contain_text("Answer as a numbered list.")
    expect(told).not_to_contain_text("Answer as a bulleted list.")
    ask(page, "A", "B")
    expect(answer(page, "A")).to_contain_text("1. The otter")
    expect(receipt(page, "A")).to_contain_text("Format: “bullets” of the user lost to “numbered”")

    user.get_by_role("button", name="Remove format").click()
    expect(user.get_by_text("Loses to")).to_have_count(0)


def test_dimensions_of_ones_own_priorities_and_locks(page: Page) -> None:
    system = tier(page, "A", "System Info")
    add = system.get_by_label("Add a dimension to System Info")
    add.select_option("priorities")
    system.get_by_label("Most important first").fill("harmlessness, helpfulness")
    add.select_option("another")
    system.get_by_label("Name of your dimension").fill("Reading level")
    system.get_by_label("Value of your dimension").fill("low")
    add.select_option("length")
    system.get_by_role("button", name="Lock length").click()
    told = column(page, "A").locator(".told")
    expect(told).to_contain_text("Priorities, most important first: harmlessness, helpfulness.")
    expect(told).to_contain_text("Reading level: low.")
    expect(told).to_contain_text("Answer in one sentence.")
    first = state_of(page)["columns"][0]["system"]
    assert first["priorities"] == "harmlessness, helpfulness"
    assert {"name": "length", "value": "one_sentence", "locked": True} in first["attributes"]


def slide(slider: Locator, value: str) -> None:
    """Move a slider by the keyboard alone."""
    slider.focus()
    slider.press("Home")  # its lowest value, 0
    for _ in range(round(float(value) * 10)):
        slider.press("ArrowRight")
    expect(slider).to_have_value(value)


def test_how_strongly_the_tiers_act(page: Page, browser: Browser, server: Server) -> None:
    """Sliders from 0 to 4, sent unless they are at 1, kept in the link, and told by the receipt."""
    preset(page, "Who wins?", "A", "B")
    bullets = answer(page, "A").text_content()
    user = tier(page, "A", "User Info").get_by_label("User strength")
    system = tier(page, "B", "System Info").get_by_label("System strength")
    for slider in (user, system):
        limits = [slider.get_attribute(name) for name in ("type", "min", "max", "step")]
        assert limits == ["range", "0", "4", "0.1"]
        expect(slider).to_have_value("1")
        expect(slider).to_have_attribute("aria-valuetext", "1, as trained")
    slide(user, "0")
    expect(user).to_have_attribute("aria-valuetext", "0, as if it were not there")
    slide(system, "1.5")
    expect(tier(page, "B", "System Info").locator("output")).to_have_text("1.5")
    # The dry run follows: nothing of User Info is in the prompt any more.
    expect(column(page, "A").locator(".told .is-user")).to_contain_text("empty")

    sent: list[Any] = []
    page.on(
        "request",
        lambda request: (
            sent.append(request.post_data_json) if request.url.endswith("/v1/chat/completions") else None
        ),
    )
    ask(page, "A", "B")
    strengths = [body["preferences"].get("strength") for body in sent]
    assert strengths == [{"user": 0}, {"system": 1.5}]
    expect(receipt(page, "A")).to_contain_text(
        "Strength: 1 of System Info, 0 of User Info; 1 branch drew each token."
    )
    expect(receipt(page, "B")).to_contain_text(
        "Strength: 1.5 of System Info, 1 of User Info; 3 branches drew each token."
    )
    # At 0 the answer is that of a column without preferences.
    plain = httpx.post(
        f"{server.url}/v1/align",
        json={"query": OTTER, "temperature": 0, "max_tokens": 200},
        headers={"authorization": f"Bearer {KEY}"},
        timeout=60,
    ).json()
    assert answer(page, "A").text_content() == plain["text"] != bullets
    column(page, "B").get_by_role("button", name="Influence").click()
    expect(column(page, "B")).to_contain_text("Scored at strength 1.")

    columns = state_of(page)["columns"]
    assert [(each["system"]["strength"], each["user"]["strength"]) for each in columns] == [(1, 0), (1.5, 1)]
    with opened(browser, server.url) as other:
        other.goto(page.url)
        other.reload()
        expect(tier(other, "A", "User Info").get_by_label("User strength")).to_have_value("0")
        expect(tier(other, "B", "System Info").get_by_label("System strength")).to_have_value("1.5")
        # Nothing but a number in its bounds is taken from a link.
        for wrong in (5, -1, "2", None):
            columns[0]["user"]["strength"] = wrong
            columns[0]["candidates"] = wrong if wrong != 5 else 17
            text = b64encode(json.dumps(state_of(page) | {"columns": columns}).encode()).decode()
            other.goto("about:blank")
            other.goto(f"{server.url}/playground#p={text}")
            expect(tier(other, "A", "User Info").get_by_label("User strength")).to_have_value("1")
            expect(column(other, "A").get_by_label("Candidates")).to_have_value("1")

    sent.clear()
    slide(user, "1")
    slide(system, "1")
    ask(page, "A", "B")
    assert all("strength" not in body["preferences"] for body in sent)
    assert answer(page, "A").text_content() == bullets
    expect(receipt(page, "A")).not_to_contain_text("Strength")


def test_the_best_of_several_answers(page: Page) -> None:
    preset(page, "Who wins?", "A", "B")
    page.get_by_label("Temperature").fill("0.8")
    column(page, "A").get_by_label("Candidates").fill("3")
    ask(page, "A", "B")
    best = re.compile(r"The best of 3 candidates, with a score of -?\d+\.\d{3} nats a token\.")
    expect(receipt(page, "A")).to_contain_text(best)
    expect(receipt(page, "B")).not_to_contain_text("candidates")
    assert [each["candidates"] for each in state_of(page)["columns"]] == [3, 1]


def test_a_version_keeps_how_it_is_steered(page: Page, server: Server) -> None:
    """Also what the page has no field or no step for."""
    section = page.get_by_role("region", name="Profiles")
    preferences = {
        "user": {"attributes": {"format": "bullets"}},
        "strength": {"user": 1.25},
        "candidates": 2,
    }
    blended = {
        "blend": [{"weight": 1.0, "user": {"attributes": {"tone": "pirate"}}}],
        "strength": {"system": 2},
    }
    with httpx.Client(base_url=server.url, headers={"authorization": f"Bearer {KEY}"}, timeout=60) as client:
        for name, given in (("dial", preferences), ("mixture", blended)):
            made = client.post("/v1/profiles", json={"name": name, "preferences": given})
            assert made.status_code == 201, made.text
            page.get_by_label("Key", exact=True).fill(f"{KEY} ")  # looks for profiles once more
            expect(section.locator(f"option[value={name}]").first).to_be_attached()
            section.get_by_label("Open").select_option(name)
            section.get_by_role("button", name="Load version 1").click()
            section.get_by_label("as", exact=True).fill(f"{name}-again")
            section.get_by_role("button", name="Save a version").click()
            expect(section).to_contain_text(f"Column A is saved as version 1 of {name}-again.")
            again = client.get(f"/v1/profiles/{name}-again/versions/1").json()
            assert again["preferences"] == given


def test_swap_test(page: Page) -> None:
    section = page.get_by_role("region", name="Swap test")
    section.get_by_role("button", name="Run the test").click()
    expect(section).to_contain_text("Passed: both answers follow their own preference.")
    expect(section.get_by_text("Passed: format")).to_have_count(2)
    # A question to which the demo has one answer only, whatever it is asked for: the test must be able to fail.
    page.get_by_label("One question").fill("Who won the world cup?")
    section.get_by_label("Preferences").select_option(label="metric or imperial units")
    section.get_by_role("button", name="Run the test").click()
    expect(section).to_contain_text("Failed: both answers are the same, so the preference changed nothing.")


def test_a_blind_vote_and_thumbs_are_kept(page: Page, server: Server) -> None:
    preset(page, "Who wins?", "A", "B")
    column(page, "A").get_by_role("button", name="Good").click()
    expect(column(page, "A")).to_contain_text("Kept, as feedback on this answer.")
    section = page.get_by_role("region", name="Blind vote")
    section.get_by_role("button", name="Ask both").click()
    expect(section.get_by_role("heading", name="First")).to_have_text("First")
    expect(section.locator(".text")).to_have_count(2)
    assert sorted(text.split()[0] for text in section.locator(".text").all_text_contents()) == [
        "Ahoy,",
        "Certainly,",
    ]
    texts = section.locator(".text").all_text_contents()
    with page.expect_request(lambda request: request.url.endswith("/v1/feedback")) as sent:
        section.get_by_role("button", name="Second is better").click()
    told: Any = sent.value.post_data_json
    assert told["rejected"] == texts[0]  # with the answer itself a training pair
    expect(section).to_contain_text("The vote is kept.")
    expect(section).to_contain_text(re.compile("First was column [AB]"))


def test_a_column_is_saved_compared_and_used(page: Page, server: Server) -> None:
    preset(page, "Who wins?", "A", "B")
    section = page.get_by_role("region", name="Profiles")
    section.get_by_label("as", exact=True).fill("zoo")
    section.get_by_label("Note").fill("first")
    save = section.get_by_role("button", name="Save a version")
    save.click()
    expect(section).to_contain_text("Column A is saved as version 1 of zoo.")
    section.get_by_label("Save", exact=True).select_option("B")
    save.click()
    expect(section).to_contain_text("Column B is saved as version 2 of zoo.")
    section.get_by_label("to", exact=True).select_option("2")
    section.get_by_role("button", name="Move the label").click()
    expect(section).to_contain_text("zoo@stable is version 2 now.")
    expect(section.get_by_role("row", name=re.compile("^2 stable"))).to_be_visible()
    section.get_by_role("button", name="Show the difference").click()
    expect(section.get_by_role("row", name="system.attributes.tone not set pirate")).to_be_visible()
    stored = httpx.get(
        f"{server.url}/v1/profiles/zoo/versions/2", headers={"authorization": f"Bearer {KEY}"}, timeout=60
    ).json()
    assert stored["preferences"]["system"]["attributes"] == {"tone": "pirate"}
    assert "profile" not in stored["preferences"]

    # Version 1 into column B, and the profile itself into A.
    section.get_by_role("button", name="Load version 1").click()
    expect(tier(page, "B", "System Info").locator(".row")).to_have_count(0)
    preset(page, "Facts stay facts", "A", "B")
    page.get_by_label("One question").fill(OTTER)
    column(page, "A").get_by_role("button", name="Profile").click()
    column(page, "A").get_by_label("Profile", exact=True).last.fill("zoo@stable")
    ask(page, "A", "B")
    expect(answer(page, "A")).to_contain_text("Ahoy, Ada!")
    expect(receipt(page, "A")).to_contain_text("From the profile zoo, version 2.")
    expect(receipt(page, "A")).to_contain_text("set by the provider in the profile zoo, version 2.")


def test_the_influence_of_a_tier_is_shown(page: Page) -> None:
    preset(page, "Four manners", "A", "B", "C", "D")
    first = column(page, "A")
    text = answer(page, "A").text_content()
    first.get_by_role("button", name="Influence").click()
    expect(first).to_contain_text("User Info made these likelier most: “Ahoy”")
    assert answer(page, "A").text_content() == text
    ahoy = answer(page, "A").locator(".token").first
    assert ahoy.text_content() == "Ahoy"
    assert re.fullmatch(r"User Info: \+\d+\.\d nats", ahoy.get_attribute("title") or "")
    first.get_by_role("button", name="Influence").click()
    expect(answer(page, "A").locator(".token")).to_have_count(0)
    assert answer(page, "A").text_content() == text


def test_a_link_holds_the_state_and_never_the_key(page: Page, browser: Browser, server: Server) -> None:
    preset(page, "Who wins?", "A", "B")
    tier(page, "B", "User Info").get_by_role("textbox", name="User Info").fill("My name is Ben. <b>Hi</b>")
    column(page, "B").get_by_role("button", name="Copy column B to a new one").click()
    expect(column(page, "C")).to_be_visible()
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.get_by_role("button", name="Copy link").click()
    expect(page.get_by_role("button", name="Copied")).to_be_visible()
    link = page.evaluate("navigator.clipboard.readText()")
    assert link == page.url
    assert state_of(page)["query"] == OTTER
    everything = [
        page.url,
        link,
        json.dumps(state_of(page)),
        json.dumps(page.context.storage_state(indexed_db=True)),
    ]
    everything.append(
        page.evaluate(
            "JSON.stringify([{...localStorage}, {...sessionStorage}, document.cookie, history.state])"
        )
    )
    assert not [text for text in everything if KEY in text]

    with opened(browser, server.url) as other:
        other.goto(link)
        other.reload()
        expect(other.locator("article")).to_have_count(3)
        expect(other.get_by_label("Key", exact=True)).to_have_value("")
        assert other.get_by_label("One question").input_value() == OTTER
        words = tier(other, "C", "User Info").get_by_role("textbox", name="User Info")
        expect(words).to_have_value("My name is Ben. <b>Hi</b>")
        expect(tier(other, "C", "System Info").get_by_label("tone", exact=True)).to_have_value("pirate")
        # What is no state of ours, or half of one, changes nothing.
        for broken in (
            link[: len(link) // 2],
            f"{server.url}/playground#p=bnVsbA",
            f"{server.url}/playground#p=%%",
        ):
            other.goto("about:blank")
            other.goto(broken)
            expect(other.locator("article")).to_have_count(4)


def test_text_is_never_markup(page: Page) -> None:
    """Neither the reader's, nor what the server quotes of it."""
    attack = '<img src=x onerror="window.hit=1"><script>window.hit=1</script>'
    page.get_by_label("One question").fill(attack)
    tier(page, "A", "User Info").get_by_role("textbox", name="User Info").fill(attack)
    expect(column(page, "A").locator(".told .is-user pre")).to_contain_text(attack)
    ask(page, "A", "B")
    assert page.evaluate("window.hit") is None
    assert page.locator("main img, main script").count() == 0


def test_errors_say_what_to_do(browser: Browser, server: Server) -> None:
    """No key, a wrong one, one that may not, one that is used up."""
    with httpx.Client(base_url=server.url, headers={"authorization": f"Bearer {KEY}"}, timeout=60) as client:
        body = {"tenant": "default", "scopes": ["inference"], "limits": {"requests_per_minute": 1}}
        made = client.post("/v1/admin/keys", json=body)
        assert made.status_code == 201, made.text
        limited = made.json()["key"]
    with opened(browser, server.url) as page:
        notice = page.get_by_role("alert").first
        expect(notice).to_have_text(
            "This server asks for a key. Type one into “Key” at the top of the page, then try again."
        )
        key = page.get_by_label("Key", exact=True)
        key.fill("wrong")
        expect(notice).to_contain_text("The server does not know this key.")
        key.fill("not a key ✗")
        expect(notice).to_contain_text("A key has no spaces or special letters.")

        key.fill(READER_KEY)
        expect(page.locator("#server")).to_have_text("metaalign-demo")
        expect(notice).to_be_hidden()
        preset(page, "Who wins?", "A")
        expect(column(page, "B").get_by_role("alert")).to_have_text(
            "This key may not write System Info. Move it to User Info, or use a key with the scope system."
        )
        slide(tier(page, "A", "System Info").get_by_label("System strength"), "0.5")
        column(page, "A").get_by_role("button", name="Ask column A alone").click()
        expect(column(page, "A").get_by_role("alert")).to_have_text(
            "This key may not weaken System Info. Set “System strength” to 1 or more, or use a key with the scope"
            " system."
        )
        slide(tier(page, "A", "System Info").get_by_label("System strength"), "1")
        column(page, "A").get_by_label("Candidates").fill("2")
        column(page, "A").get_by_role("button", name="Ask column A alone").click()
        expect(column(page, "A").get_by_role("alert")).to_have_text(
            "The server cannot choose among candidates: at temperature 0 all of them are the same; give a temperature,"
            " such as 0.8. Or set “Candidates” to 1."
        )
        column(page, "A").get_by_label("Candidates").fill("1")
        page.get_by_role("region", name="Profiles").get_by_label("as", exact=True).fill("mine")
        page.get_by_role("button", name="Save a version").click()
        expect(page.get_by_role("region", name="Profiles").get_by_role("alert")).to_contain_text(
            "`profiles:read`. Use a key that has it."
        )
        key.fill(limited)
        used_up = re.compile(r"Too many requests for now\. Try again in \d+ seconds?\.")
        expect(page.locator(".told", has_text=used_up).first).to_be_visible()
        ask_button = page.get_by_role("button", name="Ask", exact=True).first
        ask_button.click()
        expect(column(page, "A").get_by_role("alert")).to_have_text(used_up)


def test_a_stream_that_breaks_off_and_a_stop(page: Page) -> None:
    def break_off(route: Route) -> None:
        chunk = {
            "id": "chatcmpl-1",
            "choices": [{"index": 0, "delta": {"content": "The otter"}, "finish_reason": None}],
        }
        route.fulfill(status=200, content_type="text/event-stream", body=f"data: {json.dumps(chunk)}\n\n")

    page.route("**/v1/chat/completions", break_off)
    page.get_by_role("button", name="Ask", exact=True).first.click()
    expect(column(page, "A").get_by_role("alert")).to_have_text(
        "The answer broke off before its end, so what is shown is not all of it. Ask again."
    )
    expect(answer(page, "A")).to_have_text("The otter")
    expect(answer(page, "A")).to_have_attribute("aria-busy", "false")
    page.unroute("**/v1/chat/completions")

    page.route("**/v1/chat/completions", lambda route: None)  # an engine that is busy with others
    page.get_by_role("button", name="Ask", exact=True).first.click()
    column(page, "A").get_by_role("button", name="Stop").click()
    expect(column(page, "A").get_by_role("alert")).to_contain_text("You stopped this answer")


def test_under_a_path_without_feedback_and_without_a_server(browser: Browser, tmp_path: Path) -> None:
    """An open server that keeps nothing and does not steer, published under a path; then it goes."""
    with (
        serving(tmp_path, root_path="/llm", steering="false") as open_server,
        opened(browser, f"{open_server.url}/llm") as page,
    ):
        expect(page.locator("#server")).to_have_text("metaalign-demo")
        ask(page, "A", "B", "C", "D")
        column(page, "A").get_by_role("button", name="Bad").click()
        expect(column(page, "A")).to_contain_text(
            "This server keeps no answers, so a vote has nowhere to go. An operator can set METAALIGN_FEEDBACK=true."
        )
        user = tier(page, "B", "User Info").get_by_label("User strength")
        slide(user, "1.5")
        column(page, "B").get_by_role("button", name="Ask column B alone").click()
        expect(column(page, "B").get_by_role("alert")).to_have_text(
            "The server cannot steer this answer: this server does not steer; the operator turns it on with"
            " METAALIGN_STEERING=true. Or set both strengths to 1."
        )
        slide(user, "1")
        column(page, "B").get_by_role("button", name="Ask column B alone").click()
        settle(page, "B")
        open_server.process.kill()
        deadline = time.monotonic() + 20
        while open_server.process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.05)
        page.get_by_role("button", name="Ask", exact=True).first.click()
        expect(column(page, "A").get_by_role("alert")).to_have_text(
            "The server cannot be reached. Look whether it is running, then ask again."
        )


def test_the_picture_in_the_documentation(
    browser: Browser, tmp_path: Path, pytestconfig: pytest.Config
) -> None:
    """At a server without keys, as readers of the documentation have one, and with what every part shows."""
    with (
        serving(tmp_path, feedback="true") as open_server,
        opened(browser, open_server.url, viewport={"width": 1280, "height": 1000}) as page,
    ):
        expect(page.locator("#server")).to_have_text("metaalign-demo")
        preset(page, "Who wins?", "A", "B")
        for letter in ("A", "B"):
            column(page, letter).get_by_role("button", name="Influence").click()
            expect(answer(page, letter).locator(".token").first).to_be_visible()
        expect(column(page, "A")).to_contain_text("User Info made these likelier most: “Certainly”")
        expect(column(page, "B")).to_contain_text("System Info made these likelier most: “Ahoy”")
        expect(tier(page, "B", "User Info")).to_contain_text("Loses to “pirate” of System Info")
        page.mouse.move(0, 0)
        # Boxes are measured from the window's edge, and the picture from the page's.
        page.evaluate("document.activeElement.blur(); scrollTo(0, 0)")
        boxes = [receipt(page, letter).bounding_box() for letter in ("A", "B")]
        # In whole pixels, which browsers round a part of one to in their own ways.
        height = round(max(box["y"] + box["height"] for box in boxes if box is not None)) + 24
        picture = page.screenshot(
            full_page=True,
            animations="disabled",
            clip={"x": 0, "y": 0, "width": 1280, "height": height},
        )
    width, drawn = struct.unpack(">II", picture[16:24])
    assert (width, drawn) == (1280, height)
    if pytestconfig.option.write_pictures:
        PICTURE.write_bytes(picture)
        RECORD.write_text(record(), encoding="utf-8")


def violations(page: Page) -> list[str]:
    """What axe-core finds, as lines."""
    page.evaluate((files("axe_playwright_python") / "axe.min.js").read_text(encoding="utf-8"))
    found = page.evaluate("axe.run(document, {resultTypes: ['violations', 'incomplete']})")
    assert len(found["passes"]) > 20
    return [
        f"{each['id']}: {[node['target'] for node in each['nodes']][:3]} {each['nodes'][0]['failureSummary']}"
        for each in found["violations"]
    ]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1440, 360])
def test_accessibility(browser: Browser, server: Server, scheme: str, width: int) -> None:
    """axe-core finds nothing, in no state of the page, and a phone need not scroll sideways."""
    with opened(browser, server.url, color_scheme=scheme, viewport={"width": width, "height": 800}) as page:
        expect(page.locator("#server")).to_have_text("asks for a key")
        assert violations(page) == []
        page.get_by_label("Key", exact=True).fill(KEY)
        expect(page.locator("#server")).to_have_text("metaalign-demo")
        preset(page, "Who wins?", "A", "B")
        for details in page.locator("details").all():
            details.evaluate("element => { element.open = true; }")
        column(page, "B").get_by_role("button", name="Influence").click()
        expect(answer(page, "B").locator(".token").first).to_be_visible()
        page.get_by_role("button", name="Run the test").click()
        page.get_by_role("button", name="Ask both").click()
        section = page.get_by_role("region", name="Profiles")
        section.get_by_label("as", exact=True).fill("reading-room")
        section.get_by_role("button", name="Save a version").click()
        section.get_by_role("button", name="Show the difference").click()
        expect(page.get_by_role("button", name="First is better")).to_be_visible()
        expect(section.locator(".changes")).to_contain_text("The two versions say the same.")
        expect(page.locator("#swap .outcome")).to_be_visible()
        assert violations(page) == []
        assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_the_keyboard_reaches_everything(page: Page) -> None:
    """From the skip link to an answer, and focus goes on where something was removed."""
    page.keyboard.press("Tab")
    page.evaluate("document.activeElement.blur(); document.body.focus()")
    page.locator(".skip").focus()
    expect(page.locator(".skip")).to_be_in_viewport()
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    expect(page.get_by_label("One question")).to_be_focused()
    page.keyboard.press("ControlOrMeta+a")
    page.keyboard.type("What does a fox eat?")
    page.keyboard.press("Enter")
    settle(page, "A", "B", "C")
    expect(answer(page, "A")).to_contain_text("fox")
    expect(page.locator("#said")).to_have_text("4 answers are complete.")
    page.get_by_role("button", name="Remove column D").focus()
    page.keyboard.press("Enter")
    expect(page.locator("article")).to_have_count(3)
    expect(page.get_by_role("button", name="Remove column C")).to_be_focused()
    user = tier(page, "A", "User Info")
    user.get_by_role("button", name="Remove tone").focus()
    page.keyboard.press("Enter")
    expect(user.get_by_label("Add a dimension to User Info")).to_be_focused()
