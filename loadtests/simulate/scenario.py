"""What is simulated: every setting, and which of them exclude each other."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from loadtests.simulate.costs import Frozen, ModelCost
from serving.policy import Policy

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1)]

BalancePolicy = Literal["round_robin", "random", "two_choices", "least_request", "backlog", "least_backlog"]
ScalingMetric = Literal["backlog", "cpu", "in_flight"]


class Lengths(Frozen):
    """Log-normal lengths in steps, clipped."""

    median: Positive = 60.0
    spread: NotNegative = 0.8
    shortest: Count = 10
    longest: Count = 400

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.shortest > self.longest:
            raise ValueError(f"shortest is {self.shortest} steps and longest {self.longest}: exchange them")
        return self


class Patience(Frozen):
    """A share of the requests have so many seconds; None for ever."""

    seconds: Positive | None
    share: float = Field(1.0, gt=0, le=1)


class Surge(Frozen):
    """Traffic is `factor` times as much from one moment to another."""

    at: NotNegative
    seconds: Positive
    factor: Positive


class Traffic(Frozen):
    """Poisson arrivals, whatever becomes of them."""

    rate: Positive = Field(description="requests per second, all clients together, the mean of a day")
    swing: float = Field(
        0.0, ge=0, lt=1, description="of a day: by how much the peak is above the mean, and the trough below"
    )
    day: Positive = Field(86400.0, description="seconds of a day, which begins in its trough")
    surges: tuple[Surge, ...] = ()
    lengths: Lengths = Lengths()
    patience: tuple[Patience, ...] = (Patience(seconds=None),)

    @model_validator(mode="after")
    def _shares_add_up(self) -> Self:
        total = sum(each.share for each in self.patience)
        if not self.patience or abs(total - 1) > 1e-6:
            raise ValueError(f"shares of patience add up to {total:g}, expected 1")
        return self


class Death(Frozen):
    """Replicas that are killed at once, and begin anew."""

    at: NotNegative
    count: Count = 1
    silent: bool = Field(False, description="connections stay open, as when a node is lost; else they are reset")


class StartUp(Frozen):
    """From the decision that a replica is needed until it takes requests."""

    pull: NotNegative = Field(10.0, description="seconds: scheduling, pulling the image, fetching the models")
    jitter: float = Field(0.2, ge=0, lt=1, description="each part of it is longer or shorter by up to that share")


class Replicas(Frozen):
    """The fleet."""

    count: Count
    slow: int = Field(0, ge=0, description="replicas of these that are slow")
    slow_speed: float = Field(0.5, gt=0, le=1)
    deaths: tuple[Death, ...] = ()
    start_up: StartUp = StartUp()
    policy: Policy = Policy.model_validate({})
    stepwise: bool = True
    max_inflight: Count = 256

    @model_validator(mode="after")
    def _enough(self) -> Self:
        if self.slow > self.count:
            raise ValueError(f"{self.slow} slow replicas of {self.count}: more than there are")
        if (most := max((death.count for death in self.deaths), default=0)) > self.count:
            raise ValueError(f"{most} replicas are to die, and there are {self.count}")
        return self


class Balance(Frozen):
    """Who sends requests where."""

    policy: BalancePolicy = "least_request"
    proxies: Count = Field(4, description="that balance independently, each by its own counts")
    refresh: Positive = Field(1.0, description="seconds between two looks at all backlogs (backlog policies)")
    discovery: NotNegative = Field(
        1.0, description="seconds until proxies know of a replica that became ready or leaves"
    )
    detection: NotNegative = Field(
        3.0, description="seconds until proxies give a dead replica up: health checks' interval times their threshold"
    )


class Retries(Frozen):
    """What is sent again, by the proxy."""

    attempts: int = Field(4, ge=1, le=10, description="times that a request is sent, the first with them")
    overload: bool = Field(False, description="also what was refused for load (RESOURCE_EXHAUSTED)")
    pushback: bool = Field(True, description="wait as long as the replica asks for (grpc-retry-pushback-ms)")
    budget: float | None = Field(
        0.2, gt=0, le=1, description="retries under way, as a share of a proxy's requests under way; None for no limit"
    )
    least: int = Field(64, ge=0, description="retries under way that a budget always allows (min_retry_concurrency)")


class Rule(Frozen):
    """A scaling policy of the HPA: so many pods, or so many percent, within a period."""

    kind: Literal["Pods", "Percent"]
    value: Count
    period: Positive = 15.0


class Behaviour(Frozen):
    """How the HPA scales in one direction."""

    window: NotNegative = Field(0.0, description="stabilizationWindowSeconds")
    rules: tuple[Rule, ...]
    select: Literal["Max", "Min", "Disabled"] = "Max"


UP = Behaviour(window=0.0, rules=(Rule(kind="Percent", value=100), Rule(kind="Pods", value=4)))
DOWN = Behaviour(window=300.0, rules=(Rule(kind="Percent", value=100),))
"""Kubernetes' defaults."""


