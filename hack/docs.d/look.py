"""Look through the built site for what a strict build lets pass: requests to other hosts, links that lead nowhere.

    python hack/docs.d/look.py SITE

Prints each fault, and ends with 1 if there is one. Follows nothing out of the folder.
"""

from __future__ import annotations

import re
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

_FETCHED = {"script": "src", "img": "src", "iframe": "src", "source": "src", "link": "href", "video": "src"}
_NO_REQUEST = {"canonical", "next", "prev", "edit"}
_IN_STYLES = re.compile(r"(?:url\(\s*[\"']?|@import\s+[\"'])(https?:)?//")


class _Page(HTMLParser):
    def __init__(self, path: Path) -> None:
        super().__init__()
        self.links: list[str] = []
        self.fetched: list[str] = []
        self.ids: set[str] = set()
        self.feed(path.read_text())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attrs}
        if "id" in found:
            self.ids.add(found["id"])
        if tag == "a" and "href" in found:
            self.links.append(found["href"])
        silent = tag == "link" and found.get("rel") in _NO_REQUEST
        if tag in _FETCHED and _FETCHED[tag] in found and not silent:
            self.fetched.append(found[_FETCHED[tag]])


def faults(site: Path) -> list[str]:
    """Return one line for each request to another host, and for each link without a target."""
    pages = {path: _Page(path) for path in sorted(site.rglob("*.html")) if path.name != "404.html"}
    found = [
        f"{path}: loads its style from outside"
        for path in site.rglob("*.css")
        if _IN_STYLES.search(path.read_text())
    ]
    for path, page in pages.items():
        where = path.relative_to(site)
        found += [f"{where}: asks {address}" for address in page.fetched if urlsplit(address).netloc]
        for link in page.links + page.fetched:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            target = target / "index.html" if target.is_dir() else target
            if not target.is_file():
                found.append(f"{where}: {link} leads nowhere")
            elif (
                parts.fragment
                and target in pages
                and unquote(parts.fragment) not in pages[target].ids | {"__skip"}
            ):
                found.append(f"{where}: {link} has no such anchor")
    return found


if __name__ == "__main__":
    lines = faults(Path(sys.argv[1]).resolve())
    print(*lines, sep="\n", end="\n" if lines else "")
    sys.exit(1 if lines else 0)
