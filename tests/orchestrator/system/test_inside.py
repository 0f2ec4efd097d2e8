"""What is written and removed below a folder stays below it, whatever links lie there."""

from __future__ import annotations

import errno
import io
import os
import sys

import pytest

from orchestrator.system import inside, places
from orchestrator.system.inside import Inside
from orchestrator.system.places import LinkError, is_temporary, temporary_name

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="symbolic links need a right there")

ACTIONS = {
    "write": lambda tree, file: tree.write(file, b"new"),
    "copy": lambda tree, file: tree.copy(io.BytesIO(b"new"), file),
    "append": lambda tree, file: tree.append(file, b"new"),
    "share to": lambda tree, file: tree.share(given(tree), "given", file),
    "share from": lambda tree, file: given(tree).share(tree, file, "taken"),
    "remove": lambda tree, file: tree.remove(file),
    "rename": lambda tree, file: tree.rename(file, "renamed"),
    "partial": lambda tree, file: tree.partial(file, 0).__enter__().write(b"new"),
    "sync": lambda tree, file: tree.sync(file),
    "read": lambda tree, file: tree.read(file).close(),
}


def given(tree: Inside) -> Inside:
    """Another root, with one file in it."""
    other = Inside(tree.root.with_name("other"))
    other.root.mkdir(exist_ok=True)
    other.write("given", b"given")
    return other


@pytest.fixture(params=["openat", "real paths"])
def tree(request, tmp_path, monkeypatch) -> Inside:
    if request.param == "real paths":
        monkeypatch.setattr(inside, "HAS_OPENAT", False)
    root = tmp_path / "root"
    (root / "node").mkdir(parents=True)
    return Inside(root)


@pytest.fixture
def outside(tmp_path):
    folder = tmp_path / "outside"
    (folder / "deeper").mkdir(parents=True)
    for name in ("file", "deeper/file"):
        (folder / name).write_bytes(b"old")
    return folder


def content(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in folder.rglob("*")
    }


def tried(action, tree, file):
    try:
        ACTIONS[action](tree, file)
    except OSError as error:
        return error
    return None


@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize("kind", ["file", "hard", "dangling", "folder"])
def test_a_link_in_the_place_of_a_file_is_never_followed(tree, outside, action, kind):
    link = tree.root / "node" / "x"
    if kind == "hard":
        os.link(outside / "file", link)
    else:
        link.symlink_to(outside / {"file": "file", "dangling": "none", "folder": "deeper"}[kind])
    before = content(outside)
    tried(action, tree, "node/x")
    assert content(outside) == before


@pytest.mark.parametrize("action", [*ACTIONS, "make_folder", "remove_folder", "entries"])
@pytest.mark.parametrize("where", ["node", "node/inner"])
@pytest.mark.parametrize("kind", ["there", "relative", "dangling", "round"])
def test_a_link_in_the_place_of_a_folder_is_never_followed(tree, outside, action, where, kind):
    link = tree.root / where
    if where == "node":
        link.rmdir()
    target = {"there": outside, "dangling": outside / "none", "round": link}.get(kind, outside)
    link.symlink_to(os.path.relpath(target, link.parent) if kind == "relative" else target)
    before = content(outside)
    if action in ACTIONS:
        assert tried(action, tree, f"{where}/file") is not None or action == "remove"
    elif action == "entries":
        assert tree.entries(where) == []
    elif action == "make_folder":
        for folder in (where, f"{where}/deeper", f"{where}/new"):
            with pytest.raises(LinkError):
                tree.make_folder(folder)
    else:
        with pytest.raises(OSError, match=r"link|Not a directory"):
            tree.remove_folder(f"{where}/deeper")
    assert content(outside) == before
    with pytest.raises(LinkError):
        tree.check(f"{where}/file")


@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize(
    "name", ["../outside/file", "node/../../outside/file", "/etc/hosts", "..", "node//x", "a\0"]
)
def test_a_name_that_leads_out_is_refused(tree, outside, action, name):
    before = content(outside)
    with pytest.raises(ValueError, match="does not stay inside"):
        ACTIONS[action](tree, name)
    assert content(outside) == before


def test_files_and_folders_are_made_written_listed_and_removed(tree):
    tree.make_folder("a/b")
    tree.write("a/b/file", b"one")
    tree.append("a/b/file", b" two")
    tree.rename("a/b/file", "other")
    with tree.read("a/b/other") as stream:
        assert stream.read() == b"one two"
    assert [(e.name, e.is_file, e.size) for e in tree.entries("a/b")] == [("other", True, 7)]
    tree.remove_folder("a/b")
    assert (tree.root / "a" / "b").is_dir(), "it is not empty"
    tree.remove("a/b/other")
    tree.remove("a/b/other")
    for folder in ("a/b", "a", "a"):
        tree.remove_folder(folder)
    assert os.listdir(tree.root) == ["node"]


def test_links_above_the_root_are_followed(tree, tmp_path):
    """The user named it so: outputs/ may lie on another disk."""
    (tmp_path / "alias").symlink_to(tree.root)
    Inside(tmp_path / "alias").write("node/x", b"1")
    assert (tree.root / "node" / "x").read_bytes() == b"1"


