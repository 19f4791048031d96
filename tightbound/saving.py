"""Models in folders, without pickle: what they are built of as JSON, their weights as safetensors.

Only the library's own pieces and some of torch's can be named, so a stranger's folder cannot name code.
"""

from __future__ import annotations

import inspect
import json
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tightbound import likelihoods, networks, posteriors, priors, told
from tightbound._version import __version__
from tightbound.autoencoder import VAE
from tightbound.columns import Column
from tightbound.conditioned import ConditionalVAE
from tightbound.files import as_json, as_safetensors, foreign, read_tensors, require_file, require_kept, why, write_kept
from tightbound.model import Model
from tightbound.paired import PairedVAE
from tightbound.paths import require_path
from tightbound.runtime import home, own_random_state
from tightbound.semi_supervised import SemiSupervisedVAE

MODEL = "model.json"
WEIGHTS = "model.safetensors"
FORMAT = 4
OF_RUNS = ("recipe.toml", "training.json")  # a folder with one of these holds a run
LARGEST = 2**31  # numbers in one model that a file may ask for
MOST = 1000  # layers of a kind that it may ask for
_CONVOLUTION = (
    "in_channels", "out_channels", "kernel_size", "stride", "padding", "dilation", "groups", "bias", "padding_mode",
)  # fmt: skip
_NORMALISED = ("num_features", "eps", "momentum", "affine", "track_running_stats")
OF_TORCH: dict[type[nn.Module], tuple[str, ...]] = {  # and what the constructor of each takes that matters
    nn.Linear: ("in_features", "out_features", "bias"),
    nn.Conv1d: _CONVOLUTION,
    nn.Conv2d: _CONVOLUTION,
    nn.ConvTranspose2d: (*_CONVOLUTION, "output_padding"),
    nn.BatchNorm1d: _NORMALISED,
    nn.BatchNorm2d: _NORMALISED,
    nn.LayerNorm: ("normalized_shape", "eps", "elementwise_affine", "bias"),
    nn.MaxPool2d: ("kernel_size", "stride", "padding", "dilation", "ceil_mode"),
    nn.Dropout: ("p",),
    nn.Flatten: ("start_dim", "end_dim"),
    nn.Unflatten: ("dim", "unflattened_size"),
    nn.Identity: (),
    nn.ReLU: (),
    nn.LeakyReLU: ("negative_slope",),
    nn.Tanh: (),
    nn.SiLU: (),
    nn.GELU: ("approximate",),
    nn.ELU: ("alpha",),
    nn.Softplus: ("beta", "threshold"),
    nn.Sigmoid: (),
}


def _name_of(cls: type) -> str:
    """What a folder calls a piece: with its module, for a prior and a likelihood may have the same name."""
    parts = cls.__module__.split(".")
    return f"{parts[1] if parts[0] == 'tightbound' else parts[-1]}.{cls.__name__}"


PIECES: dict[str, type[nn.Module]] = {
    _name_of(cls): cls
    for module in (priors, posteriors, likelihoods, networks, told)
    for name, cls in vars(module).items()
    if inspect.isclass(cls) and issubclass(cls, nn.Module) and name[0] != "_"
    if f"{cls.__module__}.".startswith(f"{module.__name__}.")
}
_MODELS: tuple[type[nn.Module], ...] = (VAE, ConditionalVAE, SemiSupervisedVAE, PairedVAE)
PIECES |= {_name_of(cls): cls for cls in (*_MODELS, *OF_TORCH)}


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
    if any((folder / name).exists() for name in OF_RUNS):
        raise ValueError(f"Expected a folder of its own for a model; got {folder}, which holds a run. Choose another.")
    data = as_safetensors(model.state_dict())
    write_kept(folder, WEIGHTS, lambda path: path.write_bytes(data))
    save_description(model, folder)


