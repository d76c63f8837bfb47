"""The batcher's core: which rows share an engine call, decided without a clock, a thread or a tensor.

Pure and standard library only. It is told sizes and times, and answers with a decision; whoever called does the waiting
and the running (`serving/runner.py`). The same code can therefore run under a property test or a simulator.
"""

from serving.batching.batcher import Batcher
from serving.batching.cost import CostModel
from serving.batching.policies import EqualLengths, Fifo, Policy, Stepwise, WholeSequence
from serving.batching.tickets import NEVER_NS, Batch, Decision, Refusal, Refused, Span, Ticket

__all__ = [
    "NEVER_NS",
    "Batch",
    "Batcher",
    "CostModel",
    "Decision",
    "EqualLengths",
    "Fifo",
    "Policy",
    "Refusal",
    "Refused",
    "Span",
    "Stepwise",
    "Ticket",
    "WholeSequence",
]
