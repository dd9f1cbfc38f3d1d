"""Signatures, attestations and the like travel along with images, and what does not hold any more is said."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from test_oci.fake_registry import FakeRegistry
from test_oci.images import Built, build, layer, layout_at

from casync_compat.cli import main
from casync_compat.oci.convert import ConvertOptions, convert
from casync_compat.oci.copy import copy_image
from casync_compat.oci.export import ExportOptions, export
from casync_compat.oci.places.attached import find_attached
from casync_compat.oci.places.directory import ImageDirectory
from casync_compat.oci.places.layout import Layout
from casync_compat.oci.places.new_archive import NewOciArchive
from casync_compat.oci.places.oci_archive import OciArchive
from casync_compat.oci.places.selection import look_up
from casync_compat.oci.spec import media
from casync_compat.oci.spec.blobs import WritablePlace
from casync_compat.oci.spec.descriptor import BlobDigest, Descriptor, Platform, canonical_json
from casync_compat.oci.spec.manifest import ImageIndex

SIGNATURE = "application/vnd.dev.cosign.simplesigning.v1+json"


def artifact(
    place: WritablePlace, said: bytes, subject: Descriptor | None = None, kind: str = SIGNATURE
) -> bytes:
    """A manifest of an artifact whose one blob is there."""
    empty = Descriptor.of(media.OCI_EMPTY, b"{}")
    blob = Descriptor.of(kind, said)
    place.put(empty, [b"{}"])
    place.put(blob, [said])
    about = {} if subject is None else {"subject": Descriptor.to_json(subject)}
    return canonical_json(
        {
            "schemaVersion": 2,
            "mediaType": media.OCI_MANIFEST,
            "artifactType": kind,
            "config": empty.to_json(),
            "layers": [blob.to_json()],
            **about,
        }
    )


def sign(
    place: WritablePlace, image: BlobDigest, said: bytes = b"signed", suffix: str = ".sig"
) -> Descriptor:
    """As cosign does it."""
    raw = artifact(place, said)
    found = Descriptor.of(media.OCI_MANIFEST, raw)
    place.put_tagged(f"sha256-{image.hex}{suffix}", found, raw)
    return found


def refer(place: WritablePlace, image: Descriptor, said: bytes) -> Descriptor:
    """As oras does it, in a registry that lists referrers."""
    raw = artifact(place, said, Descriptor(image.media_type, image.digest, image.size))
    found = Descriptor.of(media.OCI_MANIFEST, raw)
    place.put_manifest(found, raw)
    return found


@pytest.fixture
def layout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Layout]:
    monkeypatch.chdir(tmp_path)
    with layout_at(Path("images")) as layout:
        yield layout


@pytest.fixture
def app(layout: Layout) -> Built:
    """A signed image, with a bill of material whose signature is signed, too."""
    app = build(layout, "app", [layer({"etc/app": b"1" * 5000})], "none")
    sign(layout, app.descriptor.digest)
    bill = sign(layout, app.descriptor.digest, b"bill", ".sbom")
    sign(layout, bill.digest, b"bill signed")
    build(layout, "other", [layer({"etc/other": b"2"})])
    return app


def attached(place: WritablePlace | OciArchive, image: Descriptor) -> list[str]:
    return sorted(str(one.descriptor.digest) for one in find_attached(place, [image.digest]))


def test_by_tags(layout: Layout, app: Built) -> None:
    """To registries and back, and through archives, also where a registry does not list its tags."""
    expected = attached(layout, app.descriptor)
    assert len(expected) == 3
    fake = FakeRegistry()
    assert copy_image(layout, "app", fake.open(), "1").attached == 3
    assert attached(fake.open(), app.descriptor) == expected
    with layout_at(Path("back")) as back:
        pulled = copy_image(fake.open(), "1", back, "app")
        assert (pulled.attached, pulled.unfit) == (3, ())
        assert attached(back, app.descriptor) == expected
        assert "other" not in back.tags()
    with NewOciArchive(b"x.tar") as archive:
        copy_image(layout, "app", archive, "app")
    with OciArchive(b"x.tar") as read:
        assert attached(read, app.descriptor) == expected
    repository = fake.open()
    fake.statuses = [(403, {})]
    assert len(attached(repository, app.descriptor)) == 2  # without what is about the bill


def test_referrers(layout: Layout, app: Built) -> None:
    """From a registry that lists them to one that does not, to a layout, and back to one that does."""
    old, new = FakeRegistry(), FakeRegistry(referrers=True)
    copy_image(layout, "other", new.open(), "1")
    image = new.open().resolve("1")
    bill = refer(new.open(), image, b"bill")
    expected = sorted(
        str(one.digest) for one in (bill, refer(new.open(), image, b"2"), refer(new.open(), bill, b"3"))
    )
    assert attached(new.open(), image) == expected

    assert copy_image(new.open(), "1", old.open(), "1").attached == 3
    assert attached(old.open(), image) == expected
    with layout_at(Path("back")) as back:
        copy_image(old.open(), "1", back, "1")
        copy_image(old.open(), "1", back, "1")
        assert attached(back, image) == expected
        listed = back.resolve(f"sha256-{image.digest.hex}")
        assert b'"artifactType"' in back.read_manifest(listed)
        assert len(find_attached(back, [image.digest])) == 3
        again = FakeRegistry(referrers=True)
        copy_image(back, "1", again.open(), "1")
        assert attached(again.open(), image) == expected
        assert list(again.store().tags) == ["1"]


def test_what_cannot_come(layout: Layout, app: Built) -> None:
    """No room, or a signature that is damaged: the image comes, and it is said."""
    said: list[str] = []
    with ImageDirectory(b"dir") as place:
        assert copy_image(layout, "app", place, "", warn=said.append).attached == 0
    assert "no room for the 3 signatures" in said.pop()
    Path("dir/signature-1").write_bytes(b"of skopeo")
    with ImageDirectory(b"dir") as place, layout_at(Path("from")) as target:
        copy_image(place, None, target, "app", warn=said.append)
    assert "(signature-1) are left out" in said.pop()
    signature = layout.resolve(f"sha256-{app.descriptor.digest.hex}.sig")
    Path(layout.blob_path(signature.digest).decode()).unlink()
    with layout_at(Path("back")) as back:
        assert copy_image(layout, "app", back, "app", warn=said.append).attached == 2
    assert f"what is attached to {app.descriptor.digest} is left out" in said.pop()


@pytest.mark.parametrize("status", [401, 403, 404, 500])
def test_a_registry_that_does_not_say(layout: Layout, app: Built, tmp_path: Path, status: int) -> None:
    """An image comes also from where nothing is told about it; that the registry fails is said."""
    fake = FakeRegistry(referrers=True)
    copy_image(layout, "other", fake.open(), "1")
    fake.listing = status
    said: list[str] = []
    with layout_at(tmp_path / "back") as back:
        assert copy_image(fake.open(), "1", back, "1", warn=said.append).attached == 0
        assert back.resolve("1").digest == layout.resolve("other").digest
    assert [text for text in said if "cannot be looked for" in text] == said
    assert len(said) == (status == 500)


def test_converted_and_back(layout: Layout, app: Built) -> None:
    """A signature comes along and is said not to hold; given back to the bit the image has it again."""
    expected = attached(layout, app.descriptor)
    with layout_at(Path("thin")) as thin, layout_at(Path("both")) as both, layout_at(Path("back")) as back:
        made = convert(layout, "app", thin, "app", ConvertOptions(thin=True))
        assert (made.attached, made.unfit) == (3, (app.descriptor.digest,))
        assert convert(layout, "app", both, "app", ConvertOptions()).unfit == ()  # the image is beside
        export(thin, "app", back, "app", ExportOptions())
        assert back.resolve("app").digest == app.descriptor.digest
        assert attached(back, app.descriptor) == expected
        assert copy_image(both, "app", thin, "again", thin=True).unfit == (app.descriptor.digest,)
        with ImageDirectory(b"dir") as place:
            said: list[str] = []
            convert(layout, "app", place, "app", ConvertOptions(thin=True), warn=said.append)
            export(both, "app", place, "app", ExportOptions(), warn=said.append)
            assert [text.partition("dir: ")[2][:24] for text in said] == ["there is no room for the"] * 2


def test_not_to_the_bit(layout: Layout) -> None:
    """Of an image whose layers are compressed in another way than they were it is said that nothing holds for it."""
    image = build(layout, "app", [layer({"etc/app": b"1" * 5000})])
    sign(layout, image.descriptor.digest)
    said: list[str] = []
    with layout_at(Path("thin")) as thin, layout_at(Path("back")) as back:
        convert(layout, "app", thin, "app", ConvertOptions(thin=True))
        export(thin, "app", back, "app", ExportOptions(), warn=said.append)
    assert f"what is attached to {image.descriptor.digest}" in said[0]


def test_attestations_in_an_index(layout: Layout, app: Built) -> None:
    """Those of buildkit stand beside the image, plain, converted, and given back; one about nothing stays behind."""
    entries = [replace(app.descriptor, platform=Platform("linux", "amd64"))]
    for about in (app.descriptor.digest, BlobDigest.of(b"nothing")):
        raw = artifact(layout, str(about).encode(), kind="application/vnd.in-toto+json")
        found = Descriptor.of(media.OCI_MANIFEST, raw)
        layout.put_manifest(found, raw)
        notes = {"vnd.docker.reference.type": "attestation-manifest", media.NOTE_ABOUT: str(about)}
        entries.append(replace(found, annotations=notes, platform=Platform("unknown", "unknown")))
    index = ImageIndex.build(entries)
    layout.put_tagged("built", index.descriptor, index.raw)

    with layout_at(Path("made")) as made, layout_at(Path("back")) as back:
        for thin in (False, True):
            done = convert(layout, "built", made, "built", ConvertOptions(thin=thin))
            assert [one.digest for one in done.left_out] == [entries[2].digest]
            assert entries[1].digest in [one.digest for one in look_up(made, "built").others]
            export(made, "built", back, "built", ExportOptions())
            found = look_up(back, "built")
            assert [one.descriptor.digest for one in found.plain] == [app.descriptor.digest]
            assert list(found.others) == [entries[1]]


@pytest.mark.parametrize("thin", [False, True])
def test_an_index_to_the_bit(layout: Layout, app: Built, thin: bool) -> None:
    """The index is given back as whoever wrote it did, so that a signature of it holds again; not when it has more."""
    raw = artifact(layout, b"in-toto")
    attestation = Descriptor.of(media.OCI_MANIFEST, raw)
    layout.put_manifest(attestation, raw)
    notes = {media.NOTE_ABOUT: str(app.descriptor.digest)}
    entries = [
        replace(app.descriptor, platform=Platform("linux", "amd64")),
        replace(attestation, annotations=notes, platform=Platform("unknown", "unknown")),
    ]
    written = json.dumps(
        {"mediaType": media.OCI_INDEX, "schemaVersion": 2, "manifests": [one.to_json() for one in entries]},
        indent=3,
    ).encode()
    root = Descriptor.of(media.OCI_INDEX, written)
    layout.put_tagged("built", root, written)
    sign(layout, root.digest)

    with layout_at(Path("made")) as made, layout_at(Path("far")) as far, layout_at(Path("back")) as back:
        done = convert(layout, "built", made, "built", ConvertOptions(thin=thin))
        assert root.digest in done.unfit
        assert convert(layout, "built", layout, "built", ConvertOptions(thin=thin)).unfit[0] == root.digest
        copy_image(made, "built", far, "built", thin=True)
        for place in (made, far, layout):
            export(place, "built", back, "built", ExportOptions())
            assert back.resolve("built").digest == root.digest
            assert len(attached(back, root)) == 1
        index = look_up(far, "built").index
        assert index is not None
        for note in ("?", base64.b64encode(app.manifest.raw).decode()):
            changed = index.raw.replace(base64.b64encode(written), note.encode())
            far.put_tagged("odd", Descriptor.of(media.OCI_INDEX, changed), changed)
            export(far, "odd", back, "odd", ExportOptions())
            assert back.resolve("odd").digest != root.digest


def test_words(layout: Layout, app: Built, capsys: pytest.CaptureFixture[str]) -> None:
    """A script sees a warning for what does not hold, and nothing else."""
    assert main(["oci", "copy", "oci:images:app", "oci:back:app"]) == 0
    assert capsys.readouterr() == ("", "")
    assert main(["oci", "convert", "--thin", "oci:images:app", "oci:thin:app"]) == 0
    said = capsys.readouterr().err
    assert f"what is attached to {app.descriptor.digest} (signatures, attestations) does not hold" in said
