"""What locust runs: its users, its load shape, and what happens at its events. Importing it needs gevent's patches."""

import signal
import sys
from functools import cache
from typing import Any, ClassVar

import gevent
import grpc.experimental.gevent
from gevent.event import Event
from locust import LoadTestShape, User, argument_parser, constant, task
from locust.env import Environment
from locust.rpc import Message
from locust.runners import STATE_MISSING, MasterRunner, WorkerRunner
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from loadtests.traffic.calls import Outcome, words_of
from loadtests.traffic.conductor import Conductor
from loadtests.traffic.errors import TrafficError
from loadtests.traffic.job import Job
from loadtests.traffic.options import read_options
from loadtests.traffic.records import OK, WRONG
from loadtests.traffic.result import Result
from loadtests.traffic.samples import Sample
from loadtests.traffic.sending import Sender, Turn
from loadtests.traffic.served import read_target

JOB, TOLD = "traffic_job", "traffic"
"""Our message to a worker, and our part of what workers report."""
LOCAL = "local"
MILLISECONDS = 1000.0
USERS_PER_SECOND = 100.0
"""That locust starts or stops at most."""
LEAD_SECONDS = 2.0
"""Between dealing out jobs to workers and the first arrival, so that each of them is ready for it."""
WORKERS_SECONDS = 10.0
"""That forked workers may take to connect."""
FAILED = 1
"""Exit code of a run that misses its objectives or could not be made."""


class RequestFailedError(Exception):
    """A request was not answered, or wrongly; locust counts its messages."""


class Part:
    """The requests that this process sends."""

    def __init__(self, environment: Environment) -> None:
        """Wait for a job."""
        self._environment = environment
        self._known = Event()
        self._sender: Sender | None = None
        self._plan_waits = False
        self._open = False

    def take(self, job: Job) -> None:
        """Take a job, in place of an earlier one."""
        if self._sender is not None:
            self._sender.close()
        self._sender = Sender(job, read_target(job.manner.address), self._ended)
        self._open = self._plan_waits = job.manner.open
        self._known.set()

    def turn(self) -> None:
        """Send the whole plan, or one request of a closed loop."""
        self._known.wait()
        assert self._sender is not None, "known"
        if not self._open:
            self._sender.send_one()
        elif self._plan_waits:
            self._plan_waits = False  # once, whatever users come and go
            self._sender.send_plan()
        else:
            gevent.sleep(1.0)

    def tell(self) -> dict[str, Any]:
        """Return what the conductor has to know, and the records since the last time."""
        sender = self._sender
        if sender is None:
            return {"records": b"", "begun": 0, "idle": False}
        assert self._environment.runner is not None, "made before the first job"
        no_callers = self._environment.runner.user_count == 0 and sender.begun == sender.over
        idle = sender.plan_sent if self._open else no_callers
        return {"records": sender.take_records(), "begun": sender.begun, "idle": idle}

    def _ended(self, sample: Sample, turn: Turn, seconds: float, outcome: Outcome) -> None:
        failure = None
        if outcome.status != OK:
            failure = RequestFailedError(words_of(outcome))
        elif outcome.verdict == WRONG:
            failure = RequestFailedError("wrong answer")
        self._environment.events.request.fire(
            request_type="ModelStreamInfer" if turn.stream else "ModelInfer",
            name=sample.model,
            response_time=seconds * MILLISECONDS,
            response_length=outcome.size,
            exception=failure,
            context={},
        )


class Caller(User):
    """A user: of an open loop, the one that sends this process's part of the plan; else a caller that waits."""

    wait_time = constant(0)
    part: ClassVar[Part]

    @task
    def call(self) -> None:
        """Send."""
        self.part.turn()


class Shape(LoadTestShape):
    """How many users there are, and when the run ends."""

    stage: ClassVar["Stage"]

    def tick(self) -> tuple[int, float] | None:
        """Return the users that there should be, and how many to start a second; None at the end."""
        users = self.stage.users()
        return None if users is None else (users, USERS_PER_SECOND)