class Target(Frozen):
    """A metric of a HorizontalPodAutoscaler, per pod."""

    metric: ScalingMetric
    target: Positive = Field(description="seconds of backlog, share of the CPU, or requests under way, per replica")
    average: NotNegative = Field(30.0, description="seconds of looks that are averaged; 0 takes the last one")

    @model_validator(mode="after")
    def _within_reach(self) -> Self:
        if self.metric == "cpu" and self.target >= 1:
            raise ValueError(f"target is {self.target:g} of the CPU, which no replica exceeds; expected below 1")
        return self


class Autoscaling(Frozen):
    """A HorizontalPodAutoscaler: as many replicas as that metric asks for which asks for most."""

    targets: tuple[Target, ...] = Field(min_length=1)
    least: Count = 1
    most: Count
    sync: Positive = Field(15.0, description="seconds between two decisions")
    scrape: Positive = Field(15.0, description="seconds between two looks at each replica")
    tolerance: float = Field(0.1, ge=0, lt=1)
    up: Behaviour = UP
    down: Behaviour = DOWN

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.least > self.most:
            raise ValueError(f"least is {self.least} replicas and most {self.most}: exchange them")
        return self


class Scenario(Frozen):
    """One run."""

    seconds: Positive = Field(description="of traffic")
    warm_up: NotNegative = Field(0.0, description="seconds at the beginning that do not count")
    seed: int = 0
    cost: ModelCost
    traffic: Traffic
    replicas: Replicas
    balance: Balance = Balance()
    retries: Retries = Retries()
    autoscaling: Autoscaling | None = None

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if self.warm_up >= self.seconds:
            raise ValueError(f"warm_up is {self.warm_up:g} of {self.seconds:g} seconds: nothing would count")
        start = self.start_seconds
        if (self.autoscaling or self.replicas.deaths) and start >= self.seconds:
            raise ValueError(
                f"a replica takes {start:g} seconds to start and the run {self.seconds:g}: none would ever become ready"
            )
        for death in self.replicas.deaths:
            if death.at >= self.seconds:
                raise ValueError(f"a death at {death.at:g} seconds of a run of {self.seconds:g} would not happen")
        if self.autoscaling is not None:
            self._check_scaling(self.autoscaling)
        return self

    @property
    def start_seconds(self) -> float:
        """Seconds until a replica that is needed takes requests, without jitter."""
        return self.replicas.start_up.pull + self.cost.load

    def _check_scaling(self, scaling: Autoscaling) -> None:
        longest = max((each.seconds or float("inf") for each in self.traffic.patience), default=float("inf"))
        for each in scaling.targets:
            if each.metric == "backlog" and each.target > longest:
                raise ValueError(
                    f"target is a backlog of {each.target:g} seconds and no deadline is longer than {longest:g}: "
                    "requests would be refused long before it is reached; choose a target well below the deadlines"
                )
            if each.metric == "in_flight" and each.target > self.replicas.max_inflight:
                raise ValueError(
                    f"target is {each.target:g} requests under way and a replica takes {self.replicas.max_inflight} "
                    "at most: it would never be exceeded"
                )
        if not scaling.least <= self.replicas.count <= scaling.most:
            raise ValueError(
                f"the run begins with {self.replicas.count} replicas, expected {scaling.least} to {scaling.most}"
            )
