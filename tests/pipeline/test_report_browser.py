"""Reports in a real browser: every picture is drawn, nothing is loaded or run, nothing is wider than the screen."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import script
from tests.fake_study import METHODS, write_study

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: tests/requirements.txt")
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed: apt-get install chromium"),
]
EVIL = "<script>alert(1)</script>"
MEASURE = """() => ({
    wide: document.documentElement.scrollWidth - document.documentElement.clientWidth,
    pictures: [...document.querySelectorAll('figure svg')].map(svg => {
        const drawn = svg.getBBox(), figure = svg.closest('figure').getBoundingClientRect();
        return [drawn.width, drawn.height, svg.getBoundingClientRect().right - figure.right];
    }),
    figures: document.querySelectorAll('figure').length,
    inks: [...new Set([...document.querySelectorAll('figure svg text')].map(text => getComputedStyle(text).fill))],
    page: getComputedStyle(document.body).backgroundColor,
})"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as tools:
        # Without a sandbox Chromium also starts as root; the page is our own.
        instance = tools.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield instance
        instance.close()


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("study")
    write_study(
        folder, {**METHODS, "a method with a name that is too long for a picture": 0.8, EVIL: 0.7},
        domains=("books", EVIL, "d" * 300), fractions=(1.0, 0.1), labels=("negative", "<img src=x onerror=alert(2)>"),
    )  # fmt: skip
    script("experiments/study_report.py").main(study_folder=folder, out=folder)
    return folder / "report.html"


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 400])
def test_report_in_a_browser(browser: Any, report: Path, tmp_path: Path, width: int, scheme: str) -> None:
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
    page = context.new_page()
    problems: list[str] = []
    page.on("console", lambda message: problems.append(message.text))
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("dialog", lambda dialog: problems.append(dialog.message))
    page.on("request", lambda request: problems.extend([request.url] * (request.url != report.as_uri())))
    page.goto(report.as_uri())
    for _ in range(2):  # with tables closed, then open
        measured = page.evaluate(MEASURE)
        assert measured["wide"] <= 0
        assert len(measured["pictures"]) == measured["figures"] > 20
        for drawn_width, drawn_height, beyond in measured["pictures"]:
            assert drawn_width > 100 and drawn_height > 50 and beyond <= 1
        page.evaluate("() => document.querySelectorAll('details').forEach(details => details.open = true)")
    assert problems == []
    brightness = sum(map(int, measured["page"].removeprefix("rgb(").removesuffix(")").split(",")))
    assert brightness > 700 if scheme == "light" else brightness < 100
    for ink in measured["inks"]:
        contrast = abs(sum(map(int, ink.removeprefix("rgb(").removesuffix(")").split(","))) - brightness)
        assert contrast > 300
    page.screenshot(path=tmp_path / f"{width}-{scheme}.png", full_page=True)
    context.close()
