"""Images in, predictions out: what a float and a quantized model share."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Self, cast

import numpy as np

from npmobilenet.errors import NpMobileNetError, ShapeError
from npmobilenet.models.backends import check_threads
from npmobilenet.models.class_names import named, one_output
from npmobilenet.models.image_file import WHITE
from npmobilenet.models.interface import Interface
from npmobilenet.models.labels import Label
from npmobilenet.models.output_rows import concatenated
from npmobilenet.models.preprocessing import ImageLike, ImagesLike, Reading, Scaling, network_pixels
from npmobilenet.types import Array, Outputs


class ImageModel:
    """A network with its weights, its class names, and how it takes pixels.

    A subclass says what the network looks like from outside, and computes.

    Attributes:
        scaling: from pixels in 0..255 to the network's input.
        labels: (wnid, label) of every class, or empty; two for one sigmoid output. In a network with several outputs
            they belong to the one that `class_output` finds.
        background: output 0 stands for none of the labels.
        source: what the weights were converted from.
        backend: default backend; as for `predict`.
        resize: how images are resized by default, a name in `resizing.RESIZES`; None if that is not known.
    """

    scaling: Scaling
    labels: Sequence[str | Label]
    background: bool
    source: Mapping[str, str]
    backend: str
    resize: str | None

    @property
    def interface(self) -> Interface:
        """The network seen from outside."""
        raise NotImplementedError

    @property
    def layer_names(self) -> tuple[str, ...]:
        """Names of everything that `layer_output` returns, in the order in which it is computed."""
        raise NotImplementedError

    def forward(self, x: Array, *, backend: str | None = None, threads: int | None = None) -> Outputs:
        """Output of the network for its own input; `predict` takes pixels in 0..255."""
        raise NotImplementedError

    def layer_output(self, name: str, x: Array, *, backend: str | None = None, threads: int | None = None) -> Array:
        """Output of the layer `name` (N, ...); other arguments and errors as `forward`."""
        raise NotImplementedError

    def embed(self, x: Array, *, backend: str | None = None, threads: int | None = None) -> Array:
        """Pooled embedding (N, C) of the network's own input; arguments and errors as `forward`."""
        raise NotImplementedError

    def scale(self, pixels: Array) -> Array:
        """Pixels (N, H, W, C) in 0..255 as the network's input."""
        raise NotImplementedError

    def changed(self, **fields: Any) -> Self:
        """The model with fields changed."""
        model: Self = replace(cast("Any", self), **fields)
        return model

    def cut_to(self, output: str, **changes: Any) -> Self:
        """The model with one output, of several, and with fields changed."""
        raise NotImplementedError

    def batch(self, pixels: Sequence[Array]) -> Array:
        """Images (H, W, C) in 0..255 as one input of the network."""
        return self.scale(np.stack(pixels))

    def compute(self, x: Array, *, backend: str | None, threads: int | None) -> Outputs:
        """`forward` of pixels that `scale` has just scaled, without a check of their range."""
        return self.forward(x, backend=backend, threads=threads)

    def predict(
        self, images: ImagesLike, *, resize: str | None = None, backend: str | None = None, threads: int | None = None
    ) -> Outputs:
        """Class probabilities of images.

        Args:
            images: pixels (N, H, W, 3) or (H, W, 3), RGB, uint8 or float in 0..255; or a path, the bytes of a file, a
                Pillow image; or an iterable of any of these. Images of another size than the network's are resized.
            resize: a name in `resizing.RESIZES`; None for the model's own, or else "crop" (short side to 1/0.875 of the
                network's, then a center crop). An image of the network's own size is used unchanged.
            backend: "compiled" (the engine), "reference" (NumPy), "auto" or None (the model's own). "auto" uses the
                engine as soon as its kernels are ready or cached by an earlier process. Until then it uses the
                reference; after its first result another process compiles the kernels. Of a float network the two
                round differently, so the last bits may differ: for bit-exact results in every run choose one of the
                two, here or with `load(..., backend=...)`. Of a quantized network they are equal. "compiled" waits
                for the kernels.
            threads: maximum number of threads, never more than the cores that this process may use; None for
                NPMOBILENET_THREADS, or else for all of those. The result is bit-exact for any number. The reference
                ignores it: NumPy's matrix library decides.

        Returns:
            (N, classes) the network's output, float32: probabilities if it ends in a softmax. Of a network with
            several outputs {name: (N, ...)}, of any shape.

        Raises:
            ImageError: an image cannot be read, or float pixels have clearly been scaled already.
            ShapeError: the pixels do not fit, or the network has no classifier.
            NpMobileNetError: `backend`, `threads` or NPMOBILENET_THREADS is invalid.
            KernelError: "compiled" was requested, and the kernels cannot be built.
        """
        self.check_classifier()
        batches = self._input_batches(images, resize, threads)
        return concatenated([self.compute(x, backend=backend, threads=threads) for x in batches])  # (N, classes)

    def predict_each(
        self,
        sources: Iterable[ImageLike],
        *,
        resize: str | None = None,
        draft: bool = False,
        backend: str | None = None,
        threads: int | None = None,
        transparent_as: str | None = WHITE,
    ) -> Iterator[tuple[ImageLike, Outputs | NpMobileNetError]]:
        """Class probabilities of any number of images in constant memory; a bad image does not affect the others.

        While the network computes, `threads` threads decode and resize the next images. Sources are read a few dozen
        ahead, in the caller's thread.

        Args:
            sources: iterable of paths, contents of files, Pillow images or arrays (H, W, 3), as for `predict`.
            resize: as `predict`.
            draft: let JPEG files that are much larger than the network's input be scaled down as they are decoded,
                with `Image.draft`: many times as fast, but not bit-exact with "crop".
            backend: as `predict`.
            threads: maximum number of threads that compute, and that decode; otherwise as `predict`.
            transparent_as: color of transparent pixels; None for the color below, as Keras's `load_img`.

        Yields:
            (source, result) in the order of the sources. The result is (classes,), the row that `predict` returns, or
            a row of each output by its name; for an image that cannot be read or does not fit, the error that
            `predict` raises.

        Raises:
            ImageError: the resize is unknown, or does not support drafts.
            ShapeError: the network has no classifier.
            NpMobileNetError: as `predict`.
        """
        from npmobilenet.models.streaming import predict_each

        compute = partial(self.compute, backend=backend, threads=threads)
        how = Reading(self.resize_rule(resize), draft, transparent_as)
        return predict_each(self, sources, compute, how, threads)

    def features(
        self, images: ImagesLike, *, resize: str | None = None, backend: str | None = None, threads: int | None = None
    ) -> Array:
        """Pooled embedding: one vector per image, from before the classifier.

        Arguments and errors as `predict`.

        Returns:
            (N, C) float32.
        """
        return np.concatenate(
            [self.embed(x, backend=backend, threads=threads) for x in self._input_batches(images, resize, threads)]
        )

    def classify(
        self,
        images: ImagesLike,
        *,
        top: int = 5,
        output: str | None = None,
        resize: str | None = None,
        backend: str | None = None,
        threads: int | None = None,
    ) -> list[list[tuple[str, str, float]]]:
        """Most probable classes of each image, by name; other arguments and errors as `predict`.

        Args:
            output: name of the output with the classes, as for `with_output`.

        Returns:
            For each image `top` triples (wnid, label, probability), the most probable first.

        Raises:
            ArgumentError: as `with_output`.
        """
        model = self.with_output(output)
        return model.decode(model.predict(images, resize=resize, backend=backend, threads=threads), top)

    def with_output(self, name: str | None = None) -> Self:
        """The model with a single output: only what that depends on is computed.

        Args:
            name: of the output; None for the only one, or of several the only softmax over a vector, or else the only
                vector.

        Raises:
            ArgumentError: there is no such output; the message names them all.
        """
        return one_output(self, name)

    def decode(self, probabilities: Array, top: int = 5) -> list[list[tuple[str, str, float]]]:
        """Name the `top` classes of every row (N, classes), by this model's labels, or by number if it has none.

        One sigmoid output p is the probability of class 1: with two labels, 1 - p is that of the first.
        """
        return named(self.interface, probabilities, top, cast("Sequence[Label]", self.labels), self.background)

    def pixels(self, image: ImageLike, resize: str | None = None) -> Array:
        """One image as (H, W, C) pixels in 0..255, in the network's size; arguments and errors as `predict`."""
        return network_pixels(image, self.interface, Reading(self.resize_rule(resize)))

    def resize_rule(self, resize: str | None = None) -> str:
        """The resize: the requested one, or the model's own, or "crop"."""
        return resize or self.resize or Reading().resize

    def check_classifier(self) -> None:
        """Check that the network outputs classes, if it has a single output.

        Raises:
            ShapeError: it does not.
        """
        shapes = list(self.interface.output_shapes.values())
        if len(shapes) == 1 and len(shapes[0]) != 1:
            raise ShapeError(
                f"{self.interface.name} has no classifier, its output is {shapes[0]}; "
                "use model.features, or npmobilenet features"
            )

    def _input_batches(self, images: ImagesLike, resize: str | None, threads: int | None) -> Iterator[Array]:
        """Scaled batches (N, H, W, C) of the images passed to `predict`."""
        from npmobilenet.models.streaming import each_image, or_raise, prepared_batches

        check_threads(threads)
        single = each_image(images)
        if len(single) == 0:
            yield self.scale(np.zeros((0, *self.interface.input_shape), np.uint8))
        for batch in prepared_batches(self, single, Reading(self.resize_rule(resize)), threads):
            yield self.batch([or_raise(pixels) for _, pixels in batch])
