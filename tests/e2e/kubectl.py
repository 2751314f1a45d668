"""kubectl as the tests use it: what users type, with a limit on every call and on every wait."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

Json = dict[str, Any]
_T = TypeVar("_T")

PATIENCE_S = 90.0
"""How long a cluster on a small machine may take for one step that has no limit of its own."""


class KubectlError(Exception):
    """kubectl ended badly; the message is what it said."""


class Kubectl:
    """kubectl with one kubeconfig.

    Attributes:
        kubeconfig: its path.
    """

    def __init__(self, program: str, kubeconfig: Path) -> None:
        self._program = program
        self.kubeconfig = kubeconfig

    def argv(self, *words: str) -> list[str]:
        """Return the whole command line."""
        return [self._program, f"--kubeconfig={self.kubeconfig}", *words]

    def __call__(self, *words: str, stdin: str | None = None, timeout: float = PATIENCE_S) -> str:
        """Run it and return its standard output.

        Raises:
            KubectlError: it failed.
        """
        done = subprocess.run(self.argv(*words), input=stdin, capture_output=True, text=True, timeout=timeout)
        if done.returncode != 0:
            raise KubectlError(f"kubectl {' '.join(words)}: {done.stderr.strip()}")
        return done.stdout

    def said(self, *words: str, stdin: str | None = None) -> str:
        """Run it and return both streams, warnings included, or that it does not end: for people, never raises."""
        try:
            done = subprocess.run(
                self.argv(*words), input=stdin, capture_output=True, text=True, timeout=PATIENCE_S
            )
        except subprocess.TimeoutExpired as late:
            return f"{late}\n"
        return done.stdout + done.stderr

    def apply(self, *objects: Json, namespace: str = "") -> str:
        """Apply objects; return what was said, warnings included."""
        body = json.dumps({"apiVersion": "v1", "kind": "List", "items": list(objects)})
        words = ("apply", "-f", "-", *(("-n", namespace) if namespace else ()))
        done = subprocess.run(self.argv(*words), input=body, capture_output=True, text=True, timeout=PATIENCE_S)
        if done.returncode != 0:
            raise KubectlError(done.stderr.strip())
        return done.stdout + done.stderr

    def get(self, kind: str, name: str, namespace: str = "") -> Json:
        """Return one object."""
        found: Json = json.loads(self("get", kind, name, "-o", "json", *(("-n", namespace) if namespace else ())))
        return found

    def find(self, kind: str, name: str, namespace: str = "") -> Json | None:
        """Return one object, or None."""
        words = ("get", kind, name, "-o", "json", "--ignore-not-found", *(("-n", namespace) if namespace else ()))
        text = self(*words)
        return json.loads(text) if text.strip() else None

    def list(self, kind: str, namespace: str = "", *, selector: str = "") -> list[Json]:
        """Return objects; of all namespaces without one."""
        where = ("-n", namespace) if namespace else ("-A",)
        words = ("get", kind, "-o", "json", *where, *(("-l", selector) if selector else ()))
        found: list[Json] = json.loads(self(*words))["items"]
        return found

    def events(self, namespace: str, *, name: str = "", reason: str = "") -> Sequence[Json]:
        """Return events of a namespace, of one object and of one reason if given."""
        return [
            event
            for event in self.list("events", namespace)
            if (not name or event["involvedObject"].get("name") == name)
            and (not reason or event.get("reason") == reason)
        ]

    @contextmanager
    def following(self, namespace: str, pod: str, output: Path, *, container: str = "") -> Iterator[Path]:
        """Write a pod's log into a file as it comes, with times: the log goes when the pod goes."""
        words = ("logs", "-f", "--timestamps", pod, "-n", namespace, *(("-c", container) if container else ()))
        with output.open("wb") as sink:
            process = subprocess.Popen(self.argv(*words), stdout=sink, stderr=subprocess.DEVNULL)
            try:
                yield output
            finally:
                process.kill()
                process.wait()


def wait_for(
    what: str, look: Callable[[], _T | None], *, within_s: float = PATIENCE_S, every_s: float = 0.5
) -> _T:
    """Look until there is something, and return it.

    Raises:
        AssertionError: there was nothing in time.
    """
    limit = time.monotonic() + within_s
    last = ""
    while True:
        try:
            found = look()
        except (KubectlError, subprocess.TimeoutExpired) as fault:
            found, last = None, f" (last: {fault})"
        if found:
            return found
        if time.monotonic() > limit:
            raise AssertionError(f"waited {within_s:.0f} s in vain for {what}{last}")
        time.sleep(every_s)


def settle(seconds: float) -> None:
    """Let things go on for a while, where nothing that can be seen tells that they do."""
    time.sleep(seconds)