class Stage:
    """Brings the conductor, the part of this process if it sends too, and locust's events together."""

    def __init__(self, environment: Environment, conductor: Conductor, part: Part | None) -> None:
        """Listen to the events.

        Args:
            environment: locust's.
            conductor: of the load.
            part: what this process sends itself; None if its workers send.
        """
        self._environment = environment
        self._conductor = conductor
        self._part = part
        self._under_way = False
        self._console = Console()
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TimeRemainingColumn(),
            console=self._console,
            auto_refresh=False,
        )
        self._bar = self._progress.add_task("load", total=1.0)
        events = environment.events
        events.test_start.add_listener(self.start)
        events.worker_report.add_listener(self.hear)
        events.test_stop.add_listener(self.stop)
        events.quitting.add_listener(self.quit)

    def start(self, **_: object) -> None:
        """Deal out the jobs."""
        self._under_way = True
        self._progress.start()
        if self._part is not None:
            self._part.take(self._conductor.start(1, lead=0.0)[0])
            return
        runner = self._environment.runner
        assert isinstance(runner, MasterRunner), "only its workers send"
        workers = self._processes()
        for worker, job in zip(workers, self._conductor.start(len(workers), lead=LEAD_SECONDS), strict=True):
            runner.send_message(JOB, job.to_message(), worker)

    def hear(self, client_id: str, data: dict[str, Any], **_: object) -> None:
        """Pass on what a worker reports."""
        if self._under_way and TOLD in data:
            self._conductor.hear(client_id, data[TOLD])

    def users(self) -> int | None:
        """Return how many users there should be now, None at the end."""
        self._hear_own_part()
        self._progress.update(self._bar, completed=self._conductor.progress, refresh=True)
        return self._conductor.users(self._processes())

    def stop(self, **_: object) -> None:
        """Report on the run, and let it decide the exit code."""
        if not self._under_way:
            return
        self._hear_own_part()
        self._under_way = False
        self._progress.stop()
        self._environment.process_exit_code = FAILED
        result = self._conductor.stop()
        try:
            _report(result, self._console)
        except OSError as error:
            _complain(f"the report cannot be written: {error}")
        else:
            self._environment.process_exit_code = 0 if result.passed else FAILED

    def quit(self, **_: object) -> None:
        """End a run that is under way: locust was told to go."""
        if self._under_way and self._environment.runner is not None:
            self._environment.runner.stop()

    def _hear_own_part(self) -> None:
        if self._part is not None and self._under_way:
            self._conductor.hear(LOCAL, self._part.tell())

    def _processes(self) -> list[str]:
        """Return the processes that send and are still there."""
        if self._part is not None:
            return [LOCAL]
        runner = self._environment.runner
        assert isinstance(runner, MasterRunner), "only its workers send"
        return [client.id for client in runner.clients.all if client.state != STATE_MISSING]


def begin(environment: Environment, **_: object) -> None:
    """Get ready, once locust knows which process this is.

    Raises:
        SystemExit: with code 1 and a message, if the run cannot be made as it is wanted.
    """
    grpc.experimental.gevent.init_gevent()  # after locust's forks, before any channel
    runner, options = environment.runner, environment.parsed_options
    assert runner is not None, "made before"
    assert options is not None, "locust was started from a command line"
    part = None if isinstance(runner, MasterRunner) else Part(environment)
    if part is not None:
        Caller.part = part
    if isinstance(runner, WorkerRunner):
        _work(environment, runner, part)
        return
    try:
        with Console().status("asking the server") as status:
            conductor = Conductor(
                read_options(options), lambda done, of: status.update(f"asking for expected answers: {done} of {of}")
            )
    except TrafficError as error:
        _complain(str(error))
        if isinstance(runner, MasterRunner):
            _dismiss(runner, options.processes or 0)
        sys.exit(FAILED)
    _interrupt_main()
    environment.process_exit_code = FAILED  # until a run has proved otherwise
    environment.stop_timeout = conductor.options.deadline + 1  # requests that are out come to their end
    Shape.stage = Stage(environment, conductor, part)


def _interrupt_main() -> None:
    """Let SIGINT, and SIGTERM, which locust heeds only after a run, interrupt the greenlet that waits for its end.

    Python's own handler interrupts whatever runs at that moment. If that is gRPC's thread of a channel, the interrupt
    is printed and forgotten, and no call of that channel ends any more.
    """
    main, loop = gevent.getcurrent(), gevent.get_hub().loop

    def interrupt(*_: object) -> None:
        loop.run_callback(main.throw, KeyboardInterrupt)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, interrupt)


def _work(environment: Environment, runner: WorkerRunner, part: Part | None) -> None:
    """Take jobs from the master, and report to it."""
    assert part is not None, "a worker sends"

    def take(environment: Environment, msg: Message, **_: object) -> None:
        del environment
        part.take(Job.from_message(msg.data))

    def report(client_id: str, data: dict[str, Any], **_: object) -> None:
        del client_id
        data[TOLD] = part.tell()

    # Locust makes its whole parser anew for every argument that comes with a change of the number of users: half a
    # second in which a worker would stand still.
    argument_parser.default_args_dict = cache(argument_parser.default_args_dict)
    runner.register_message(JOB, take)
    environment.events.report_to_master.add_listener(report)


def _dismiss(runner: MasterRunner, forked: int) -> None:
    """Tell the workers to go; those that locust has forked would else wait a minute for a master that has gone."""
    with gevent.Timeout(WORKERS_SECONDS, False):
        while len(runner.clients.all) < forked:
            gevent.sleep(0.05)
    runner.quit()


def _report(result: Result, console: Console) -> None:
    from loadtests.traffic.report import show, write_report  # noqa: PLC0415  matplotlib takes a second, and no worker needs it

    folder = write_report(result)
    show(result, console)
    console.print(f"Report: {folder / 'load.html'}   Requests: {folder / 'requests.csv'}", soft_wrap=True)


def _complain(message: str) -> None:
    Console(stderr=True).print(f"locust: {message}", markup=False, highlight=False, soft_wrap=True)
