"""Replicas that come, serve, die and leave; and what runs one scenario."""

from collections import deque
from functools import partial

from loadtests.simulate.autoscaler import Autoscaler
from loadtests.simulate.balancing import Balancer, Host
from loadtests.simulate.dispatch import Dispatch
from loadtests.simulate.events import NANOSECONDS, Loop, to_ns
from loadtests.simulate.replica import Replica
from loadtests.simulate.requests import Request
from loadtests.simulate.results import Result, Sample
from loadtests.simulate.scenario import Autoscaling, Death, Scenario, Target
from loadtests.simulate.seeds import Seeds
from loadtests.simulate.traffic import requests

EVICTION_SECONDS = 340.0
"""Until Kubernetes replaces the pods of a node that is lost: node-monitor-grace-period and tolerationSeconds."""
SAMPLES = 400
"""Of the fleet in a run."""


class _Looks:
    """What an autoscaler knows of one metric of one replica."""

    def __init__(self, replica: Replica, target: Target) -> None:
        self._replica = replica
        self._target = target
        self._looks: deque[tuple[int, float]] = deque()
        self._busy_ns = 0
        self._looked_ns = -1

    def look(self, now_ns: int) -> None:
        """Read the metric."""
        replica = self._replica
        if self._target.metric == "backlog":
            value = replica.batcher.backlog_seconds
        elif self._target.metric == "in_flight":
            value = float(replica.in_flight)
        else:
            busy_ns = replica.processor.settled_busy_ns()
            used_ns, self._busy_ns = busy_ns - self._busy_ns, busy_ns
            passed_ns, first, self._looked_ns = now_ns - self._looked_ns, self._looked_ns < 0, now_ns
            if first:
                return
            value = used_ns / passed_ns / replica.cores
        self._looks.append((now_ns, value))
        oldest_ns = now_ns - to_ns(self._target.average)
        while self._looks[0][0] <= oldest_ns and len(self._looks) > 1:
            self._looks.popleft()

    @property
    def value(self) -> float | None:
        """The mean of the looks that count; None before the first."""
        return sum(value for _, value in self._looks) / len(self._looks) if self._looks else None


