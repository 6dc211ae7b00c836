"""Takes the built library along, so that an installed package needs no build tree."""

import pathlib
import shutil

from setuptools import setup
from setuptools.command.build_py import build_py

LIBRARY = pathlib.Path(__file__).resolve().parent.parent / "build" / "lib" / "libklab_kernels.so"


class WithLibrary(build_py):
    def run(self):
        super().run()
        if LIBRARY.exists() and not self.editable_mode:
            shutil.copy2(LIBRARY, pathlib.Path(self.build_lib) / "klab")


setup(cmdclass={"build_py": WithLibrary})
