from __future__ import annotations

import os
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from cunet_deploy._files import atomic_path, part_path, shown_name, stat_digest, write_bytes_atomic, write_text_atomic
from cunet_deploy.errors import CunetError, InputError


def _names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_finished_file_stands_under_its_name_and_alone(tmp_path: Path) -> None:
    with atomic_path(tmp_path / "out.bin", overwrite=False) as temporary:
        temporary.write_bytes(b"whole")
        assert not (tmp_path / "out.bin").exists()
    assert (tmp_path / "out.bin").read_bytes() == b"whole"
    assert _names(tmp_path) == ["out.bin"]


def test_what_is_not_finished_can_be_seen(tmp_path: Path) -> None:
    with atomic_path(tmp_path / "clip.mp4", overwrite=False) as temporary:
        assert temporary == tmp_path / "clip.mp4.part"
    for name in ("x" * 255, "\N{SLIGHTLY SMILING FACE}" * 63):  # 252 bytes
        assert len(os.fsencode(part_path(tmp_path / name).name)) <= 255
        write_text_atomic(tmp_path / name, "x", overwrite=False)


def test_what_a_killed_process_left_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "out.txt.part").write_text("half of something long")
    write_text_atomic(tmp_path / "out.txt", "new", overwrite=False)
    assert (tmp_path / "out.txt").read_text() == "new"
    assert _names(tmp_path) == ["out.txt"]


@pytest.mark.skipif(os.name == "nt", reason="locks of POSIX")
def test_two_do_not_write_one_file_at_a_time(tmp_path: Path) -> None:
    with atomic_path(tmp_path / "out.txt", overwrite=False) as temporary:
        temporary.write_text("first")
        with (
            pytest.raises(CunetError, match=r"out\.txt: is being written by another process"),
            atomic_path(tmp_path / "out.txt", overwrite=True, wait=0.05),
        ):
            raise AssertionError("unreachable")
    assert (tmp_path / "out.txt").read_text() == "first"
    assert _names(tmp_path) == ["out.txt"]


@pytest.mark.skipif(os.name == "nt", reason="locks of POSIX")
def test_writers_of_one_file_take_turns(tmp_path: Path) -> None:
    def write(number: int) -> None:
        for _ in range(20):
            write_text_atomic(tmp_path / "out.txt", str(number) * 5000, overwrite=True)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(write, range(4)))
    assert len(set((tmp_path / "out.txt").read_text())) == 1
    assert _names(tmp_path) == ["out.txt"]


def test_a_name_is_shown_as_text() -> None:
    assert shown_name("caf\N{LATIN SMALL LETTER E WITH ACUTE}.jpg") == "caf\N{LATIN SMALL LETTER E WITH ACUTE}.jpg"
    assert shown_name(os.fsdecode(b"caf\xe9.jpg")) == r"caf\xe9.jpg"


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, CunetError])
def test_a_failure_leaves_nothing(tmp_path: Path, error: type[BaseException]) -> None:
    with pytest.raises(error), atomic_path(tmp_path / "out.bin", overwrite=False) as temporary:
        temporary.write_bytes(b"hal")
        raise error
    assert _names(tmp_path) == []


def test_a_failure_leaves_the_former_file_as_it_was(tmp_path: Path) -> None:
    target = tmp_path / "out.txt"
    target.write_text("former")
    with pytest.raises(RuntimeError), atomic_path(target, overwrite=True) as temporary:
        temporary.write_text("ne")
        raise RuntimeError
    assert target.read_text() == "former"
    assert _names(tmp_path) == ["out.txt"]


def test_an_existing_file_is_replaced_only_when_asked(tmp_path: Path) -> None:
    target = tmp_path / "out.txt"
    target.write_text("former")
    with pytest.raises(InputError, match=r"out\.txt: exists already; choose another name, or overwrite it"):
        write_text_atomic(target, "new", overwrite=False)
    assert target.read_text() == "former"
    write_text_atomic(target, "new", overwrite=True)
    assert target.read_text() == "new"


def test_a_file_that_appears_while_writing_is_not_replaced(tmp_path: Path) -> None:
    target = tmp_path / "out.txt"
    with pytest.raises(InputError, match="exists already"), atomic_path(target, overwrite=False) as temporary:
        temporary.write_text("mine")
        target.write_text("theirs")
    assert target.read_text() == "theirs"
    assert _names(tmp_path) == ["out.txt"]


def test_missing_folders_are_created(tmp_path: Path) -> None:
    write_bytes_atomic(tmp_path / "a" / "b" / "out.bin", b"x", overwrite=False)
    assert (tmp_path / "a" / "b" / "out.bin").read_bytes() == b"x"


