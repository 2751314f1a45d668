"""The fake service keeps AWS's rules; were it lax, the client's tests would prove nothing."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import ProxyHandler, Request, build_opener

import aiohttp
import pytest

from tests.fakes.imds import TOKEN_HEADER, TTL_HEADER, FakeImds, tell


@pytest.fixture
async def imds() -> AsyncIterator[FakeImds]:
    async with FakeImds().serving() as service:
        yield service


async def status_of(imds: FakeImds, method: str, path: str, headers: dict[str, str]) -> int:
    url = f"{imds.endpoint}/latest/{path}"
    async with aiohttp.request(method, url, headers=headers) as answer:
        return answer.status


@pytest.mark.parametrize(
    ("ttl", "status"), [("1", 200), ("21600", 200), ("0", 400), ("21601", 400), ("", 400), ("-1", 400), ("x", 400)]
)
async def test_a_token_needs_a_ttl_that_aws_allows(imds: FakeImds, ttl: str, status: int) -> None:
    assert await status_of(imds, "PUT", "api/token", {TTL_HEADER: ttl}) == status


async def test_a_token_without_ttl_is_refused(imds: FakeImds) -> None:
    assert await status_of(imds, "PUT", "api/token", {}) == 400


async def test_a_forwarded_request_is_refused(imds: FakeImds) -> None:
    headers = {TTL_HEADER: "60", "X-Forwarded-For": "10.0.0.1"}
    assert await status_of(imds, "PUT", "api/token", headers) == 403


async def test_version_1_is_refused_and_counted(imds: FakeImds) -> None:
    assert await status_of(imds, "GET", "meta-data/instance-id", {}) == 401
    assert imds.seen == {"no-token": 1}


async def test_an_invented_token_is_refused(imds: FakeImds) -> None:
    assert await status_of(imds, "GET", "meta-data/instance-id", {TOKEN_HEADER: "invented"}) == 401


async def test_a_token_ends_with_its_ttl(imds: FakeImds) -> None:
    async with aiohttp.ClientSession() as session:
        url = f"{imds.endpoint}/latest"
        async with session.put(f"{url}/api/token", headers={TTL_HEADER: "1"}) as answer:
            headers = {TOKEN_HEADER: await answer.text()}
        await asyncio.sleep(1.1)
        async with session.get(f"{url}/meta-data/instance-id", headers=headers) as answer:
            assert answer.status == 401


class Program:
    """The fake service as the demo runs it: a process of its own, told what to do through a Unix socket."""

    def __init__(self, folder: Path) -> None:
        self.control = folder / "control"
        argv = [sys.executable, "-m", "tests.fakes.imds", "serve", "--control", str(self.control)]
        self.process = subprocess.Popen([*argv, "--instance", "i-demo"], stdout=subprocess.PIPE, cwd=Path.cwd())
        assert self.process.stdout is not None
        self.endpoint: str = json.loads(self.process.stdout.readline())["endpoint"]

    def get(self, path: str) -> str:
        opener = build_opener(ProxyHandler({}))
        ask = Request(f"{self.endpoint}/latest/api/token", method="PUT", headers={TTL_HEADER: "60"})
        with opener.open(ask) as answer:
            token = answer.read().decode()
        page = Request(f"{self.endpoint}/latest/{path}", headers={TOKEN_HEADER: token})
        with opener.open(page) as answer:
            return str(answer.read().decode())

    def end(self) -> int:
        self.process.terminate()
        status = self.process.wait(10)
        assert self.process.stdout is not None
        self.process.stdout.close()
        return status


@pytest.fixture
def program(tmp_path: Path) -> Iterator[Program]:
    running = Program(tmp_path)
    yield running
    running.end()


def test_the_program_serves_and_obeys_through_its_socket(program: Program) -> None:
    assert program.get("meta-data/instance-id") == "i-demo"
    with pytest.raises(HTTPError, match="404"):
        program.get("meta-data/spot/instance-action")
    tell(program.control, {"do": "spot", "action": "stop", "at": "2026-01-02T03:04:05Z"})
    assert json.loads(program.get("meta-data/spot/instance-action")) == {
        "action": "stop",
        "time": "2026-01-02T03:04:05Z",
    }
    assert tell(program.control, {"do": "counts"})["answers"] == 3


def test_the_program_answers_a_bad_order_and_goes_on(program: Program) -> None:
    for order in ({"do": "serving"}, {}, {"do": "spot", "colour": "red"}):
        with pytest.raises(ValueError, match="Error"):
            tell(program.control, order)
    assert tell(program.control, {"do": "counts"}) == {}


def test_an_order_can_be_given_by_command_line(program: Program) -> None:
    argv = [sys.executable, "-m", "tests.fakes.imds", "tell", str(program.control)]
    told = subprocess.run([*argv, '{"do": "lifecycle", "state": "Terminated"}'], timeout=20)
    assert told.returncode == 0
    assert program.get("meta-data/autoscaling/target-lifecycle-state") == "Terminated"
    refused = subprocess.run([*argv, '{"do": "dance"}'], timeout=20, capture_output=True, text=True)
    assert refused.returncode == 1
    assert "no such order" in refused.stderr


def test_the_program_ends_cleanly_and_removes_its_socket(tmp_path: Path) -> None:
    running = Program(tmp_path)
    assert running.end() == 0
    assert list(tmp_path.iterdir()) == []
