"""The agent as a program of its own, on a node of the tests."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from crikpy.settings import Settings
from crikpy.store.base import ObjectStore
from tests.agent.node import FakeNode

CRIKPY = Path(sys.executable).with_name("crikpy")


@dataclass
class Program:
    """An agent that runs as a program.

    Attributes:
        process: it.
        log: where its standard error goes.
    """

    process: subprocess.Popen[bytes]
    log: Path

    def lines(self) -> list[dict[str, object]]:
        """Return what it has logged."""
        return [json.loads(line) for line in self.log.read_text().splitlines()]

    def port(self) -> int:
        """Return the port of its probes, 0 before it works."""
        return next((int(str(line["port"])) for line in self.lines() if "port" in line), 0)

    async def ends(self) -> int:
        """Wait for its end and return its exit status."""
        return await asyncio.to_thread(self.process.wait, 60)


def environment(settings: Settings, **more: str) -> dict[str, str]:
    """Return the environment of an agent with a node's settings."""
    agent = settings.agent
    return {
        "PATH": os.environ["PATH"],
        "CRIKPY_CRIU_BUNDLE": str(settings.criu.bundle),
        "CRIKPY_CRIU_LAUNCHER": str(settings.criu.launcher),
        "CRIKPY_KUBE_KUBECONFIG": settings.kube.kubeconfig,
        "CRIKPY_NOTICES_IMDS_ENABLED": "false",
        "CRIKPY_AGENT_KUBELET_DIR": str(agent.kubelet_dir),
        "CRIKPY_AGENT_STATE_DIR": str(agent.state_dir),
        "CRIKPY_AGENT_ADDRESS": "127.0.0.1",
        "CRIKPY_AGENT_PORT": str(_free_port()),
        "CRIKPY_AGENT_SPARE_S": "600",
        **more,
    }


def _free_port() -> int:
    with socket.socket() as plug:
        plug.bind(("127.0.0.1", 0))
        return int(plug.getsockname()[1])


@contextlib.contextmanager
def program(
    node: FakeNode, store: ObjectStore, *words: str, env: Mapping[str, str] | None = None
) -> Iterator[Program]:
    log = node.folder / f"agent-{len(list(node.folder.glob('agent-*')))}.log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            (CRIKPY, *words, "agent", "--store", store.url, "--node", node.name),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=out,
            env=environment(node.settings, TMPDIR=str(node.folder), **(env or {})),
        )
    made = Program(process, log)
    try:
        yield made
    finally:
        process.kill()
        process.wait()
