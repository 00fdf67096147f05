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
from playwright.sync_api import Browser, ConsoleMessage, Locator, Page, Request, Response, Route, expect

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
    slider.press("Home")  # its lowest value
    lowest, step = (float(slider.get_attribute(name) or "") for name in ("min", "step"))
    for _ in range(round((float(value) - lowest) / step)):
        slider.press("ArrowRight")
    expect(slider).to_have_value(value)


def heard(page: Page) -> list[Any]:
    """The preferences of each chat request from now on."""
    sent: list[Any] = []

    def hear(request: Request) -> None:
        if request.url.endswith("/v1/chat/completions"):
            asked: Any = request.post_data_json
            sent.append(asked["preferences"])

    page.on("request", hear)
    return sent


def store(server: Server, name: str, preferences: Any) -> None:
    """Make a profile, as somebody else does."""
    made = httpx.post(
        f"{server.url}/v1/profiles",
        json={"name": name, "preferences": preferences},
        headers={"authorization": f"Bearer {KEY}"},
        timeout=60,
    )
    assert made.status_code == 201, made.text


def use(page: Page, letter: str, profile: str) -> None:
    """Have a column use a profile."""
    field = column(page, letter).get_by_role("combobox", name="Profile", exact=True)
    if not field.is_visible():
        column(page, letter).get_by_role("button", name="Profile", exact=True).click()
    field.fill(profile)


def blend(page: Page, letter: str) -> Locator:
    return column(page, letter).get_by_role("group", name="Blend", exact=True)


def part(page: Page, letter: str, number: int) -> Locator:
    return blend(page, letter).get_by_role("group", name=f"Part {number}", exact=True)


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
        expect(slider).to_have_attribute("aria-valuetext", "not set: 1, as trained")
    expect(tier(page, "A", "User Info").locator("output")).to_have_text("not set")
    slide(user, "0")
    expect(user).to_have_attribute("aria-valuetext", "0, as if it were not there")
    slide(system, "1.5")
    expect(tier(page, "B", "System Info").locator("output")).to_have_text("1.5")
    # The dry run follows: nothing of User Info is in the prompt any more.
    expect(column(page, "A").locator(".told .is-user")).to_contain_text("empty")

    sent = heard(page)
    ask(page, "A", "B")
    assert [preferences.get("strength") for preferences in sent] == [{"user": 0}, {"system": 1.5}]
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
    assert [(each["system"]["strength"], each["user"]["strength"]) for each in columns] == [
        (None, 0),
        (1.5, None),
    ]
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
            expect(tier(other, "A", "User Info").locator("output")).to_have_text("not set")
            expect(column(other, "A").get_by_label("Candidates")).to_have_value("")

    # Not set is not 1: nothing is sent, and it says so.
    sent.clear()
    slide(user, "1")
    expect(user).to_have_attribute("aria-valuetext", "1, as trained")
    expect(tier(page, "A", "User Info").locator("output")).to_have_text("1")
    tier(page, "B", "System Info").get_by_role("button", name="Clear strength").click()
    expect(system).to_be_focused()
    expect(system).to_have_attribute("aria-valuetext", "not set: 1, as trained")
    expect(tier(page, "B", "System Info").locator("output")).to_have_text("not set")
    ask(page, "A", "B")
    assert [preferences.get("strength") for preferences in sent] == [{"user": 1}, None]
    assert answer(page, "A").text_content() == bullets
    expect(receipt(page, "A")).not_to_contain_text("Strength")