def save_description(model: Model, folder: Path) -> None:
    """Write down what a model is built of; of a piece that is not the library's, its name alone.

    Args:
        model: any.
        folder: where to; it is there.
    """
    made = {
        "format": FORMAT,
        "tightbound": __version__,
        "dtype": str(home(model)[1]).removeprefix("torch."),
        "model": described(model),
    }
    text = as_json(made)
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
    spec, dtype = read_description(folder)
    if own := own_pieces(spec):
        raise ValueError(
            f"Expected a model of the library's own pieces; got {own[0]} in {path}, whose code no folder keeps. Build "
            f"the model as before and read the weights into it: "
            f"safetensors.torch.load_model(model, {str(folder / WEIGHTS)!r})."
        )
    model = built(folder, spec, dtype)
    if (folder / WEIGHTS).is_file():
        require_kept(folder, WEIGHTS)
    with foreign(folder / WEIGHTS, "the weights of this model"):
        model.load_state_dict(read_tensors(folder / WEIGHTS))
    return model.eval()


def read_description(folder: Path) -> tuple[Any, torch.dtype]:
    """What :func:`save_description` wrote.

    Args:
        folder: where it is.

    Returns:
        What the model is built of, as plain values, and its floating-point type.

    Raises:
        ValueError: for a damaged file, and one of another version.
    """
    path = folder / MODEL
    require_file(path)
    with foreign(path, "a model's description"):
        made = json.loads(path.read_text(encoding="utf-8"))
        version, spec, dtype = made["format"], made["model"], getattr(torch, made["dtype"])
        if not isinstance(dtype, torch.dtype):
            raise ValueError(f"{made['dtype']} is no type of numbers")
    if version != FORMAT:
        raise ValueError(
            f"Expected a model of format {FORMAT}; got {version!r} in {path}. Write it anew: model.save()."
        )
    require_kept(folder, MODEL)
    return spec, dtype


def outline(folder: Path, spec: Any) -> Model:
    """A model of this description that takes no memory: names and shapes of everything.

    Args:
        folder: where the description is, for errors.
        spec: what :func:`read_description` gave, of the library's own pieces.

    Raises:
        ValueError: for what is no description of a model, and for one too large.
    """
    with foreign(folder / MODEL, "a model's description"), own_random_state(torch.device("cpu")):
        with torch.device("meta"):
            made = _built(spec, "model", {})
        if not isinstance(made, Model):
            raise ValueError(f"{type(made).__name__} is no model")
        size = sum(value.numel() for value in (*made.parameters(), *made.buffers()))
        if size > LARGEST:
            raise ValueError(f"{size} numbers are more than a model may have here")
    return made


def built(folder: Path, spec: Any, dtype: torch.dtype) -> Model:
    """A model of this description, untrained, on the CPU.

    Args:
        folder: where the description is, for errors.
        spec: what :func:`read_description` gave, of the library's own pieces.
        dtype: the same.

    Raises:
        ValueError: as :func:`outline`.
    """
    outline(folder, spec)
    with foreign(folder / MODEL, "a model's description"), own_random_state(torch.device("cpu")):
        model: Model = _built(spec, "model", {}).to(dtype)
    return model


def described(model: Model) -> Any:
    """What a model is built of, as plain values: each piece's class, and what its constructor takes.

    Args:
        model: any.

    Example:
        >>> model = VAE(
        ...     prior=priors.StandardNormal(2),
        ...     posterior=posteriors.DiagonalNormal(networks.MLP((5,), (4,))),
        ...     likelihood=likelihoods.Gaussian(networks.MLP((2,), (5,))),
        ... )
        >>> described(model)["prior"]
        {'piece': 'priors.StandardNormal', 'latent_dim': 2}
    """
    return _described(model, "model", {})


def own_pieces(spec: Any) -> list[str]:
    """Classes in a description that are not the library's, by name.

    Args:
        spec: of a model.

    Example:
        >>> own_pieces({"prior": {"own": "mine.Prior"}})
        ['mine.Prior']
    """
    if isinstance(spec, Mapping):
        own = [str(spec["own"])] if "own" in spec else []
        return own + [name for value in spec.values() for name in own_pieces(value)]
    return [name for value in spec for name in own_pieces(value)] if isinstance(spec, list) else []


