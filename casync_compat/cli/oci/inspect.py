"""`pycasync oci inspect`."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator

from casync_compat.cli._parser import WrongWords
from casync_compat.cli._progress import human_size
from casync_compat.cli.oci._common import display, opened, platform_of, references, warn
from casync_compat.cli.oci._options import add_image, add_json, add_platform, add_registry
from casync_compat.oci.inspect import ImageInfo, LayerInfo, TagInfo, config_of, inspect_image, manifest_of

EXAMPLES = (
    ("pycasync oci inspect docker://host/app:2", "a short report"),
    ("pycasync oci inspect --json oci:images:app", "for programs"),
    ("pycasync oci inspect --config oci:images:app | jq .config", "the image's own configuration, as it is"),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What it takes."""
    add_image(parser, "image", "the image")
    parser.add_argument("--raw", action="store_true", help="print the manifest, or image index, to the byte")
    parser.add_argument(
        "--config", action="store_true", help="print the configuration of the image, to the byte"
    )
    add_platform(parser, everything=False)
    add_registry(parser)
    add_json(parser)


def run(options: argparse.Namespace) -> int:
    """Run the verb. Returns the exit status."""
    (image,) = references(options.image)
    if options.raw + options.config + options.json > 1:
        raise WrongWords("--raw, --config and --json contradict each other")
    platform = platform_of(options)
    if platform is not None and not options.config:
        raise WrongWords("--platform goes with --config")
    with opened(options) as places:
        if options.raw or options.config:
            place = places.readable(image)
            sys.stdout.buffer.write(
                config_of(place, image.target, platform, warn)
                if options.config
                else manifest_of(place, image.target)
            )
            return 0
        info = inspect_image(places.readable(image), image.target)
    if options.json:
        print(json.dumps(info.to_json()))
    else:
        print("\n".join(map(display, _lines(info))))
    return 0


def _lines(info: TagInfo) -> Iterator[str]:
    yield f"image:        {info.name}"
    yield f"digest:       {info.digest}"
    for plain in info.plain:
        yield f"plain image:  {plain.digest} ({plain.platform or 'any platform'}), {human_size(plain.size)}"
    for image in info.images:
        yield ""
        yield from _image(image)


def _image(image: ImageInfo) -> Iterator[str]:
    yield f"converted:    {image.digest} ({image.platform})" + (", layers merged" if image.squashed else "")
    yield f"image id:     {image.image_id}"
    yield f"made from:    {image.source_manifest}"
    yield f"chunks:       sizes {image.chunk_sizes}, {image.chunk_digest}, {image.compression}; times: {image.mtime}"
    yield (
        f"size:         {human_size(image.tar_size)} of tars, {human_size(image.source_size)} as layers were, "
        f"{human_size(image.stored_size)} now"
    )
    yield f"unique:       {image.chunks} chunks, {human_size(image.unique_size)} before compression"
    yield f"layers:       {len(image.layers)}"
    for number, layer in enumerate(image.layers):
        yield f"  {number:>3}  {_layer(layer)}"
    live = sum(pack.live_size for pack in image.packs)
    size = sum(pack.size for pack in image.packs)
    share = 100 * live // size if size else 100
    yield f"packs:        {len(image.packs)}, {human_size(size)}, {share}% of it in use"


def _layer(layer: LayerInfo) -> str:
    shared = 100 * layer.shared_chunks // layer.unique_chunks if layer.unique_chunks else 0
    return (
        f"{layer.kind} {layer.diff_id[:19]}  {human_size(layer.tar_size)}, {layer.unique_chunks} chunks, "
        f"{shared}% of them in lower layers, index {human_size(layer.index_size)}, "
        f"recipe {human_size(layer.recipe_size)}"
    )
