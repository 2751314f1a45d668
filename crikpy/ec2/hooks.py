"""Lifecycle hooks: an instance that Auto Scaling is to terminate is kept until nothing is left on it to be saved.

Heartbeats keep it, CONTINUE lets it go. Who ends in the middle is followed by whoever receives the message next,
which has the same token. An action that is over, by its timeout or by somebody else's word, is nobody's business.
Source: "Complete a lifecycle action", "RecordLifecycleActionHeartbeat" (EC2 Auto Scaling User Guide, API
Reference).
"""

from __future__ import annotations

import asyncio
import logging
from typing import Final

from crikpy.aio.clock import Deadline
from crikpy.ec2.aws import Aws
from crikpy.ec2.messages import LifecycleAction
from crikpy.ec2.sources import Desk
from crikpy.errors import AwsError, CrikpyError
from crikpy.metrics import Metrics
from crikpy.settings import SourceSettings

_log = logging.getLogger(__name__)

_ASK_EVERY_S: Final = 2.0
_OVER: Final = "ValidationError"
"""AWS's code for an action that does not wait any more."""


class LifecycleHooks:
    """Sees lifecycle actions through; any number at once.

    Args:
        aws: to answer.
        settings: how often heartbeats are sent, and for how long.
        metrics: counted in.
    """

    def __init__(self, aws: Aws, settings: SourceSettings, metrics: Metrics) -> None:
        self._aws = aws
        self._settings = settings
        self._metrics = metrics

    async def see_through(self, action: LifecycleAction, desk: Desk) -> None:
        """Keep an instance until it is clear, then let it go.

        Raises:
            AwsError: nobody can be told that it may go.
        """
        longest = Deadline.after(self._settings.hook_longest_s)
        beat = Deadline.after(self._settings.hook_heartbeat_s)
        while not (clear := await self._is_clear(action, desk)) and not longest.expired():
            await asyncio.sleep(min(_ASK_EVERY_S, self._settings.hook_heartbeat_s, longest.remaining()))
            if beat.expired():
                if not await self._beat(action):
                    return
                beat = Deadline.after(self._settings.hook_heartbeat_s)
        if await self._complete(action):
            outcome = "continued" if clear else "expired"
            self._metrics.lifecycle_hooks.labels(outcome=outcome).inc()
            _log.info(
                "Auto Scaling may terminate %s: %s", action.instance, "clear" if clear else "it took too long"
            )

    async def _is_clear(self, action: LifecycleAction, desk: Desk) -> bool:
        try:
            return await desk.is_clear(action.instance)
        except CrikpyError as fault:
            _log.debug("nobody knows yet whether %s is clear: %s", action.instance, fault)
            return False

    async def _beat(self, action: LifecycleAction) -> bool:
        """Keep the instance for another while; returns whether it still waits."""
        try:
            await self._aws.ask(
                lambda: self._aws.client("autoscaling").record_lifecycle_action_heartbeat(
                    AutoScalingGroupName=action.group,
                    LifecycleHookName=action.hook,
                    LifecycleActionToken=action.token,
                    InstanceId=action.instance,
                )
            )
        except AwsError as fault:
            if fault.detail == _OVER:
                _log.info("the lifecycle action of %s is over", action.instance)
                return False
            _log.warning("no heartbeat for %s: %s", action.instance, fault)
        return True

    async def _complete(self, action: LifecycleAction) -> bool:
        """Let the instance go; returns whether it still waited for that."""
        try:
            await self._aws.ask(
                lambda: self._aws.client("autoscaling").complete_lifecycle_action(
                    AutoScalingGroupName=action.group,
                    LifecycleHookName=action.hook,
                    LifecycleActionToken=action.token,
                    InstanceId=action.instance,
                    LifecycleActionResult="CONTINUE",
                )
            )
        except AwsError as fault:
            if fault.detail != _OVER:
                raise
            return False
        return True
