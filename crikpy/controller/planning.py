"""The plan: everything that should be done now, from one picture of the cluster. Pure, and without memory.

It is level-triggered: it asks what is missing, never what has happened, so that planning again after a lost
message, a restart or a change of leaders gives what is still to do and nothing twice. Which pods matter more is
decided in ordering; how much can be done at once is decided by whoever acts.
"""

from __future__ import annotations

from crikpy.controller.actions import Action
from crikpy.controller.discarding import plan_discards
from crikpy.controller.evicting import plan_ends
from crikpy.controller.groups import plan_groups
from crikpy.controller.intervals import plan_intervals
from crikpy.controller.marking import plan_marks, plan_withdrawals
from crikpy.controller.moving import plan_moves
from crikpy.controller.ordering import plan_drains, plan_expiries, plan_losses, plan_orders
from crikpy.controller.pruning import plan_prunings
from crikpy.controller.recreating import plan_recreations
from crikpy.controller.viewing import ClusterView
from crikpy.controller.warning import plan_warnings


def plan(view: ClusterView) -> tuple[Action, ...]:
    """Return what is to be done, the most pressing first."""
    return (
        *plan_orders(view),
        *plan_groups(view),
        *plan_drains(view),
        *plan_marks(view),
        *plan_ends(view),
        *plan_moves(view),
        *plan_recreations(view),
        *plan_losses(view),
        *plan_expiries(view),
        *plan_withdrawals(view),
        *plan_intervals(view),
        *plan_warnings(view),
        *plan_discards(view),
        *plan_prunings(view),
    )
