"""Between clients and replicas: sends each request somewhere, and again if that may help."""

import random
from functools import partial

from loadtests.simulate.balancing import Balancer, Host
from loadtests.simulate.events import Loop, to_ns
from loadtests.simulate.requests import REFUSED, Outcome, Request
from loadtests.simulate.results import Result
from loadtests.simulate.scenario import Retries

BACKOFF_NS = 25_000_000
"""Before the n-th retry a proxy waits for a random part of 2^n - 1 times that (Envoy's base interval)."""
MOST_BACKOFF = 10
"""Of it, at most."""


class Dispatch:
    """Every request that is sent ends exactly once, in `Result.end` or before the time that counts.

    Attributes:
        open: requests that have not ended.
        ended: requests that have, `in_time` of them with an answer in time.
        in_time: see `ended`.
    """

    def __init__(  # noqa: PLR0913  the parts it brings together
        self,
        loop: Loop,
        balancer: Balancer,
        retries: Retries,
        result: Result,
        *,
        proxies: int,
        network: float,
        counts_from_ns: int,
        seed: int,
    ) -> None:
        """Begin with nothing under way.

        Args:
            loop: tells the time.
            balancer: picks replicas.
            retries: what is sent again.
            result: is told of every request that was sent when it counts.
            proxies: each with a retry budget of its own.
            network: seconds on the way to a replica and back.
            counts_from_ns: when the time begins that counts.
            seed: of the pauses before retries.
        """
        self._loop = loop
        self._balancer = balancer
        self._retries = retries
        self._result = result
        self._network_ns = to_ns(network)
        self._counts_from_ns = counts_from_ns
        self._random = random.Random(seed)  # noqa: S311  no secret
        self._open = [0] * proxies
        self._retrying = [0] * proxies
        self.open = self.ended = self.in_time = 0

    def send(self, request: Request) -> None:
        """Take a client's request, which is sent now."""
        self.open += 1
        self._open[request.proxy] += 1
        self._attempt(request, None)

    def over(self, host: Host, request: Request, outcome: Outcome, retry_ns: int | None) -> None:
        """Take what became of an attempt.

        Args:
            host: that it was sent to.
            request: that it was for.
            outcome: what became of it.
            retry_ns: nanoseconds after which the replica would take it, None if it did not say.
        """
        host.ended(request.proxy)
        self._over(request, outcome, retry_ns, host)

    def _attempt(self, request: Request, before: Host | None) -> None:
        request.attempts += 1
        host = self._balancer.pick(request.proxy, after=before)
        if host is None:
            self._over(request, Outcome.UNAVAILABLE, None, None)
            return
        host.sent(request.proxy)
        if host.alive:
            host.replica.arrive(request)
        else:
            failed_ns = max(self._loop.now_ns, host.noticed_ns)
            self._loop.at(failed_ns, partial(self.lost, host), request)

    def lost(self, host: Host, request: Request) -> None:
        """Know that an attempt came to nothing because its replica is dead."""
        self.over(host, request, Outcome.UNAVAILABLE, None)

    def _over(self, request: Request, outcome: Outcome, retry_ns: int | None, host: Host | None) -> None:
        if request.attempts > 1:
            self._retrying[request.proxy] -= 1
        now_ns = self._loop.now_ns
        if outcome is not Outcome.OK and self._may_help(request, outcome):
            again_ns = now_ns + self._network_ns + self._pause_ns(request, retry_ns)
            if again_ns < request.deadline_ns:
                self._retrying[request.proxy] += 1
                self._loop.at(again_ns, partial(self._attempt, before=host), request)
                return
        self._end(request, outcome, now_ns + self._network_ns)

    def _may_help(self, request: Request, outcome: Outcome) -> bool:
        """Return whether another attempt is allowed."""
        retries = self._retries
        wanted = outcome is Outcome.UNAVAILABLE or (retries.overload and outcome in REFUSED)
        if not wanted or request.attempts >= retries.attempts:
            return False
        if retries.budget is None:
            return True
        allowed = max(retries.least, int(retries.budget * self._open[request.proxy]))
        return self._retrying[request.proxy] < allowed

    def _pause_ns(self, request: Request, retry_ns: int | None) -> int:
        if retry_ns is not None and self._retries.pushback:
            return retry_ns
        return int(self._random.random() * BACKOFF_NS * min(MOST_BACKOFF, 2**request.attempts - 1))

    def _end(self, request: Request, outcome: Outcome, at_ns: int) -> None:
        assert request.ended_ns < 0, "a request ends once"
        if at_ns > request.deadline_ns:  # its client has left
            outcome = Outcome.DEADLINE
        request.ended_ns, request.outcome = at_ns, outcome
        self.open -= 1
        self._open[request.proxy] -= 1
        self.ended += 1
        if outcome is Outcome.OK:
            self.in_time += 1
        if request.sent_ns >= self._counts_from_ns:
            self._result.end(request)