def test_appending_to_a_link_begins_a_file_of_its_own(tree, outside):
    (tree.root / "soft").symlink_to(outside / "file")
    os.link(outside / "file", tree.root / "hard")
    for name in ("soft", "hard"):
        tree.append(name, b"new")
        assert not (tree.root / name).is_symlink()
    assert (tree.root / "soft").read_bytes() == b"new"
    assert (tree.root / "hard").read_bytes() == b"oldnew"
    assert (outside / "file").read_bytes() == b"old"


@pytest.mark.parametrize("action", ["append", "read", "sync", "partial"])
def test_a_fifo_keeps_nobody_waiting(tree, action):
    os.mkfifo(tree.root / "fifo")
    tried(action, tree, "fifo")


def test_a_copy_is_a_file_of_its_own(tree):
    (tree.root / "source").write_bytes(b"content")
    with tree.read("source") as source:
        tree.copy(source, "target")
    tree.append("target", b" changed")
    assert (tree.root / "source").read_bytes() == b"content"
    assert (tree.root / "target").read_bytes() == b"content changed"


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left"), KeyboardInterrupt()])
def test_a_copy_that_fails_leaves_nothing(tree, error):
    class Breaks(io.BytesIO):
        def read(self, *_):
            raise error

    with pytest.raises(type(error)):
        tree.copy(Breaks(), "target")
    assert os.listdir(tree.root) == ["node"]


@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS])
@pytest.mark.parametrize("durable", [True, False])
def test_a_file_system_without_fsync_is_written_to_all_the_same(tree, monkeypatch, number, durable):
    def refuse(descriptor):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", refuse)
    tree.write("file", b"new", durable)
    tree.sync("file")
    tree.sync_folder("node")
    assert (tree.root / "file").read_bytes() == b"new"


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC, errno.EDQUOT])
def test_a_disk_that_loses_what_is_written_is_an_error(tree, monkeypatch, number):
    def lose(descriptor):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", lose)
    with pytest.raises(OSError, match=os.strerror(number)):
        tree.write("file", b"new")
    assert os.listdir(tree.root) == ["node"]


def names_of(path):
    return path.stat().st_nlink


def left(folder):
    """What lies in a folder under temporary names."""
    return [name for name in os.listdir(folder) if is_temporary(name)]


@pytest.fixture
def no_reflinks(monkeypatch):
    monkeypatch.setattr(inside, "clone", lambda source, target: False)


def test_a_shared_file_takes_no_space_of_its_own(tree, no_reflinks):
    tree.share(given(tree), "given", "node/taken", durable=True)
    taken = tree.root / "node" / "taken"
    assert taken.read_bytes() == b"given"
    assert os.path.samefile(taken, tree.root.with_name("other") / "given")
    [entry] = tree.entries("node")
    assert (entry.names, entry.inode[1]) == (2, taken.stat().st_ino)


def test_a_reflink_is_preferred_to_a_link(tree, monkeypatch):
    """Two files for all purposes: an edit of one does not reach the other."""

    def clone(source, target):
        target.write(source.read())
        return True

    monkeypatch.setattr(inside, "clone", clone)
    tree.share(given(tree), "given", "taken")
    assert (tree.root / "taken").read_bytes() == b"given"
    assert names_of(tree.root / "taken") == 1


def test_sharing_what_is_shared_already_leaves_nothing_behind(tree, no_reflinks):
    other = given(tree)
    for _ in range(2):
        tree.share(other, "given", "node/taken")
    assert names_of(tree.root / "node" / "taken") == 2
    assert left(tree.root / "node") == left(other.root) == []


def test_writing_to_a_shared_file_leaves_the_other_as_it_was(tree, no_reflinks):
    other = given(tree)
    for name, act in (("a", tree.append), ("b", tree.write)):
        tree.share(other, "given", name)
        act(name, b" new")
        assert (tree.root / name).read_bytes() == {"a": b"given new", "b": b" new"}[name]
    tree.share(other, "given", "c")
    with pytest.raises(LinkError), tree.partial("c", 0):
        pass
    assert (other.root / "given").read_bytes() == b"given"


@pytest.mark.parametrize("why", ["rights", "no links here", "too many names", "swapped"])
def test_what_cannot_be_linked_is_copied(tree, no_reflinks, monkeypatch, why):
    other = given(tree)
    if why == "rights":
        (other.root / "given").chmod(0o600)
    elif why == "no links here":
        monkeypatch.setattr(places, "HAS_LINKAT", False)
    elif why == "too many names":
        monkeypatch.setattr(os, "link", refuse)
    else:
        link = os.link

        def swapped(source, target, **keywords):
            given(tree)  # another file has the name by now
            link(source, target, **keywords)

        monkeypatch.setattr(os, "link", swapped)
    tree.share(other, "given", "taken")
    assert (tree.root / "taken").read_bytes() == b"given"
    assert names_of(tree.root / "taken") == 1
    assert left(tree.root) == []


def refuse(*_, **__):
    raise OSError(errno.EMLINK, os.strerror(errno.EMLINK))


@pytest.mark.parametrize("name", ["run.json", "a.b.npy", "ä"])
def test_a_temporary_name_is_known_again(name):
    assert is_temporary(temporary_name(name))


@pytest.mark.parametrize(
    "name", ["film.mkv.part", ".film.part", "notes.part", ".part", ".a.b.part2"]
)
def test_other_programs_partial_files_are_not_ours(name):
    assert not is_temporary(name)
