"""``python -m cunet_deploy``, the same as the ``cunet-deploy`` command."""

from __future__ import annotations

from cunet_deploy.cli import main

if __name__ == "__main__":
    main()
