"""Where the API server is and who we are to it: a service account in the cluster, else a kubeconfig.

The `kubernetes` library reads the files, runs credential plug-ins and makes the TLS context. It is imported here
when a connection is made, not before: its import takes a second and 56 MB.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import crikpy
from crikpy import names
from crikpy.errors import SettingsError
from crikpy.kube.transport import Credentials, Transport
from crikpy.settings import KubeSettings

SERVICE_ACCOUNT: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount")
"""Where kubelet puts a pod's token, the cluster's certificate and the pod's namespace."""

_IN_CLUSTER: Final = ("KUBERNETES_SERVICE_HOST", "KUBERNETES_SERVICE_PORT")
_PLUGIN_S: Final = 30.0
"""Longest wait for a kubeconfig's credential plug-in."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Connection:
    """A server, found.

    Attributes:
        transport: the way to it.
        default_namespace: of the kubeconfig's context or of the pod's service account.
    """

    transport: Transport
    default_namespace: str


async def connect(
    settings: KubeSettings, environ: Mapping[str, str], account: Path = SERVICE_ACCOUNT
) -> Connection:
    """Read the configuration and make ready to send; sends nothing.

    Args:
        settings: a kubeconfig or context in them goes before everything else.
        environ: where KUBECONFIG, HOME and the variables of a pod are looked up.
        account: directory of the pod's service account.

    Raises:
        SettingsError: there is no configuration, or it cannot be used; with what can be done.
    """
    chosen = settings.kubeconfig or settings.context
    if not chosen and all(environ.get(name) for name in _IN_CLUSTER) and (account / "token").exists():
        return await _from_account(environ, account)
    return await _from_kubeconfig(settings, environ)


async def _from_account(environ: Mapping[str, str], account: Path) -> Connection:
    from kubernetes.aio.client import Configuration
    from kubernetes.aio.config.incluster_config import InClusterConfigLoader

    library: Any = InClusterConfigLoader  # untyped
    configuration: Any = Configuration()
    files = {"token_filename": str(account / "token"), "cert_filename": str(account / "ca.crt")}

    async def load() -> None:
        library(**files, environ=environ).load_and_set(configuration)

    namespace = account / "namespace"
    try:
        await load()
        transport = _transport(configuration, Credentials(load))
        text = namespace.read_text().strip() if namespace.exists() else ""
    except Exception as fault:
        raise SettingsError(
            f"the pod's service account cannot be used: {fault}",
            remedy="see that the pod has automountServiceAccountToken",
        ) from fault
    return Connection(transport=transport, default_namespace=text or "default")


async def _from_kubeconfig(settings: KubeSettings, environ: Mapping[str, str]) -> Connection:
    from kubernetes.aio.client import Configuration
    from kubernetes.aio.config import load_kube_config

    paths = settings.kubeconfig or environ.get("KUBECONFIG") or f"{environ.get('HOME') or '~'}/.kube/config"
    if not _exists(paths):
        raise SettingsError(
            f"there is no kubeconfig at {paths}, and this is no pod with a service account",
            remedy=f"set KUBECONFIG or {names.ENV_PREFIX}KUBE_KUBECONFIG to the path of a kubeconfig",
        )
    library: Any = load_kube_config  # untyped
    configuration: Any = Configuration()
    try:
        async with asyncio.timeout(_PLUGIN_S):
            loader = await library(
                config_file=paths,
                context=settings.context or None,
                client_configuration=configuration,
                persist_config=False,
            )

        async def load() -> None:
            await loader.load_and_set(configuration)

        _require_credentials(loader, configuration)
        transport = _transport(configuration, Credentials(load))
        context = loader.current_context["context"]
    except Exception as fault:
        text = str(fault) or type(fault).__name__
        raise SettingsError(
            f"the kubeconfig {paths} cannot be used: {text}",
            remedy=f"try `kubectl version` with it; {names.ENV_PREFIX}KUBE_CONTEXT chooses another context",
        ) from fault
    return Connection(transport=transport, default_namespace=context.get("namespace") or "default")


def _exists(paths: str) -> bool:
    return any(Path(path).expanduser().is_file() for path in paths.split(":") if path)


def _require_credentials(loader: Any, configuration: Any) -> None:
    """Raise when a plug-in failed: the library logs why, and would go on as nobody."""
    plugin = "exec" in (loader._user or ())  # noqa: SLF001 - the library shows its user nowhere else
    if plugin and not configuration.api_key and not configuration.cert_file:
        raise SettingsError("its credential plug-in brought no credentials")


def _transport(configuration: Any, credentials: Credentials) -> Transport:
    from kubernetes.aio.client import ApiClient

    configuration.refresh_api_key_hook = credentials
    library: Any = ApiClient
    api = library(configuration)
    api.user_agent = f"crikpy/{crikpy.__version__}"
    return Transport(api, credentials)