class Fleet:
    """The replicas of one run, and who balances between them."""

    def __init__(self, scenario: Scenario) -> None:
        """Have all replicas that the run begins with, ready."""
        self._scenario = scenario
        self._loop = Loop()
        self._seeds = Seeds(scenario.seed)
        balance, replicas = scenario.balance, scenario.replicas
        self.result = Result(seconds=scenario.seconds - scenario.warm_up)
        self._balancer = Balancer(balance.policy, proxies=balance.proxies, seed=self._seeds.next())
        self._dispatch = Dispatch(
            self._loop,
            self._balancer,
            scenario.retries,
            self.result,
            proxies=balance.proxies,
            network=scenario.cost.front.network,
            counts_from_ns=to_ns(scenario.warm_up),
            seed=self._seeds.next(),
        )
        self._arrivals = requests(scenario.traffic, scenario.seconds, proxies=balance.proxies, seed=self._seeds.next())
        self._pods = 0
        self._pods_since_ns = 0
        self._made = 0
        self._asked = replicas.count
        self._starting: set[int] = set()
        self._ready: dict[int, Host] = {}
        self._leaving: dict[int, Host] = {}
        self._watched: dict[int, list[_Looks]] = {}
        self._scaler = Autoscaler(scenario.autoscaling) if scenario.autoscaling else None
        for number in range(replicas.count):
            self._count_pods(1)
            self._become_ready(self._number(), speed=replicas.slow_speed if number < replicas.slow else 1.0)
        self._know_hosts(0)

    def run(self) -> Result:
        """Run the traffic until every request has ended."""
        self._next_arrival(0)
        for death in self._scenario.replicas.deaths:
            self._loop.at(to_ns(death.at), self._die, death)
        if self._balancer.looks:
            self._look_at_backlogs(0)
        if self._scenario.autoscaling:
            self._loop.at(to_ns(self._scenario.autoscaling.sync), self._scale, self._scenario.autoscaling)
        self._sample(to_ns(self._scenario.seconds / SAMPLES))
        self._loop.run()
        self._count_pods(0)
        for host in (*self._ready.values(), *self._leaving.values()):
            self._count_work(host)
        return self.result

    def _next_arrival(self, _: int) -> None:
        request = next(self._arrivals, None)
        if request is None:
            self._loop.at(self._loop.now_ns, self._stop_if_done, 0)
        else:
            self._loop.at(request.sent_ns, self._arrive, request)

    def _arrive(self, request: Request) -> None:
        self._dispatch.send(request)
        self._next_arrival(0)

    def _stop_if_done(self, _: int) -> None:
        """End the run when nothing is under way any more; asked now and then, not for every request."""
        if self._dispatch.open:
            self._loop.at(self._loop.now_ns + to_ns(0.01), self._stop_if_done, 0)
        else:
            self._loop.stop()

    def _number(self) -> int:
        self._made += 1
        return self._made

    def _become_ready(self, number: int, *, speed: float = 1.0) -> None:
        """Have one more replica, of which the proxies do not know yet."""
        scenario = self._scenario
        replica = Replica(
            self._loop,
            scenario.cost,
            scenario.replicas.policy,
            ended=lambda request, outcome, retry_ns: self._dispatch.over(host, request, outcome, retry_ns),
            seed=self._seeds.next(),
            stepwise=scenario.replicas.stepwise,
            speed=speed,
            max_inflight=scenario.replicas.max_inflight,
        )
        host = Host(number, replica, scenario.balance.proxies)
        self._ready[number] = host
        if scenario.autoscaling:
            self._watched[number] = [_Looks(replica, each) for each in scenario.autoscaling.targets]
            phase = self._seeds.uniform() * scenario.autoscaling.scrape
            self._loop.at(self._loop.now_ns + to_ns(phase), self._scrape, number)

    def _start(self, *, pulls: bool) -> None:
        """Ask for one more pod."""
        start_up, load = self._scenario.replicas.start_up, self._scenario.cost.load
        number = self._number()
        self._starting.add(number)
        self._count_pods(1)
        parts = (start_up.pull if pulls else 0.0, load)
        seconds = sum(part * (1 + start_up.jitter * (2 * self._seeds.uniform() - 1)) for part in parts)
        self._loop.at(self._loop.now_ns + to_ns(seconds), self._started, number)

    def _started(self, number: int) -> None:
        if number not in self._starting:
            return  # not wanted any more
        self._starting.remove(number)
        self._become_ready(number)
        self._tell_proxies()

    def _tell_proxies(self) -> None:
        self._loop.at(self._loop.now_ns + to_ns(self._scenario.balance.discovery), self._know_hosts, 0)

    def _know_hosts(self, _: int) -> None:
        dead = [host for host in self._balancer.hosts if not host.alive and host.ejected_ns > self._loop.now_ns]
        self._balancer.change([*self._ready.values(), *dead])

    def _scrape(self, number: int) -> None:
        watched = self._watched.get(number)
        if watched is not None and self._scenario.autoscaling is not None:
            for looks in watched:
                looks.look(self._loop.now_ns)
            self._loop.at(self._loop.now_ns + to_ns(self._scenario.autoscaling.scrape), self._scrape, number)

    def _scale(self, scaling: Autoscaling) -> None:
        assert self._scaler is not None, "it is made where the settings are given"
        starting: list[float | None] = [None] * len(self._starting)
        values = [
            [looks[number].value for looks in self._watched.values()] + starting
            for number in range(len(scaling.targets))
        ]
        self._asked = self._scaler.decide(self._loop.now_ns / NANOSECONDS, self._asked, values)
        for _ in range(self._asked - len(self._ready) - len(self._starting)):
            self._start(pulls=True)
        for _ in range(len(self._ready) + len(self._starting) - self._asked):
            self._let_go()
        self._loop.at(self._loop.now_ns + to_ns(scaling.sync), self._scale, scaling)

    def _let_go(self) -> None:
        """Have one replica fewer: one that is not ready if there is, else the newest (as a ReplicaSet chooses)."""
        if self._starting:
            self._starting.remove(max(self._starting))
            self._count_pods(-1)
            return
        number = max(self._ready)
        self._leaving[number] = self._ready.pop(number)
        self._watched.pop(number)
        self._tell_proxies()
        gone_ns = self._loop.now_ns + to_ns(self._scenario.balance.discovery) + 1
        self._loop.at(gone_ns, self._leave, number)

    def _leave(self, number: int) -> None:
        """End a replica that no proxy sends to any more, once it has answered what it had."""
        host = self._leaving[number]
        if host.replica.in_flight:
            self._loop.at(self._loop.now_ns + to_ns(0.1), self._leave, number)
            return
        self._count_work(self._leaving.pop(number))
        self._count_pods(-1)

    def _die(self, death: Death) -> None:
        """Kill the oldest replicas, which includes slow ones."""
        detection_ns = to_ns(self._scenario.balance.detection)
        for number in sorted(self._ready)[: death.count]:
            host = self._ready.pop(number)
            self._watched.pop(number, None)
            host.alive = False
            now_ns = self._loop.now_ns
            host.ejected_ns = now_ns + detection_ns
            host.noticed_ns = host.ejected_ns if death.silent else now_ns
            for request in host.replica.kill():
                self._loop.at(host.noticed_ns, partial(self._dispatch.lost, host), request)
            self._loop.at(host.ejected_ns, self._know_hosts, 0)
            self._count_work(host)
            self._count_pods(-1)
            again_ns = now_ns + (to_ns(EVICTION_SECONDS) if death.silent else 0)
            self._loop.at(again_ns, self._replace, death.silent)

    def _replace(self, pulls: bool) -> None:  # noqa: FBT001  an event's argument
        if len(self._ready) + len(self._starting) < self._asked:
            self._start(pulls=pulls)

    def _look_at_backlogs(self, _: int) -> None:
        for host in self._balancer.hosts:
            host.backlog = host.replica.batcher.backlog_seconds if host.alive else 0.0
        self._balancer.looked()
        self._loop.at(self._loop.now_ns + to_ns(self._scenario.balance.refresh), self._look_at_backlogs, 0)

    def _count_pods(self, change: int) -> None:
        now_ns = self._loop.now_ns
        self.result.replica_seconds += self._pods * (now_ns - self._pods_since_ns) / NANOSECONDS
        self._pods += change
        self._pods_since_ns = now_ns

    def _count_work(self, host: Host) -> None:
        replica = host.replica
        self.result.busy_seconds += replica.processor.settled_busy_ns() / NANOSECONDS
        self.result.batches += replica.batches
        self.result.batch_rows += replica.batch_rows

    def _sample(self, interval_ns: int) -> None:
        backlogs = [host.replica.batcher.backlog_seconds for host in self._ready.values()]
        mean = sum(backlogs) / len(backlogs) if backlogs else 0.0
        self.result.samples.append(
            Sample(
                at=self._loop.now_ns / NANOSECONDS,
                ready=len(self._ready),
                asked=self._asked,
                backlog=mean,
                ended=self._dispatch.ended,
                in_time=self._dispatch.in_time,
            )
        )
        self._loop.at(self._loop.now_ns + interval_ns, self._sample, interval_ns)


def simulate(scenario: Scenario) -> Result:
    """Run a scenario; the same one always has the same result."""
    return Fleet(scenario).run()