def first_unlike(one: Any, other: Any, place: str = "model") -> str:
    """Where two descriptions say different things; empty where they do not. Classes of one's own go by name alone.

    Args:
        one: of a model.
        other: the same.
        place: what the whole is called.

    Example:
        >>> first_unlike({"prior": {"latent_dim": 2}}, {"prior": {"latent_dim": 3}})
        'model.prior.latent_dim is 2 and 3'
    """
    if isinstance(one, dict) and isinstance(other, dict):
        names = [_class(each) for each in (one, other)]
        if names[0] != names[1] or one.keys() != other.keys():
            return f"{place} is {names[0]} and {names[1]}"
        parts = (first_unlike(one[key], other[key], f"{place}.{key}") for key in one if key not in ("piece", "own"))
        return next(filter(None, parts), "")
    if isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        parts = (first_unlike(*pair, f"{place}.{i}") for i, pair in enumerate(zip(one, other, strict=True)))
        return next(filter(None, parts), "")
    plain = [_class(each) if isinstance(each, dict) else json.dumps(each) for each in (one, other)]
    return "" if one == other else f"{place} is {plain[0]} and {plain[1]}"


def _class(spec: Mapping[str, Any]) -> str:
    """What a description calls a piece; of one of somebody's own its name without the module, which may have moved."""
    return str(spec.get("own", spec.get("piece", "something else"))).rpartition(".")[2]


def _described(value: Any, place: str, seen: dict[int, str]) -> Any:
    """A piece as plain values: its class and what its constructor takes."""
    if isinstance(value, Tensor):
        return {"tensor": list(value.shape)}
    if isinstance(value, (tuple, list)):
        return [_described(each, f"{place}.{i}", seen) for i, each in enumerate(value)]
    if isinstance(value, Column):
        return {"column": value.said()}
    if not isinstance(value, nn.Module):
        value = value.item() if hasattr(value, "item") else value  # a number of NumPy's
        return value if isinstance(value, (bool, int, float, str, type(None))) else {"own": type(value).__qualname__}
    if id(value) in seen:
        return {"same": seen[id(value)]}
    seen[id(value)] = place
    if type(value) is nn.ModuleList:
        return [_described(part, f"{place}.{i}", seen) for i, part in enumerate(value)]
    if type(value) is nn.Sequential:
        layers = [_described(each, f"{place}.{i}", seen) for i, each in enumerate(value)]
        names = [name for name, _ in value.named_modules(remove_duplicate=False) if name and "." not in name]
        named = {} if names == [str(i) for i in range(len(names))] else {"names": names}
        return {"piece": "Sequential", "layers": layers, **named}
    name = _name_of(type(value))
    if PIECES.get(name) is not type(value):
        return {"own": f"{type(value).__module__}.{type(value).__qualname__}"}
    arguments = {key: _argument(value, key) for key in _arguments(name)}
    return {"piece": name, **{key: _described(found, f"{place}.{key}", seen) for key, found in arguments.items()}}


def _argument(piece: nn.Module, key: str) -> Any:
    if type(piece) in OF_TORCH and key == "bias":
        return piece.bias is not None
    return getattr(piece, key)


def _arguments(name: str) -> tuple[str, ...]:
    cls = PIECES[name]
    return OF_TORCH[cls] if cls in OF_TORCH else tuple(inspect.signature(cls).parameters)


def _built(spec: Any, place: str, made: dict[str, Any]) -> Any:
    if isinstance(spec, list):
        return tuple(_built(value, f"{place}.{i}", made) for i, value in enumerate(spec))
    if not isinstance(spec, dict):
        return spec
    if "tensor" in spec:
        return torch.zeros(spec["tensor"])
    if "same" in spec:
        return made[spec["same"]]
    if "column" in spec:
        return Column(**{key: _built(value, place, made) for key, value in spec["column"].items()})
    if spec["piece"] == "Sequential":
        layers = [_built(value, f"{place}.{i}", made) for i, value in enumerate(spec["layers"])]
        names = spec.get("names") or [str(i) for i in range(len(layers))]
        made[place] = nn.Sequential(OrderedDict(zip(names, layers, strict=True)))
        return made[place]
    for key in ("blocks", "transforms"):
        if key in spec and not spec[key] <= MOST:
            raise ValueError(f"{spec[key]} {key} are more than a model may have here")
    cls = PIECES[spec["piece"]]
    made[place] = cls(**{key: _built(value, f"{place}.{key}", made) for key, value in spec.items() if key != "piece"})
    return made[place]
