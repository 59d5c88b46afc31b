from __future__ import annotations

import platform

from cunet_deploy.machine.cpu import available_cpus
from cunet_deploy.machine.describe import describe_machine, describe_versions


def test_this_machine_is_described_without_empty_entries() -> None:
    found = describe_machine()
    assert found["architecture"] == platform.machine()
    assert found["cpus"] == available_cpus() >= 1
    assert found["processor"]
    assert not [key for key, value in found.items() if value in (None, "", [])]


def test_versions_name_what_is_installed_and_leave_out_what_is_not() -> None:
    found = describe_versions("click", "no-such-package-of-ours")
    assert found["python"] == platform.python_version()
    assert {"cunet_deploy", "numpy", "opencv", "click"} <= set(found)
    assert "no-such-package-of-ours" not in found