def test_text_is_utf_8_with_its_own_line_ends(tmp_path: Path) -> None:
    write_text_atomic(tmp_path / "out.txt", "é\n", overwrite=False)
    assert (tmp_path / "out.txt").read_bytes() == b"\xc3\xa9\n"


def test_a_new_file_has_the_permissions_of_any_new_file(tmp_path: Path) -> None:
    write_text_atomic(tmp_path / "ours.txt", "x", overwrite=False)
    (tmp_path / "plain.txt").write_text("x")
    modes = [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("ours.txt", "plain.txt")]
    assert modes[0] == modes[1]


def test_a_link_is_followed(tmp_path: Path) -> None:
    (tmp_path / "real.txt").write_text("former")
    (tmp_path / "link.txt").symlink_to("real.txt")
    write_text_atomic(tmp_path / "link.txt", "new", overwrite=True)
    assert (tmp_path / "link.txt").is_symlink()
    assert (tmp_path / "real.txt").read_text() == "new"


def test_a_folder_is_refused_even_with_overwrite(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is a folder; name a file in it"):
        write_text_atomic(tmp_path, "x", overwrite=True)


def test_a_device_is_never_replaced() -> None:
    with pytest.raises(InputError, match="is not a regular file"):
        write_text_atomic(os.devnull, "x", overwrite=True)
    assert stat.S_ISCHR(Path(os.devnull).stat().st_mode)


def test_a_file_on_the_way_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(InputError, match="file is not a folder"):
        write_text_atomic(tmp_path / "file" / "out.txt", "x", overwrite=False)


@pytest.mark.parametrize("name", ["x" * 255, "é" * 127, "é" * 125 + "x" * 4])
def test_a_name_may_be_as_long_as_the_file_system_takes(tmp_path: Path, name: str) -> None:
    write_text_atomic(tmp_path / name, "done", overwrite=False)
    assert _names(tmp_path) == [name]
    with atomic_path(tmp_path / name, overwrite=True) as part:
        assert part.name.endswith(".part")
        assert len(os.fsencode(part.name)) <= 255


def test_two_long_names_are_written_at_a_time(tmp_path: Path) -> None:
    first, second = ("x" * 250 + end for end in (".csv", ".pts"))
    with atomic_path(tmp_path / first, overwrite=False), atomic_path(tmp_path / second, overwrite=False, wait=0):
        pass
    assert _names(tmp_path) == [first, second]


def test_a_name_that_is_too_long_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be written: the name is too long") as caught:
        write_text_atomic(tmp_path / ("x" * 300), "x", overwrite=False)
    assert "\n" not in str(caught.value)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_a_full_disk_is_one_line_and_leaves_nothing(tmp_path: Path) -> None:
    with (
        pytest.raises(CunetError, match=r"out\.bin: cannot be written: the disk is full") as caught,
        atomic_path(tmp_path / "out.bin", overwrite=False),
    ):
        Path("/dev/full").write_bytes(b"x")
    assert caught.value.exit_code == 1
    assert _names(tmp_path) == []


def test_an_input_that_cannot_be_read_is_not_blamed_on_the_output(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), atomic_path(tmp_path / "out.bin", overwrite=False):
        (tmp_path / "missing.jpg").read_bytes()
    assert _names(tmp_path) == []


@pytest.mark.skipif(not Path("/sys/kernel").is_dir(), reason="this system has no /sys")
def test_a_folder_that_nobody_may_write_to_is_one_line() -> None:
    with pytest.raises(CunetError, match=r"/sys/out\.txt: cannot be written: .*choose") as caught:
        write_text_atomic("/sys/out.txt", "x", overwrite=False)
    assert caught.value.exit_code == 1
    assert "\n" not in str(caught.value)


@pytest.mark.skipif(os.getuid() == 0, reason="root may write everywhere")
def test_a_folder_without_write_permission_is_one_line(tmp_path: Path) -> None:
    tmp_path.chmod(0o555)
    try:
        with pytest.raises(CunetError, match="cannot be written: permission denied"):
            write_text_atomic(tmp_path / "out.txt", "x", overwrite=False)
    finally:
        tmp_path.chmod(0o755)


def test_a_file_that_has_changed_has_another_digest(tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    assert stat_digest([file]) == ""
    file.write_text("one")
    before = stat_digest([file])
    assert stat_digest([file, tmp_path / "missing"]) == before
    os.utime(file, ns=(1, 1))
    assert stat_digest([file]) != before
