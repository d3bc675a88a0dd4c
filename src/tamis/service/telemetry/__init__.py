"""Telemetry: metrics, log lines, request ids and traces.

Records times, routes, statuses and counts; never a caller's text and never a secret.
"""
