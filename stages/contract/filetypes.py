"""What a file is, told by its first bytes: pictures, meshes, and what people take for one.

Standard library only: the parent and the stages tell pictures from other files by the same table. A
name's suffix is no evidence: browsers save WebP as .jpg, cameras write .jpe, .jfif or nothing.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass

HEAD = 1024
"""How many bytes of a file's beginning `identify` looks at."""


@dataclass(frozen=True)
class FileType:
    """A kind of file.

    name     for code: "jpeg"
    title    for people, as it stands behind "is": "a JPEG picture"
    picture  whether preprocess may decode it
    remedy   for one that it does not: what to do, as a sentence's second half
    mesh     whether it is a mesh that a run can begin with
    """

    name: str
    title: str
    picture: bool = False
    remedy: str = "give a PNG, JPEG or WebP file"
    mesh: bool = False


def identify(head: bytes, size: int | None = None) -> FileType | None:
    """The type of a file that begins with `head` (its first `HEAD` bytes); None: not known.

    size: of the whole file in bytes, where that is known: a binary STL has no signature, but says
    how many faces follow. Known by signature does not mean undamaged: only decoding tells that.
    """
    if _is_binary_stl(head, size):
        return _STL
    for pattern, found in _SIGNATURES:
        if pattern.match(head, 0, HEAD):
            return found
    if head[4:8] == b"ftyp":
        return _iso_media(head)
    if head[:2] == b"BM" and head[6:10] == bytes(4):
        return _BMP
    if head and not head.strip(b"\0"):
        return FileType(
            "zeros",
            "nothing but zero bytes: it was never copied or downloaded to its end",
            remedy="copy or download it again",
        )
    if _is_gltf(head):
        return _GLTF
    return _OBJ if _is_obj(head) else None


def _picture(name: str, title: str) -> FileType:
    return FileType(name, f"a {title} picture", picture=True)


def _mesh(name: str, title: str) -> FileType:
    return FileType(name, title, mesh=True)


_STL = _mesh("stl", "a 3D model (STL)")
_PLY = _mesh("ply", "a 3D model (PLY)")
_OBJ = _mesh("obj", "a 3D model (OBJ)")
_GLTF = _mesh("gltf", "a 3D model (glTF)")
_BMP = _picture("bmp", "BMP")
_AVIF = FileType("avif", "an AVIF picture", picture=True)
_HEIC = _picture("heic", "HEIC")
_EXPORT = "save it as PNG in the program that made it"
_RAW = FileType("raw", "a camera's raw file", remedy="save it as PNG or JPEG in a raw converter")
_VIDEO = FileType("video", "a video", remedy="give one of its frames as PNG")
_ARCHIVE = FileType("archive", "an archive", remedy="unpack it and give the picture in it")
_XML_HEAD = (  # byte order mark, declaration, comments; each ends at its first end: no backtracking
    rb"(?:\xef\xbb\xbf)?\s*(?:<\?xml(?:(?!\?>).)*\?>\s*)?(?:<!--(?:(?!-->).)*-->\s*)*"
)

