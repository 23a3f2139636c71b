"""The same requests to a real etcd and to Chainfire; every field and every error is compared.

generate.py   random requests, valid and not, over a small set of keys
driver.py     one process per server sends them, reads between two writes at once
canon.py      what may differ is brought to one form; the rest must be equal
known.py      where old etcds differ from the behaviour we follow, each with its reason
run.py        chunk by chunk, until the first difference
shrink.py     from that difference to the fewest requests that still show it
"""
