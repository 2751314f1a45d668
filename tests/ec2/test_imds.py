"""The client keeps IMDSv2's rules and turns every trouble into one kind of error."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator

import pytest

from crikpy.ec2.imds import MetadataClient
from crikpy.errors import MetadataError
from crikpy.settings import NoticeSettings
from tests.fakes.imds import TOKEN_PATH, FakeImds

INSTANCE = "meta-data/instance-id"


class Clock:
    """A monotonic clock that a test moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
async def imds() -> AsyncIterator[FakeImds]:
    async with FakeImds().serving() as service:
        yield service


def client_of(imds: FakeImds, *, clock: Clock | None = None, timeout_s: float = 5.0) -> MetadataClient:
    settings = NoticeSettings(imds_endpoint=imds.endpoint, request_timeout_s=timeout_s)
    return MetadataClient(settings, clock=clock or Clock())


async def test_a_page_is_read_with_a_token(imds: FakeImds) -> None:
    async with client_of(imds) as client:
        assert await client.get("meta-data/instance-type") == "m7i.large"
    assert imds.seen == {"tokens": 1, "answers": 1}


async def test_an_absent_page_is_none(imds: FakeImds) -> None:
    async with client_of(imds) as client:
        assert await client.get("meta-data/spot/instance-action") is None


async def test_the_instance_id_is_asked_once(imds: FakeImds) -> None:
    async with client_of(imds) as client:
        assert [await client.instance_id() for _ in range(3)] == ["i-0123456789abcdef0"] * 3
    assert imds.seen["answers"] == 1


async def test_a_service_without_instance_id_is_an_error(imds: FakeImds) -> None:
    imds.put(INSTANCE, None)
    async with client_of(imds) as client:
        with pytest.raises(MetadataError, match="no instance id"):
            await client.instance_id()


async def test_the_identity_comes_from_the_document(imds: FakeImds) -> None:
    async with client_of(imds) as client:
        identity = await client.identity()
    assert (identity.instance, identity.region, identity.zone) == (
        "i-0123456789abcdef0",
        "eu-west-1",
        "eu-west-1b",
    )


@pytest.mark.parametrize("body", [None, "", "{}", "<html>", '{"instanceId": 1}', "[" * 60000])
async def test_an_unreadable_identity_document_is_an_error(imds: FakeImds, body: str | None) -> None:
    imds.put("dynamic/instance-identity/document", body)
    async with client_of(imds) as client:
        with pytest.raises(MetadataError, match="document cannot be read") as caught:
            await client.identity()
    assert len(caught.value.detail) <= 200


async def test_many_questions_at_once_share_one_token(imds: FakeImds) -> None:
    async with client_of(imds) as client:
        await asyncio.gather(*(client.get(INSTANCE) for _ in range(20)))
    assert imds.seen == {"tokens": 1, "answers": 20}


async def test_a_token_is_kept_until_15_seconds_before_its_end(imds: FakeImds) -> None:
    imds.grants_ttl_s = 100
    clock = Clock()
    async with client_of(imds, clock=clock) as client:
        await client.get(INSTANCE)
        clock.now += 84.9
        await client.get(INSTANCE)
        assert imds.seen["tokens"] == 1
        clock.now += 0.2
        await client.get(INSTANCE)
    assert imds.seen == {"tokens": 2, "answers": 3}


async def test_a_very_short_lived_token_is_still_used_more_than_once(imds: FakeImds) -> None:
    imds.grants_ttl_s = 10
    clock = Clock()
    async with client_of(imds, clock=clock) as client:
        await client.get(INSTANCE)
        clock.now += 4
        await client.get(INSTANCE)
    assert imds.seen["tokens"] == 1


async def test_a_forgotten_token_is_replaced_and_the_question_repeated(imds: FakeImds) -> None:
    async with client_of(imds) as client:
        await client.get(INSTANCE)
        imds.expire_tokens()
        assert await client.get("meta-data/instance-type") == "m7i.large"
    assert imds.seen == {"tokens": 2, "answers": 2, "bad-token": 1}


async def test_questions_refused_together_replace_the_token_once(imds: FakeImds) -> None:
    async with client_of(imds) as client:
        await client.get(INSTANCE)
        imds.expire_tokens()
        await asyncio.gather(*(client.get(INSTANCE) for _ in range(8)))
    assert imds.seen["tokens"] == 2


async def test_a_late_refusal_of_an_old_token_leaves_the_new_one(imds: FakeImds) -> None:
    async with client_of(imds) as client:
        await client.get(INSTANCE)
        imds.trouble("stall", INSTANCE)
        late = asyncio.create_task(client.get(INSTANCE))
        await imds.stalling.wait()
        imds.expire_tokens()
        await client.get("meta-data/instance-type")
        imds.heal()
        assert await late == "i-0123456789abcdef0"
    assert imds.seen["tokens"] == 2