_SIGNATURES: tuple[tuple[re.Pattern[bytes], FileType], ...] = tuple(
    (re.compile(pattern, re.DOTALL | re.IGNORECASE if b"<" in pattern else re.DOTALL), found)
    for pattern, found in (
        (rb"\x89PNG\r\n\x1a\n", _picture("png", "PNG")),
        (rb"\xff\xd8\xff", _picture("jpeg", "JPEG")),
        (rb"GIF8[79]a", _picture("gif", "GIF")),
        (rb"RIFF....WEBP", _picture("webp", "WebP")),
        (rb"II\*\0.{4}CR|IIU\0|IIR[OS]|MMOR|FUJIFILMCCD-RAW", _RAW),  # before TIFF: CR2 is one
        (rb"II\*\0|MM\0\*|II\+\0|MM\0\+", _picture("tiff", "TIFF")),
        (
            rb"\0\0\0\x0cjP  \r\n\x87\n|\xff\x4f\xff\x51",
            _picture("jpeg2000", "JPEG 2000"),
        ),
        (
            rb"\xff\x0a|\0\0\0\x0cJXL \r\n\x87\n",
            FileType("jpegxl", "a JPEG XL picture", remedy=_EXPORT),
        ),
        (rb"8BPS", FileType("psd", "a Photoshop document", remedy=_EXPORT)),
        (rb"gimp xcf ", FileType("xcf", "a GIMP document", remedy=_EXPORT)),
        (rb"v/1\x01", FileType("exr", "an OpenEXR picture", remedy=_EXPORT)),
        (rb"#\?(?:RADIANCE|RGBE)", FileType("hdr", "a Radiance HDR picture", remedy=_EXPORT)),
        (rb"\0\0[\x01\x02]\0[^\0]\0", FileType("ico", "an icon", remedy=_EXPORT)),
        (rb"DDS |\xabKTX ", FileType("texture", "a GPU texture", remedy=_EXPORT)),
        (rb"P[1-7]\s+[#\dW]", FileType("pnm", "a PNM picture", remedy=_EXPORT)),
        (rb"qoif", FileType("qoi", "a QOI picture", remedy=_EXPORT)),
        (
            rb"version https://git-lfs\.github\.com/spec/",
            FileType(
                "git-lfs",
                "a Git LFS pointer, not the picture itself",
                remedy="`git lfs pull` gets the picture",
            ),
        ),
        (
            rb"\0\x05\x16\x07",
            FileType(
                "appledouble",
                "macOS's notes on another file",
                remedy="give the file without ._ before its name",
            ),
        ),
        (rb"%PDF-", FileType("pdf", "a PDF document", remedy="save its picture as PNG")),
        (
            rb"%!PS|\xc5\xd0\xd3\xc6",
            FileType("postscript", "a PostScript document", remedy="save it as PNG"),
        ),
        (
            _XML_HEAD + rb"<(?:!DOCTYPE\s+svg|(?:\w+:)?svg)\b",
            FileType("svg", "an SVG drawing", remedy="save it as PNG, 1024 pixels wide or more"),
        ),
        (
            _XML_HEAD + rb"<(?:!DOCTYPE\s+html|html|head|body)\b",
            FileType("html", "a web page", remedy="download the picture that it shows"),
        ),
        (
            rb"PK\x03\x04|PK\x05\x06|\x1f\x8b|7z\xbc\xaf\x27\x1c|Rar!\x1a\x07|BZh|\xfd7zXZ\0",
            _ARCHIVE,
        ),
        (rb"\x1a\x45\xdf\xa3|RIFF....AVI |\0\0\x01[\xba\xb3]|FLV\x01", _VIDEO),
        (rb"glTF", _mesh("glb", "a 3D model")),
        (rb"ply\r?\n\s*(?:format|comment|obj_info)\b", _PLY),
        (rb"\s*solid\b.*\bfacet\s+normal\b", _STL),
        (
            rb"BLENDER",
            FileType("blend", "a Blender project", remedy="export a GLB, or give a rendered PNG"),
        ),
    )
)


def _iso_media(head: bytes) -> FileType:
    """A file of ISO/IEC 14496-12: its "ftyp" box lists the brands that say what is in it."""
    (size,) = struct.unpack(">I", head[:4])
    box = head[8 : max(12, min(size, HEAD))]
    brands = [box[:4], *(box[i : i + 4] for i in range(8, len(box) - 3, 4))]
    for brand in brands:  # the main one first: "mif1", which both may have, decides nothing
        if brand in (b"avif", b"avis"):
            return _AVIF
        if brand in (b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"hevm", b"hevs"):
            return _HEIC
        if brand == b"crx ":
            return _RAW
    return _HEIC if brands[0] in (b"mif1", b"msf1") else _VIDEO


_STL_HEADER, _STL_FACE = 84, 50
_OBJ_WORDS = frozenset(
    (b"v", b"vt", b"vn", b"vp", b"f", b"l", b"p", b"o", b"g", b"s", b"usemtl", b"mtllib")
)
_GLTF_KEY = re.compile(
    rb'"(?:asset"\s*:\s*\{|(?:accessors|bufferViews|buffers|meshes|nodes|scenes)"\s*:\s*\[)'
)


def _is_binary_stl(head: bytes, size: int | None) -> bool:
    """Whether so many bytes follow as the number of faces behind the free text asks for."""
    if size is None or len(head) < _STL_HEADER:
        return False
    (faces,) = struct.unpack_from("<I", head, 80)
    return bool(faces) and size == _STL_HEADER + _STL_FACE * faces


def _is_gltf(head: bytes) -> bool:
    return head.lstrip()[:1] == b"{" and _GLTF_KEY.search(head, 0, HEAD) is not None


def _is_obj(head: bytes) -> bool:
    """Whether all lines begin with words of Wavefront OBJ, and one of them says something of it."""
    lines = head[:HEAD].split(b"\n")
    if len(head) >= HEAD:
        lines.pop()  # cut off
    words = [line.split() for line in lines]
    statements = [line for line in words if line and not line[0].startswith(b"#")]
    if not all(line[0] in _OBJ_WORDS for line in statements):
        return False
    return any(
        (line[0] == b"mtllib" and len(line) > 1)
        or (line[0] == b"v" and len(line) > 3 and all(map(_is_number, line[1:])))
        for line in statements
    )


def _is_number(word: bytes) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True
