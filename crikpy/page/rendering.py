"""The view as HTML: templates, a style sheet and a script, all of them beside this file.

Whatever comes from the cluster is text: templates escape it, and a name that is misspelt in one is an error. There
is no inline style or script, so that the Content-Security-Policy can forbid them.
"""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Final

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from crikpy.page.viewing import View

_HERE: Final = Path(__file__).parent
_ENVIRONMENT: Final = Environment(
    loader=FileSystemLoader(_HERE / "templates"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)

STATIC: Final = {
    "page.css": "text/css; charset=utf-8",
    "page.js": "text/javascript; charset=utf-8",
    "icon.svg": "image/svg+xml",
}
"""Files that are served as they are, with their types."""


def read_static(name: str) -> bytes:
    """Return one of STATIC."""
    return (_HERE / "static" / name).read_bytes()


def render_page(view: View, *, person: str, may_leave: bool, refresh_s: int) -> str:
    """Return the page.

    Args:
        view: what it shows.
        person: who looks at it.
        may_leave: he came by the form, and can end that.
        refresh_s: seconds after which a browser asks again.
    """
    return _render("page.html", view=view, person=person, may_leave=may_leave, refresh_s=refresh_s)


def render_login(*, namespace: str, fault: str = "") -> str:
    """Return the form for a token.

    Args:
        namespace: that was asked for; empty for all.
        fault: why the last token did not do.
    """
    return _render("login.html", namespace=namespace, fault=fault)


def render_refusal(*, title: str, message: str, person: str = "", namespace: str = "", asks: bool = False) -> str:
    """Return a page that says why there is nothing to see.

    Args:
        title: in a few words.
        message: in a sentence.
        person: who is refused, where that is known.
        namespace: that was asked for; empty for all.
        asks: whether to ask for another namespace.
    """
    return _render("refusal.html", title=title, message=message, person=person, namespace=namespace, asks=asks)


def _render(template: str, **names: object) -> str:
    return _ENVIRONMENT.get_template(template).render(**names)


def _utc(when: datetime | None) -> str:
    return "" if when is None else f"{when:%Y-%m-%d %H:%M:%S}"


def _machine(when: datetime | None) -> str:
    return "" if when is None else f"{when:%Y-%m-%dT%H:%M:%SZ}"


def _precise(when: datetime) -> str:
    """Return a time by which a browser sets its clock; what is left out of it a countdown would jump by."""
    return when.isoformat(timespec="milliseconds")


def _hours(seconds: float) -> str:
    return f"{seconds / 3600:.1f} h"


_ENVIRONMENT.filters.update(utc=_utc, machine=_machine, precise=_precise, hours=_hours)
