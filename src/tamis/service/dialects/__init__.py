"""The wire formats of other servers: their clients can call Tamis unchanged.

A dialect decodes requests into texts and encodes predictions and errors. Limits, keys, rate limits,
batching, the cache and the call log are those of the service. One module per family of clients.
"""
