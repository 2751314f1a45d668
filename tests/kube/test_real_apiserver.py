"""A real API server keeps the same contract as the fake one: that of CRIKPY_TEST_KUBECONFIG or KUBECONFIG."""

from __future__ import annotations

import asyncio
import os
import secrets
from collections.abc import AsyncIterator

import pytest

from crikpy import errors
from crikpy.aio.clock import Deadline
from crikpy.kube.api import KubeApi
from crikpy.kube.client import KubeClient
from crikpy.kube.raw import Json
from crikpy.kube.resources import NAMESPACES, PODS, SERVICE_ACCOUNTS, Resource
from crikpy.settings import KubeSettings
from tests.kube.contract import PATIENCE_S, Contract, pod

pytestmark = pytest.mark.e2e

BUDGETS = Resource("policy", "v1", "poddisruptionbudgets", "PodDisruptionBudget")


class TestReal(Contract):
    @pytest.fixture
    async def api(self) -> AsyncIterator[KubeClient]:
        path = os.environ.get("CRIKPY_TEST_KUBECONFIG") or os.environ.get("KUBECONFIG")
        if not path:
            pytest.skip("no cluster: neither CRIKPY_TEST_KUBECONFIG nor KUBECONFIG is set")
        async with await KubeClient.connect(KubeSettings(kubeconfig=path)) as client:
            yield client

    @pytest.fixture
    async def place(self, api: KubeClient) -> AsyncIterator[str]:
        name = f"crikpy-test-{secrets.token_hex(4)}"
        await api.create(NAMESPACES, {"metadata": {"name": name}})
        try:
            async with asyncio.timeout(PATIENCE_S):
                while not await has_account(api, name):  # noqa: ASYNC110 - made by a controller of the cluster
                    await asyncio.sleep(0.05)
            yield name
        finally:
            for left in (await api.list(PODS, namespace=name)).items:
                await api.delete(PODS, left["metadata"]["name"], namespace=name, grace_period_s=0)
            await api.delete(NAMESPACES, name)

    async def test_a_budget_blocks_an_eviction(self, api: KubeApi, place: str) -> None:
        made = await api.create(PODS, pod("p", app="kept"), namespace=place)
        running: Json = {"status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}}
        await api.patch(PODS, "p", running, namespace=place, subresource="status")
        budget = {
            "metadata": {"name": "b"},
            "spec": {"minAvailable": 1, "selector": {"matchLabels": {"app": "kept"}}},
        }
        await api.create(BUDGETS, budget, namespace=place)
        with pytest.raises(errors.EvictionBlockedError):
            await api.evict(place, "p", uid=made["metadata"]["uid"], deadline=Deadline.after(PATIENCE_S))


async def has_account(api: KubeApi, place: str) -> bool:
    return bool((await api.list(SERVICE_ACCOUNTS, namespace=place)).items)
