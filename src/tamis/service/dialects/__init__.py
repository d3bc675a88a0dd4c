"""The wire formats of other servers: their clients call Tamis without a change.

A dialect decodes a request into texts and encodes predictions and errors; limits, keys, rate limits,
batching, the cache and the call log are the service's own. One module per family of clients.
"""