def test_the_strength_of_a_profile_is_seen_replaced_and_taken_again(
    page: Page, browser: Browser, server: Server
) -> None:
    """A column without a strength of its own shows the profile's; one that has its own finds the way back."""
    store(
        server,
        "loud",
        {
            "user": {"attributes": {"format": "bullets"}},
            "strength": {"system": 0.5, "user": 2},
            "candidates": 2,
        },
    )
    store(server, "even", {"user": {"attributes": {"format": "bullets"}}})
    sent = heard(page)
    preset(page, "Facts stay facts", "A", "B")
    page.get_by_label("One question").fill(OTTER)
    page.get_by_label("Temperature").fill("0.5")
    use(page, "A", "loud")
    side = tier(page, "A", "User Info")
    user, value = side.get_by_label("User strength"), side.locator("output")
    expect(value).to_have_text("as stored: 2")
    expect(user).to_have_value("2")
    expect(user).to_have_attribute("aria-valuetext", "as stored: 2")
    expect(tier(page, "A", "System Info").locator("output")).to_have_text("as stored: 0.5")
    expect(column(page, "A")).to_contain_text("as stored: the best of 2")
    sent.clear()
    ask(page, "A", "B")
    assert sent[0] == {"profile": ["loud"], "verify": True}
    expect(receipt(page, "A")).to_contain_text("Strength: 0.5 of System Info, 2 of User Info")

    # Its own, 1 among them, replaces the profile's, and says what it replaces.
    slide(user, "1")
    expect(value).to_have_text("1")
    stored = side.get_by_role("button", name="As stored: 2", exact=True)
    expect(stored).to_be_visible()
    column(page, "A").get_by_label("Candidates").fill("1")
    sent.clear()
    ask(page, "A", "B")
    assert sent[0] == {"profile": ["loud"], "verify": True, "strength": {"user": 1}, "candidates": 1}
    expect(receipt(page, "A")).to_contain_text("Strength: 0.5 of System Info, 1 of User Info")
    column(page, "A").get_by_role("button", name="Influence").click()
    expect(column(page, "A")).to_contain_text("This column sets no tier itself")

    # A reader of the link sees the same, although nothing there says what is stored.
    page.wait_for_function("document.querySelector('.told .tokens').textContent")
    assert "stored" not in state_of(page)["columns"][0]
    with opened(browser, server.url) as other:
        other.goto(page.url)
        other.reload()
        other.get_by_label("Key", exact=True).fill(KEY)
        theirs = tier(other, "A", "User Info")
        expect(theirs.locator("output")).to_have_text("1")
        theirs.get_by_role("button", name="As stored: 2", exact=True).click()
        expect(theirs.locator("output")).to_have_text("as stored: 2")

    stored.focus()
    page.keyboard.press("Enter")
    expect(user).to_be_focused()
    expect(value).to_have_text("as stored: 2")
    expect(user).to_have_value("2")
    expect(stored).to_be_hidden()
    # What is shown becomes the column's own without a move of the slider.
    user.press("Enter")
    expect(value).to_have_text("2")
    for _ in range(100):  # the address follows a moment later
        if state_of(page)["columns"][0]["user"]["strength"] == 2:
            break
        page.wait_for_timeout(50)
    assert state_of(page)["columns"][0]["user"]["strength"] == 2
    stored.click()
    use(page, "A", "even")
    expect(value).to_have_text("as stored: 1")
    use(page, "A", "")
    expect(value).to_have_text("not set")


