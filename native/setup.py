"""One wheel for Python 3.11 and later: nothing but the limited API is used."""

from setuptools import Extension, setup

NAMES = ("crc", "hashes", "module", "rows", "text", "texts", "transaction", "value")

setup(
    packages=[],
    ext_modules=[
        Extension(
            "syncbridge_native",
            sources=[f"src/{name}.c" for name in NAMES],
            depends=["src/native.h"],
            extra_compile_args=["-O3", "-std=c11", "-Wall", "-Wextra", "-Wno-unused-parameter"],
            py_limited_api=True,
        )
    ],
    options={"bdist_wheel": {"py_limited_api": "cp311"}},
)
