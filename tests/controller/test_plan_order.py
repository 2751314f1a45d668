"""What a plan does first, and what it leaves alone."""

from __future__ import annotations

from crikpy.controller import actions
from crikpy.controller.planning import plan
from tests.controller.clusters import a_node, a_notice, a_pod, a_view


def test_an_empty_cluster_needs_nothing() -> None:
    assert plan(a_view()) == ()


def test_the_most_pressing_comes_first() -> None:
    planned = plan(a_view(a_node(notice=a_notice()), a_pod("a"), a_pod("b", injected=())))
    assert [type(action) for action in planned] == [actions.MakeOrder, actions.MarkNode, actions.TellNotInjected]
