"""A fleet of replicas in virtual time: the shipped batcher decides, a measured cost model says what things take.

`python -m loadtests.simulate` compares ways to balance and to scale; `python -m loadtests.simulate.calibrate` compares
one simulated replica with a real server. docs/scale.md has the method and the results.
"""
