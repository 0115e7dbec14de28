"""Reads a .zip with a folder for each class, of PNG or JPEG files that all have one size.

One folder around the class folders is passed over, and so is what file managers leave behind. What is refused is named
by its path in the archive. A first pass reads headers only, so that the pixels are made once and in their place.
"""

import re
from dataclasses import dataclass
from typing import IO
from zipfile import ZipFile, ZipInfo

import numpy as np
from PIL import Image

from shared.errors import InvalidInputError
from shared.image_files import MAX_IMAGE_BYTES, is_grey, open_image, upright_pixels, upright_size
from trainer_service.datasets.archive import open_archive, read_member, shown
from trainer_service.datasets.classes import classes_of
from trainer_service.datasets.dataset import Dataset
from trainer_service.datasets.limits import BOMB_BYTES, MAX_ARCHIVE_MEMBERS, MAX_COMPRESSION_RATIO
from trainer_service.datasets.pictures import Pixels, check_pictures_size, held_out_pictures

REMAINS = "__MACOSX"
LEFT_BEHIND = frozenset({"thumbs.db", "desktop.ini"})
SPLIT_FOLDERS = frozenset({"train", "training", "test", "testing", "val", "valid", "validation"})
CHANNELS = 3
DRIVE = re.compile(r"[A-Za-z]:")
LAYOUT = "expected a folder for each class with its images: cat/1.png, dog/1.png"


@dataclass(frozen=True)
class Member:
    """An image file in the archive, with the class folder it lies in."""

    info: ZipInfo
    label: str
    file_name: str


def read_image_zip(file: IO[bytes], name: str) -> Dataset:
    """The data set in a .zip of class folders.

    Raises:
        InvalidInputError: naming the first file that cannot be taken, and why.
    """
    with open_archive(file, MAX_ARCHIVE_MEMBERS, ".zip file") as archive:
        members = sorted(class_members(archive), key=lambda member: (member.label, member.file_name))
        if not members:
            raise InvalidInputError.of("chunk", f"the archive has no images; {LAYOUT}")
        shape = common_shape(archive, members)
        pixels = decoded(archive, members, shape)
    labels = sorted({member.label for member in members})
    classes = classes_of(labels)
    id_of = dict(zip(labels, classes.ids.tolist(), strict=True))
    class_ids = np.array([id_of[member.label] for member in members], np.int64)
    return held_out_pictures(name, pixels, class_ids, classes.labels)


def class_members(archive: ZipFile) -> list[Member]:
    """The image files with their classes; InvalidInputError naming a path that says no class, or lies."""
    paths: dict[tuple[str, ...], ZipInfo] = {}
    for info in archive.infolist():
        parts = checked_path(info)
        if info.is_dir() or is_left_behind(parts):
            continue
        if parts in paths:
            raise InvalidInputError.of("chunk", f"{shown(info)} is in the archive twice; pack it again")
        check_member_size(info)
        paths[parts] = info
    around = {parts[0] for parts in paths}
    depth = 1 if len(around) == 1 and all(len(parts) > 2 for parts in paths) else 0  # noqa: PLR2004 - folder/class/file
    members = []
    for parts, info in paths.items():
        match parts[depth:]:
            case (label, file_name):
                members.append(Member(info, label, file_name))
            case (split, _, _) if split.lower() in SPLIT_FOLDERS:
                raise InvalidInputError.of(
                    "chunk",
                    f"{shown(info)}: train and test folders are not read; give each class one folder with all its "
                    f"images, a fifth of them is held out by itself",
                )
            case _:
                raise InvalidInputError.of("chunk", f"{shown(info)} lies in no class folder; {LAYOUT}")
    return members


def is_left_behind(parts: tuple[str, ...]) -> bool:
    """Whether a file manager put the file there, not its owner."""
    return parts[0] == REMAINS or any(part.startswith(".") for part in parts) or parts[-1].lower() in LEFT_BEHIND


def checked_path(info: ZipInfo) -> tuple[str, ...]:
    """The parts of a member's path; InvalidInputError if it leads out of the archive or says two things at once."""
    path = info.orig_filename
    parts = tuple(path.rstrip("/").split("/"))
    if {"", ".", ".."} & set(parts) or "\\" in path or "\0" in path or DRIVE.match(path):
        raise InvalidInputError.of(
            "chunk", f"{path[:120]!r} is no plain path; pack the folders with relative paths and forward slashes"
        )
    return parts


def check_member_size(info: ZipInfo) -> None:
    """Returns if a file may be unpacked; InvalidInputError naming it if it is too large or a bomb."""
    if info.file_size > MAX_IMAGE_BYTES:
        raise InvalidInputError.of(
            "chunk", f"{shown(info)} has {info.file_size} bytes, expected at most {MAX_IMAGE_BYTES}; shrink the image"
        )
    if info.file_size > BOMB_BYTES and info.file_size > MAX_COMPRESSION_RATIO * info.compress_size:
        raise InvalidInputError.of(
            "chunk",
            f"{shown(info)} unpacks {info.compress_size} bytes to {info.file_size}, as no image does; leave it out",
        )


def common_shape(archive: ZipFile, members: list[Member]) -> tuple[int, ...]:
    """The one shape of all images: (height, width), or (height, width, 3) where any is coloured.

    Raises:
        InvalidInputError: naming the first file that is no image, or is of another size than the first one.
    """
    first, first_size, all_grey = members[0], (0, 0), True
    for member in members:
        image = opened(archive, member)
        size = upright_size(image)
        all_grey = all_grey and is_grey(image)
        if member is first:
            first_size = size
            check_pictures_size(len(members), (size[1], size[0]))
        elif size != first_size:
            raise InvalidInputError.of(
                "chunk",
                f"{shown(member.info)} is {size[0]} × {size[1]} pixels, {shown(first.info)} {first_size[0]} × "
                f"{first_size[1]}; bring all images to one size",
            )
    width, height = first_size
    shape = (height, width) if all_grey else (height, width, CHANNELS)
    check_pictures_size(len(members), shape)
    return shape


def decoded(archive: ZipFile, members: list[Member], shape: tuple[int, ...]) -> Pixels:
    """The pixels of all images, uint8 (rows, …shape)."""
    pixels = np.empty((len(members), *shape), np.uint8)
    for row, member in enumerate(members):
        image = opened(archive, member)
        try:
            pixels[row] = upright_pixels(image, colour=len(shape) == CHANNELS)
        except ValueError as error:
            raise refused(member, error) from error
    return pixels


def opened(archive: ZipFile, member: Member) -> Image.Image:
    """A member's image, its header read; InvalidInputError naming the file that is none."""
    try:
        return open_image(read_member(archive, member.info))
    except ValueError as error:
        raise refused(member, error) from error


def refused(member: Member, error: ValueError) -> InvalidInputError:
    """The refusal of a file that cannot be read as an image."""
    return InvalidInputError.of("chunk", f"{shown(member.info)}: {error}; replace it or leave it out")
