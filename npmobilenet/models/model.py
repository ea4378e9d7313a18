"""A network with its weights: what to call for answers, and the file that holds it.

The file is a `.safetensors`: one tensor a parameter, named `layer/array`, in Keras's layouts, float32. The header's
metadata holds one JSON document under the key `npmobilenet`:

    format       1
    version      of this package when it was written
    graph        Graph.to_json()
    scaling      {"scale", "offset"} from pixels in 0..255 to what the network takes
    labels       [[wnid, label], ...], one a class, or []
    background   true if output 0 stands for none of the labels, so that these begin at output 1
    source       {"file", "sha256", "keras_version", "matched_by"} of what was converted
    self_check   what `self_check` computed when the file was written

and under the key `sha256` the hash of that document's bytes, followed by name and bytes of every tensor in the order
of the graph, so that damage anywhere is noticed. Reading the file runs no code.
"""

import json
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cache, partial
from hashlib import sha256
from os import PathLike, fspath
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from npmobilenet.errors import ImageError, KernelError, NpMobileNetError, ShapeError, WeightsError
from npmobilenet.files import write_atomically
from npmobilenet.models.labels import Label, decode_predictions, label_pairs
from npmobilenet.reference.graph import Graph
from npmobilenet.reference.ops import global_average_pool, rescale
from npmobilenet.types import Array, Shape

if TYPE_CHECKING:
    from npmobilenet.compiler.engine import Engine
    from npmobilenet.models.preprocessing import Source

    Picture = Array | Source
    Images = Picture | Sequence[Picture]

FORMAT = 1
BACKENDS = ("auto", "compiled", "reference")
SELF_CHECK_TOLERANCE = 1e-9  # float64 rounding (1e-16) through some hundred layers, far below any wrong weight


@dataclass(frozen=True)
class Scaling:
    """From pixels in 0..255 to what the network takes: x * scale + offset."""

    scale: float = 1.0
    offset: float = 0.0


RAW = Scaling()
"""0..255 as it is: V3 with its preprocessing inside."""
UNIT = Scaling(1 / 255)
"""[0, 1]."""
SYMMETRIC = Scaling(1 / 127.5, -1.0)
"""[-1, 1]: V1 and V2."""


