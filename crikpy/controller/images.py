"""Which words the image of a container runs: its registry asked with the pod's own pull secrets."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Protocol

from crikpy.aio.clock import Deadline
from crikpy.errors import KubeError, RegistryError
from crikpy.kube.api import KubeApi
from crikpy.kube.raw import Json
from crikpy.kube.resources import SECRETS
from crikpy.registry.entrypoints import ImageCommand, Registries

_log = logging.getLogger(__name__)

_SECRETS_ANSWER_S = 1.0


class ImageLookup(Protocol):
    """Finds out what an image runs."""

    async def __call__(
        self, image: str, *, namespace: str, pull_secrets: Sequence[str], deadline: Deadline
    ) -> ImageCommand:
        """Return what an image runs.

        Args:
            image: its name.
            namespace: of the pod.
            pull_secrets: names of Secrets in that namespace.
            deadline: when an answer is of no use any more.

        Raises:
            RegistryError: it cannot be found out, with what the user can do instead.
        """
        ...


class RegistryLookup:
    """Asks the image's registry; the Secrets are read where this process may, else it goes without them."""

    def __init__(self, api: KubeApi, registries: Registries) -> None:
        self._api = api
        self._registries = registries

    async def __call__(
        self, image: str, *, namespace: str, pull_secrets: Sequence[str], deadline: Deadline
    ) -> ImageCommand:
        """See ImageLookup."""
        found = await asyncio.gather(*(self._read(namespace, name, deadline) for name in pull_secrets))
        secrets = [secret for secret in found if secret is not None]
        try:
            return await self._registries.entrypoint_of(image, secrets, deadline)
        except RegistryError as fault:
            if len(secrets) == len(pull_secrets):
                raise
            raise RegistryError(
                f"{fault.message}; crikpy cannot read the pod's pull secrets", remedy=fault.remedy
            ) from fault

    async def _read(self, namespace: str, name: str, deadline: Deadline) -> Json | None:
        try:
            return await self._api.get(
                SECRETS, name, namespace=namespace, deadline=deadline.earlier(_SECRETS_ANSWER_S)
            )
        except KubeError as fault:
            _log.info("pull secret %s/%s is not used: %s", namespace, name, fault)
            return None
