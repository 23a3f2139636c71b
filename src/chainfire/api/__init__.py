"""The services, transport-free: what a method does, whatever door it came through.

`table` lists every method, `call` is what a door hands over, `services` what
handlers may use. Doors (chainfire.gateway) import this package; nothing here
knows gRPC or HTTP.

Any method may be refused with Malformed, and with what the node says of itself (NoLeader, Timeout
and its kin, TooManyRequests, Stopped, CorruptCluster); handlers name what else, be it told at once
or when a command is applied.
"""
