"""Models in folders, without pickle: what they are built of as JSON, their weights as safetensors.

Only the library's own pieces and a few of torch's can be named, so a stranger's folder cannot name code.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tightbound import likelihoods, networks, posteriors, priors, told
from tightbound._version import __version__
from tightbound.autoencoder import VAE
from tightbound.conditioned import ConditionalVAE
from tightbound.files import as_json, as_safetensors, foreign, read_tensors, require_kept, why, write_kept
from tightbound.model import Model
from tightbound.paths import require_path
from tightbound.runtime import home, own_random_state
from tightbound.semi_supervised import SemiSupervisedVAE

MODEL = "model.json"
WEIGHTS = "model.safetensors"
FORMAT = 4
LARGEST = 2**31  # numbers in one model that a file may ask for
OTHERS: tuple[type[nn.Module], ...] = (
    VAE,
    ConditionalVAE,
    SemiSupervisedVAE,
    nn.Linear,
    nn.Sigmoid,
    *networks.ACTIVATIONS.values(),
)


def _name_of(cls: type) -> str:
    """What a folder calls a piece: with its module, for a prior and a likelihood may have the same name."""
    return f"{cls.__module__.rpartition('.')[2]}.{cls.__name__}"


PIECES: dict[str, type[nn.Module]] = {
    _name_of(cls): cls
    for module in (priors, posteriors, likelihoods, networks, told)
    for name, cls in vars(module).items()
    if inspect.isclass(cls) and issubclass(cls, nn.Module) and cls.__module__ == module.__name__ and name[0] != "_"
}
PIECES |= {_name_of(cls): cls for cls in OTHERS}
ARGUMENTS = {_name_of(nn.Linear): ("in_features", "out_features", "bias")}  # where they are not the constructor's


def save_model(model: Model, folder: Path) -> None:
    """Write a model into a folder.

    Args:
        model: any.
        folder: where to; made if it is not there.

    Raises:
        ValueError: for a folder that holds a run, and for a path that is none of a folder.
    """
    require_path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(f"Expected a folder for a model; got {folder}: {why(error)}. Choose another.") from None
    if (folder / "recipe.toml").exists():
        raise ValueError(f"Expected a folder of its own for a model; got {folder}, which holds a run. Choose another.")
    _, dtype = home(model)
    made = {
        "format": FORMAT,
        "tightbound": __version__,
        "dtype": str(dtype).removeprefix("torch."),
        "model": _described(model, "model", {}),
    }
    data, text = as_safetensors(model.state_dict()), as_json(made)
    write_kept(folder, WEIGHTS, lambda path: path.write_bytes(data))
    write_kept(folder, MODEL, lambda path: path.write_text(text, encoding="utf-8"))


def load_model(folder: str | Path) -> Model:
    """Read a model that :meth:`tightbound.VAE.save` wrote. Nothing in the folder is executed.

    Args:
        folder: where it is.

    Returns:
        The model, on the CPU, in evaluation mode.

    Raises:
        ValueError: for a folder without a model, a damaged one, one of another version, and a model with pieces that
            are not the library's own, with what to do about it.

    Example:
        >>> import tempfile
        >>> model = VAE(
        ...     prior=priors.StandardNormal(2),
        ...     posterior=posteriors.DiagonalNormal(networks.MLP((5,), (4,))),
        ...     likelihood=likelihoods.Gaussian(networks.MLP((2,), (5,))),
        ... )
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     model.save(folder)
        ...     bool(load_model(folder).embed(torch.ones(1, 5)).equal(model.embed(torch.ones(1, 5))))
        True
    """
    folder = Path(folder)
    path = folder / MODEL
    require_path(path)
    if not path.is_file():
        raise ValueError(
            f"Expected a folder that model.save(...) wrote, with a {MODEL}; got {folder}. A run's folder is opened by "
            "tb.open_run(folder).model()."
        )
    with foreign(path, "a model's description"):
        made = json.loads(path.read_text(encoding="utf-8"))
        version, spec, dtype = made["format"], made["model"], getattr(torch, made["dtype"])
    if version != FORMAT:
        raise ValueError(
            f"Expected a model of format {FORMAT}; got {version!r} in {path}. Write it anew: model.save()."
        )
    if own := _own_pieces(spec):
        raise ValueError(
            f"Expected a model of the library's own pieces; got {own[0]} in {path}, whose code no folder keeps. Build "
            f"the model as before and read the weights into it: "
            f"safetensors.torch.load_model(model, {str(folder / WEIGHTS)!r})."
        )
    with foreign(path, "a model's description"), own_random_state(torch.device("cpu")):
        with torch.device("meta"):
            outline = _built(spec, "model", {})
        size = sum(value.numel() for value in (*outline.parameters(), *outline.buffers()))
        if size > LARGEST:
            raise ValueError(f"{size} numbers are more than a model may have here")
        model = _built(spec, "model", {}).to(dtype)
    require_kept(folder, MODEL)
    if (folder / WEIGHTS).is_file():
        require_kept(folder, WEIGHTS)
    with foreign(folder / WEIGHTS, "the weights of this model"):
        model.load_state_dict(read_tensors(folder / WEIGHTS))
    return model.eval()


def _described(value: Any, place: str, seen: dict[int, str]) -> Any:
    """A piece as plain values: its class and what its constructor takes."""
    if isinstance(value, Tensor):
        return {"tensor": list(value.shape)}
    if not isinstance(value, nn.Module):
        return list(value) if isinstance(value, (tuple, torch.Size)) else value
    if id(value) in seen:
        return {"same": seen[id(value)]}
    seen[id(value)] = place
    if type(value) is nn.ModuleList:
        return [_described(part, f"{place}.{i}", seen) for i, part in enumerate(value)]
    if type(value) is nn.Sequential:
        return {"piece": "Sequential", "layers": [_described(v, f"{place}.{i}", seen) for i, v in enumerate(value)]}
    name = _name_of(type(value))
    if PIECES.get(name) is not type(value):
        return {"own": f"{type(value).__module__}.{type(value).__qualname__}"}
    arguments = {key: _argument(value, key) for key in _arguments(name)}
    return {"piece": name, **{key: _described(found, f"{place}.{key}", seen) for key, found in arguments.items()}}


def _argument(piece: nn.Module, key: str) -> Any:
    if isinstance(piece, nn.Linear) and key == "bias":
        return piece.bias is not None
    return getattr(piece, key)


def _arguments(name: str) -> tuple[str, ...]:
    if PIECES[name].__module__.startswith("torch.nn") and name not in ARGUMENTS:
        return ()  # activations as they are by default
    return ARGUMENTS.get(name) or tuple(inspect.signature(PIECES[name]).parameters)


def _own_pieces(spec: Any) -> list[str]:
    """Classes that are not the library's, by name."""
    if isinstance(spec, Mapping):
        own = [str(spec["own"])] if "own" in spec else []
        return own + [name for value in spec.values() for name in _own_pieces(value)]
    return [name for value in spec for name in _own_pieces(value)] if isinstance(spec, list) else []


def _built(spec: Any, place: str, made: dict[str, Any]) -> Any:
    if isinstance(spec, list):
        return tuple(_built(value, f"{place}.{i}", made) for i, value in enumerate(spec))
    if not isinstance(spec, dict):
        return spec
    if "tensor" in spec:
        return torch.zeros(spec["tensor"])
    if "same" in spec:
        return made[spec["same"]]
    if spec["piece"] == "Sequential":
        layers = [_built(value, f"{place}.{i}", made) for i, value in enumerate(spec["layers"])]
        made[place] = nn.Sequential(*layers)
        return made[place]
    cls = PIECES[spec["piece"]]
    made[place] = cls(**{key: _built(value, f"{place}.{key}", made) for key, value in spec.items() if key != "piece"})
    return made[place]
