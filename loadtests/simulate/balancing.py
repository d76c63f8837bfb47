"""Which replica a request goes to."""

import random
from collections.abc import Callable, Sequence

from loadtests.simulate.replica import Replica
from loadtests.simulate.scenario import BalancePolicy

TRIES = 5
"""To find another host than the one before (Envoy's host_selection_retry_max_attempts)."""


class Host:
    """A replica as the proxies see it.

    Attributes:
        number: of the replica, never used again.
        replica: it is.
        open: requests under way to it, by proxy.
        all_open: the same of all proxies.
        backlog: its seconds of backlog when the proxies last looked.
        alive: whether it answers; proxies do not know.
        noticed_ns: if it does not, from when on requests to it fail at once; until then nothing comes back.
        ejected_ns: if it does not, from when on proxies send it nothing.
    """

    __slots__ = ("alive", "all_open", "backlog", "ejected_ns", "noticed_ns", "number", "open", "replica")

    def __init__(self, number: int, replica: Replica, proxies: int) -> None:
        self.number = number
        self.replica = replica
        self.open = [0] * proxies
        self.all_open = 0
        self.backlog = 0.0
        self.alive = True
        self.noticed_ns = self.ejected_ns = 0

    def sent(self, proxy: int) -> None:
        """Count a request."""
        self.open[proxy] += 1
        self.all_open += 1

    def ended(self, proxy: int) -> None:
        """Count its end."""
        self.open[proxy] -= 1
        self.all_open -= 1


class Balancer:
    """Picks hosts for several proxies."""

    def __init__(self, policy: BalancePolicy, *, proxies: int, seed: int) -> None:
        """Begin without hosts.

        Args:
            policy: `round_robin`: each proxy in turn, beginning somewhere; `random`; `two_choices`: the one of two at
                random that has fewer requests of all proxies under way (Mitzenmacher, "The Power of Two Choices in
                Randomized Load Balancing", 2001); `least_request`: the same by the proxy's own counts, as Envoy does
                it; `backlog`: the one of two that had less backlog at the last look; `least_backlog`: of all.
            proxies: that pick independently.
            seed: of what is random.
        """
        self.hosts: list[Host] = []
        self._random = random.Random(seed)  # noqa: S311  no secret
        self._turns = [self._random.randrange(2**20) for _ in range(proxies)]
        self._least: list[Host] = []
        picks: dict[BalancePolicy, Callable[[int], Host]] = {
            "round_robin": self._round_robin,
            "random": self._any,
            "two_choices": self._two_choices,
            "least_request": self._least_request,
            "backlog": self._backlog,
            "least_backlog": self._least_backlog,
        }
        self._pick = picks[policy]
        self.looks = policy in {"backlog", "least_backlog"}
        """Whether it has to be told when backlogs were looked at."""

    def pick(self, proxy: int, *, after: Host | None = None) -> Host | None:
        """Return a host for a proxy's request, and if possible not the one before; None without hosts."""
        if not self.hosts:
            return None
        host = self._pick(proxy)
        for _ in range(TRIES):
            if host is not after:
                return host
            host = self._any(proxy)
        return host

    def looked(self) -> None:
        """Know that the hosts' backlogs are new."""
        least = min((host.backlog for host in self.hosts), default=0.0)
        self._least = [host for host in self.hosts if host.backlog <= least]

    def change(self, hosts: Sequence[Host]) -> None:
        """Have other hosts."""
        self.hosts = list(hosts)
        self.looked()

    def _any(self, proxy: int) -> Host:
        del proxy
        hosts = self.hosts
        return hosts[int(self._random.random() * len(hosts))]

    def _round_robin(self, proxy: int) -> Host:
        self._turns[proxy] += 1
        return self.hosts[self._turns[proxy] % len(self.hosts)]

    def _two_choices(self, proxy: int) -> Host:
        one, other = self._any(proxy), self._any(proxy)
        return one if one.all_open <= other.all_open else other

    def _least_request(self, proxy: int) -> Host:
        one, other = self._any(proxy), self._any(proxy)
        return one if one.open[proxy] <= other.open[proxy] else other

    def _backlog(self, proxy: int) -> Host:
        one, other = self._any(proxy), self._any(proxy)
        return one if one.backlog <= other.backlog else other

    def _least_backlog(self, proxy: int) -> Host:
        del proxy
        hosts = self._least
        return hosts[int(self._random.random() * len(hosts))]
