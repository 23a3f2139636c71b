"""Measures Chainfire against a real etcd on this machine: `python -m bench.run`.

h2load.py   one run of h2load with a gRPC request, and what it measured
run.py      servers, order of runs, checks before and after
contest.py  who is compared, and how the figures are handed over
table.py    medians, ratios and the machine, as text and as markdown
"""
