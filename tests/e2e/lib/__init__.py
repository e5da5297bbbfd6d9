"""Harness of the end-to-end tests: the gateway under test, its upstreams, strict clients."""
