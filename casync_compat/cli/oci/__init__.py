"""`pycasync oci VERB`: container images. Each verb is a module here, imported when it is used."""

__all__ = ["EXAMPLES", "NOTE", "SUMMARY", "VERBS"]

SUMMARY = "container images made of casync indexes: convert, export, push, pull and more"
VERBS = {
    "convert": "make an image of casync indexes from one of tars",
    "export": "give the original image back, to the bit",
    "push": "copy an image to a registry, with all that it needs and is not there yet",
    "pull": "copy an image from a registry to a layout, only what is not there yet",
    "copy": "copy an image from any place to any other that can take it",
    "tags": "list the tags of a repository, layout or archive",
    "delete": "delete an image: a tag of a layout, or a manifest of a registry",
    "login": "keep a login at a registry where skopeo, podman and buildah find it, too",
    "logout": "forget a login at a registry",
    "delta": "make an update file: what an image has and others have not",
    "apply": "use an update file: where its base is, the image that it leads to appears",
    "ls": "list the files in an image, all layers merged, without fetching them",
    "cat": "write a file of an image to standard output, fetching only what it lies in",
    "unpack": "make a runtime bundle of an image: rootfs and config.json",
    "checkout": "write an image's tree, its files shared with other trees through a store of files",
    "mount": "have the kernel mount an image's tree, its files shared with other trees through a store of files",
    "umount": "take away such a mount",
    "erofs": "write an image's metadata as an EROFS image, the one that composefs makes",
    "verify": "check every blob, every chunk and every layer of an image",
    "inspect": "describe an image: sizes, chunks, packs, sharing",
    "stats": "measure how much images share: layers, files, and chunks of several sizes",
    "repack": "write the packs of an image anew, without chunks that it does not use",
    "gc": "remove blobs of a layout that no image in it needs",
}
EXAMPLES = (
    (
        "pycasync oci convert docker://host/app:1 docker://host/app:1-casync",
        "convert; plain tools go on working",
    ),
    ("pycasync oci export docker://host/app:1-casync oci:app:1", "and back, to the bit"),
)
NOTE = (
    "Images are named oci:DIRECTORY[:TAG], docker://HOST/REPOSITORY[:TAG|@DIGEST], dir:DIRECTORY, "
    "oci-archive:FILE[:TAG] or docker-archive:FILE[:NAME:TAG]. What is written to a dir: or an archive takes the place "
    "of what was there. Archives that are read may be compressed, and FILE may be -, which is standard input; "
    "docker-archive:FILE:@0 is the first image of one. What podman and docker have is containers-storage:NAME, "
    "read by way of skopeo, and docker-daemon:NAME, by the daemon's socket or skopeo."
)