async def test_a_second_refusal_is_an_error_and_not_a_loop(imds: FakeImds) -> None:
    async with client_of(imds) as client:
        imds.trouble("401", INSTANCE)
        with pytest.raises(MetadataError, match="status 401"):
            await client.get(INSTANCE)
    assert imds.seen["tokens"] == 2


async def test_a_disabled_service_is_named_so(imds: FakeImds) -> None:
    imds.trouble("403", TOKEN_PATH)
    async with client_of(imds) as client:
        with pytest.raises(MetadataError, match="disabled") as caught:
            await client.get(INSTANCE)
    assert "HttpEndpoint=enabled" in caught.value.remedy


@pytest.mark.parametrize("status", ["400", "404", "405", "500", "503", "302"])
async def test_without_a_token_nothing_is_asked(imds: FakeImds, status: str) -> None:
    imds.trouble(status, TOKEN_PATH)
    async with client_of(imds) as client:
        with pytest.raises(MetadataError):
            await client.get(INSTANCE)
    assert imds.seen == {}


@pytest.mark.parametrize("status", ["500", "503", "301"])
async def test_an_undocumented_status_is_a_retryable_error(imds: FakeImds, status: str) -> None:
    async with client_of(imds) as client:
        imds.trouble(status, INSTANCE)
        with pytest.raises(MetadataError, match=f"status {status}") as caught:
            await client.get(INSTANCE)
    assert caught.value.retryable


@pytest.mark.parametrize("kind", ["stall", "reset"])
async def test_a_token_lost_on_the_way_hints_at_the_hop_limit(imds: FakeImds, kind: str) -> None:
    imds.trouble(kind, TOKEN_PATH)
    async with client_of(imds, timeout_s=0.2) as client:
        with pytest.raises(MetadataError) as caught:
            await client.get(INSTANCE)
    assert "HttpPutResponseHopLimit to 2 or run on the host network" in caught.value.remedy


async def test_a_page_that_stalls_ends_with_an_error_that_names_it(imds: FakeImds) -> None:
    async with client_of(imds, timeout_s=0.2) as client:
        imds.trouble("stall", INSTANCE)
        with pytest.raises(
            MetadataError, match=r"did not answer within 0\.2 s \(meta-data/instance-id\)"
        ) as caught:
            await client.get(INSTANCE)
    assert caught.value.remedy == ""


async def test_a_refused_connection_says_nothing_of_hops() -> None:
    with socket.socket() as plug:
        plug.bind(("127.0.0.1", 0))  # bound but not listening: nobody else can take the port meanwhile
        settings = NoticeSettings(imds_endpoint=f"http://127.0.0.1:{plug.getsockname()[1]}")
        async with MetadataClient(settings) as client:
            with pytest.raises(MetadataError, match="cannot be reached") as caught:
                await client.get(INSTANCE)
    assert caught.value.retryable
    assert caught.value.remedy == ""


@pytest.mark.parametrize("endpoint", ["", "nonsense", "http://[::1", "ftp://127.0.0.1", "http://"])
async def test_an_endpoint_that_cannot_be_is_a_metadata_error(endpoint: str) -> None:
    async with MetadataClient(NoticeSettings(imds_endpoint=endpoint)) as client:
        with pytest.raises(MetadataError):
            await client.get(INSTANCE)


async def test_an_endless_answer_is_cut_off(imds: FakeImds) -> None:
    imds.put(INSTANCE, "x" * 1_000_000)
    async with client_of(imds) as client:
        with pytest.raises(MetadataError, match="more than"):
            await client.get(INSTANCE)


async def test_a_token_that_would_break_a_header_is_refused(imds: FakeImds) -> None:
    # A server that talks its own protocol: the fake one only gives tokens that are fit for use.
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        body = b"token\r\nX-Injected: yes"
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(talk, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        async with MetadataClient(NoticeSettings(imds_endpoint=f"http://127.0.0.1:{port}")) as client:
            with pytest.raises(MetadataError, match="cannot be a token"):
                await client.get(INSTANCE)


async def test_proxies_of_the_environment_are_passed_by(imds: FakeImds, monkeypatch: pytest.MonkeyPatch) -> None:
    async with FakeImds(instance="i-proxy").serving() as proxy:
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, proxy.endpoint)
        async with client_of(imds) as client:
            assert await client.instance_id() == "i-0123456789abcdef0"
        assert proxy.seen == {}


async def test_version_1_is_never_spoken(imds: FakeImds) -> None:
    async with client_of(imds, timeout_s=0.3) as client:
        for kind in ("403", "500", "stall", "reset", "401", "404"):
            imds.trouble(kind, TOKEN_PATH)
            imds.expire_tokens()
            with pytest.raises(MetadataError):
                await client.get(INSTANCE)
            imds.heal()
            await client.get(INSTANCE)
    assert imds.seen["no-token"] == 0