def test_several_user_tiers_are_mixed(page: Page, browser: Browser, server: Server) -> None:
    """A reader mixes a text and a profile, moves the shares, and takes the blend apart again."""
    store(server, "lister", {"user": {"attributes": {"format": "bullets"}}})
    sent = heard(page)
    preset(page, "Facts stay facts", "A", "B")
    page.get_by_label("One question").fill(OTTER)
    mix = blend(page, "A")
    mix.get_by_role("button", name="Add a text").click()
    expect(part(page, "A", 1).get_by_role("textbox", name="User Info of part 1")).to_be_focused()
    page.keyboard.type("My name is Ada.")
    part(page, "A", 1).get_by_label("Add a dimension to part 1").select_option("tone")
    page.keyboard.type("pirate")
    expect(mix.get_by_role("status")).to_have_text("One part has the whole share.")
    mix.get_by_role("button", name="Add a profile").click()
    expect(part(page, "A", 2).get_by_label("Profile")).to_be_focused()
    # Until it has a name there is nothing to send, and its share is not counted.
    expect(part(page, "A", 2)).to_contain_text("Without a name this part is left out.")
    expect(mix.get_by_role("status")).to_have_text("One part has the whole share.")
    page.keyboard.insert_text("lister")  # at once: a dry run of half a name would be refused
    expect(part(page, "A", 2)).not_to_contain_text("left out")
    expect(mix.get_by_role("status")).to_have_text("0.5 + 0.5 = 1")

    share = part(page, "A", 1).get_by_label("Share")
    slide(share, "0.7")
    expect(part(page, "A", 1).locator(".share-value")).to_have_text("0.7")
    expect(part(page, "A", 2).locator(".share-value")).to_have_text("0.3")
    expect(part(page, "A", 2).get_by_label("Share")).to_have_value("0.3")
    expect(share).to_have_attribute("aria-valuetext", "0.7 of 1")
    expect(mix.get_by_role("status")).to_have_text("0.7 + 0.3 = 1")

    # The dry run shows each prompt with what its logits are multiplied by.
    branches = column(page, "A").locator(".told .branch")
    expect(branches).to_have_count(2)
    expect(branches.nth(0)).to_contain_text("0.7 ×")
    expect(branches.nth(0).locator(".is-user pre")).to_contain_text("My name is Ada.")
    expect(branches.nth(1)).to_contain_text("0.3 ×")
    expect(branches.nth(1).locator(".is-user pre")).to_have_text("Answer as a bulleted list.")
    expect(column(page, "A").locator(".told")).to_contain_text("2 prompts draw each token together")

    sent.clear()
    ask(page, "A", "B")
    assert sent[0] == {
        "verify": True,
        "blend": [
            {"weight": 0.7, "user": {"info": "My name is Ada.", "attributes": {"tone": "pirate"}}},
            {"weight": 0.3, "profile": "lister"},
        ],
    }
    expect(receipt(page, "A")).to_contain_text("A blend of 2 User tiers, with the weights 0.7 and 0.3.")
    expect(answer(page, "A")).to_contain_text("Ahoy")

    page.wait_for_timeout(500)  # the address follows what is typed
    with opened(browser, server.url) as other:
        other.goto(page.url)
        other.reload()
        expect(blend(other, "A").get_by_role("status")).to_have_text("0.7 + 0.3 = 1")
        expect(part(other, "A", 1).get_by_role("textbox", name="User Info of part 1")).to_have_value(
            "My name is Ada."
        )
        expect(part(other, "A", 1).get_by_label("tone", exact=True)).to_have_value("pirate")
        expect(part(other, "A", 2).get_by_label("Profile")).to_have_value("lister")

    # Four at most; then they go one by one, and the rest shares what was theirs.
    for _ in range(2):
        mix.get_by_role("button", name="Add a text").click()
    expect(mix.get_by_role("button", name="Add a text")).to_be_hidden()
    expect(mix).to_contain_text("Four parts are the most.")
    expect(part(page, "A", 4)).to_contain_text("Empty: this share goes to User Info as it is above.")
    page.get_by_role("button", name="Remove part 4 of the blend").click()
    expect(page.get_by_role("button", name="Remove part 3 of the blend")).to_be_focused()
    page.keyboard.press("Enter")
    expect(mix.get_by_role("status")).to_have_text("0.7 + 0.3 = 1")
    page.get_by_role("button", name="Remove part 1 of the blend").click()
    expect(part(page, "A", 1).get_by_label("Profile")).to_have_value("lister")
    expect(mix.get_by_role("status")).to_have_text("One part has the whole share.")
    page.get_by_role("button", name="Remove part 1 of the blend").click()
    expect(mix.get_by_role("button", name="Add a text")).to_be_focused()
    expect(mix.get_by_role("group")).to_have_count(0)
    sent.clear()
    ask(page, "A", "B")
    assert "blend" not in sent[0]