@dataclass(frozen=True, eq=False)
class Model:
    """A graph and its parameters.

    Args:
        graph: the network.
        params: float32 arrays by `layer/array`, exactly those of `graph.param_shapes`.
        scaling: from pixels in 0..255 to the network's input.
        labels: (wnid, label) of every class, or nothing.
        background: output 0 stands for none of the labels.
        source: what the weights were converted from.
        stored_check: the self-check that the file held, if the model came from one.
        backend: what computes where a call does not say; as for `predict`.

    Raises:
        WeightsError: parameters are missing, unexpected or wrongly shaped; the message lists them all.
        ShapeError: there is not one label a class.
        NpMobileNetError: there is no such backend.
    """

    graph: Graph
    params: Mapping[str, Array]
    scaling: Scaling = SYMMETRIC
    labels: Sequence[str | Label] = ()
    background: bool = False
    source: Mapping[str, str] = field(default_factory=dict)
    stored_check: Mapping[str, Any] | None = None
    backend: str = "auto"
    _engines: dict[str, "Engine"] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        check_backend(self.backend)
        check_params(self.graph, self.params)
        object.__setattr__(self, "labels", label_pairs(self.labels))
        classes = self.graph.output_shape[-1] - self.background
        if self.labels and len(self.labels) != classes:
            raise ShapeError(f"{self.graph.name}: {classes} labels are needed, one a class; got {len(self.labels)}")

    def __repr__(self) -> str:
        shape = " x ".join(map(str, self.graph.input_shape))
        return (
            f"<Model {self.graph.name}, {shape} -> {self.graph.output_shape}, {self.graph.total_params:,} parameters>"
        )

    def __getstate__(self) -> dict[str, Any]:
        """Everything but the engines, which hold addresses of this process; a copy makes engines of its own."""
        return self.__dict__ | {"_engines": {}}

    def predict(
        self, images: "Images", *, resize: str = "crop", backend: str | None = None, threads: int | None = None
    ) -> Array:
        """Classify pictures.

        Args:
            images: pixels (N, H, W, 3) or (H, W, 3), RGB, uint8 or float in 0..255; or a path, the bytes of a file, a
                Pillow image; or a sequence of any of these. Pictures of another size than the network's are resized.
            resize: "crop" (short side to the network's / 0.875, then the centre) or "keras" (to the size, stretched).
                An image of the network's own size is taken as it is, whether it is a path, bytes or an array.
            backend: "compiled" (the engine), "reference" (NumPy), "auto" or None (the model's own). With "auto" the
                engine computes as soon as its kernels are ready, or kept by an earlier process. Until then the
                reference does; after its first answer another process compiles the kernels. The two round differently,
                so the last bits may differ: who needs the same ones every time asks for one of the two, here or once
                for all with `load(..., backend=...)`. "compiled" waits for the kernels.
            threads: how many compute together, at most, and never more than the cores that this process may use; None
                for NPMOBILENET_THREADS, or else for all of those. The answer is the same to the bit. The reference
                takes no notice of it: NumPy's matrix library decides.

        Returns:
            (N, classes) the network's output, float32: probabilities if it ends in a softmax.

        Raises:
            ImageError: a picture cannot be read, or float pixels are plainly scaled already.
            ShapeError: the pixels do not fit, or the network has no classifier.
            NpMobileNetError: `backend` or `threads`, or what NPMOBILENET_THREADS says, is none of these.
            KernelError: "compiled" was asked for, and the kernels cannot be had.
        """
        self.check_classifier()
        batches = self._input_batches(images, resize, threads)
        return np.concatenate([self.forward(x, backend=backend, threads=threads) for x in batches])  # (N, classes)

    def predict_each(
        self,
        sources: "Iterable[Picture]",
        *,
        resize: str = "crop",
        draft: bool = False,
        backend: str | None = None,
        threads: int | None = None,
    ) -> "Iterator[tuple[Picture, Array | NpMobileNetError]]":
        """Classify any number of pictures, one bad one losing nothing, in memory that does not grow.

        While the network computes, `threads` threads decode and resize the next pictures. Sources are read a few dozen
        ahead, in the caller's thread.

        Args:
            sources: whatever yields paths, contents of files, Pillow images or arrays (H, W, 3), as for `predict`.
            resize: as `predict`.
            draft: let JPEG files that are much larger than the network's input be scaled down as they are decoded,
                with `Image.draft`: many times as fast, but not the same to the bit as the exact "crop".
            backend: as `predict`.
            threads: how many compute, and how many decode; otherwise as `predict`.

        Yields:
            (source, answer) in the order of the sources. The answer is (classes,), the row that `predict` returns; or,
            for a picture that cannot be read or does not fit, the error that `predict` raises.

        Raises:
            ImageError: there is no such resize, or it has no draft.
            ShapeError: the network has no classifier.
            NpMobileNetError: as `predict`.
        """
        from npmobilenet.models.streaming import predict_each

        compute = partial(self.forward, backend=backend, threads=threads)
        return predict_each(self, sources, compute, resize=resize, draft=draft, threads=threads)

    def features(
        self, images: "Images", *, resize: str = "crop", backend: str | None = None, threads: int | None = None
    ) -> Array:
        """The pooled embedding: one vector an image, from before the classifier.

        Arguments and errors as `predict`.

        Returns:
            (N, C) float32.
        """
        return np.concatenate([self._embed(x, backend, threads) for x in self._input_batches(images, resize, threads)])

    def classify(
        self,
        images: "Images",
        *,
        top: int = 5,
        resize: str = "crop",
        backend: str | None = None,
        threads: int | None = None,
    ) -> list[list[tuple[str, str, float]]]:
        """The most probable classes of each picture by name; arguments as `predict`.

        Returns:
            For each image `top` triples (wnid, label, probability), the best first.
        """
        return self.decode(self.predict(images, resize=resize, backend=backend, threads=threads), top)

    def decode(self, probabilities: Array, top: int = 5) -> list[list[tuple[str, str, float]]]:
        """Name the `top` classes of every row (N, classes) with this model's labels, or numbers if it has none."""
        labels = self.labels or _numbers(self.graph.output_shape[-1] - self.background)
        return decode_predictions(probabilities, top, labels, background=self.background)

    def forward(self, x: Array, *, backend: str | None = None, threads: int | None = None) -> Array:
        """Compute the network on images that are already scaled as it wants them.

        Args:
            x: (N, H, W, C) float; float16 and float64 compute in that precision, by the reference.
            backend: as `predict`; "compiled" takes float32.
            threads: as `predict`.

        Returns:
            (N, ...) the last layer's output, dtype of x.

        Raises:
            ShapeError: x does not fit, or holds no floating-point numbers.
            NpMobileNetError, KernelError: as `predict`.
        """
        return self._compute(self.graph.layers[-1].name, np.asarray(x), backend, threads)

    def trace(self, x: Array) -> Iterator[tuple[str, Array]]:
        """Every layer's output by its Keras name, computed by the reference in the dtype of x.

        Args:
            x: (N, H, W, C) as for `forward`.

        Yields:
            (layer name, output (N, ...)) in the order of the graph.
        """
        x = np.asarray(x)
        self._check_is_scaled(x)
        yield from self.graph.run(self._params_as(x.dtype), x)

    def scale(self, pixels: Array) -> Array:
        """Pixels (N, H, W, C) in 0..255 as the network wants them, float32."""
        return rescale(pixels.astype(np.float32), self.scaling.scale, self.scaling.offset)

    def self_check(self) -> dict[str, Any]:
        """Compute a made-up picture in float64 and note what every layer answers.

        Returns:
            {"output": the last layer's values, if it is a vector; "layers": {name: [mean, root mean square,
            mean of y[k] * cos(k)]}}. The third number notices values in the wrong place.
        """
        pixels = made_up_pixels(self.graph.input_shape)
        x = rescale(pixels[None].astype(np.float64), self.scaling.scale, self.scaling.offset)
        layers = {}
        for name, y in self.trace(x):
            layers[name] = _digest(y)
            output = y
        return {"output": output[0].tolist() if output.ndim == 2 else None, "layers": layers}

    def failed_checks(self) -> list[str]:
        """Names of the layers whose output differs from the self-check in the file, in order; none if all is well.

        Raises:
            WeightsError: the model did not come from a file with a self-check.
        """
        if not self.stored_check:
            raise WeightsError(f"{self.graph.name}: there is no stored self-check; model.save writes one")
        stored = self.stored_check["layers"]
        return [name for name, digest in self.self_check()["layers"].items() if not _same(stored.get(name), digest)]

    def save(self, path: str | PathLike[str]) -> None:
        """Write the model to a `.safetensors` file, atomically; see the top of this module for what is in it."""
        from importlib.metadata import version

        from safetensors.numpy import save

        tensors = {name: np.ascontiguousarray(self.params[name]) for name in self.graph.param_shapes}
        document = {
            "format": FORMAT,
            "version": version("npmobilenet"),
            "graph": self.graph.to_json(),
            "scaling": asdict(self.scaling),
            "labels": self.labels,
            "background": self.background,
            "source": dict(self.source),
            "self_check": self.self_check(),
        }
        description = json.dumps(document)
        metadata = {"npmobilenet": description, "sha256": _sha256(description, tensors)}
        write_atomically(Path(path), save(tensors, metadata))

    @staticmethod
    def open(path: str | PathLike[str], *, intact: bool = True) -> "Model":
        """Read a model that `save` wrote.

        Args:
            path: the file.
            intact: refuse a file whose bytes are not those that were written. False is for finding out what changed,
                with `failed_checks`.

        Raises:
            WeightsError: there is no such file, it is damaged, or it is another kind of `.safetensors`.
        """
        where = fspath(path)
        metadata, tensors = _read_safetensors(where)
        try:
            document = json.loads(metadata["npmobilenet"])
            if document["format"] != FORMAT:
                raise WeightsError(
                    f"{where}: format {document['format']} is not known to this version; it reads {FORMAT}"
                )
            graph = Graph.from_json(document["graph"])
            model = Model(
                graph,
                tensors,
                Scaling(**document["scaling"]),
                [(wnid, label) for wnid, label in document["labels"]],
                document["background"],
                document["source"],
                document["self_check"],
            )
            arrays = {name: tensors[name] for name in graph.param_shapes}
            if intact and _sha256(metadata["npmobilenet"], arrays) != metadata["sha256"]:
                raise WeightsError(f"{where}: its bytes are not those that were written; the file is damaged")
        except NpMobileNetError as error:
            raise WeightsError(f"{where}: {str(error).removeprefix(f'{where}: ')}") from error
        except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
            raise WeightsError(f"{where}: the description in its header is damaged ({error!r})") from error
        return model

    def _params_as(self, dtype: np.dtype[Any]) -> Mapping[str, Array]:
        if all(array.dtype == dtype for array in self.params.values()):
            return self.params
        return {name: array.astype(dtype) for name, array in self.params.items()}

    def compile(self) -> None:
        """Have the kernels for the network's own image size, so that the next `predict` finds them.

        Raises:
            KernelError: they cannot be had.
        """
        H, W, _ = self.graph.input_shape
        self._engine(self.graph.layers[-1].name).plan(H, W)

    def is_compiled(self) -> bool:
        """Whether `compile` has nothing to compile; errors as `compile`."""
        H, W, _ = self.graph.input_shape
        return self._engine(self.graph.layers[-1].name).is_ready(H, W)

    def _embed(self, x: Array, backend: str | None, threads: int | None) -> Array:
        y = self._compute(self.graph.embedding or self.graph.layers[-1].name, x, backend, threads)
        return y.reshape(len(y), y.shape[-1]) if self.graph.embedding else global_average_pool(y)  # (N, C)

    def _compute(self, name: str, x: Array, backend: str | None, threads: int | None) -> Array:
        """Output of the layer `name`, by the backend that was asked for."""
        check_threads(threads)
        self._check_is_scaled(x)
        backend = self.backend if backend is None else check_backend(backend)
        if backend == "compiled":
            if x.dtype != np.float32:
                raise NpMobileNetError(
                    f"the compiled backend computes in float32; got {x.dtype}. The reference takes it"
                )
            return self._engine(name).run(x, threads)
        if backend == "reference" or x.dtype != np.float32:
            return self._reference(name, x)
        try:
            engine = self._engine(name)
            threads, size = engine.threads(threads), engine.size(x)
            if engine.is_ready(*size):
                return engine.run(x, threads)
            y = self._reference(name, x)
            engine.begin_to_compile(*size)  # after the answer, so as not to hold it up
        except KernelError as error:
            _say_once(f"computing with the NumPy reference, which is slower: {error}")
            y = self._reference(name, x)
        return y

    def _check_is_scaled(self, x: Array) -> None:
        if x.dtype.kind not in "fO":
            raise ShapeError(
                f"{self.graph.name}: x is the scaled input, floating point; got {x.dtype}. model.predict takes pixels"
            )

    def _reference(self, name: str, x: Array) -> Array:
        """Output of the layer `name`, by the reference."""
        return next(y for layer, y in self.trace(x) if layer == name)

    def _engine(self, name: str) -> "Engine":
        """The engine for the network up to the layer `name`.

        Raises:
            KernelError: there is no llvmlite, or there are no kernels for this architecture.
        """
        if name not in self._engines:
            try:
                from npmobilenet.compiler.engine import Engine, until

                self._engines[name] = Engine(until(self.graph, name), self._params_as(np.dtype(np.float32)))
            except ImportError as error:
                raise KernelError(f"no compiled kernels: {error}") from error
        return self._engines[name]

    def check_classifier(self) -> None:
        """See that the network names classes.

        Raises:
            ShapeError: it does not.
        """
        if len(self.graph.output_shape) != 1:
            raise ShapeError(
                f"{self.graph.name} has no classifier, its output is {self.graph.output_shape}; use model.features"
            )

    def _input_batches(self, images: "Images", resize: str, threads: int | None) -> Iterator[Array]:
        """Scaled batches (N, H, W, C) of whatever `predict` was given."""
        from npmobilenet.models.streaming import prepared_batches

        check_threads(threads)
        pictures = _as_sequence(images)
        if len(pictures) == 0:
            yield np.zeros((0, *self.graph.input_shape), np.float32)
        for batch in prepared_batches(self, pictures, resize=resize, threads=threads):
            yield self.scale(np.stack([_without_error(pixels) for _, pixels in batch]))

    def pixels(self, image: "Picture", resize: str = "crop", draft: bool = False) -> Array:
        """One picture as (H, W, C) pixels in 0..255, in the network's size; arguments and errors as `predict_each`."""
        from npmobilenet.models.preprocessing import RESIZES, prepare

        H, W, C = self.graph.input_shape
        if not isinstance(image, np.ndarray):
            if C != 3:
                raise ShapeError(f"{self.graph.name} takes {C} channels, a picture has 3; give it arrays")
            return prepare(image, H, W, resize, draft=draft)
        if image.ndim != 3 or image.shape[2] != C:
            raise ShapeError(f"{self.graph.name}: pixels (N, H, W, {C}) or (H, W, {C}) are needed; got {image.shape}")
        if image.dtype != np.uint8:
            _check_pixel_range(image)
        if image.shape[:2] == (H, W):
            return image
        if image.dtype != np.uint8 or C != 3:
            raise ShapeError(
                f"{self.graph.name}: only uint8 RGB pictures are resized; give {image.dtype} as ({H}, {W}, {C}), "
                f"got {image.shape}"
            )
        return RESIZES[resize](image, H, W)


