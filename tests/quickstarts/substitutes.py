"""Programs for pages that need AWS and a cluster: the real `aws`, stand-ins for docker, kubectl, helm and pipx.

    python -m tests.quickstarts.substitutes FOLDER

Makes the programs in FOLDER/bin, each of which has this process do its work: `aws` would otherwise take a second
to begin, at each of a page's thirty calls. Stand-ins accept what could be right, need what must have been made
before, and write down each call in FOLDER/calls. What they are not taught fails.
"""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import yaml
from awscli.clidriver import create_clidriver  # type: ignore[import-untyped]

from crikpy.controller.templates import job_warnings

INSTANCE = "AWS_INSTANCE_OF_THE_NODE"
"""The variable that names the cluster's machine."""

CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "crikpy"
SERVICES = ("cloudformation", "ec2", "ecr", "fis", "s3", "sts")
NODE = "ip-10-0-0-7.eu-west-1.compute.internal"
CLIENT = """#!{python} -SE
import json, os, socket, sys
with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as server:
    server.connect({address!r})
    call = [os.path.basename(sys.argv[0]), *sys.argv[1:]]
    kept = {{name: value for name, value in os.environ.items() if name.startswith("AWS_")}}
    request = {{"call": call, "environment": kept, "folder": os.getcwd()}}
    socket.send_fds(server, [json.dumps(request).encode()], [0, 1, 2])
    sys.exit(int(server.recv(16) or b"70"))
"""


class WrongError(Exception):
    """A call that the real program would refuse, or that nobody has taught us."""


