"""The life of checkpoints with everything going on at once: no step may come at a bad time.

Controllers that plan from old pictures and whose acts get lost, agents that die between any two steps, machines
that go, notices that are withdrawn; decided by crikpy's own planning (controller) and choosing (agent). What must
be true all the time: no job is resumed that still runs, and none is resumed twice. What must be true in the end,
when nothing goes wrong any more: every order is in a final phase, and every workload runs.
"""

from __future__ import annotations

import os
import random

import pytest

from crikpy.agent.choosing import Resume, Wait, choose
from crikpy.controller.planning import plan
from crikpy.controller.viewing import ClusterView
from crikpy.model.orders import OrderPhase
from tests.chaos.recording import Record
from tests.chaos.world import JobState, World

CONTROLLERS = 2
NODES = 3
WORKLOADS = 2

STEPS = 400
INCIDENTS = 100
SEEDS = range(*map(int, os.environ.get("CRIKPY_CHAOS_LIVES", "0:300").split(":")))


class LifeCycle:
    """A cluster in which anything may happen next, as chance will have it.

    Attributes:
        world: the cluster.
        resumed: how often a job went on from a checkpoint.
        came_back: how often a job could be reached again that was resumed elsewhere meanwhile.
        saved_too_late: how many checkpoints such jobs have made.
    """

    def __init__(self, seed: int) -> None:
        self.world = World(NODES, WORKLOADS)
        self.resumed = self.came_back = self.saved_too_late = 0
        self._chance = random.Random(seed)
        self._pictures: list[ClusterView | None] = [None] * CONTROLLERS
        self._acts = (
            (self.agents_take_a_step, 8),
            (self.a_controller_acts, 8),
            (self.kubelets_take_a_step, 4),
            (self.owners_make_pods, 4),
            (self.time_passes, 4),
            (self.jobs_work, 3),
            (self.a_notice_comes, 2),
            (self.silence_is_noticed, 2),
            (self.a_machine_is_given_up, 2),
            (self.a_job_is_saved_and_runs_on, 1),
            (self.a_notice_is_withdrawn, 1),
            (self.a_machine_dies_without_notice, 1),
            (self.a_machine_is_cut_off, 1),
            (self.a_machine_can_be_reached_again, 1),
            (self.an_agent_dies_and_comes_back, 1),
            (self.a_node_is_removed, 1),
            (self.a_machine_joins, 3),
        )

    def step(self) -> None:
        """Have something happen, and see that nothing is true that must not be."""
        acts, weights = zip(*self._acts, strict=True)
        self._chance.choices(acts, weights)[0]()
        self.check()

    def some_node(self) -> str:
        """Return one of the nodes."""
        return self._chance.choice(sorted(self.world.nodes))

    def happens(self) -> bool:
        """Say whether something that mostly happens does."""
        return self._chance.random() < 0.8

    # The world.

    def time_passes(self) -> None:
        """Pass a second, or some minutes."""
        self.world.pass_time(self._chance.choice([1, 1, 2, 2, 5, 5, 15, 15, 60, 400]))

    def a_notice_comes(self) -> None:
        """Announce the end of a machine."""
        self.world.announce(self.some_node())

    def a_notice_is_withdrawn(self) -> None:
        """Think better of it."""
        self.world.withdraw(self.some_node())

    def a_machine_dies_without_notice(self) -> None:
        """End a machine."""
        self.world.lose(self.some_node())

    def a_machine_is_cut_off(self) -> None:
        """Have nobody hear of a machine on which everything goes on."""
        name = self.some_node()
        if name in self.world.powered:
            self.world.cut_off.add(name)

    def a_machine_can_be_reached_again(self) -> None:
        """End that; its jobs may have been resumed elsewhere."""
        name = self.some_node()
        if name in self.world.cut_off:
            self.world.cut_off.discard(name)
            pods = [uid for uid, pod in self.world.pods.items() if pod.node == name]
            self.came_back += sum(self.is_superseded(uid) for uid in pods)

    def silence_is_noticed(self) -> None:
        """Have Kubernetes miss what a machine should report."""
        self.world.notice_silence(self.some_node())

    def a_machine_is_given_up(self) -> None:
        """Have nobody hear of a machine for so long that Kubernetes gives its pods up; it may come back."""
        name = self.some_node()
        if name in self.world.powered:
            self.world.cut_off.add(name)
            self.world.notice_silence(name)
            self.world.give_up_pods(name)

    def a_node_is_removed(self) -> None:
        """Remove a node whose machine is gone."""
        self.world.remove_node(self.some_node())

    def a_machine_joins(self) -> None:
        """Have a new machine in the place of one that is gone."""
        if len(self.world.powered) < NODES:
            self.world.add_node()

    def owners_make_pods(self) -> None:
        """Make the pods that are wanted."""
        self.world.make_pods()

    def kubelets_take_a_step(self) -> None:
        """End the pods that are being deleted, most of them."""
        for uid in sorted(self.world.pods):
            if self.happens():
                self.world.end_pod(uid)

    def jobs_work(self) -> None:
        """Go on."""
        for job in self.world.jobs.values():
            job.steps += job.state is JobState.RUNNING

    # Controllers: which of them leads does not matter, for each may believe that it does.

    def a_controller_acts(self) -> None:
        """Plan from a picture, new or old, and act on it, but for what gets lost."""
        which = self._chance.randrange(CONTROLLERS)
        picture = self._pictures[which]
        if picture is None or self.happens():
            picture = self._pictures[which] = self.world.view()
        for action in plan(picture):
            if self.happens():
                self.world.carry_out(action)

    # Agents.

    def agents_take_a_step(self) -> None:
        """Do the next thing for most jobs; some saves fail."""
        for uid in sorted(self.world.pods):
            if self.world.reachable(self.world.pods[uid].node) and self.happens():
                self.act(uid, fails=self._chance.random() < 0.1)

    def act(self, uid: str, *, fails: bool = False) -> None:
        """Do the next thing for a job."""
        job = self.world.jobs[uid]
        open_orders = [order for order in self.world.orders_for(uid) if not order.status.phase.final]
        if job.state is JobState.WAITING:
            self.begin(uid)
        elif job.state is JobState.HELD and job.saving:
            newest = max(identity for identity, found in self.world.store.items() if found.pod_uid == uid)
            self.world.tell(job.saving, OrderPhase.COMPLETE, checkpoint=newest)
            job.saving = ""
        elif job.state is JobState.RUNNING and job.saving and fails:
            self.world.tell(job.saving, OrderPhase.FAILED, reason="DumpFailed")
            job.saving = ""
        elif job.state is JobState.RUNNING and job.saving:
            job.state = JobState.HELD
            self.saved_too_late += self.is_superseded(uid)
            self.world.commit(uid)
        elif job.state is JobState.RUNNING and open_orders:
            self.world.tell(open_orders[0].name, OrderPhase.DUMPING)
            job.saving = open_orders[0].name

    def a_job_is_saved_and_runs_on(self) -> None:
        """Have an agent make a periodic checkpoint of each job of a node, be it cut off from the API server."""
        name = self.some_node()
        for uid, pod in self.world.pods.items():
            job = self.world.jobs[uid]
            if pod.node == name and job.state is JobState.RUNNING and not job.saving:
                self.saved_too_late += self.is_superseded(uid)
                self.world.commit(uid)

    def an_agent_dies_and_comes_back(self) -> None:
        """Have its jobs run on, whatever was done to them."""
        name = self.some_node()
        if self.world.reachable(name):
            self.release(name)

    def release(self, name: str) -> None:
        """Have all jobs of a node run on."""
        for uid, pod in self.world.pods.items():
            job = self.world.jobs[uid]
            if pod.node == name and job.state in {JobState.RUNNING, JobState.HELD}:
                job.state, job.saving = JobState.RUNNING, ""

    def begin(self, uid: str) -> None:
        """Have a job begin, from a checkpoint or from its beginning, or wait."""
        pod, job = self.world.pods[uid], self.world.jobs[uid]
        if pod.deleting:
            return
        chosen = choose(self.world.candidates(pod.workload), self.world.origins(pod.workload, uid), uid)
        if isinstance(chosen, Wait):
            return
        job.state = JobState.RUNNING
        if isinstance(chosen, Resume):
            self.resume(uid, chosen.candidate.checkpoint)

    def resume(self, uid: str, identity: str) -> None:
        """Claim a checkpoint and go on from it."""
        found, job = self.world.store[identity], self.world.jobs[uid]
        superseded = self.is_superseded(found.pod_uid)
        found.claims.append(uid)
        if len(found.claims) > 1:
            return
        assert not superseded, f"{found.pod_uid} was resumed elsewhere before it made {identity}"
        origin = self.world.jobs[found.pod_uid]
        assert origin.state is JobState.ENDED or self.is_given_up(found.pod_uid), (
            f"{found.pod_uid} is {origin.state}"
        )
        job.resumed, job.steps = identity, found.steps
        self.resumed += 1
        for order in self.world.orders.values():
            if order.order.status.checkpoint == identity:
                self.world.tell(order.order.name, OrderPhase.RESTORED, restored_by=uid)

    def is_superseded(self, uid: str) -> bool:
        """Say whether another pod has gone on from where a job was."""
        return any(found.claims for found in self.world.store.values() if found.pod_uid == uid)

    def is_given_up(self, uid: str) -> bool:
        """Say whether Kubernetes ends a pod and cannot hear whether it has.

        Its node is lost as far as anybody knows. Should it come back, kubelet ends the pod first of all; what its
        job may have done meanwhile nobody takes over (crikpy.agent.choosing.doubtful). The same is true of every
        pod of every cluster.
        """
        pod = self.world.pods.get(uid)
        return pod is not None and pod.deleting and not self.world.nodes[pod.node].ready

    # What must be true.

    def check(self) -> None:
        """See what must be true all the time."""
        resumed = [job.resumed for job in self.world.jobs.values() if job.resumed]
        assert len(resumed) == len(set(resumed))
        for found in self.world.store.values():
            if found.claims and self.world.jobs[found.pod_uid].state is JobState.RUNNING:
                assert self.world.pods[found.pod_uid].deleting, "it runs, and somebody has taken over from it"

    def check_end(self) -> None:
        """See what must be true when nothing goes wrong any more."""
        for known in self.world.orders.values():
            assert known.order.status.phase.final, f"{known.order} is {known.order.status.phase} for ever"
        running = {
            job.workload
            for uid, job in self.world.jobs.items()
            if uid in self.world.pods and job.state is JobState.RUNNING
        }
        assert len(running) == WORKLOADS, f"only {running} run"

    def settle(self) -> None:
        """Let nothing go wrong any more, until nothing is left to do."""
        if not self.world.powered:
            self.world.add_node()
        self.world.cut_off.clear()
        for _ in range(60):
            for name in list(self.world.nodes):
                self.world.withdraw(name)
                self.world.notice_silence(name)
                self.world.remove_node(name)
            self.world.pass_time(400)
            for action in plan(self.world.view()):
                self.world.carry_out(action)
            for uid in sorted(self.world.pods):
                self.act(uid)
            for uid in sorted(self.world.pods):
                self.world.end_pod(uid)
            for name in self.world.nodes:
                self.release(name)
            self.world.make_pods()
            for uid in sorted(self.world.pods):
                self.act(uid)


@pytest.mark.parametrize("seed", SEEDS)
def test_whatever_happens_no_job_runs_twice_and_none_is_forgotten(seed: int) -> None:
    life = LifeCycle(seed)
    for _ in range(STEPS):
        life.step()
    life.settle()
    life.check_end()


def test_the_lives_are_full_of_incident(record: Record) -> None:
    lives = [LifeCycle(seed) for seed in range(INCIDENTS)]
    for life in lives:
        for _ in range(STEPS):
            life.step()
    assert sum(life.resumed for life in lives) >= 30
    came_back = sum(life.came_back for life in lives)
    too_late = sum(life.saved_too_late for life in lives)
    assert came_back >= 5
    assert too_late >= 5
    record(
        "cluster",
        "a machine comes back after its job was resumed elsewhere",
        f"{came_back} times; none of the {too_late} checkpoints that such jobs made after that was resumed",
    )
