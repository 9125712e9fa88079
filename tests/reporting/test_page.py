"""The page: self-contained, and readable at a phone's and a desktop's width in a real browser."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from salr.reporting.figures import draw_figures
from salr.reporting.page import write_page
from salr.reporting.render import markdown
from tests.helpers.tables import record, table

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


@pytest.fixture
def page(tmp_path: Path) -> Path:
    plain = [record(tmp_path, "sgd", seed, 98.0 + 0.1 * seed, epochs=100) for seed in range(3)]
    salr = [record(tmp_path, "sgd_salr", seed, 99.0 + 0.1 * seed) for seed in range(2)]
    salr[0].write_json(
        "iterations.json", {name: [0.1, 0.2] for name in ("sharpness", "median_sharpness", "lr_factor", "lr")}
    )
    made = table(
        tmp_path, {"sgd": plain, "sgd_salr": [*salr, record(tmp_path, "sgd_salr", 2, 5.0, state="diverged")]}
    )
    figures = draw_figures([made], tmp_path / "figures")
    assert len(figures) == 4
    assert all(path.exists() and path.with_suffix(".pdf").exists() for path in figures.values())
    path = tmp_path / "report.html"
    write_page([made], figures, path)
    assert "1 diverged" in markdown(made)
    return path


def test_the_page_needs_no_network_and_says_what_is_missing(page: Path) -> None:
    text = page.read_text()
    assert not re.search(r"""(src|href)=["'](?!data:|#)""", text)
    assert "1 diverged" in text
    assert "python train.py optimizer=sgd_salr" in text
    assert text.count("data:image/png;base64,") == 4


@pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium here (Debian's package chromium)")
@pytest.mark.parametrize("width", [390, 1280])
def test_nothing_overflows_in_a_real_browser(page: Path, width: int, tmp_path: Path) -> None:
    """A frame of the page's width reports what it measured; headless Chromium's own window is never narrower than 500."""
    frame = tmp_path / "frame.html"
    frame.write_text(
        f"<iframe id=f src='{page.name}' width={width} height=900></iframe><script>f.onload = () => {{"
        "const d = f.contentDocument; document.title = d.documentElement.scrollWidth + ' of ' + f.contentWindow.innerWidth"
        " + ' images ' + [...d.images].filter(i => i.naturalWidth > 0).length;"
        "document.body.append(document.title)}</script>".replace("}}}", "}}")
    )
    command = [
        str(CHROMIUM),
        *FLAGS,
        "--allow-file-access-from-files",
        f"--user-data-dir={tmp_path / 'profile'}",
    ]
    command += ["--virtual-time-budget=5000", "--dump-dom", frame.as_uri()]
    shown = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout
    measured = re.search(r"(\d+) of (\d+) images (\d+)", shown)
    assert measured, shown[-500:]
    assert int(measured[1]) <= int(measured[2])
    assert int(measured[3]) == 4