class Substitutes:
    """What the programs do; each call is a process of its own, and files are all that they share."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._aws = create_clidriver()
        for service in SERVICES:  # what is read once here, no call need read
            self._aws.session.create_client(
                service, region_name="eu-west-1", aws_access_key_id="x", aws_secret_access_key="x"
            ).close()
        self._programs: dict[str, Callable[[list[str]], int]] = {
            "aws": lambda words: int(self._aws.main(words)),
            "docker": self._docker,
            "kubectl": self._kubectl,
            "helm": self._helm,
            "pipx": self._pipx,
            "sleep": lambda _: 0,
        }

    def serve(self) -> None:
        """Answer until SIGTERM."""
        (self._folder / "bin").mkdir()
        address = str(self._folder / "socket")
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as server:
            server.bind(address)
            server.listen()
            for name in self._programs:
                path = self._folder / "bin" / name
                path.write_text(CLIENT.format(python=sys.executable, address=address))
                path.chmod(0o755)
            print("ready", flush=True)
            while True:
                self._answer(server.accept()[0])

    def _answer(self, asker: socket.socket) -> None:
        with asker:
            request, streams, _, _ = socket.recv_fds(asker, 1 << 20, 3)
            if os.fork() == 0:
                asker.send(str(self._run(json.loads(request), streams)).encode())
                os._exit(0)
            for stream in streams:
                os.close(stream)

    def _run(self, request: Mapping[str, Any], streams: list[int]) -> int:
        for number, stream in enumerate(streams):
            os.dup2(stream, number)
        os.chdir(request["folder"])
        os.environ.update(request["environment"])
        name, *words = request["call"]
        with (self._folder / "calls").open("a") as calls:
            calls.write(json.dumps(request["call"]) + "\n")
        try:
            return self._programs[name](words)
        except WrongError as fault:
            print(f"{name}: {fault}", file=sys.stderr)
            return 1
        except SystemExit as end:
            return int(end.code or 0)
        except Exception:  # noqa: BLE001 - whoever called is told
            traceback.print_exc()
            return 70
        finally:
            sys.stdout.flush()
            sys.stderr.flush()

    # ---- what is there -----------------------------------------------------------------

    def _make(self, *names: str) -> None:
        with (self._folder / "there").open("a") as there:
            there.writelines(f"{name}\n" for name in names)

    def _need(self, name: str) -> None:
        there = self._folder / "there"
        if name not in (there.read_text().splitlines() if there.exists() else []):
            raise WrongError(f"there is no {name}")

    def _calls(self, *words: str) -> int:
        """Count the calls so far that begin with words."""
        calls = (self._folder / "calls").read_text().splitlines()
        return sum(json.loads(call)[: len(words)] == list(words) for call in calls)

    def _ask_the_real(self, program: str, *words: str) -> None:
        """Have the program that hack/helm or hack/cluster builds do what needs no cluster, where it is there."""
        path = CACHE / program
        if path.exists():
            done = subprocess.run([path, *words], capture_output=True, text=True, check=False)
            if done.returncode:
                raise WrongError(done.stderr)

    # ---- docker and pipx ---------------------------------------------------------------

    def _docker(self, words: list[str]) -> int:
        match words:
            case ["login", "--username", "AWS", "--password-stdin", registry]:
                if not sys.stdin.read().strip():
                    raise WrongError("no password")
                self._make(f"login at {registry}")
            case ["build", "--platform", "linux/amd64", "--file", file, "--tag", tag, "."]:
                if not Path(file).read_text().startswith("#"):
                    raise WrongError(f"{file} is no Dockerfile of ours")
                self._make(f"image {tag}")
            case ["push", tag]:
                self._need(f"image {tag}")
                self._need(f"login at {tag.partition('/')[0]}")
                self._make(f"pushed {tag}")
            case _:
                raise WrongError(f"not taught: {words}")
        return 0

    def _pipx(self, words: list[str]) -> int:
        if words != ["run", "--spec", ".", "crikpy", "uninstall"] or not Path("pyproject.toml").exists():
            raise WrongError(f"not taught: {words}")
        self._need("daemonset/crikpy-agent")
        return 0

    # ---- helm --------------------------------------------------------------------------

    def _helm(self, words: list[str]) -> int:
        match words:
            case ["upgrade", "--install", "crikpy", chart, "--namespace", "crikpy-system", *values]:
                self._need("namespace/crikpy-system")
                self._install(chart, [value for value in values if value != "--set"])
            case ["uninstall", "crikpy", "--namespace", "crikpy-system", "--timeout", _]:
                self._need("daemonset/crikpy-agent")
            case _:
                raise WrongError(f"not taught: {words}")
        return 0

    def _install(self, chart: str, values: list[str]) -> None:
        known = yaml.safe_load(Path(chart, "values.yaml").read_text())
        for value in values:
            path, _, given = value.partition("=")
            below: Any = known
            for name in path.split("."):
                if name not in below:
                    raise WrongError(f"the chart has no value {path}")
                below = below[name]
            if not given:
                raise WrongError(f"{path} is empty")
        given_values = dict(value.split("=", 1) for value in values)
        for image in ("agent", "controller", "launcher"):
            self._need(f"pushed {given_values['image.registry']}/{image}:{given_values['image.tag']}")
        self._ask_the_real(
            "helm/helm", "template", "crikpy", chart, "--namespace", "crikpy-system", *_sets(values)
        )
        self._make("daemonset/crikpy-agent", "deployment/crikpy-controller")

    # ---- kubectl -----------------------------------------------------------------------

    def _kubectl(self, words: list[str]) -> int:
        words = [word for word in words if not word.startswith("--timeout=")]
        match words:
            case ["apply", "-f", file]:
                for found in yaml.safe_load_all(Path(file).read_text()):
                    for warning in job_warnings("Job", found) if found["kind"] == "Job" else ():
                        raise WrongError(f"crikpy's webhook warns: {warning}")
                    self._make(f"{found['kind'].lower()}/{found['metadata']['name']}")
            case ["apply", "-k", folder]:
                self._kustomize(Path(folder))
            case ["-n", "crikpy-system", "rollout", "status", name] | ["logs", name, "--tail=3"]:
                self._need(name)
            case ["wait", condition, name] if condition.startswith("--for="):
                self._need(name)
            case ["get", "nodes", "-L", "crikpy.io/ready"] | ["get", "ckpt"]:
                print("NAME")
            case ["get", "pods", "-l", "job-name=count", *_, "-o", "jsonpath={.items[0].spec.nodeName}"]:
                self._need("job/count")
                print(NODE, end="")
            case ["get", "node", name, "-o", "jsonpath={.spec.providerID}"] if name == NODE:
                print(f"aws:///eu-west-1a/{os.environ[INSTANCE]}", end="")
            case ["get", "ckpt", "-o", "jsonpath={.items[*].status.phase}"]:
                moved = self._calls("kubectl", "drain") + self._calls("aws", "fis", "start-experiment")
                print(" ".join(["Complete", *["Restored"] * moved]))
            case ["logs", "-l", "job-name=count", "--tail=3", "--prefix"]:
                self._need("job/count")
            case ["drain", name, "--ignore-daemonsets", "--delete-emptydir-data"] | ["uncordon", name] if (
                name == NODE
            ):
                pass
            case ["delete", "-k", folder, "--ignore-not-found"] if Path(folder).is_dir():
                pass
            case ["delete", kind, name, *_]:
                self._need(f"{kind}/{name}")
            case _:
                raise WrongError(f"not taught: {words}")
        return 0

    def _kustomize(self, folder: Path) -> None:
        kustomization = yaml.safe_load((folder / "kustomization.yaml").read_text())
        for resource in kustomization["resources"]:
            if not (folder / resource / "kustomization.yaml").exists():
                raise WrongError(f"{resource} is no kustomization")
        for image in kustomization["images"]:
            self._need(f"pushed {image['newName']}:{image['newTag']}")
        (generated,) = kustomization["configMapGenerator"]
        for literal in generated["literals"]:
            name, _, value = literal.partition("=")
            if not value:
                raise WrongError(f"{name} is empty")
            if name.endswith("_IMAGE"):
                self._need(f"pushed {value}")
            if not re.fullmatch(r"CRIKPY_[A-Z_]+", name):
                raise WrongError(f"{name} is no setting")
        self._ask_the_real("cluster/bin/kubectl", "kustomize", str(folder))
        self._make("daemonset/crikpy-agent", "deployment/crikpy-controller")


def _sets(values: list[str]) -> list[str]:
    return [word for value in values for word in ("--set", value)]


if __name__ == "__main__":
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    Substitutes(Path(sys.argv[1])).serve()
