"""Landmarks as a service: what one request is answered with, and the servers that ask for it.

`app` is for Ray Serve: ``serve run cunet_deploy.serve:app model=face68-s``.
"""

from cunet_deploy.serve.ray_app import app

__all__ = ["app"]
