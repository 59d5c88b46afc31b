"""Our models beside those of others: ``python -m tools.peers faces|bodies|paper``."""

from __future__ import annotations

import click

from tools.peers import bodies, faces, paper

main = click.Group("peers", {"faces": faces.main, "bodies": bodies.main, "paper": paper.main}, help=__doc__)

if __name__ == "__main__":
    main()