def made_up_pixels(shape: Shape) -> Array:
    """The picture of the self-check, (H, W, C) integers in 0..255: (37 i + 57 j + 101 c + i j) mod 256."""
    H, W, C = shape
    i, j, c = np.ogrid[:H, :W, :C]
    return np.asarray((37 * i + 57 * j + 101 * c + i * j) % 256)


def check_params(graph: Graph, params: Mapping[str, Array]) -> None:
    """See that `params` are exactly the arrays that the graph wants.

    Raises:
        WeightsError: they are not; one message lists every missing, unexpected and wrongly shaped array.
    """
    problems = [f"missing: {name} {shape}" for name, shape in graph.param_shapes.items() if name not in params]
    problems += [f"unexpected: {name} {params[name].shape}" for name in params if name not in graph.param_shapes]
    problems += [
        f"wrong shape: {name} is {params[name].shape}, {graph.name} needs {shape}"
        for name, shape in graph.param_shapes.items()
        if name in params and params[name].shape != shape
    ]
    if problems:
        raise WeightsError(f"{graph.name}: the weights do not fit ({len(problems)} arrays)\n  " + "\n  ".join(problems))


def check_backend(backend: str) -> str:
    """The name of a backend, as it is.

    Raises:
        NpMobileNetError: it is none.
    """
    if backend not in BACKENDS:
        raise NpMobileNetError(f"backend is one of {', '.join(BACKENDS)}; got {backend!r}")
    return backend


