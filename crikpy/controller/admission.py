"""The webhook's decisions: what becomes of a pod that opts in, and what its user is told.

A pod is never worse off for having met us. What cannot be saved runs as if it had not opted in, and a defect of
our own lets the pod pass unchanged. Only a wish that nobody can understand is refused.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Final

from crikpy import names
from crikpy.aio.clock import Deadline
from crikpy.controller import templates
from crikpy.controller.eligible import Choice, choose, has_launcher
from crikpy.controller.images import ImageLookup
from crikpy.controller.injecting import grace_warning, inject, keep_injected
from crikpy.controller.placing import Placer
from crikpy.controller.reviews import Review, Verdict
from crikpy.errors import AnnotationError, RegistryError
from crikpy.kube import raw
from crikpy.kube.raw import Json
from crikpy.metrics import Metrics
from crikpy.settings import ControllerSettings

_log = logging.getLogger(__name__)

_LOOK_UP_S = 4.0
"""All images of a pod together; the API server waits 10 s for the webhook, and whoever makes the pod for both."""

_NONE_LEFT: Final = "crikpy can save no container of this pod: it runs as if it had not opted in"
_TOO_LATE: Final = "crikpy can only save pods that had opted in when they were made; make this one anew"
_DEFECT: Final = "crikpy failed on this object, which is taken as it is; the log of its controller says why"
_WORKLOADS: Final = frozenset({"Job", "CronJob", "Deployment", "StatefulSet"})


class Admission:
    """Answers reviews; any number at once."""

    def __init__(
        self, lookup: ImageLookup, placer: Placer, settings: ControllerSettings, *, metrics: Metrics
    ) -> None:
        self._lookup = lookup
        self._placer = placer
        self._settings = settings
        self._metrics = metrics

    async def review_pod(self, review: Review) -> Verdict:
        """Return the verdict on a pod that is made or changed: refused, with the launcher, or as it is."""
        return await self._guard(review, self._judge_pod)

    async def review_template(self, review: Review) -> Verdict:
        """Return the verdict on an object with a pod template; it is never changed."""
        return await self._guard(review, self._judge_template)

    async def _guard(self, review: Review, judge: Callable[[Review], Awaitable[Verdict]]) -> Verdict:
        began = time.monotonic()
        try:
            verdict = await judge(review)
        except AnnotationError as fault:
            verdict, outcome = Verdict(refusal=fault.message), "refused"
        except Exception:  # noqa: BLE001  # a defect of ours must not keep anybody's pod from running
            _log.exception("the review of a %s in %s failed", review.kind, review.namespace)
            verdict, outcome = Verdict(warnings=(_DEFECT,)), "failed"
        else:
            outcome = "unchanged" if verdict.changed is None else "injected"
        self._metrics.admissions.labels(outcome=outcome).inc()
        self._metrics.admission_seconds.observe(time.monotonic() - began)
        return verdict

    async def _judge_pod(self, review: Review) -> Verdict:
        pod = review.object
        if review.kind != "Pod" or not _wants_saving(pod):
            return Verdict()
        if review.operation == "UPDATE":
            return _judge_update(pod, review.old_object)
        if review.operation != "CREATE":
            return Verdict()
        chosen, warnings = await self._find_words(pod, choose(pod), review.namespace)
        if not chosen:
            return Verdict(warnings=warnings)
        if grace := grace_warning(pod, self._settings):
            warnings = (*warnings, grace)
        changed = self._placer.place(inject(pod, chosen, self._settings), review.namespace)
        if changed == pod:  # asked again, since somebody has changed it after us
            return Verdict(warnings=warnings)
        _log.info(
            "launcher injected into a pod of %s",
            review.namespace,
            extra={"pod": _pod_name(pod, review.namespace), "containers": ",".join(chosen)},
        )
        return Verdict(warnings=warnings, changed=changed)

    async def _judge_template(self, review: Review) -> Verdict:
        kind, workload = review.kind, review.object
        if kind not in _WORKLOADS or review.operation not in ("CREATE", "UPDATE"):
            return Verdict()
        misplaced = tuple(templates.misplaced_warnings(kind, workload))
        if misplaced == tuple(templates.misplaced_warnings(kind, review.old_object)):
            misplaced = ()
        pod = templates.pod_of(kind, workload, review.namespace)
        if _is_old_news(review) or not _wants_saving(pod):
            return Verdict(warnings=misplaced)
        chosen, warnings = await self._find_words(pod, choose(pod), review.namespace)
        advice = tuple(templates.job_warnings(kind, workload)) if chosen else ()
        return Verdict(warnings=(*misplaced, *warnings, *advice))

    async def _find_words(
        self, pod: Json, choice: Choice, namespace: str
    ) -> tuple[dict[str, tuple[str, ...]], tuple[str, ...]]:
        """Return the chosen containers, each with the words of its image where it needs them, and all warnings."""
        deadline = Deadline.after(_LOOK_UP_S)
        spec = raw.mapping(pod.get("spec"))
        containers = {raw.text(one.get("name")): one for one in raw.items(spec.get("containers"))}
        secrets = [name for one in raw.items(spec.get("imagePullSecrets")) if (name := raw.text(one.get("name")))]
        found = await asyncio.gather(
            *(self._ask(containers[name], namespace, secrets, deadline) for name in choice.imaged),
            return_exceptions=True,
        )
        chosen: dict[str, tuple[str, ...]] = dict.fromkeys(choice.ready, ())
        warnings = list(choice.warnings)
        for name, words in zip(choice.imaged, found, strict=True):
            if isinstance(words, RegistryError):
                warnings.append(
                    f"crikpy leaves container {name} alone, which runs on unsaved: give it an explicit command,"
                    f" since that of its image is not known ({words.message})"
                )
            elif isinstance(words, BaseException):
                raise words
            else:
                chosen[name] = words
        return chosen, (*warnings, *(() if chosen else (_NONE_LEFT,)))

    async def _ask(
        self, container: Json, namespace: str, secrets: list[str], deadline: Deadline
    ) -> tuple[str, ...]:
        """Return the words that a container's image puts before its `args`, or runs where it has none."""
        image = await self._lookup(
            raw.text(container.get("image")), namespace=namespace, pull_secrets=secrets, deadline=deadline
        )
        args = raw.texts(container.get("args"))
        words = image.entrypoint if args else image.entrypoint + image.cmd
        if not words and not args:
            raise RegistryError("the image has none")
        return words


