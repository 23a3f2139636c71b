"""Measures Chainfire on this machine, most of it beside a real etcd (docs/benchmarks.md).

Each program says at its top what it measures, and is started as `python -m bench.many`. They share:

contest.py  who is compared, whose turn it is, how figures are told
table.py    medians, ratios and the machine, as text and as Markdown
puts.py     puts in the background, while something else is measured
h2load.py   one run of h2load with a gRPC request, and what it measured
"""
