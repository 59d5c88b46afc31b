"""Landmarks as a service: what one request is answered with, and the servers that ask for it."""
