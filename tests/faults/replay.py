# SPDX-License-Identifier: Apache-2.0
"""Builds a folder as a power cut may leave it, from the journal of its changes (shim/journal.h).

A file has what it had at its last sync. Names that a later sync of their folder did not confirm are either all kept, or
all undone: new files and folders are gone, renames and deletions have not happened."""

import dataclasses
import pathlib


@dataclasses.dataclass
class Operation:
    name: str
    offset: int
    path: str
    data: bytes


@dataclasses.dataclass
class File:
    content: bytearray = dataclasses.field(default_factory=bytearray)
    synced: bytes = b""


def read_journal(path):
    """The operations, in order."""
    content, at, operations = path.read_bytes(), 0, []
    while at < len(content):
        end = content.index(b"\n", at)
        name, *numbers = content[at:end].decode().split()
        offset, path_bytes, data_bytes = map(int, numbers)
        at = end + 1 + path_bytes
        operations.append(Operation(name, offset, content[end + 1:at].decode(), content[at:at + data_bytes]))
        at += data_bytes
    return operations


class Disk:
    """What programs see (`names`), and what is on the disk (`durable`): paths to files, None for folders."""

    def __init__(self, folder=None):
        """With what is in the folder, all of it on the disk."""
        self.names, self.durable = {}, {}
        for path in sorted(folder.rglob("*")) if folder else []:
            content = None if path.is_dir() else path.read_bytes()
            self.names[str(path)] = content if content is None else File(bytearray(content), content)
        self.durable.update(self.names)

    def apply(self, operation):
        getattr(self, "on_" + operation.name)(operation)

    def content(self, path):
        """Of an open file; the journal lacks the creation of files that a child process was given."""
        return self.names.setdefault(path, File()).content

    def on_create(self, operation):
        self.names[operation.path] = File()

    def on_truncate(self, operation):
        self.content(operation.path).clear()

    def on_write(self, operation):
        content, end = self.content(operation.path), operation.offset + len(operation.data)
        content.extend(bytes(max(0, operation.offset - len(content))))
        content[operation.offset:end] = operation.data

    def on_cut(self, operation):
        content = self.content(operation.path)
        content.extend(bytes(max(0, operation.offset - len(content))))
        del content[operation.offset:]

    def on_sync(self, operation):
        file = self.names.get(operation.path)
        if file is not None:
            file.synced = bytes(file.content)
        else:
            self.sync_folder(operation.path)

    def sync_folder(self, folder):
        for path in {*self.names, *self.durable}:
            if str(pathlib.PurePath(path).parent) != folder:
                continue
            self.durable.pop(path, None)
            if path in self.names:
                self.durable[path] = self.names[path]

    def on_rename(self, operation):
        self.names[operation.data.decode()] = self.names.pop(operation.path, None) or File()

    def on_mkdir(self, operation):
        self.names[operation.path] = None

    def on_unlink(self, operation):
        self.names.pop(operation.path, None)

    def after_cut(self, keep_names):
        """The paths with their contents, None for folders. `keep_names`: those of programs, else those on the disk."""
        names = self.names if keep_names else self.durable
        lost = {path for path in names for folder in pathlib.PurePath(path).parents
                if str(folder) in self.names and str(folder) not in names}
        return {path: file and file.synced for path, file in names.items() if path not in lost}


def write(names):
    """Makes what after_cut() gave in empty folders."""
    for path, content in sorted(names.items()):
        if content is None:
            pathlib.Path(path).mkdir(exist_ok=True)
        else:
            pathlib.Path(path).write_bytes(content)
