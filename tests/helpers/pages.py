"""The documentation's pages and what they show as code."""

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
README = ROOT / "README.md"
BLOCK = re.compile(r"^( *)```(\w+)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    """A piece of code in a page."""

    language: str
    text: str


def pages() -> list[Path]:
    """Return all pages that are written by hand."""
    return [README, *sorted(path for path in DOCS.rglob("*.md") if "_build" not in path.parts)]


def blocks(page: Path, *languages: str) -> list[Block]:
    """Return a page's pieces of code in these languages, in order."""
    found = BLOCK.findall(page.read_text(encoding="utf-8"))
    return [Block(language, text) for _, language, text in found if language in languages]


def name(page: Path) -> str:
    """Return a page's path within the project, for people."""
    return page.relative_to(ROOT).as_posix()
