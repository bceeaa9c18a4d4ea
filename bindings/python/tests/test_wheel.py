"""The wheel, in an environment of its own outside of the repository."""

from __future__ import annotations

import os
import pathlib
import subprocess
import sys
import zipfile

import pytest
from support import FOLLOW, Place, Program, eventually

import mongostream


def run(*command: object, **environment: str) -> str:
    return subprocess.run(
        [str(word) for word in command],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, **environment},
    ).stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    build = pathlib.Path(__file__).parents[1] / "build-wheel"
    folder = tmp_path_factory.mktemp("packages")
    library = os.environ.get("MONGOSTREAM_LIBRARY", mongostream.library_path)
    path = run(build, folder, PYTHON=sys.executable, MONGOSTREAM_LIBRARY=library)
    return pathlib.Path(path.strip().splitlines()[-1])


def test_the_wheel_has_what_belongs_there_and_nothing_else(wheel: pathlib.Path) -> None:
    assert wheel.name.startswith("mongostream-0.1.0-py3-none-")
    assert not wheel.name.endswith("-any.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        sources = pathlib.Path(mongostream.__file__).parent.glob("*.py")
        expected = {f"mongostream/{path.name}" for path in sources}
        expected |= {"mongostream/py.typed", "mongostream/libmongostream.so"}
        assert {name for name in names if name.startswith("mongostream/")} == expected
        metadata = archive.read("mongostream-0.1.0.dist-info/METADATA").decode()
    assert "Requires-Python: >=3.9" in metadata
    assert "Requires-Dist" not in metadata
    assert {name.rsplit("/", 1)[-1] for name in names if "licenses" in name} == {"LICENSE-APACHE", "LICENSE-MIT"}


def test_an_installed_wheel_follows_a_change(
    wheel: pathlib.Path, place: Place, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MONGOSTREAM_LIBRARY", raising=False)
    monkeypatch.delenv("PYTHONPATH", raising=False)
    monkeypatch.chdir(tmp_path)
    run(sys.executable, "-m", "venv", tmp_path / "empty")
    python = str(tmp_path / "empty" / "bin" / "python")
    run(python, "-m", "pip", "install", "--quiet", "--no-index", "--disable-pip-version-check", wheel)
    with Program(["-c", "import mongostream; print(mongostream.library_path)"], python) as program:
        assert program.end() == 0, program.err
        assert pathlib.Path(program.out[0]).is_relative_to(tmp_path / "empty")
    with Program([str(FOLLOW), place.uri, place.database, place.collection], python) as program:
        program.has_said("ready")
        place.orders.insert_one({"_id": "from a wheel"})
        eventually(lambda: "from a wheel" in "".join(program.out), "the line")
