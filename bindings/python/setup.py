"""What pyproject.toml cannot say: the package has a native library, and no code that depends on a version of Python."""

import os

from setuptools import setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.dist import Distribution


class BinaryDistribution(Distribution):
    """Not for every machine."""

    def has_ext_modules(self) -> bool:
        """Whether the wheel depends on the platform."""
        return True


class Wheel(bdist_wheel):
    """A wheel for any Python 3 on one platform."""

    def get_tag(self) -> "tuple[str, str, str]":
        """The three parts of the wheel's tag."""
        return "py3", "none", os.environ.get("MONGOSTREAM_WHEEL_PLATFORM") or super().get_tag()[2]


setup(distclass=BinaryDistribution, cmdclass={"bdist_wheel": Wheel})
