"""Where the native library is found, and which one is taken."""

from __future__ import annotations

import os
import pathlib
import shutil
import subprocess
import sys

import pytest

import mongostream
from mongostream import _abi, _library

PACKAGE = pathlib.Path(mongostream.__file__).parent


@pytest.fixture
def package(tmp_path: pathlib.Path) -> pathlib.Path:
    """A copy of the package without a library."""
    return pathlib.Path(
        shutil.copytree(PACKAGE, tmp_path / "mongostream", ignore=shutil.ignore_patterns("*.so", "__pycache__"))
    )


def run(package: pathlib.Path, **environment: str) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if name != "MONGOSTREAM_LIBRARY"}
    return subprocess.run(
        [sys.executable, "-c", "import mongostream; print(mongostream.library_path)"],
        env={**kept, "PYTHONPATH": str(package.parent), **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_library_in_the_package_goes_first(package: pathlib.Path) -> None:
    packed = package / _library._FILE
    packed.symlink_to(mongostream.library_path)
    assert run(package, MONGOSTREAM_LIBRARY="/nonsense").stdout.strip() == str(packed)


def test_then_the_one_that_the_environment_names(package: pathlib.Path) -> None:
    assert run(package, MONGOSTREAM_LIBRARY=mongostream.library_path).stdout.strip() == mongostream.library_path


def test_then_the_systems(package: pathlib.Path, tmp_path: pathlib.Path) -> None:
    # First the one whose name has the version, as packages without headers have it.
    for name in (_library._FILE, _library._VERSIONED):
        (tmp_path / name).symlink_to(mongostream.library_path)
        assert run(package, LD_LIBRARY_PATH=str(tmp_path)).stdout.strip() == name


def test_without_one_the_import_says_where_it_looked(package: pathlib.Path) -> None:
    for environment in ({}, {"MONGOSTREAM_LIBRARY": "/nonsense/library.so"}):
        result = run(package, **environment)
        assert result.returncode == 1
        assert "ImportError: cannot load the mongostream library" in result.stderr
        assert environment.get("MONGOSTREAM_LIBRARY", _library._FILE) in result.stderr
        assert "MONGOSTREAM_LIBRARY" in result.stderr


def test_another_library_is_refused(package: pathlib.Path) -> None:
    import _ctypes

    assert "is not the mongostream library" in run(package, MONGOSTREAM_LIBRARY=_ctypes.__file__).stderr


def test_a_library_without_a_function_is_too_old() -> None:
    with pytest.raises(ImportError, match="too old for this package: it has no ms_nonsense"):
        _library.bind("ms_nonsense")


@pytest.mark.parametrize(
    ("made_for", "found", "fits"),
    [
        ((0, 1, 0), (0, 1, 0), True),
        ((0, 1, 0), (0, 1, 3), True),
        ((0, 1, 3), (0, 1, 2), False),
        ((0, 1, 0), (0, 2, 0), False),
        ((0, 2, 0), (0, 1, 9), False),
        ((1, 2, 0), (1, 2, 0), True),
        ((1, 2, 0), (1, 3, 0), True),
        ((1, 2, 3), (1, 2, 2), False),
        ((1, 2, 0), (2, 2, 0), False),
        ((0, 1, 0), (1, 1, 0), False),
    ],
)
def test_the_version_has_to_fit(
    monkeypatch: pytest.MonkeyPatch, made_for: tuple[int, int, int], found: tuple[int, int, int], fits: bool
) -> None:
    monkeypatch.setattr(_abi, "VERSION", made_for)
    if fits:
        _library._check_version("library", found)
    else:
        with pytest.raises(ImportError, match="library is version"):
            _library._check_version("library", found)


def test_versions_agree() -> None:
    assert mongostream.__version__ == ".".join(map(str, _abi.VERSION))
    assert mongostream.library_version == ".".join(map(str, _library._version(_library._cdll.ms_version_number())))
    pyproject = PACKAGE.parents[1] / "pyproject.toml"
    if pyproject.exists():
        assert f'version = "{mongostream.__version__}"' in pyproject.read_text()


def test_every_function_of_the_library_is_bound() -> None:
    freed = {"ms_error_free", "ms_message_free", "ms_batch_free", "ms_options_free", "ms_worker_free", "ms_buffer_free"}
    at_most_once = {"ms_buffer_recv"}
    unbound = set(_abi.FUNCTIONS) - set(vars(_library)) - freed - at_most_once - {"ms_version_number"}
    assert unbound == set()


def test_every_public_name_is_documented() -> None:
    for name in mongostream.__all__:
        thing = getattr(mongostream, name)
        assert isinstance(thing, str) or thing.__doc__, name
