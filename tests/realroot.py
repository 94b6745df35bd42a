"""A miniature real root: the built-in world's pictures in the real datasets' layouts, without the marker that says that they are drawn.

For whatever has to run on a user's own photographs. Some datasets are missing, and of one there are ten pictures, as in a real folder.
"""
import os
import shutil
from pathlib import Path

from fakeface.synthetic.world import cached_world

GONE = ("lfw", "lag", "generated_photos", "fairface_psp_twins", "fake_vs_real_hard")
FEW = ("thispersondoesnotexist", 10)
MARKS = ("world.json", "truth.csv")


def real_root(folder: Path, # does not exist yet
              images: int = 1600, # of the world
             ) -> Path: # the folder
    "Writes the root; its files are links to the cached world's."
    world = cached_world(images=images, seed=14)
    left_out = {*GONE, *MARKS}
    shutil.copytree(world, folder, copy_function=os.link,
                    ignore=lambda place, names: [n for n in names if Path(place) == world and n in left_out])
    for extra in sorted(p for p in (folder / FEW[0]).rglob("*") if p.is_file())[FEW[1]:]: extra.unlink()
    return folder
