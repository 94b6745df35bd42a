"""Packaging. Every fact stands in settings.ini, which nbdev reads too."""
from configparser import ConfigParser
from pathlib import Path

from setuptools import find_packages, setup

here = Path(__file__).parent
ini = ConfigParser()
ini.read(here / "settings.ini", encoding="utf-8")
cfg = ini["DEFAULT"]
readme = here / "README.md"


def extra(name: str) -> list[str]:
    return cfg[f"{name}_requirements"].split()


# The cards and recipes stand at the top of a checkout, where people look for them, and go into the wheel as a folder
# of the package, where they can be found after installing.
CARDS = "fakeface.data_manifests"

setup(
    name=cfg["lib_name"],
    version=cfg["version"],
    description=cfg["description"],
    long_description=readme.read_text(encoding="utf-8") if readme.exists() else cfg["description"],
    long_description_content_type="text/markdown",
    author=cfg["author"],
    license="Apache-2.0",
    license_files=["LICENSE"],
    url=cfg["git_url"],
    keywords=cfg["keywords"],
    python_requires=f">={cfg['min_python']}",
    packages=[*find_packages(include=["fakeface", "fakeface.*"]), CARDS],
    package_dir={CARDS: "data_manifests"},
    package_data={"fakeface": ["py.typed"], CARDS: ["**/*.yaml", "**/*.csv", "**/*.npy", "web/*", "models/*"]},
    include_package_data=False,
    install_requires=cfg["requirements"].split(),
    extras_require={"app": extra("app"), "geometry": extra("geometry"), "fast": extra("fast"), "scale": extra("scale"),
                    "weights": extra("weights"), "dev": extra("dev") + extra("app") + extra("scale") + extra("weights")},
    entry_points={"console_scripts": cfg["console_scripts"].split()},
    classifiers=[
        "Development Status :: 3 - Alpha",
        f"Intended Audience :: {cfg['audience']}",
        f"Natural Language :: {cfg['language']}",
        "Programming Language :: Python :: 3",
        "Topic :: Scientific/Engineering :: Image Recognition",
    ],
    # An editable install as a path, not as an import hook: hooks come last, and beside a clone, whose folder bears the package's name,
    # Python would take that folder for it.
    options={"editable_wheel": {"mode": "compat"}},
    zip_safe=False,
)
