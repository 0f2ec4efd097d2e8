"""What a browser gives becomes a subject, or is refused in words at once."""

from __future__ import annotations

import zipfile

import pytest

from devtools.fakes.tools import ROOT
from devtools.page_runs import ball_glb
from orchestrator.commands.subject import MESH, PICTURE
from orchestrator.errors import InputFileError
from orchestrator.web.actions import Site, submit
from orchestrator.web.choices import Choices, Given
from orchestrator.web.uploads import Uploads

SKETCH = Choices(profile="sketch")


class Asked:
    """In place of the queue: keeps what was asked for."""

    def submit(self, subject, options):
        self.subject, self.options = subject, options
        return self


@pytest.fixture
def site(tmp_path):
    (tmp_path / "uploads").mkdir()
    return Site(tmp_path, Asked(), Uploads(tmp_path / "uploads", 1 << 20), 1)


def upload(site, name, content):
    path = site.uploads.folder / name
    path.write_bytes(content)
    return str(path)


def test_words_of_another_beginning_are_left_out_of_a_mesh(site):
    given = Given("mesh", mesh=upload(site, "ball.glb", ball_glb()), text="a red vase")
    subject = submit(site, given, SKETCH).subject
    assert list(subject.files) == [MESH]
    assert subject.text == ""
    subject = submit(site, given, Choices(profile="retexture")).subject
    assert subject.text == "a red vase"


def test_a_mesh_comes_with_its_pictures_in_an_archive(site):
    path = site.uploads.folder / "vase.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("vase.obj", "mtllib vase.mtl\nv 0 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 3\n")
        archive.writestr("vase.mtl", "newmtl clay\n")
    assert MESH in submit(site, Given("mesh", mesh=str(path)), SKETCH).subject.files
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("notes.txt", "no mesh")
    with pytest.raises(InputFileError, match="no mesh"):
        submit(site, Given("mesh", mesh=str(path)), SKETCH)


@pytest.mark.parametrize(
    "content", [b"# A readme\n\nof some words", "caf\u00e9".encode() * 300, b"%PDF-1.7 x"]
)
def test_what_is_no_picture_is_refused_at_once(site, content):
    with pytest.raises(InputFileError, match=r"README\.md is"):
        submit(site, Given(picture=upload(site, "README.md", content)), SKETCH)
    picture = upload(site, "robot.png", (ROOT / "examples/robot.png").read_bytes())
    back = upload(site, "README.md", content)
    with pytest.raises(InputFileError, match=r"README\.md is"):
        submit(site, Given(picture=picture, back=back), SKETCH)
    assert PICTURE in submit(site, Given(picture=picture), SKETCH).subject.files