def _judge_update(pod: Json, old: Json) -> Verdict:
    """Return the verdict on a pod that is there already, of which only the annotations can still be chosen."""
    warnings: tuple[str, ...] = ()
    if _our_notes(pod) != _our_notes(old):
        choose(pod)
        if not any(map(has_launcher, raw.items(raw.mapping(pod.get("spec")).get("containers")))):
            warnings = (_TOO_LATE,)
    changed = keep_injected(pod, old)
    return Verdict(warnings=warnings, changed=changed if changed != pod else None)


def _our_notes(pod: Json) -> dict[str, str]:
    notes = raw.string_map(raw.mapping(pod.get("metadata")).get("annotations"))
    return {name: value for name, value in notes.items() if name.startswith(f"{names.DOMAIN}/")}


def _wants_saving(pod: Json) -> bool:
    """Say whether a pod has opted in; one that says so in other words is refused later, with all its faults."""
    notes = raw.string_map(raw.mapping(pod.get("metadata")).get("annotations"))
    return notes.get(names.OPT_IN, "false") != "false"


def _is_old_news(review: Review) -> bool:
    """Say whether an update leaves the pod template as it was: such updates are made by controllers all the time.

    Refusing one would keep an object from being scaled or deleted that was fine when it was made.
    """
    new, old = (templates.template_of(review.kind, one) for one in (review.object, review.old_object))
    return review.operation == "UPDATE" and new == old


def _pod_name(pod: Json, namespace: str) -> str:
    """Return the name of a pod that is being made, or how it begins where the API server has yet to choose it."""
    metadata = raw.mapping(pod.get("metadata"))
    return f"{namespace}/{raw.text(metadata.get('name')) or raw.text(metadata.get('generateName'))}"
