"""The folders of the index: one per pod and version of the schema, and in it generations, of which one is current.

`search/<schema>/<pod>/current` names the generation that is written and read. A new generation is built beside it and
then named: readers find the new one at their next look, and whoever still reads the old one goes on. A name is never
used twice, because an open index that reloads reads whatever stands at its path.

Belongs here: paths, which generation is current, switching. Does not belong here: what is in an index.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from contracts.errors import PropagationError
from contracts.settings import Settings
from derived.search.schema import READABLE, SCHEMA

CURRENT = "current"
FIRST = "g000001"


class PodFolder:
    """The generations of one pod's index."""

    def __init__(self, base: Path, pod: str) -> None:
        self.pod = pod
        self.path = base / pod

    def current(self) -> Path | None:
        """Return the folder of the current generation; None if there is no index."""
        try:
            name = (self.path / CURRENT).read_text(encoding="ascii").strip()
        except FileNotFoundError:
            return None
        return self.path / name if name else None

    def older(self) -> PodFolder | None:
        """Return the folder of a readable version of the schema that has an index, if this version has none."""
        if self.current() is not None:
            return None
        found = (PodFolder(path.parent, self.pod) for path in self._older_paths())
        return next((folder for folder in found if folder.current() is not None), None)

    def read_from(self) -> Path | None:
        """Return the generation that questions are asked of: the current one, until there is one an older version's."""
        older = self.older()
        return self.current() if older is None else older.current()

    def remove_versions(self) -> None:
        """Remove the pod's indexes of older versions of the schema, once this version has one."""
        if self.current() is not None:
            for path in self._older_paths():
                shutil.rmtree(path, ignore_errors=True)

    def _older_paths(self) -> list[Path]:
        return [self.path.parent.with_name(version) / self.pod for version in READABLE]

    def current_or_first(self) -> Path:
        """Return the folder of the current generation, and begin the first one if there is no index.

        Raises PropagationError while only an older version has one: a first document here would hide all of those.
        """
        found = self.current()
        if found is None and self.older() is not None:
            raise PropagationError(
                f"The search index of {self.pod} is of an older version; its consumer builds the new one as it starts, "
                f"and so does `tieout reindex --pod {self.pod}`."
            )
        if found is None:
            found = self.path / FIRST if not self.generations() else self.next()
            self.switch(found)
        return found

    def generations(self) -> list[Path]:
        """Return the folders of all generations, oldest first."""
        return sorted(path for path in self.path.glob("g*") if path.is_dir()) if self.path.is_dir() else []

    def next(self) -> Path:
        """Return the folder of a generation that does not exist yet."""
        newest = max((int(path.name[1:]) for path in self.generations()), default=0)
        return self.path / f"g{newest + 1:06d}"

    def switch(self, generation: Path) -> None:
        """Make a generation the current one, at once for everybody who looks."""
        generation.mkdir(parents=True, exist_ok=True)
        named = self.path / f"{CURRENT}.{os.getpid()}"
        with named.open("w", encoding="ascii") as file:
            file.write(generation.name)
            file.flush()
            os.fsync(file.fileno())
        named.replace(self.path / CURRENT)

    def remove_older(self) -> list[str]:
        """Remove the generations before the current one; return their names. Open readers of them go on."""
        current = self.current()
        older = [path for path in self.generations() if current is not None and path.name < current.name]
        for path in older:
            shutil.rmtree(path)
        return [path.name for path in older]

    def wipe(self) -> None:
        """Remove everything of the pod. Its consumer begins anew, and is told how if the log no longer has it all."""
        for path in (self.path, *self._older_paths()):
            shutil.rmtree(path, ignore_errors=True)


def base_folder(settings: Settings) -> Path:
    """Return the folder of the present version of the schema."""
    return settings.var_dir / "search" / SCHEMA


def pods_with_index(base: Path) -> list[str]:
    """Return the pods that have an index."""
    return sorted(path.parent.name for path in base.glob(f"*/{CURRENT}"))
