"""How much load a server takes before it breaks its objectives: `python -m loadtests.capacity`."""
