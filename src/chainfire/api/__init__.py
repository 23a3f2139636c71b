"""The services, transport-free: what a method does, whatever door it came through.

`table` lists every method, `call` is what a door hands over, `services` what
handlers may use. Doors (chainfire.gateway) import this package; nothing here
knows gRPC or HTTP.
"""
