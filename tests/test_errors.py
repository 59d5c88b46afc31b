from __future__ import annotations

import pytest

from cunet_deploy import errors


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.CunetError, 1),
        (errors.InputError, 2),
        (errors.ConfigError, 2),
        (errors.ArtifactError, 3),
        (errors.VerificationError, 4),
        (errors.MissingDependencyError, 5),
        (errors.UntrustedError, 6),
    ],
)
def test_each_branch_of_the_tree_has_its_exit_code(error: type[errors.CunetError], code: int) -> None:
    assert error.exit_code == code


def test_the_table_above_is_complete_and_every_error_is_a_cunet_error() -> None:
    assert len(errors.__all__) == 7
    assert all(issubclass(getattr(errors, name), errors.CunetError) for name in errors.__all__)


def test_bad_input_can_be_caught_as_the_built_in_error_of_that_kind() -> None:
    with pytest.raises(ValueError, match="seven"):
        raise errors.ConfigError("expected seven")
    with pytest.raises(ImportError, match="pip install"):
        raise errors.MissingDependencyError("pip install it")


def test_a_message_is_one_line_whatever_names_are_in_it() -> None:
    message = str(errors.InputError("a\nb\x1b[31m\u2028.jpg: is missing; Ümläut and 日本 stay"))
    assert message == "a\\nb\\x1b[31m\\u2028.jpg: is missing; Ümläut and 日本 stay"
    assert len(message.splitlines()) == 1
