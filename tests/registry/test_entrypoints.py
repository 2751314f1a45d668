"""What images run, asked of a registry that speaks the distribution API over real sockets."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web

from crikpy.aio.clock import Deadline
from crikpy.errors import RegistryError
from crikpy.registry.entrypoints import ImageCommand, Registries
from tests.fakes.registry import PASSWORD, REFRESH_TOKEN, USER, FakeRegistry, pull_secret

TRAIN = ImageCommand(entrypoint=("python", "train.py"), cmd=("--fast",))


@pytest.fixture
async def registry() -> AsyncIterator[FakeRegistry]:
    async with FakeRegistry().serving() as service:
        service.push("team/train", "v1", entrypoint=["python", "train.py"], cmd=["--fast"])
        yield service


async def ask(
    registry: FakeRegistry, image: str = "team/train:v1", *, pull_secrets: tuple[dict[str, Any], ...] = ()
) -> ImageCommand:
    async with Registries(plain_hosts={registry.server}) as registries:
        return await registries.entrypoint_of(f"{registry.server}/{image}", pull_secrets, Deadline.after(10))


async def test_a_public_image_is_read(registry: FakeRegistry) -> None:
    assert await ask(registry) == TRAIN


async def test_an_image_by_digest_is_read(registry: FakeRegistry) -> None:
    digest = registry.push("team/other", "v1", cmd=["sh"])
    assert await ask(registry, f"team/other@{digest}") == ImageCommand(cmd=("sh",))


@pytest.mark.parametrize("auth", ["basic", "token"])
async def test_a_private_image_is_read_with_the_pull_secret(registry: FakeRegistry, auth: str) -> None:
    registry.auth = auth
    assert await ask(registry, pull_secrets=(pull_secret(registry.server),)) == TRAIN


async def test_a_refresh_token_is_exchanged(registry: FakeRegistry) -> None:
    registry.auth = "token"
    secret = pull_secret(registry.server, identitytoken=REFRESH_TOKEN)
    assert await ask(registry, pull_secrets=(secret,)) == TRAIN
    assert "POST /token" in registry.asked


async def test_the_next_secret_is_tried_when_one_is_refused(registry: FakeRegistry) -> None:
    registry.auth = "token"
    bad = pull_secret(registry.server, username=USER, password="wrong")
    assert await ask(registry, pull_secrets=(bad, pull_secret(registry.server))) == TRAIN


@pytest.mark.parametrize("auth", ["basic", "token"])
async def test_an_image_without_the_right_secret_is_an_error(
    registry: FakeRegistry, auth: str, caplog: pytest.LogCaptureFixture
) -> None:
    registry.auth = auth
    other = pull_secret("other.example")
    with caplog.at_level(logging.DEBUG), pytest.raises(RegistryError, match="pull secrets") as caught:
        await ask(registry, pull_secrets=(other, pull_secret(registry.server, username=USER, password="hush")))
    assert caught.value.remedy == "give the container an explicit command"
    assert PASSWORD not in caplog.text
    assert "hush" not in f"{caplog.text}{caught.value}"


@pytest.mark.parametrize(
    ("variants", "chosen"),
    [
        (("linux/arm64", "linux/amd64"), "linux/amd64"),
        (("windows/amd64", "linux/arm64"), "linux/arm64"),
        (("unknown/unknown", "linux/riscv64"), "linux/riscv64"),
    ],
)
async def test_one_variant_of_an_index_is_read(
    registry: FakeRegistry, variants: tuple[str, ...], chosen: str
) -> None:
    digests = {
        variant: registry.push("team/many", variant.replace("/", "-"), cmd=[variant]) for variant in variants
    }
    registry.push_index("team/many", "v1", digests)
    assert await ask(registry, "team/many:v1") == ImageCommand(cmd=(chosen,))


async def test_an_index_without_linux_is_an_error(registry: FakeRegistry) -> None:
    registry.push_index("team/win", "v1", {"windows/amd64": registry.push("team/win", "w")})
    with pytest.raises(RegistryError, match="no variant for Linux"):
        await ask(registry, "team/win:v1")


async def test_a_configuration_is_fetched_once(registry: FakeRegistry) -> None:
    async with Registries(plain_hosts={registry.server}) as registries:
        for _ in range(3):
            answer = await registries.entrypoint_of(f"{registry.server}/team/train:v1", (), Deadline.after(10))
            assert answer == TRAIN
    assert len([path for path in registry.asked if "/blobs/" in path]) == 1
    assert len([path for path in registry.asked if "/manifests/" in path]) == 3


async def test_what_is_remembered_does_not_open_a_private_image(registry: FakeRegistry) -> None:
    image = f"{registry.server}/team/train:v1"
    registry.auth = "basic"
    async with Registries(plain_hosts={registry.server}) as registries:
        assert await registries.entrypoint_of(image, [pull_secret(registry.server)], Deadline.after(10)) == TRAIN
        with pytest.raises(RegistryError, match="pull secrets"):
            await registries.entrypoint_of(image, (), Deadline.after(10))


async def test_a_moved_tag_is_seen(registry: FakeRegistry) -> None:
    async with Registries(plain_hosts={registry.server}) as registries:
        image = f"{registry.server}/team/train:v1"
        assert await registries.entrypoint_of(image, (), Deadline.after(10)) == TRAIN
        registry.push("team/train", "v1", cmd=["new"])
        assert await registries.entrypoint_of(image, (), Deadline.after(10)) == ImageCommand(cmd=("new",))


async def test_blobs_that_lie_elsewhere_are_fetched_without_credentials(registry: FakeRegistry) -> None:
    registry.auth = "basic"
    async with FakeRegistry().serving() as elsewhere:
        elsewhere.push("team/train", "v1", entrypoint=["python", "train.py"], cmd=["--fast"])
        registry.blobs_elsewhere = f"http://{elsewhere.server}/cdn"
        async with Registries(plain_hosts={registry.server, elsewhere.server}) as registries:
            image = f"{registry.server}/team/train:v1"
            secrets = [pull_secret(registry.server)]
            assert await registries.entrypoint_of(image, secrets, Deadline.after(10)) == TRAIN
        assert elsewhere.authorizations == [""]


@pytest.mark.parametrize("config", [b"{}", b'{"config": null}', b'{"config": {"Entrypoint": null, "Cmd": 7}}'])
async def test_an_image_that_runs_nothing_is_no_error(registry: FakeRegistry, config: bytes) -> None:
    registry.push_config("team/empty", "v1", config)
    assert await ask(registry, "team/empty:v1") == ImageCommand()


@pytest.mark.parametrize(
    ("status", "message"), [(404, "no such image"), (429, "too often"), (500, "status 500"), (418, "status 418")]
)
async def test_an_unhappy_registry_is_an_error(registry: FakeRegistry, status: int, message: str) -> None:
    registry.overrides["/v2/team/train/manifests/v1"] = web.Response(status=status, text="secret of the network")
    with pytest.raises(RegistryError, match=message) as caught:
        await ask(registry)
    assert "secret of the network" not in str(caught.value)
    assert caught.value.remedy


@pytest.mark.parametrize(
    "manifest",
    [
        [],
        {},
        {"config": {}},
        {"config": {"digest": "sha256:../../token"}},
        {"manifests": [{"platform": {"os": "linux", "architecture": "amd64"}}]},
        {"manifests": [None, {"platform": None}]},
        {"schemaVersion": 1, "fsLayers": []},
    ],
)
async def test_an_odd_manifest_is_an_error(registry: FakeRegistry, manifest: Any) -> None:
    registry.push_manifest("team/odd", "v1", manifest)
    with pytest.raises(RegistryError):
        await ask(registry, "team/odd:v1")


@pytest.mark.parametrize("body", [b"", b"<html>", b"[" * 100_000, b"\xff\xfe"])
async def test_what_is_not_json_is_an_error(registry: FakeRegistry, body: bytes) -> None:
    registry.overrides["/v2/team/train/manifests/v1"] = web.Response(body=body)
    with pytest.raises(RegistryError, match="not JSON"):
        await ask(registry)


async def test_a_forged_configuration_is_an_error(registry: FakeRegistry) -> None:
    manifest = json.loads(registry._manifests["team/train", "v1"][1])
    forged = web.Response(body=b'{"config": {"Cmd": ["evil"]}}')
    registry.overrides[f"/v2/team/train/blobs/{manifest['config']['digest']}"] = forged
    with pytest.raises(RegistryError, match="does not match its digest"):
        await ask(registry)


async def test_an_endless_manifest_is_not_read_to_its_end(registry: FakeRegistry) -> None:
    registry.push_manifest("team/huge", "v1", {"padding": "x" * (5 << 20)})
    with pytest.raises(RegistryError, match="more than 4194304 bytes"):
        await ask(registry, "team/huge:v1")


async def test_a_silent_registry_is_left_at_the_deadline() -> None:
    accepted = asyncio.Event()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        accepted.set()
        await reader.read()
        writer.close()

    listener = await asyncio.start_server(accept, "127.0.0.1", 0)
    async with listener:
        silent = f"127.0.0.1:{listener.sockets[0].getsockname()[1]}"
        async with Registries(plain_hosts={silent}) as registries:
            with pytest.raises(RegistryError, match="did not answer in time"):
                await registries.entrypoint_of(f"{silent}/a", (), Deadline.after(0.2))
        assert accepted.is_set()


async def test_a_registry_that_is_not_there_is_an_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        gone = f"127.0.0.1:{taken.getsockname()[1]}"
    async with Registries(plain_hosts={gone}) as registries:
        with pytest.raises(RegistryError, match="cannot be asked"):
            await registries.entrypoint_of(f"{gone}/a", (), Deadline.after(10))