def test_a_blend_takes_the_place_of_a_strength(page: Page, browser: Browser, server: Server) -> None:
    """The two do not go together: the page says why, and sends what the server takes."""
    mixture = {"blend": [{"weight": 1.0, "user": {"attributes": {"format": "bullets"}}}]}
    store(server, "strong", {"user": {"info": "My name is Ada."}, "strength": {"user": 2}})
    store(server, "mixed", mixture)
    store(server, "torn", mixture | {"strength": {"user": 2}})
    sent = heard(page)
    preset(page, "Facts stay facts", "A", "B")
    page.get_by_label("One question").fill(OTTER)
    side = tier(page, "A", "User Info")
    user = side.get_by_label("User strength")
    slide(user, "1.5")
    blend(page, "A").get_by_role("button", name="Add a text").click()
    page.keyboard.type("Please answer in bullet points.")
    expect(user).to_be_disabled()
    why = side.get_by_text("A blend takes the place of the User tier, so the two cannot be combined")
    expect(why).to_have_text(
        "A blend takes the place of the User tier, so the two cannot be combined: this strength of 1.5 is not sent."
    )
    expect(user).to_have_attribute("aria-describedby", why.get_attribute("id") or "")
    slide(tier(page, "A", "System Info").get_by_label("System strength"), "2")
    sent.clear()
    ask(page, "A", "B")
    assert (sent[0]["strength"], len(sent[0]["blend"])) == ({"system": 2}, 1)

    # A profile's strength would meet the blend at the server, so the request takes it back.
    use(page, "A", "strong")
    expect(why).to_contain_text("this strength of 1.5 is not sent")
    sent.clear()
    ask(page, "A", "B")
    assert sent[0]["strength"] == {"system": 2, "user": 1}
    expect(receipt(page, "A")).to_contain_text("Strength: 2 of System Info, 1 of User Info")
    page.get_by_role("button", name="Remove part 1 of the blend").click()
    expect(user).to_be_enabled()
    expect(side.locator("output")).to_have_text("1.5")
    side.get_by_role("button", name="As stored: 2").click()
    blend(page, "A").get_by_role("button", name="Add a text").click()
    expect(why).to_contain_text("the profile’s strength of 2 is not used")
    page.get_by_role("button", name="Remove part 1 of the blend").click()

    # And so does a profile's blend, which the column cannot take out.
    use(page, "A", "mixed")
    expect(user).to_be_disabled()
    expect(side).to_contain_text(
        "The profile holds a blend, which takes the place of the User tier, so a strength cannot be combined with it."
    )
    sent.clear()
    ask(page, "A", "B")
    assert sent[0]["strength"] == {"system": 2, "user": 1}
    expect(receipt(page, "A")).to_contain_text("A blend of 1 User tier")
    column(page, "A").get_by_role("button", name="Influence").click()
    expect(column(page, "A")).to_contain_text(
        "The profile holds a blend, so the answer has no prompt of its own"
    )

    # One that holds both cannot be used by itself, which a first dry run is told; the page then takes one back.
    with opened(browser, server.url) as other:
        other.goto(page.url)
        other.reload()
        other.get_by_label("Key", exact=True).fill(KEY)
        use(other, "A", "torn")
        expect(tier(other, "A", "User Info")).to_contain_text("The profile holds a blend")
        expect(column(other, "A").locator(".told .is-user pre")).to_have_text("Answer as a bulleted list.")


def test_shares_sum_to_one(page: Page) -> None:
    """Whatever is moved, added or removed, in hundredths of which each part keeps one."""
    found = page.evaluate(
        """async () => {
            const { apportioned, moved } = await import(new URL("playground/state.js", document.baseURI));
            let seed = 7;
            const random = () => (seed = (seed * 16807) % 2147483647) / 2147483647;
            const results = [];
            for (let round = 0; round < 2000; round += 1) {
                const weights = Array.from({length: 1 + Math.floor(random() * 4)}, () => random() ** 4 + 1e-9);
                const before = apportioned(weights);
                const index = Math.floor(random() * before.length);
                const wanted = random();
                results.push({weights, before, index, wanted, after: moved(before, index, wanted)});
            }
            return results;
        }"""
    )
    assert len(found) == 2000
    for each in found:
        for shares in (each["before"], each["after"]):
            hundredths = [round(share * 100) for share in shares]
            assert [number / 100 for number in hundredths] == shares
            assert sum(hundredths) == 100, each
            assert min(hundredths) >= 1, each
        total = sum(each["weights"])
        for weight, share in zip(each["weights"], each["before"], strict=True):
            assert abs(share - weight / total) < 0.04, each  # a tiny weight is raised to a hundredth
        if len(each["before"]) > 1:
            most = 1 - 0.01 * (len(each["before"]) - 1)
            assert abs(each["after"][each["index"]] - min(max(each["wanted"], 0.01), most)) < 0.006, each
        else:
            assert each["after"] == [1]


