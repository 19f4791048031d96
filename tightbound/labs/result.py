"""What a lab gives: numbers, a table in words and a figure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from tightbound.files import write_json, write_text
from tightbound.plots import save

__all__ = ["Result"]


@dataclass(frozen=True, eq=False)
class Result:
    """The numbers of a lab, and how they look.

    Attributes:
        name: Of the lab.
        numbers: What was computed, in nats where it is a log-density; plain values, so that they can be written as
            JSON.
        text: The same in words: what was done, a table, and what it shows.
        figure: The same as a picture.

    Example:
        >>> print(Result("coin", {"heads": 0.5}, "Half of the throws are heads.", Figure()))
        Half of the throws are heads.
    """

    name: str
    numbers: Mapping[str, Any]
    text: str
    figure: Figure

    def __str__(self) -> str:
        return self.text

    def to_json(self) -> dict[str, Any]:
        """The numbers, under the lab's name.

        Example:
            >>> Result("coin", {"heads": 0.5}, "", Figure()).to_json()
            {'lab': 'coin', 'heads': 0.5}
        """
        return {"lab": self.name, **self.numbers}

    def save(self, folder: Path) -> list[Path]:
        """Write the figure, the numbers and the text.

        Args:
            folder: where to; made if it is not there.

        Returns:
            The three files: NAME.png, NAME.json and NAME.txt.

        Example:
            >>> import tempfile
            >>> with tempfile.TemporaryDirectory() as folder:
            ...     [path.name for path in Result("coin", {"heads": 0.5}, "", Figure()).save(Path(folder))]
            ['coin.png', 'coin.json', 'coin.txt']
        """
        picture, numbers, text = (folder / f"{self.name}.{kind}" for kind in ("png", "json", "txt"))
        save(self.figure, picture)
        write_json(numbers, self.to_json())
        write_text(text, self.text + "\n")
        return [picture, numbers, text]
