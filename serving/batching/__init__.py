"""The batcher's core: which requests share an engine call, decided without a clock, a thread or a tensor.

Pure and standard library only. It is told sizes and times, and answers with a decision; whoever called does the waiting
and the running (`serving/runner.py`). The same code can therefore run under a property test or a simulator.
"""

from serving.batching.batcher import Batcher
from serving.batching.tickets import NEVER_NS, Batch, Decision, Limits, Refusal, Ticket

__all__ = ["NEVER_NS", "Batch", "Batcher", "Decision", "Limits", "Refusal", "Ticket"]