def test_a_version_keeps_a_blend(page: Page, server: Server) -> None:
    """One that is given in place; what a profile cannot hold is told before anything is sent."""
    store(server, "anybody", {"user": {"info": "I am anybody."}})
    preset(page, "Who wins?", "A", "B")
    mix = blend(page, "A")
    mix.get_by_role("button", name="Add a text").click()
    page.keyboard.type("I am six.")
    mix.get_by_role("button", name="Add a profile").click()
    page.keyboard.insert_text("anybody")
    section = page.get_by_role("region", name="Profiles")
    section.get_by_label("as", exact=True).fill("blended")
    save = section.get_by_role("button", name="Save a version")
    save.click()
    expect(section.get_by_role("alert")).to_have_text(
        "Part 2 of the blend is a profile, and a profile cannot name others. Make it a text, or remove it."
    )
    page.get_by_role("button", name="Remove part 2 of the blend").click()
    mix.get_by_role("button", name="Add a text").click()
    part(page, "A", 2).get_by_label("Add a dimension to part 2").select_option("format")
    slide(part(page, "A", 2).get_by_label("Share"), "0.25")
    save.click()
    expect(section).to_contain_text("Column A is saved as version 1 of blended.")
    stored = httpx.get(
        f"{server.url}/v1/profiles/blended/versions/1",
        headers={"authorization": f"Bearer {KEY}"},
        timeout=60,
    ).json()
    assert stored["preferences"]["blend"] == [
        {"weight": 0.75, "user": {"info": "I am six."}},
        {"weight": 0.25, "user": {"attributes": {"format": "plain"}}},
    ]
    section.get_by_label("Save", exact=True).select_option("B")
    section.get_by_role("button", name="Load version 1").click()
    expect(blend(page, "B").get_by_role("status")).to_have_text("0.75 + 0.25 = 1")
    expect(part(page, "B", 2).get_by_label("format", exact=True)).to_have_value("plain")


def test_the_best_of_several_answers(page: Page) -> None:
    preset(page, "Who wins?", "A", "B")
    page.get_by_label("Temperature").fill("0.8")
    column(page, "A").get_by_label("Candidates").fill("3")
    ask(page, "A", "B")
    best = re.compile(r"The best of 3 candidates, with a score of -?\d+\.\d{3} nats a token\.")
    expect(receipt(page, "A")).to_contain_text(best)
    expect(receipt(page, "B")).not_to_contain_text("candidates")
    assert [each["candidates"] for each in state_of(page)["columns"]] == [3, None]


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


def test_versions_are_those_of_the_profile_that_is_chosen(page: Page, server: Server) -> None:
    """Also while they come, and if those of the profile before come late."""
    section = page.get_by_role("region", name="Profiles")
    for name in ("early", "late"):
        store(server, name, {"user": {"info": f"I am {name}."}})
    page.get_by_label("Key", exact=True).fill(f"{KEY} ")  # looks for profiles once more
    expect(section.locator("option[value=late]").first).to_be_attached()
    held: list[Route] = []

    def hold(route: Route) -> None:
        held.append(route)

    page.route("**/v1/profiles/late/versions?*", hold)
    load = section.get_by_role("button", name="Load version 1")
    chosen = section.get_by_label("Open")
    chosen.select_option("early")
    expect(load).to_have_count(1)
    chosen.select_option("late")
    expect(load).to_have_count(0)
    while not held:
        page.wait_for_timeout(20)
    chosen.select_option("early")
    expect(section).to_contain_text("Versions of early")
    with page.expect_response("**/v1/profiles/late/versions?*"):
        held[0].continue_()
    page.wait_for_timeout(200)
    expect(section).to_contain_text("Versions of early")
    load.click()
    expect(tier(page, "A", "User Info").get_by_role("textbox", name="User Info")).to_have_value("I am early.")


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
    use(page, "A", "zoo@stable")
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
        for name in ("Ada", "Ben"):
            blend(page, "B").get_by_role("button", name="Add a text").click()
            page.keyboard.type(f"My name is {name}.")
        column(page, "B").get_by_role("button", name="Ask column B alone").click()
        expect(column(page, "B").get_by_role("alert")).to_have_text(
            "The server cannot steer this answer: this server does not steer; the operator turns it on with"
            " METAALIGN_STEERING=true. Or remove the blend."
        )
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
        slide(tier(page, "A", "User Info").get_by_label("User strength"), "1.5")
        for number, letter in enumerate("ABB"):
            blend(page, letter).get_by_role("button", name="Add a text").click()
            page.keyboard.type(f"I am {6 + number}.")
            blend(page, letter).get_by_role("button", name="Add a profile").click()
        expect(tier(page, "A", "User Info").get_by_label("User strength")).to_be_disabled()
        expect(column(page, "B").locator(".branch")).to_have_count(2)
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