def check_threads(threads: int | None) -> None:
    """See that `threads` is a number of threads, or None.

    Raises:
        NpMobileNetError: it is not.
    """
    from npmobilenet_kernels.runtime.thread_pool import MAX_THREADS

    whole = isinstance(threads, int | np.integer) and not isinstance(threads, bool)
    if threads is not None and not (whole and 1 <= threads <= MAX_THREADS):
        raise NpMobileNetError(f"threads: expected a whole number from 1 to {MAX_THREADS}, or None; got {threads!r}")


def _as_sequence(images: "Images") -> "Sequence[Picture]":
    if isinstance(images, np.ndarray):
        return list(images) if images.ndim == 4 else [images]
    if isinstance(images, Sequence) and not isinstance(images, str | bytes):
        return images
    return [images]


def _without_error(found: Array | NpMobileNetError) -> Array:
    if isinstance(found, NpMobileNetError):
        raise found
    return found


@cache
def _numbers(count: int) -> tuple[str, ...]:
    """The names of classes that have none."""
    return tuple(map(str, range(count)))


@cache
def _say_once(message: str) -> None:
    warnings.warn(message, RuntimeWarning, stacklevel=2)


def _check_pixel_range(image: Array) -> None:
    """Refuse float pixels that are not in 0..255: scaled twice, they would be classified, and wrongly."""
    if image.dtype.kind not in "fiu":
        raise ImageError(f"pixels are numbers in 0..255; got dtype {image.dtype}")
    if image.size == 0:
        return
    low, high = float(image.min()), float(image.max())
    if not (low >= 0 and high <= 255):
        raise ImageError(
            f"pixels are numbers in 0..255; got {low:g} to {high:g}. "
            "If they are scaled already, give them to model.forward"
        )
    if high <= 1 and not np.isin(image, (0, 1)).all():
        raise ImageError(
            f"pixels are numbers in 0..255; these, {low:g} to {high:g}, look scaled to [0, 1] already. "
            "Multiply by 255, or scale them as the network wants and call model.forward"
        )


def _digest(y: Array) -> list[float]:
    values = y.ravel().astype(np.float64)
    return [
        float(values.mean()),
        float(np.sqrt(np.mean(values * values))),
        float(np.mean(values * np.cos(np.arange(values.size)))),
    ]


def _same(stored: Sequence[float] | None, computed: Sequence[float]) -> bool:
    if stored is None:
        return False
    allowed = SELF_CHECK_TOLERANCE * max(abs(stored[1]), np.finfo(np.float64).tiny)
    return all(abs(a - b) <= allowed for a, b in zip(stored, computed, strict=True))


def _sha256(description: str, tensors: Mapping[str, Array]) -> str:
    digest = sha256(description.encode())
    for name, array in tensors.items():
        digest.update(name.encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def _read_safetensors(where: str) -> tuple[dict[str, str], dict[str, Array]]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(where, framework="np") as file:
            metadata = file.metadata() or {}
            if "npmobilenet" not in metadata:
                raise WeightsError(f"{where}: a .safetensors file, but not one that npmobilenet wrote; convert one")
            return metadata, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise WeightsError(f"{where}: cannot be read as a .safetensors file: {error}") from error
